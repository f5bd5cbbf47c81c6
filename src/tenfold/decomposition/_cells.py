"""Listed cells of a tensor, and what a network's other terms make of each of them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor

from tenfold.contraction import contract, plan
from tenfold.decomposition._row_kernels import row_systems
from tenfold.observations import Observations
from tenfold.structure import Structure

# Entries of the largest tensor of one batch of cells (128 MiB of float64).
_BATCH_ENTRIES = 2**24
# Entries of the normal matrices that are kept at once.
_GRAM_ENTRIES = 2**24
# Rows of one block of cells that share a row of the core; between these limits it follows the data.
_BLOCK_ROWS = (4, 256)
# Up to so many unknowns in a row its cells are summed by a compiled loop.
_COMPILED = 96
# No index of a structure contains a space, so this name is free.
_BATCH = "the batch"


class Cells:
    """The cells that `Observations` list, in the indices of a structure.

    For a term t of the structure, ``x[n] = sum_k e[n, k] W[g[n], k]``: the environment e is what all other terms make
    of cell n, k runs over the inner indices of t, and g is the row of t's core W that the cell reads.

    Args:
        structure: what the cells are cells of.
        data: integer coordinates in ``structure.shape``.
        scale: by what values are divided.
        dtype: of the values and of all results; float64 or complex128.
    """

    def __init__(self, structure: Structure, data: Observations, scale: float, dtype: torch.dtype) -> None:
        self.structure = structure
        self.values: Shaped[Tensor, " n"] = data.values.to(dtype) / scale
        self.weights: Float[Tensor, " n"] | None = None if data.weights is None else data.weights.double()
        self.columns: dict[str, Int[Tensor, " n"]] = {}
        for axis, group in enumerate(structure.outputs):
            rest = data.coordinates[:, axis]
            if len(group) == 1:
                self.columns[group[0]] = rest.contiguous()
                continue
            for index in reversed(group):
                self.columns[index] = rest % structure.sizes[index]
                rest = rest // structure.sizes[index]
        indices = [term.indices for term in structure.terms]
        self._outer = [tuple(i for i in each if i in self.columns) for each in indices]
        self._inner = [tuple(i for i in each if i not in self.columns) for each in indices]
        self._orders: dict[tuple[str, ...], tuple[Tensor, Tensor]] = {}
        self._rows_read: dict[int, dict[int, Tensor]] = {}

    def __len__(self) -> int:
        return len(self.values)

    def outer(self, place: int) -> tuple[str, ...]:
        """The output indices of a term."""
        return self._outer[place]

    def inner(self, place: int) -> tuple[str, ...]:
        """The inner indices of a term."""
        return self._inner[place]

    def table(self, core: Tensor, place: int) -> Shaped[Tensor, "g k"]:
        """A core as rows (all its output indices) and columns (all its inner ones)."""
        indices = self.structure.terms[place].indices
        order = [indices.index(i) for i in (*self.outer(place), *self.inner(place))]
        return core.permute(order).reshape(-1, math.prod(self.structure.sizes[i] for i in self.inner(place)))

    def untable(self, rows: Shaped[Tensor, "g k"], place: int) -> Tensor:
        """The core whose `table` is given."""
        indices, made = self.structure.terms[place].indices, (*self.outer(place), *self.inner(place))
        return rows.reshape([self.structure.sizes[i] for i in made]).permute([made.index(i) for i in indices])

    def rows(self, place: int, cells: Tensor | slice = slice(None)) -> Int[Tensor, " n"]:
        """The row of the term's table that each cell reads."""
        row = torch.zeros_like(self.values[cells], dtype=torch.int64)
        for index in self.outer(place):
            row = row * self.structure.sizes[index] + self.columns[index][cells]
        return row

    def evaluate(self, cores: Sequence[Tensor], cells: slice) -> Shaped[Tensor, " n"]:
        """The network at some cells; differentiable."""
        return contract(self._gathered(cores, None, cells), (_BATCH,))

    def environments(self, cores: Sequence[Tensor], place: int, cells: Tensor | slice) -> Shaped[Tensor, "n k"]:
        """What the terms other than ``place`` make of some cells."""
        found = contract(self._gathered(cores, place, cells), (_BATCH, *self.inner(place)))
        return found.reshape(found.shape[0], -1)

    def batches(self, place: int | None) -> Iterator[slice]:
        """All cells, in pieces whose environments fit into memory."""
        step = _batch(self.structure, place)
        return (slice(start, start + step) for start in range(0, len(self), step))

    def adjoint(self, cores: Sequence[Tensor], place: int, numbers: Shaped[Tensor, " n"]) -> Shaped[Tensor, "g k"]:
        """``sum_n conj(e[n]) numbers[n]`` by rows of the term's table."""
        table = torch.zeros_like(self.table(cores[self.structure.term_core[place]], place))
        for cells in self.batches(place):
            part = self.environments(cores, place, cells).conj() * numbers[cells, None]
            table.index_add_(0, self.rows(place, cells), part)
        return table

    def apply(self, cores: Sequence[Tensor], place: int, table: Shaped[Tensor, "g k"]) -> Shaped[Tensor, " n"]:
        """``sum_k e[n, k] table[g[n], k]`` for all cells."""
        return torch.cat(
            [
                (self.environments(cores, place, cells) * table[self.rows(place, cells)]).sum(1)
                for cells in self.batches(place)
            ]
        )

    def systems(
        self, cores: Sequence[Tensor], place: int, weights: Float[Tensor, " n"], numbers: Shaped[Tensor, " n"]
    ) -> Iterator[tuple[slice, Shaped[Tensor, "r k k"], Shaped[Tensor, "r k"], Int[Tensor, " r"]]]:
        """Normal equations for ranges of the term's rows: ``sum w conj(e) e^T``, ``sum conj(e) numbers``, cells a row.

        ``numbers`` are weighted already; rows of few unknowns are summed by a compiled loop, the others by batched
        matrix products of blocks of cells, padded, that share a row.
        """
        rows, columns = self.table(cores[self.structure.term_core[place]], place).shape
        order, first = self._by_row(place)
        at_once = max(1, _GRAM_ENTRIES // columns**2)
        step = max(1, min(_batch(self.structure, place), _BATCH_ENTRIES // columns))
        compiled = columns <= _COMPILED and self.values.device.type == "cpu"
        start = 0
        while start < rows:
            # As many rows as fit, but never the end of one that does not.
            low = int(first[start])
            stop = int(torch.searchsorted(first, low + step, right=True)) - 1
            stop = min(max(stop, start + 1), start + at_once, rows)
            chosen = slice(low, int(first[stop]))
            cells, inside = order[chosen], first[start : stop + 1] - low
            if compiled and len(cells) <= step:
                reads = {n: row[chosen] for n, row in self._reads(place).items()}
                found = contract(self._gathered(cores, place, cells, reads), (_BATCH, *self.inner(place)))
                e = found.reshape(found.shape[0], -1)
                gram, right = row_systems(e, weights[cells], numbers[cells], inside)
            else:
                gram, right = self._blocked(cores, place, cells, inside, weights, numbers, step)
            yield slice(start, stop), gram, right, inside.diff()
            start = stop

    def _blocked(
        self,
        cores: Sequence[Tensor],
        place: int,
        cells: Int[Tensor, " c"],
        first: Int[Tensor, " r+1"],
        weights: Float[Tensor, " n"],
        numbers: Shaped[Tensor, " n"],
        step: int,
    ) -> tuple[Shaped[Tensor, "r k k"], Shaped[Tensor, "r k"]]:
        """The sums of `systems` for a range of rows by batched products; ``cells`` are theirs, row after row."""
        count = first.diff()
        mean = len(cells) / max(int((count > 0).sum()), 1)
        width = min(max(2 ** round(math.log2(max(mean, 1))), _BLOCK_ROWS[0]), _BLOCK_ROWS[1])
        blocks_of = (count + width - 1) // width
        row_of = torch.repeat_interleave(torch.arange(len(count), device=count.device), blocks_of)
        row = torch.repeat_interleave(torch.arange(len(count), device=count.device), count)
        in_row = torch.arange(len(cells), device=count.device) - first[row]
        first_block = torch.cumsum(blocks_of, 0) - blocks_of
        blocks = torch.full((len(row_of), width), -1, device=count.device)
        blocks[first_block[row] + in_row // width, in_row % width] = cells
        # The padding points at cell 0 with nothing in it.
        padded = blocks < 0
        columns = math.prod(self.structure.sizes[i] for i in self.inner(place))
        gram = torch.zeros(len(count), columns, columns, dtype=self.values.dtype, device=self.values.device)
        right = torch.zeros_like(gram[:, :, 0])
        step = max(1, step // width)
        for start in range(0, len(row_of), step):
            chosen = slice(start, start + step)
            listed = blocks[chosen].clamp(min=0).reshape(-1)
            e = self.environments(cores, place, listed).reshape(-1, width, columns)
            e = e.masked_fill(padded[chosen][:, :, None], 0)
            adjoint = e.mH
            weighted = e * weights[listed].reshape(-1, width, 1)
            gram.index_add_(0, row_of[chosen], adjoint @ weighted)
            right.index_add_(0, row_of[chosen], (adjoint @ numbers[listed].reshape(-1, width, 1)).squeeze(2))
        return gram, right

    def _by_row(self, place: int) -> tuple[Int[Tensor, " n"], Int[Tensor, " g+1"]]:
        """The cells in the order of the rows of a term that they read, and where the cells of each row begin."""
        outer = self.outer(place)
        if outer not in self._orders:
            row = self.rows(place)
            count = torch.bincount(row, minlength=math.prod(self.structure.sizes[i] for i in outer))
            first = torch.cat([count.new_zeros(1), torch.cumsum(count, 0)])
            self._orders[outer] = torch.argsort(row, stable=True), first
        return self._orders[outer]

    def _reads(self, place: int) -> dict[int, Int[Tensor, " n"]]:
        """For every other term with outputs the row of its table that each cell reads, in the order of `_by_row`."""
        if place not in self._rows_read:
            order, _ = self._by_row(place)
            others = [n for n in range(len(self.structure.terms)) if n != place and self.outer(n)]
            # Tables of rows have fewer than 2^31 of them, and shorter numbers are read faster.
            self._rows_read[place] = {n: self.rows(n)[order].to(torch.int32) for n in others}
        return self._rows_read[place]

    def _gathered(
        self,
        cores: Sequence[Tensor],
        place: int | None,
        cells: Tensor | slice,
        reads: Mapping[int, Int[Tensor, " c"]] | None = None,
    ) -> list[tuple[tuple[str, ...], Tensor]]:
        """All terms but one, each at the positions that the cells read (``reads``, where that is known)."""
        count = len(self.values[cells])
        terms: list[tuple[tuple[str, ...], Tensor]] = []
        batched = False
        for n, (term, number) in enumerate(zip(self.structure.terms, self.structure.term_core, strict=True)):
            if n == place:
                continue
            mine, kept = self.outer(n), self.inner(n)
            tensor = cores[number]
            if mine:
                rows = self.rows(n, cells) if reads is None else reads[n]
                picked = self.table(tensor, n).index_select(0, rows)
                terms.append(((_BATCH, *kept), picked.reshape(-1, *(self.structure.sizes[i] for i in kept))))
                batched = True
            else:
                terms.append((term.indices, tensor))
        if not batched:
            terms.append(((_BATCH,), torch.ones(count, dtype=self.values.dtype, device=self.values.device)))
        return terms


@lru_cache(maxsize=1024)
def _batch(structure: Structure, place: int | None) -> int:
    """Cells whose gathered terms and their products fit into one batch."""
    probe = 1024
    outside = set(structure.output_indices)
    inputs = [
        ((_BATCH,) if outside & set(term.indices) else ()) + tuple(i for i in term.indices if i not in outside)
        for n, term in enumerate(structure.terms)
        if n != place
    ]
    inputs.append((_BATCH,))
    kept = () if place is None else tuple(i for i in structure.terms[place].indices if i not in outside)
    found = plan(inputs, (_BATCH, *kept), {**structure.sizes, _BATCH: probe})
    return max(1, _BATCH_ENTRIES * probe // found.peak)
