"""`Network`: a `Structure` with its cores."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import EllipsisType
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Shaped
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from tenfold._arguments import real_number, whole_number
from tenfold._files import atomic
from tenfold._scales import times_power
from tenfold._tree_rounding import gram_round_tree, random_round_tree
from tenfold._trees import bond_spectra, round_tree
from tenfold.contraction import contract, contract_scaled, ratio
from tenfold.errors import DataError, FileError, StructureError, TenfoldError
from tenfold.formats import name as format_name
from tenfold.structure import Structure, Term

FILE_VERSION = 1
# Entries that a batched gather may hold at once on its way (256 MiB of float64).
_BATCH_ENTRIES = 2**25
# Errors that rounding by Gram matrices keeps, in units of the root of the precision.
_GRAM_DIGITS = 50
# No index of a structure contains a space, so this name is free.
_BATCH = "the batch"

Selection = int | slice | EllipsisType


class Network:
    """A structure and one tensor for each of its distinct cores, standing for one big tensor.

    Args:
        structure: how the cores are contracted.
        cores: one tensor for each of ``structure.cores``, in that order and of these shapes; all of one floating or
            complex dtype and on one device. They are kept as given, so gradients flow to them.

    Raises:
        StructureError: a core is missing or has another shape, dtype or device than the others.
    """

    def __init__(self, structure: Structure, cores: Sequence[Tensor]) -> None:
        if len(cores) != len(structure.cores):
            raise StructureError(f"'{structure}' has {len(structure.cores)} cores, but {len(cores)} tensors were given")
        for core, tensor in zip(structure.cores, cores, strict=True):
            if tuple(tensor.shape) != core.shape:
                raise StructureError(
                    f"core '{core.name}' [{' '.join(core.indices)}] has shape {core.shape}, not {tuple(tensor.shape)}"
                )
            if not (tensor.is_floating_point() or tensor.is_complex()):
                raise StructureError(f"core '{core.name}' must be floating or complex, not {tensor.dtype}")
            if tensor.dtype != cores[0].dtype or tensor.device != cores[0].device:
                raise StructureError(
                    f"core '{core.name}' is {tensor.dtype} on {tensor.device}, but the first core is "
                    f"{cores[0].dtype} on {cores[0].device}"
                )
        self.structure = structure
        self.cores = tuple(cores)

    @classmethod
    def random(
        cls,
        structure: Structure,
        *,
        std: float = 1.0,
        seed: int | torch.Generator = 0,
        dtype: torch.dtype = torch.float64,
        device: torch.device | str = "cpu",
    ) -> Network:
        """A network with independent Gaussian cores whose dense entries have mean 0 and standard deviation ``std``.

        An entry is a sum, over all values of the inner indices, of products of one number from each term; with equal
        standard deviations s of the core entries its variance is ``prod(inner sizes) * s^(2 terms)``, which is solved
        for s. Where a core is used more than once this holds for the entries in which its uses read different numbers.
        Complex cores have independent real and imaginary parts and ``E |x|^2 = std^2``.
        """
        generator = seed if isinstance(seed, torch.Generator) else torch.Generator().manual_seed(seed)
        inner = sum(math.log(structure.sizes[index]) for index in structure.inner_indices)
        scale = math.exp((math.log(std) - inner / 2) / len(structure.terms)) if std > 0 else 0.0
        cores = [
            (torch.randn(core.shape, generator=generator, dtype=dtype, device=generator.device) * scale).to(device)
            for core in structure.cores
        ]
        return cls(structure, cores)

    # --- what it is ---------------------------------------------------------------------------------------------------

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the dense tensor."""
        return self.structure.shape

    @property
    def parameters(self) -> int:
        """The number of entries of all cores together."""
        return self.structure.parameters

    @property
    def dtype(self) -> torch.dtype:
        return self.cores[0].dtype

    @property
    def device(self) -> torch.device:
        return self.cores[0].device

    def core(self, name: str) -> Tensor:
        """The core called ``name`` (see ``structure.cores`` for the names)."""
        for core, tensor in zip(self.structure.cores, self.cores, strict=True):
            if core.name == name:
                return tensor
        names = ", ".join(core.name for core in self.structure.cores)
        raise StructureError(f"there is no core '{name}': the cores are {names}")

    def terms(self) -> list[tuple[tuple[str, ...], Tensor]]:
        """Index names and tensor for each term of the structure: what `tenfold.contraction.contract` takes."""
        places = zip(self.structure.terms, self.structure.term_core, strict=True)
        return [(term.indices, self.cores[number]) for term, number in places]

    # --- reading it ---------------------------------------------------------------------------------------------------

    def dense(self) -> Shaped[Tensor, ...]:
        """The whole tensor, of shape ``self.shape``. Cost: see ``self.structure.cost()``."""
        return contract(self.terms(), self.structure.output_indices).reshape(self.shape)

    def item(self) -> int | float | complex:
        """The number that a network without axes is, as after ``network[3, 4, 5]``.

        Raises:
            DataError: it has axes.
        """
        if self.shape:
            raise DataError(f"a network of shape {self.shape} is no single number; take .dense() or .at(indices)")
        return self.dense().item()

    def __float__(self) -> float:
        return float(self.item())  # type: ignore[arg-type]  # complex numbers raise, as Python's own do

    def __complex__(self) -> complex:
        return complex(self.item())

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        """The whole tensor for NumPy, as `dense`."""
        if copy is False:
            raise ValueError("the array of a network is computed; it cannot be had without a copy")
        made = self.dense().detach().cpu().resolve_conj().numpy()
        return made if dtype is None else made.astype(dtype, copy=False)

    def at(self, indices: Tensor | Sequence[Any]) -> Shaped[Tensor, ...]:
        """Entries, without making the rest of the tensor.

        Args:
            indices: integers of shape (batch, order), or a tuple of one index array for each axis, broadcast together.
                Negative indices count from the end.

        Returns:
            The entries, of the batch shape. Cost: about ``batch`` times the parameters that one entry touches.

        Raises:
            DataError: an index is out of range, not an integer, or there is not one for each axis.
        """
        columns = self._columns(indices)
        if not columns:
            batch = indices.shape[:1] if isinstance(indices, Tensor) else ()
            return self.dense().expand(batch)
        batch_shape = columns[0].shape
        split: dict[str, Tensor] = {}
        for group, column in zip(self.structure.outputs, columns, strict=True):
            rest = column.reshape(-1)
            for index in reversed(group):
                split[index] = rest % self.structure.sizes[index]
                rest = rest // self.structure.sizes[index]
        total = math.prod(batch_shape)
        touched = sum(
            math.prod(self.structure.sizes[i] for i in term.indices if i not in split) for term in self.structure.terms
        )
        chunk = max(1, _BATCH_ENTRIES // max(touched, 1))
        parts = [
            self._gather({index: values[start : start + chunk] for index, values in split.items()})
            for start in range(0, total, chunk)
        ]
        result = torch.cat(parts) if parts else torch.empty(0, dtype=self.dtype, device=self.device)
        return result.reshape(batch_shape)

    def _gather(self, split: Mapping[str, Tensor]) -> Tensor:
        """Entries at the positions given for each output index, as one contraction with a batch index."""
        terms = []
        for indices, tensor in self.terms():
            mine = [index for index in indices if index in split]
            if not mine:
                terms.append((indices, tensor))
                continue
            kept = tuple(index for index in indices if index not in split)
            order = [indices.index(index) for index in (*mine, *kept)]
            rows = tensor.permute(order)[tuple(split[index] for index in mine)]
            terms.append(((_BATCH, *kept), rows))
        return contract(terms, (_BATCH,))

    def _columns(self, indices: Tensor | Sequence[Any]) -> list[Tensor]:
        order = self.structure.order
        if not isinstance(indices, tuple):
            table = indices if isinstance(indices, Tensor) else torch.as_tensor(np.asarray(indices))
            if table.ndim != 2 or table.shape[1] != order:
                raise DataError(f"indices must have shape (batch, {order}), not {tuple(table.shape)}")
            columns = list(table.unbind(1))
        else:
            columns = [torch.as_tensor(column) for column in indices]
            if len(columns) != order:
                raise DataError(f"indices must hold one array for each of the {order} axes, not {len(columns)}")
        checked = []
        for axis, (column, extent) in enumerate(zip(columns, self.shape, strict=True)):
            # An empty list has no integers in it, and torch takes it for floats.
            if column.numel() and (column.is_floating_point() or column.is_complex() or column.dtype == torch.bool):
                raise DataError(f"indices of axis {axis} must be integers, not {column.dtype}")
            column = column.to(self.device, torch.int64)
            if column.numel() and not (-extent <= int(column.min()) and int(column.max()) < extent):
                wrong = int(column.max()) if int(column.max()) >= extent else int(column.min())
                raise DataError(f"index {wrong} is out of range for axis {axis} of size {extent}")
            checked.append(torch.where(column < 0, column + extent, column))
        try:
            return list(torch.broadcast_tensors(*checked)) if checked else []
        except RuntimeError:
            shapes = ", ".join(str(tuple(c.shape)) for c in checked)
            raise DataError(f"index arrays of shapes {shapes} cannot be broadcast together") from None

    def __getitem__(self, selection: Selection | tuple[Selection, ...]) -> Network:
        """The network of a part of the tensor: whole numbers drop an axis, slices keep it. Never densifies.

        Grouped axes can be taken whole (``:``) or at one position; a part of one is no network of this form.
        """
        chosen = self._selection(selection)
        outputs: list[tuple[str, ...]] = []
        pick: dict[str, int | slice] = {}
        for axis, (group, item, extent) in enumerate(zip(self.structure.outputs, chosen, self.shape, strict=True)):
            if isinstance(item, slice):
                if item.indices(extent) == (0, extent, 1):
                    outputs.append(group)
                elif len(group) != 1:
                    raise StructureError(
                        f"axis {axis} is a group of {len(group)} indices: take it whole or at one place"
                    )
                elif not len(range(*item.indices(extent))):
                    raise DataError(f"slice of axis {axis} of size {extent} is empty")
                else:
                    outputs.append(group)
                    pick[group[0]] = item
            else:
                rest = item
                for index in reversed(group):
                    pick[index] = rest % self.structure.sizes[index]
                    rest //= self.structure.sizes[index]
        terms: list[Term] = []
        tensors: list[Tensor] = []
        sizes = dict(self.structure.sizes)
        for (indices, tensor), term in zip(self.terms(), self.structure.terms, strict=True):
            kept = list(indices)
            for index in indices:
                if index not in pick:
                    continue
                item, axis = pick[index], kept.index(index)
                if isinstance(item, slice):
                    places = torch.arange(*item.indices(self.structure.sizes[index]), device=self.device)
                    tensor = tensor.index_select(axis, places)
                    sizes[index] = len(places)
                else:
                    tensor = tensor.select(axis, item)
                    kept.remove(index)
            touched = any(index in pick for index in indices)
            # Two uses of one core that were cut differently are two cores now.
            name = term.name
            if touched and name is not None and sum(t.name == name for t in self.structure.terms) > 1:
                name = None
            if name is not None and any(t.name == name for t in terms):
                terms.append(Term(name, tuple(kept)))
                continue
            terms.append(Term(name, tuple(kept)))
            tensors.append(tensor)
        used = {index for term in terms for index in term.indices}
        structure = Structure.of(terms, outputs, {i: s for i, s in sizes.items() if i in used})
        return Network(structure, tensors)

    def _selection(self, selection: Any) -> list[int | slice]:
        items = list(selection) if isinstance(selection, tuple) else [selection]
        order = self.structure.order
        # By identity, because arrays compare entry by entry.
        dots = [place for place, item in enumerate(items) if item is Ellipsis]
        if len(dots) > 1:
            raise DataError("an index can have only one '...'")
        if not dots:
            dots.append(len(items))
            items.append(Ellipsis)
        if len(items) - 1 > order:
            raise DataError(f"{len(items) - 1} indices for a tensor with {order} axes")
        (place,) = dots
        items[place : place + 1] = [slice(None)] * (order - len(items) + 1)
        result: list[int | slice] = []
        for axis, (item, extent) in enumerate(zip(items, self.shape, strict=True)):
            if isinstance(item, slice):
                result.append(item)
                continue
            try:
                position = item.__index__()
            except (AttributeError, TypeError):
                raise DataError(
                    f"axis {axis} takes a whole number or a slice, not {item!r}; use at() for lists"
                ) from None
            if not -extent <= position < extent:
                raise DataError(f"index {position} is out of range for axis {axis} of size {extent}")
            result.append(position % extent)
        return result

    # --- algebra ------------------------------------------------------------------------------------------------------

    def norm(self) -> Shaped[Tensor, ""]:
        """The Frobenius norm, from the cores alone, in double precision and safe from overflow."""
        square, power = self._inner(self)
        return times_power(torch.sqrt(torch.clamp(square.real, min=0)), power / 2)

    def inner(self, other: Network | Tensor) -> Shaped[Tensor, ""]:
        """``sum conj(self) * other`` in double precision, without the dense tensor of either network.

        Two networks must split their axes alike; where the groups differ, ``other`` is made dense.
        """
        return times_power(*self._inner(other))

    def _inner(self, other: Network | Tensor) -> tuple[Tensor, int]:
        """The inner product as a number and a power of two that it is to be multiplied with."""
        if not isinstance(other, (Network, Tensor)):
            raise DataError(f"inner product with {type(other).__name__}: give a Network or a tensor")
        if tuple(other.shape) != self.shape:
            raise DataError(f"inner product of shapes {self.shape} and {tuple(other.shape)}")
        either = torch.promote_types(self.dtype, other.dtype)
        double = torch.complex128 if either.is_complex else torch.float64
        mine = [(indices, tensor.to(double).conj()) for indices, tensor in self.terms()]
        outside = self.structure.output_indices
        if isinstance(other, Network):
            if other.structure.output_shape == self.structure.output_shape:
                # No index name contains a space, so these are new.
                rename = {i: f"{i} (other)" for i in other.structure.sizes}
                rename.update(zip(other.structure.output_indices, outside, strict=True))
                theirs = [(tuple(rename[i] for i in ix), t.to(double)) for ix, t in other.terms()]
                return contract_scaled([*mine, *theirs], ())
            other = other.dense()
        return contract_scaled([*mine, (outside, other.to(double).reshape(self.structure.output_shape))], ())

    def __matmul__(self, right: Any) -> Shaped[Tensor, "..."]:
        """The product of this matrix with a vector or matrix, core by core; the dense matrix is never made.

        ``self`` must have two axes (grouped or not); ``right`` has shape (columns,) or (columns, batch).
        """
        if not isinstance(right, Tensor):
            right = torch.as_tensor(np.asarray(right)).to(self.dtype)
        if self.structure.order != 2:
            raise StructureError(
                f"'@' needs a network with two axes, not {self.structure.order}; group them: '-> (i j) k'"
            )
        rows, columns = self.structure.outputs
        if right.dtype != self.dtype:
            raise DataError(f"cannot multiply a network of {self.dtype} with {right.dtype}; convert one with .to()")
        if right.ndim not in (1, 2) or right.shape[0] != self.shape[1]:
            raise DataError(f"cannot multiply {self.shape} with {tuple(right.shape)}")
        wide = right.reshape(*[self.structure.sizes[i] for i in columns], -1)
        result = contract([*self.terms(), ((*columns, _BATCH), wide)], (*rows, _BATCH))
        return result.reshape(self.shape[0], *right.shape[1:])

    def __add__(self, other: Network) -> Network:
        """The sum of two networks of one form, as a network of that form: every bond has the sizes of both together.

        The cores hold those of the two networks as blocks, zeros elsewhere. Follow with `round` to drop what is not
        needed.

        Raises:
            StructureError: the two differ in shape, or in more than the sizes and names of their inner indices, or the
                form has parts that no index connects, for which there is no such sum.
            DataError: the dtypes differ.
        """
        if not isinstance(other, Network):
            return NotImplemented
        mine, theirs = self.structure, other.structure
        if self.shape != other.shape:
            raise StructureError(f"cannot add networks of shapes {self.shape} and {other.shape}")
        if self.dtype != other.dtype:
            raise DataError(f"cannot add networks of {self.dtype} and {other.dtype}; convert one with .to()")
        called = _counterparts(mine, theirs)
        if called is None:
            raise StructureError(f"cannot add '{theirs}' to '{mine}': only the sizes of inner indices may differ")
        inner = set(mine.inner_indices)
        _check_connected(mine)
        cores = []
        for core, twin, left, right in zip(mine.cores, theirs.cores, self.cores, other.cores, strict=True):
            right = right.permute([twin.indices.index(called[index]) for index in core.indices])
            if not inner:
                cores.append(left + right)
                continue
            bonds = [axis for axis, index in enumerate(core.indices) if index in inner]
            both = left.new_zeros([n + right.shape[axis] * (axis in bonds) for axis, n in enumerate(left.shape)])
            both[tuple(slice(n) for n in left.shape)] = left
            both[tuple(slice(n if axis in bonds else 0, None) for axis, n in enumerate(left.shape))] = right
            cores.append(both)
        sizes = {index: mine.sizes[index] + theirs.sizes[called[index]] for index in inner}
        return Network(mine.replace(sizes), cores)

    def __sub__(self, other: Network) -> Network:
        """The difference of two networks of one form; see `__add__`."""
        return self + (-1.0) * other if isinstance(other, Network) else NotImplemented

    def __neg__(self) -> Network:
        return -1.0 * self

    def __truediv__(self, divisor: complex) -> Network:
        """The network divided by a number; see `__mul__`."""
        return self._times(lambda core: core / divisor, divisor) if _is_number(divisor) else NotImplemented

    def __mul__(self, factor: complex) -> Network:
        """The network times a number, which goes into a core that is used once.

        A real network times a complex number is complex.
        """
        return self._times(lambda core: core * factor, factor) if _is_number(factor) else NotImplemented

    __rmul__ = __mul__

    def _times(self, change: Callable[[Tensor], Tensor], number: complex) -> Network:
        once = [n for n, core in enumerate(self.structure.cores) if len(core.terms) == 1]
        if not once:
            raise StructureError(f"cannot multiply '{self.structure}' by a number: every core is used more than once")
        cores = list(self.cores)
        if isinstance(number, complex | np.complexfloating):
            cores = [core.to(core.dtype.to_complex()) for core in cores]
        cores[once[0]] = change(cores[once[0]])
        return Network(self.structure, cores)

    def round(
        self,
        *,
        error: float | None = None,
        ranks: Mapping[str, int] | int | None = None,
        method: Literal["svd", "gram", "random"] = "svd",
        seed: int = 0,
    ) -> Network:
        """A network of the same form with smaller bonds.

        For tree-shaped structures: every inner index joins two cores, no cycle, every output on one core, no core used
        twice. Cores are orthogonalised towards each bond in turn and its singular values truncated, with the squared
        budget shared between bonds. Bonds between the same two cores are first joined into one. Cost: ``O(sum n r^3)``.

        Args:
            error: the result is at most this far away in relative Frobenius norm.
            ranks: instead of ``error``: the largest dimension for each bond named; others lose only zeros. A single
                number is that of every bond.
            method: ``"svd"`` as above; ``"gram"``, from Gram matrices of both sides of each bond, products of
                matrices only, for errors down to 10^-6 in double precision; ``"random"``, for ranks much smaller than
                the bonds are, as those of sums: one product with a random network, then cores as narrow as the ranks.
            seed: for the random network.

        Raises:
            TenfoldError: a rank or ``error`` is no such number.
            StructureError: the structure is no tree, ``error`` is not in [0, 1) or too small for the method, both or
                neither is given, or method ``"random"`` is given no ranks.

        Papers: "Tensor-train decomposition", 2011; "Parallel algorithms for tensor train arithmetic", 2022;
        "Randomized algorithms for rounding in the tensor-train format", 2023.
        """
        if (error is None) == (ranks is None):
            raise StructureError("round takes either error or ranks")
        if method not in ("svd", "gram", "random"):
            raise StructureError(f"method '{method}' of round is not known; there are svd, gram, random")
        if error is not None:
            error = real_number("error", error, "at least 0 and below 1")
            if not 0 <= error < 1:
                raise StructureError(f"error must be at least 0 and below 1, not {error}")
            if method == "random":
                raise StructureError("method 'random' of round takes ranks, not an error")
            if method == "svd":
                return Network(*round_tree(self.structure, self.cores, error=error))
            least = _GRAM_DIGITS * math.sqrt(torch.finfo(self.dtype).eps)
            if error < least:
                raise StructureError(f"error {error} is below {least:.0e}, what method 'gram' can tell; use 'svd'")
            return Network(*gram_round_tree(self.structure, self.cores, error=error))
        assert ranks is not None
        if not isinstance(ranks, Mapping):
            ranks = dict.fromkeys(self.structure.inner_indices, whole_number("ranks", ranks, 1))
        unknown = [bond for bond in ranks if bond not in self.structure.inner_indices]
        if unknown:
            raise StructureError(f"ranks names '{unknown[0]}', which is no bond of '{self.structure}'")
        small = [bond for bond in ranks if isinstance(ranks[bond], int) and ranks[bond] < 1]
        if small:
            raise StructureError(f"rank of bond '{small[0]}' must be at least 1, not {ranks[small[0]]}")
        ranks = {bond: whole_number(f"rank of bond '{bond}'", rank, 1) for bond, rank in ranks.items()}
        if method == "svd":
            return Network(*round_tree(self.structure, self.cores, ranks=ranks))
        if method == "gram":
            return Network(*gram_round_tree(self.structure, self.cores, ranks=ranks))
        return Network(*random_round_tree(self.structure, self.cores, ranks=ranks, seed=seed))

    def bond_spectra(self) -> dict[str, Shaped[Tensor, " r"]]:
        """For each bond of a tree-shaped network the singular values of the tensor across it, largest first."""
        return bond_spectra(self.structure, self.cores)

    def replace(self, cores: Sequence[Tensor]) -> Network:
        """The same structure with other cores."""
        return Network(self.structure, cores)

    def to(self, *args: Any, **kwargs: Any) -> Network:
        """The network with its cores moved or cast, as `torch.Tensor.to` does it."""
        return Network(self.structure, [core.to(*args, **kwargs) for core in self.cores])

    # --- files --------------------------------------------------------------------------------------------------------

    def save(self, path: str | os.PathLike[str], *, record: Mapping[str, Any] | None = None) -> None:
        """Write one safetensors file: the cores, and the structure in its header. Written beside, then renamed.

        Args:
            path: where; ``.tn`` by custom.
            record: more to keep in the header, as JSON (how a fit was made, names of axes).

        Raises:
            FileError: the file cannot be written; what stood there before is unchanged.
        """
        tensors = {}
        for core, tensor in zip(self.structure.cores, self.cores, strict=True):
            # safetensors has no complex128, so complex numbers are stored as pairs.
            plain = torch.view_as_real(tensor.detach().resolve_conj()) if tensor.is_complex() else tensor.detach()
            tensors[f"core.{core.name}"] = plain.cpu().contiguous().clone()
        header = {
            "tenfold": str(FILE_VERSION),
            "structure": self.structure.to_json(),
            "dtype": str(self.dtype).removeprefix("torch."),
        }
        if record is not None:
            header["record"] = json.dumps(record)
        with atomic(path) as beside:
            try:
                save_file(tensors, beside, metadata=header)
            except SafetensorError as error:  # what it makes of the system's errors, such as a full disk
                raise FileError(f"cannot write '{path}': {error}") from error

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Network:
        """The network in a file that `save` wrote. Nothing in a file is ever executed.

        Raises:
            FileError: no such file, not a tenfold file, truncated, from a newer version, or its parts do not fit.
        """
        return load_file(path)[0]

    def __repr__(self) -> str:
        kind = format_name(self.structure) or "network"
        return (
            f"Network({kind}: {self.structure.pattern}; {_times(self.shape)}, {self.parameters:,} parameters, "
            f"ratio {ratio(self.structure.size, self.parameters):.4g}, {str(self.dtype).removeprefix('torch.')})"
        )


def _is_number(value: object) -> bool:
    return isinstance(value, int | float | complex | np.number) and not isinstance(value, bool)


def _counterparts(mine: Structure, theirs: Structure) -> dict[str, str] | None:
    """What another structure calls each index of this one, if only names and sizes of inner indices differ; else None.

    Inner indices are told apart by the terms they join; of several between the same terms, by name or by order.
    """
    if mine.output_shape != theirs.output_shape or mine.shape != theirs.shape or mine.term_core != theirs.term_core:
        return None
    called = dict(zip(mine.output_indices, theirs.output_indices, strict=True))
    between: tuple[dict[tuple[int, ...], list[str]], ...] = ({}, {})
    for structure, groups in zip((mine, theirs), between, strict=True):
        for index in structure.inner_indices:
            groups.setdefault(structure.terms_with(index), []).append(index)
    if between[0].keys() != between[1].keys():
        return None
    for place, group in between[0].items():
        other = between[1][place]
        if len(group) != len(other):
            return None
        called.update(zip(group, group if set(group) == set(other) else other, strict=True))
    # Every use of a core must turn its axes alike.
    turns: dict[int, list[int]] = {}
    for first, second, core in zip(mine.terms, theirs.terms, mine.term_core, strict=True):
        if {called[index] for index in first.indices} != set(second.indices):
            return None
        turn = [second.indices.index(called[index]) for index in first.indices]
        if turns.setdefault(core, turn) != turn:
            return None
    return called


def _check_connected(structure: Structure) -> None:
    """Raise `StructureError` unless inner indices connect all terms: in a sum, blocks must not mix."""
    inner = set(structure.inner_indices)
    for core in structure.cores:
        if len({tuple(index in inner for index in structure.terms[place].indices) for place in core.terms}) > 1:
            raise StructureError(f"cannot add networks of '{structure}': '{core.name}' has an axis inside and outside")
    reached, todo = {0}, [0]
    while todo:
        for index in inner.intersection(structure.terms[todo.pop()].indices):
            for term in structure.terms_with(index):
                if term not in reached:
                    reached.add(term)
                    todo.append(term)
    if len(reached) < len(structure.terms):
        raise StructureError(f"cannot add networks of '{structure}': it has parts that no inner index connects")


def load_file(path: str | os.PathLike[str]) -> tuple[Network, dict[str, Any] | None]:
    """The network in a file and the record that was saved with it; raises `FileError` as `Network.load` does."""
    shown = str(path)
    if not Path(path).is_file():
        what = "is a directory" if Path(path).is_dir() else "does not exist"
        raise FileError(f"'{shown}' {what}")
    if not _is_text(os.fspath(path)):
        raise FileError(f"'{shown}' has a name that is no UTF-8, which safetensors cannot open; rename it")
    try:
        with safe_open(os.fspath(path), framework="pt") as file:
            header = file.metadata() or {}
            if "tenfold" not in header or "structure" not in header:
                raise FileError(f"'{shown}' is a safetensors file but holds no tenfold network")
            if header["tenfold"] != str(FILE_VERSION):
                raise FileError(
                    f"'{shown}' has file version {header['tenfold']!r}; this tenfold reads version {FILE_VERSION}"
                )
            structure = Structure.from_json(header["structure"])
            dtype = getattr(torch, header.get("dtype", ""), None)
            if not isinstance(dtype, torch.dtype) or not (dtype.is_floating_point or dtype.is_complex):
                raise FileError(f"'{shown}' names the dtype {header.get('dtype')!r}, which is none for a core")
            stored = set(file.keys())
            wanted = {f"core.{core.name}" for core in structure.cores}
            if stored != wanted:
                odd = min(stored ^ wanted)
                raise FileError(f"'{shown}' does not hold the cores of its structure: '{odd}' is missing or extra")
            cores = []
            for core in structure.cores:
                tensor = file.get_tensor(f"core.{core.name}")
                if dtype.is_complex:
                    if tensor.ndim != len(core.shape) + 1 or tensor.shape[-1] != 2 or not tensor.is_floating_point():
                        raise FileError(f"'{shown}' holds core '{core.name}' not as pairs of real numbers")
                    tensor = torch.view_as_complex(tensor.contiguous())
                if tensor.dtype != dtype:
                    raise FileError(f"'{shown}' holds core '{core.name}' as {tensor.dtype}, not {dtype}")
                cores.append(tensor)
            record = json.loads(header["record"]) if "record" in header else None
            if record is not None and not isinstance(record, dict):
                raise FileError(f"'{shown}' has a damaged record of its fit")
            return Network(structure, cores), record
    except FileError:
        raise
    except SafetensorError as cause:
        raise FileError(f"'{shown}' is truncated or is no tenfold file ({cause})") from cause
    except (TenfoldError, ValueError, RecursionError, RuntimeError) as cause:
        raise FileError(f"'{shown}' is damaged: {cause}") from cause
    except OSError as cause:
        raise FileError(f"'{shown}' cannot be read: {cause.strerror or cause}") from cause


def _is_text(name: str | bytes) -> bool:
    try:
        os.fsencode(name).decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def _times(shape: Sequence[int]) -> str:
    return " x ".join(map(str, shape)) if shape else "scalar"
