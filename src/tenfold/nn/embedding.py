"""Embeddings whose table is a structure."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

from tenfold import decomposition
from tenfold.contraction import execute, plan
from tenfold.errors import DataError, StructureError, TenfoldError
from tenfold.nn._checks import check_real
from tenfold.nn.recipes import dtype_of, name_of
from tenfold.structure import Structure

# No index of a structure contains a space, so this name is free.
_BATCH = "the batch"
# For how many rows at once the order of the products is chosen.
_ROWS = 256
# Rows that were never asked for count as if this share of all had been spread evenly.
_UNSEEN = 0.1
# Steps with which a fit that knows the frequencies is made better, where there is no closed form.
_STEPS = 100


class StructuredEmbedding(nn.Module):
    """``nn.Embedding`` whose table ``[rows, columns]`` is a matrix structure; only the rows asked for are made.

    Each core that has a part of the row's number is read at it, and what was read is multiplied. The table may have
    more rows than there are embeddings, so that their number can be a product: ``formats.kronecker((175, 175), (16,
    24), 8)`` holds 30522 rows as well as 30625.

    Args:
        structure: of the table.
        num_embeddings: how many of its rows are used, all by default.
        padding_idx: a row that is zero and is not trained.
        dtype, device: of the parameters.
        generator: where the random numbers of the start come from; torch's own by default.

    Attributes:
        structure: as given.
        num_embeddings, embedding_dim, padding_idx: as of ``nn.Embedding``.
        cores: one parameter for each core, by its name.

    Raises:
        StructureError: not a matrix, or less rows than embeddings.
        TenfoldError: a padding_idx that is no row.

    Cost: ``flops(rows)``. Papers: "Tensorized embedding layers", 2020; "word2ket: Space-efficient word embeddings
    inspired by quantum entanglement", 2020.
    """

    def __init__(
        self,
        structure: Structure,
        num_embeddings: int | None = None,
        *,
        padding_idx: int | None = None,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        if structure.order != 2:
            raise StructureError(f"a table is a structure of 2 output axes; '{structure}' has {structure.order}")
        rows, columns = structure.shape
        self.num_embeddings = rows if num_embeddings is None else num_embeddings
        if not 0 < self.num_embeddings <= rows:
            raise StructureError(f"the structure has {rows} rows, which do not hold {self.num_embeddings} embeddings")
        if padding_idx is not None:
            if not -self.num_embeddings <= padding_idx < self.num_embeddings:
                raise TenfoldError(f"padding_idx {padding_idx} is no row of {self.num_embeddings}")
            padding_idx %= self.num_embeddings
        self.structure, self.embedding_dim, self.padding_idx = structure, columns, padding_idx
        self._dense = plan([t.indices for t in structure.terms], structure.output_indices, structure.sizes)
        # Kept here, because what a structure works out once is behind a lock, which torch.compile cannot enter.
        self._names = [core.name for core in structure.cores]
        self._terms, self._rows = list(zip(structure.terms, structure.term_core, strict=True)), rows
        self._sizes = dict(structure.sizes)
        # For each term: which of its axes are parts of the row's number, and what is left of it.
        parts = structure.outputs[0]
        self._read = [tuple(i for i in term.indices if i in parts) for term in structure.terms]
        kept = [tuple(i for i in term.indices if i not in parts) for term in structure.terms]
        self._inputs = [(_BATCH, *left) if read else left for read, left in zip(self._read, kept, strict=True)]
        self._gathered = plan(self._inputs, (_BATCH, *structure.outputs[1]), {**structure.sizes, _BATCH: _ROWS})
        self.cores = nn.ParameterDict(
            {core.name: nn.Parameter(torch.empty(core.shape, dtype=dtype, device=device)) for core in structure.cores}
        )
        self.reset_parameters(generator)

    def _cores(self) -> list[Tensor]:
        return [self.cores[name] for name in self._names]

    def reset_parameters(self, generator: torch.Generator | None = None) -> None:
        """Cores anew, so that the entries of the table have variance 1, as those of ``nn.Embedding``."""
        structure = self.structure
        summed = math.prod(structure.sizes[i] for i in structure.inner_indices)
        with torch.no_grad():
            for core in self.cores.values():
                core.normal_(0.0, summed ** (-0.5 / len(structure.terms)), generator=generator)

    def forward(self, index: Int[Tensor, "*batch"]) -> Float[Tensor, "*batch embedding_dim"]:
        """The rows. Raises `IndexError` for one that there is not."""
        structure = self.structure
        flat = index.reshape(-1)
        # No number can be read where one stands for many.
        unread = torch.compiler.is_compiling() or torch._C._functorch.is_batchedtensor(flat)
        if self._rows > self.num_embeddings and not unread and flat.numel():
            most = int(flat.max())
            if most >= self.num_embeddings:
                raise IndexError(f"row {most} of an embedding of {self.num_embeddings}")
        places: dict[str, Tensor] = {}
        rest = flat
        for part in reversed(structure.outputs[0][1:]):
            places[part] = rest % self._sizes[part]
            rest = torch.div(rest, self._sizes[part], rounding_mode="floor")
        # What is left of a number that is no row is out of the range of the first part, and reading it fails.
        places[structure.outputs[0][0]] = rest
        cores = self._cores()
        values: list[Tensor] = []
        for (term, core), read in zip(self._terms, self._read, strict=True):
            values.append(_rows(cores[core], term.indices, read, places, self._sizes) if read else cores[core])
        for step in self._gathered.steps:
            operands: list[Any] = [values[step.left], list(step.inputs[0])]
            if step.right is not None:
                operands += [values[step.right], list(step.inputs[1])]
            values.append(torch.einsum(*operands, list(step.out)))
        made = values[-1].permute(self._gathered.finish).reshape(flat.shape[0], self.embedding_dim)
        if self.padding_idx is not None:
            made = made.masked_fill((flat == self.padding_idx)[:, None], 0)
        return made.reshape(*index.shape, self.embedding_dim)

    def to_dense(self) -> Float[Tensor, "num_embeddings embedding_dim"]:
        """The table, in full; gradients flow to the cores."""
        numbers = self._cores()
        made = execute(self._dense, [numbers[core] for core in self.structure.term_core])
        made = made.reshape(self.structure.shape)[: self.num_embeddings]
        if self.padding_idx is None:
            return made
        padding = torch.arange(self.num_embeddings, device=made.device) == self.padding_idx
        return made.masked_fill(padding[:, None], 0)

    def flops(self, rows: int = 1) -> int:
        """Multiplications and additions for so many rows."""
        sizes = {**self.structure.sizes, _BATCH: rows}
        return plan(self._inputs, (_BATCH, *self.structure.outputs[1]), sizes).flops

    @classmethod
    def from_dense(
        cls,
        table: nn.Embedding | Float[Tensor, "rows columns"],
        structure: Structure,
        *,
        counts: Float[Tensor, " rows"] | None = None,
        padding_idx: int | None = None,
    ) -> StructuredEmbedding:
        """The layer whose table is the best approximation of another's in the structure.

        Args:
            table: an embedding, or its table; the structure may have more rows.
            structure: as for the class.
            counts: how often each row is asked for: their errors count by it. Where the rows lie on one core, as of
                `formats.low_rank`, this is exact; else the best approximation without counts is made better by
                L-BFGS.
            padding_idx: as for the class, where a table is given.

        Raises:
            StructureError: other columns than the table's, or less rows.
            DataError: numbers that are not real and finite, or other than one nonnegative count for each row.
        """
        if isinstance(table, nn.Embedding):
            padding_idx = table.padding_idx if padding_idx is None else padding_idx
            weight = table.weight.detach()
        else:
            weight = table.detach()
        if weight.ndim != 2 or structure.order != 2 or structure.shape[1] != weight.shape[1]:
            raise StructureError(
                f"the structure is of shape {structure.shape}, the table of {tuple(weight.shape)}; columns must agree"
            )
        check_real(weight)
        if not weight.isfinite().all():
            raise DataError("the table has entries that are not finite; there is no best approximation of it")
        made = cls(structure, len(weight), padding_idx=padding_idx, dtype=weight.dtype, device=weight.device)
        full = functional.pad(weight.double(), (0, 0, 0, structure.shape[0] - len(weight)))
        cores = _approximated(full, structure, None if counts is None else _weights(counts, len(weight), len(full)))
        with torch.no_grad():
            for mine, core in zip(made._cores(), cores, strict=True):
                mine.copy_(core)
        return made

    def recipe(self) -> dict[str, Any]:
        """See `tenfold.nn.recipes`."""
        return {
            "structure": self.structure.to_json(),
            "num_embeddings": self.num_embeddings,
            "padding_idx": self.padding_idx,
            "dtype": name_of(next(iter(self.cores.values())).dtype),
        }

    @classmethod
    def from_recipe(cls, recipe: Mapping[str, Any]) -> StructuredEmbedding:
        """See `tenfold.nn.recipes`."""
        given = {**recipe, "dtype": dtype_of(recipe["dtype"])}
        return cls(Structure.from_json(given.pop("structure")), given.pop("num_embeddings"), **given)

    def extra_repr(self) -> str:
        """What ``print`` shows between the brackets."""
        count = self.structure.parameters
        padding = "" if self.padding_idx is None else f", padding_idx={self.padding_idx}"
        return (
            f"{self.num_embeddings}, {self.embedding_dim}{padding}, {self.structure}, {count:,} numbers, "
            f"{count / (self.num_embeddings * self.embedding_dim):.3g} of a dense one"
        )


def _rows(
    core: Tensor,
    indices: tuple[str, ...],
    read: tuple[str, ...],
    places: Mapping[str, Tensor],
    sizes: Mapping[str, int],
) -> Tensor:
    """A core at the places of some of its axes, which become one axis, the first."""
    kept = [i for i in indices if i not in read]
    lengths = [sizes[i] for i in kept]
    table = core.permute([indices.index(i) for i in (*read, *kept)])
    table = table.reshape(math.prod([sizes[i] for i in read]), math.prod(lengths))
    place = places[read[0]]
    for part in read[1:]:
        place = place * sizes[part] + places[part]
    return functional.embedding(place, table).reshape(-1 if not lengths else place.shape[0], *lengths)


def _weights(counts: Tensor, rows: int, padded: int) -> Tensor:
    given = torch.as_tensor(counts).double()
    if tuple(given.shape) != (rows,) or not given.isfinite().all() or (given < 0).any() or not given.any():
        raise DataError(f"counts must be {rows} numbers of at least 0, not all of them 0")
    shares = (1 - _UNSEEN) * given / given.mean() + _UNSEEN
    # Rows that only fill up the structure do not count.
    return functional.pad(shares, (0, padded - rows))


def _approximated(full: Tensor, structure: Structure, weights: Tensor | None) -> list[Tensor]:
    rows = structure.outputs[0]
    holders = [n for n, core in enumerate(structure.cores) if set(core.indices) & set(rows)]
    alone = len(rows) == 1 and len(holders) == 1 and len(structure.cores[holders[0]].terms) == 1
    if weights is None or not alone:
        method = decomposition.choose(structure, full).function
        cores = list(method(full, structure).network.cores)
        return cores if weights is None else _refined(full, structure, weights, cores)
    # Nothing is multiplied along the rows but by this core, so that their scales go through it.
    root = weights.to(full.device).sqrt()
    seen = root[:, None] * full
    method = decomposition.choose(structure, seen).function
    cores = list(method(seen, structure).network.cores)
    core, axis = cores[holders[0]], structure.cores[holders[0]].indices.index(rows[0])
    shape = [len(root) if a == axis else 1 for a in range(core.ndim)]
    cores[holders[0]] = core / root.where(root > 0, torch.ones_like(root)).reshape(shape)
    return cores


def _refined(full: Tensor, structure: Structure, weights: Tensor, cores: list[Tensor]) -> list[Tensor]:
    """Cores with a smaller ``sum_i w_i ||row_i - its approximation||^2``."""
    dense = plan([t.indices for t in structure.terms], structure.output_indices, structure.sizes)
    weights = weights.to(full.device)[:, None]
    total = float((weights * full.square()).sum()) or 1.0
    numbers = [core.clone().requires_grad_() for core in cores]
    optimizer = torch.optim.LBFGS(numbers, max_iter=_STEPS, tolerance_change=1e-12, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        made = execute(dense, [numbers[core] for core in structure.term_core]).reshape(full.shape)
        return (weights * (made - full).square()).sum() / total

    def closure() -> Tensor:
        optimizer.zero_grad()
        value = loss()
        value.backward()
        return value

    with torch.enable_grad():
        before = float(loss().detach())
        optimizer.step(closure)
        after = float(loss().detach())
    return [number.detach() for number in numbers] if after <= before else cores
