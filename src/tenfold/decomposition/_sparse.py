"""Sparse arrays for methods that multiply them with factors again and again: sorted once for each mode.

Indices that no entry has are left out: their rows of every product are zero. So nothing here grows with the size of a
mode, but with the number of entries, and indices fit 32 bits.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from itertools import product
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Int, Shaped
from torch import Tensor

# Entries that one thread does before it looks for more; also what rows are cut at, so that results depend on no number
# of threads.
_CHUNK = 2**15
# Multiplications below which threads wait for each other longer than they work.
_WORTH_THREADS = 2**21
# So many entries on a fibre, on average, pay for looking whether the next one is on it.
_FIBRES = 2.0
# Columns of the products that a core is made from.
_WIDTH = 64
# Modes up to so many times the number of entries are looked through for indices in use; longer ones are sorted.
_DENSE_MODE = 16


class Plan(NamedTuple):
    """The entries of a sparse array in the order of the rows of one unfolding.

    Attributes:
        order: the entries as they were given, in this order.
        rows: where each row begins, and the end.
        heads: the row that each chunk of entries begins in.
        modes: the other modes, those that neighbours share first.
        columns: the index of each entry in each of ``modes``.
        fibres: whether neighbours share all but the last.
    """

    order: np.ndarray
    rows: np.ndarray
    heads: np.ndarray
    modes: tuple[int, ...]
    columns: tuple[np.ndarray, ...]
    fibres: bool


class Fibres:
    """The fibres along one mode that have entries, to be found by their places in the other modes.

    Args:
        columns: for each other mode the index of each entry.
        shape: of the other modes.
    """

    def __init__(self, columns: Sequence[Int[Tensor, " n"]], shape: Sequence[int]) -> None:
        self.shape = tuple(shape)
        # Places are numbered mode by mode, so that no number is above the square of that of the entries.
        self.levels: list[Int[Tensor, " k"]] = []
        number = columns[0].long()
        for column, size in zip(columns[1:], shape[1:], strict=True):
            keys, number = torch.unique(number * size + column, return_inverse=True)
            self.levels.append(keys)
        self.order = number.argsort(stable=True)
        count = len(self.levels[-1]) if self.levels else shape[0]
        self.begins = torch.cat([torch.zeros(1, dtype=torch.int64), number.bincount(minlength=count).cumsum(0)])

    def find(self, rows: Int[Tensor, "s K"]) -> tuple[Int[Tensor, " f"], Int[Tensor, " f"]]:
        """The entries on the fibres at these places: for each the number of its place in ``rows``, and its own."""
        sample, number = torch.arange(len(rows)), rows[:, 0]
        for column, size, keys in zip(rows.unbind(1)[1:], self.shape[1:], self.levels, strict=True):
            key = number * size + column[sample]
            number = torch.searchsorted(keys, key).clamp(max=len(keys) - 1)
            there = keys[number] == key
            sample, number = sample[there], number[there]
        begins, many = self.begins[number], self.begins[number + 1] - self.begins[number]
        first = torch.repeat_interleave(begins - (many.cumsum(0) - many), many)
        return torch.repeat_interleave(sample, many), self.order[first + torch.arange(len(first))]


class Pattern:
    """Where the entries of a sparse array are, without their values.

    Args:
        columns: for each mode, of at least two, the index of each entry, all below ``sizes``, no cell twice.
        sizes: of the modes.
    """

    def __init__(self, columns: Sequence[Int[Tensor, " n"]], sizes: Sequence[int]) -> None:
        self.sizes = tuple(sizes)
        self.present: list[Int[Tensor, " d"]] = []
        self.columns: list[Int[Tensor, " n"]] = []
        for column, size in zip(columns, sizes, strict=True):
            present, compact = _compact(column, size)
            self.present.append(present)
            self.columns.append(compact)
        self._plans: dict[int, Plan] = {}
        self._order: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.columns[0])

    @property
    def shape(self) -> tuple[int, ...]:
        """For each mode, how many indices have an entry."""
        return tuple(len(present) for present in self.present)

    def plan(self, mode: int) -> Plan:
        """The order of the entries for products that leave ``mode``; made once."""
        if mode not in self._plans:
            self._plans[mode] = self._planned(mode)
        return self._plans[mode]

    def fibres(self, mode: int) -> Fibres:
        """What finds the entries of fibres along ``mode``."""
        others = [m for m in range(len(self.shape)) if m != mode]
        return Fibres([self.columns[m] for m in others], [self.shape[m] for m in others])

    def sorted_by(self, modes: Sequence[int]) -> np.ndarray:
        """The entries in lexicographic order of their indices in ``modes``."""
        order = np.arange(len(self), dtype=np.int32 if len(self) < 2**31 else np.int64)
        for mode in reversed(modes):
            order, _ = _kernels().counting_sort(self.columns[mode].numpy(), order, self.shape[mode])
        return order

    def _planned(self, mode: int) -> Plan:
        # Short modes first: more neighbours share an index in them.
        by_size = sorted(range(len(self.shape)), key=lambda m: self.shape[m])
        if self._order is None:
            self._order = self.sorted_by(by_size)
        order, rows = _kernels().counting_sort(self.columns[mode].numpy(), self._order, self.shape[mode])
        modes = tuple(m for m in by_size if m != mode)
        columns = tuple(self.columns[m].numpy()[order] for m in modes)
        starts = np.arange(0, len(self), _CHUNK)
        heads = np.searchsorted(rows, starts, side="right") - 1
        fibres = self.shape[mode]
        if len(modes) > 1:
            row_of = np.repeat(np.arange(self.shape[mode], dtype=np.int32), np.diff(rows))
            fibres = 1 + int(_changes((row_of, *columns[:-1])).sum())
        return Plan(order, rows, heads, modes, columns, len(self) > _FIBRES * fibres)


class SparseArray:
    """A pattern with values, and the products that decompositions make of it.

    Factors have a row for each index in use (``shape``), not for each there is.
    """

    def __init__(self, pattern: Pattern, values: Shaped[Tensor, " n"]) -> None:
        self.pattern = pattern
        self.values = values.contiguous()
        self._sorted: dict[int, np.ndarray] = {}

    @property
    def shape(self) -> tuple[int, ...]:
        return self.pattern.shape

    def mttkrp(self, factors: Sequence[Shaped[Tensor, "d r"]], mode: int) -> Shaped[Tensor, "d r"]:
        """The unfolding along ``mode`` times the Khatri-Rao product of all other factors, without gradients.

        Cost: ``N r`` multiplications for each entry of an array of order N, and the reading of its N - 1 rows.
        """
        plan = self.pattern.plan(mode)
        if mode not in self._sorted:
            self._sorted[mode] = self.values.numpy()[plan.order]
        return _mttkrp(plan, self._sorted[mode], factors, self.shape[mode])

    def entries(self, factors: Sequence[Shaped[Tensor, "d r"]]) -> Shaped[Tensor, " n"]:
        """What CP factors make of the cells of the entries, in the order these were given."""
        return entries(self.pattern.columns, factors)

    def core(self, bases: Sequence[Shaped[Tensor, "d k"]]) -> Shaped[Tensor, "..."]:
        """The array times the conjugate transpose of a matrix on each mode.

        Cost: the product of all ``k`` but the first for each entry. Columns of all combinations of the middle modes
        take the place of terms, some at a time.
        """
        first, last = bases[0].conj(), bases[-1].conj()
        middle = [basis.conj() for basis in bases[1:-1]]
        sizes = [basis.shape[1] for basis in bases]
        width = last.shape[1]
        combinations = torch.tensor(list(product(*map(range, sizes[1:-1]))), dtype=torch.int64)
        parts = []
        for chosen in combinations.split(max(1, _WIDTH // width)):
            some = [basis[:, chosen[:, n]].repeat_interleave(width, 1) for n, basis in enumerate(middle)]
            parts.append(first.T @ self.mttkrp([first, *some, last.repeat(1, len(chosen))], 0))
        return torch.cat(parts, 1).reshape(sizes)

    def leading(self, mode: int, count: int, generator: torch.Generator, iterations: int = 4) -> Shaped[Tensor, "d k"]:
        """Orthonormal columns near the leading left singular vectors of the unfolding along ``mode``.

        Block power iterations; no matrix with a row for each column of the unfolding is made. At most ``d`` columns.
        """
        extent = self.shape[mode]
        count = min(count, extent)
        width = min(extent, count + 5)
        others = [m for m in range(len(self.shape)) if m != mode]
        order = self.pattern.sorted_by(others)
        changes = _changes([self.pattern.columns[m].numpy()[order] for m in others])
        fibres = np.concatenate([[0], np.flatnonzero(changes) + 1, [len(order)]])
        rows = self.pattern.columns[mode].numpy()[order]
        values = self.values.to(_double(self.values.dtype)).numpy()[order]
        basis = torch.randn(extent, width, generator=generator, dtype=_double(self.values.dtype))
        for step in range(iterations + 1):
            image = torch.zeros_like(basis)
            _kernels().gram_product(fibres, rows, values, basis.numpy(), image.numpy())
            if step == iterations:
                break
            basis = torch.linalg.qr(image).Q.contiguous()
        turned = torch.linalg.eigh(basis.mH @ image).eigenvectors.flip(1)[:, :count]
        return (basis @ turned).to(self.values.dtype)


def mttkrp_reference(
    columns: Sequence[Int[Tensor, " n"]],
    values: Shaped[Tensor, " n"],
    factors: Sequence[Shaped[Tensor, "d r"]],
    mode: int,
    extent: int,
) -> Shaped[Tensor, "extent r"]:
    """The same product in plain torch: a row for each entry, added up."""
    rank = factors[0].shape[1]
    terms = values[:, None].expand(-1, rank)
    for other, (column, factor) in enumerate(zip(columns, factors, strict=True)):
        if other != mode:
            terms = terms * factor[column.long()]
    out = torch.zeros(extent, rank, dtype=terms.dtype, device=terms.device)
    return out.index_add(0, columns[mode].long(), terms)


def entries(columns: Sequence[Int[Tensor, " n"]], factors: Sequence[Shaped[Tensor, "d r"]]) -> Shaped[Tensor, " n"]:
    """``sum_r prod_m factors[m][columns[m], r]``, without gradients."""
    out = torch.empty(len(columns[0]), dtype=factors[0].dtype)
    chunks = -(-len(out) // _CHUNK)
    plain = tuple(_plain(factor) for factor in factors)
    indices = tuple(column.numpy() for column in columns)
    result = out.numpy()
    kernel = _kernels().entries
    work = len(out) * len(factors) * factors[0].shape[1]
    _in_threads(lambda first, last: kernel(first, last, _CHUNK, indices, plain, result), chunks, work)
    return out


def _mttkrp(plan: Plan, values: np.ndarray, factors: Sequence[Tensor], extent: int) -> Tensor:
    kernels = _kernels()
    others = tuple(_plain(factors[mode]) for mode in plan.modes)
    rank = others[0].shape[1]
    dtype = np.result_type(values, *others)
    out, carry = np.empty((extent, rank), dtype), np.empty((len(plan.heads), rank), dtype)
    arguments: tuple[Any, ...] = (plan.columns, values, others)
    kernel = kernels.mttkrp_any
    if len(others) in (2, 3):
        arguments = (*plan.columns, values, *others)
        plain, fibres = {
            2: (kernels.mttkrp_3, kernels.mttkrp_3_fibres),
            3: (kernels.mttkrp_4, kernels.mttkrp_4_fibres),
        }[len(others)]
        kernel = fibres if plan.fibres else plain

    def part(first: int, last: int) -> None:
        kernel(first, last, _CHUNK, plan.heads, plan.rows, *arguments, out, carry)

    _in_threads(part, len(plan.heads), len(values) * rank * (len(others) + 1))
    kernels.add_carried(_CHUNK, plan.heads, plan.rows, out, carry)
    return torch.from_numpy(out)


def _in_threads(part: Callable[[int, int], None], chunks: int, work: int) -> None:
    """Do all chunks, in as many threads as torch has."""
    threads = min(torch.get_num_threads(), chunks) if work > _WORTH_THREADS else 1
    if threads == 1:
        part(0, chunks)
        return
    bounds = [chunks * n // threads for n in range(threads + 1)]
    with ThreadPoolExecutor(threads) as pool:
        # Reading the results raises what was raised in a thread.
        list(pool.map(part, bounds[:-1], bounds[1:]))


def _plain(tensor: Tensor) -> np.ndarray:
    return tensor.detach().resolve_conj().contiguous().numpy()


def _compact(column: Int[Tensor, " n"], size: int) -> tuple[Int[Tensor, " d"], Int[Tensor, " n"]]:
    """The indices in use, in order, and for each entry the place of its own among them."""
    narrow = torch.int32 if len(column) < 2**31 else torch.int64
    if size <= _DENSE_MODE * len(column):
        used = torch.zeros(size, dtype=torch.bool)
        used[column] = True
        present = used.nonzero()[:, 0]
        places = (torch.cumsum(used, 0) - 1).to(narrow)
        return present, places[column]
    present, places = torch.unique(column, return_inverse=True)
    return present, places.to(narrow)


def _changes(columns: Sequence[np.ndarray]) -> np.ndarray:
    """Where an entry differs from the one before it in any column."""
    changed = columns[0][1:] != columns[0][:-1]
    for column in columns[1:]:
        changed |= column[1:] != column[:-1]
    return changed


def _double(dtype: torch.dtype) -> torch.dtype:
    return torch.complex128 if dtype.is_complex else torch.float64


@cache
def _kernels() -> ModuleType:
    from tenfold.decomposition import _kernels

    return _kernels
