"""Sums over the observations of each level, of products of what the other modes say: compiled, and in plain torch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from types import ModuleType

import torch
from jaxtyping import Float, Int
from torch import Tensor

# Products below which threads would cost more than they save.
_WORTH = 10**6


@dataclass(frozen=True, eq=False)
class Sorted:
    """The observations in the order of the levels of one mode.

    Attributes:
        rows: the level of each observation in each of the other modes.
        weights: the precision of each.
        numbers: precision times value.
        first: where each level begins.
    """

    rows: Int[Tensor, "others n"]
    weights: Float[Tensor, " n"]
    numbers: Float[Tensor, " n"]
    first: Int[Tensor, " levels+1"]

    @classmethod
    def of(cls, levels: Int[Tensor, "N n"], mode: int, size: int, values: Tensor, weights: Tensor) -> Sorted:
        """Cost: a sort of n integers."""
        # Within a level in the order of the other modes, so that neighbours read neighbouring rows of the tables.
        order = torch.arange(len(values))
        for other in reversed(range(len(levels))):
            if other != mode:
                order = order[torch.argsort(levels[other][order], stable=True)]
        order = order[torch.argsort(levels[mode][order], stable=True)]
        counts = torch.bincount(levels[mode], minlength=size)
        first = torch.cat([counts.new_zeros(1), counts.cumsum(0)])
        rows = torch.cat([levels[:mode], levels[mode + 1 :]])[:, order].contiguous()
        if not len(rows):
            rows = torch.zeros(1, len(order), dtype=torch.int64)  # of the one row of a table of ones
        return cls(rows, weights[order], (weights * values)[order], first)

    @property
    def levels(self) -> int:
        return len(self.first) - 1

    def products(self, tables: Sequence[Float[Tensor, "_ c"]], split: int) -> Float[Tensor, "levels c"]:
        """Sums of ``w t1[i] t2[j] ...``, column by column; from column ``split`` on times the values."""
        columns = tables[0].shape[1]
        out = torch.empty(self.levels, columns, dtype=torch.float64)
        kernels = _kernels()
        rows, weights, numbers, first = (a.numpy() for a in (self.rows, self.weights, self.numbers, self.first))
        if len(tables) == 2:
            one, other = (table.contiguous().numpy() for table in tables)

            def run(low: int, high: int) -> None:
                kernels.products_two(
                    one, other, rows[0], rows[1], weights, numbers, split, first, out.numpy(), low, high
                )
        else:
            below = torch.cat(list(tables)).contiguous().numpy()
            begins = _begins([len(table) for table in tables])

            def run(low: int, high: int) -> None:
                kernels.products_any(below, begins, rows, weights, numbers, split, first, out.numpy(), low, high)

        self._shared(run, 0, self.levels, columns)
        return out

    def plain_products(self, tables: Sequence[Tensor], split: int) -> Tensor:
        """`products` in torch."""
        terms = torch.ones(len(self.weights), tables[0].shape[1], dtype=torch.float64)
        for table, rows in zip(tables, self.rows, strict=True):
            terms = terms * table[rows]
        terms = torch.cat([terms[:, :split] * self.weights[:, None], terms[:, split:] * self.numbers[:, None]], 1)
        return self._added(terms)

    def outer(self, tables: Sequence[Float[Tensor, "_ _"]], numbers: bool, low: int, high: int) -> Float[Tensor, "_ c"]:
        """Sums of ``w t1[i] x t2[j] x ...`` for the levels ``low:high``; with ``numbers`` times the values."""
        widths = torch.tensor([table.shape[1] for table in tables])
        columns = int(widths.prod())
        out = torch.empty(high - low, columns, dtype=torch.float64)
        flat = torch.cat([table.reshape(-1) for table in tables]).numpy()
        begins = _begins([table.numel() for table in tables])
        rows, first = self.rows.numpy(), self.first.numpy()
        weights = (self.numbers if numbers else self.weights).numpy()
        kernel = _kernels().outer_any

        def run(start: int, stop: int) -> None:
            kernel(flat, begins, widths.numpy(), rows, weights, first, out.numpy()[start - low :], start, stop)

        self._shared(run, low, high, columns)
        return out

    def plain_outer(self, tables: Sequence[Tensor], numbers: bool) -> Tensor:
        """`outer` in torch, for all levels."""
        terms = (self.numbers if numbers else self.weights)[:, None]
        for table, rows in zip(tables, self.rows, strict=True):
            terms = (terms[:, :, None] * table[rows][:, None, :]).flatten(1)
        return self._added(terms)

    def _added(self, terms: Tensor) -> Tensor:
        level = torch.repeat_interleave(torch.arange(self.levels), torch.diff(self.first))
        return torch.zeros(self.levels, terms.shape[1], dtype=torch.float64).index_add_(0, level, terms)

    def _shared(self, run: Callable[[int, int], None], low: int, high: int, columns: int) -> None:
        """Run on as many threads as torch has, each with as many observations."""
        threads = torch.get_num_threads()
        begin, end = int(self.first[low]), int(self.first[high])
        if threads == 1 or (end - begin) * columns < _WORTH:
            run(low, high)
            return
        shares = begin + torch.arange(1, threads) * (end - begin) // threads
        bounds = [low, *torch.searchsorted(self.first, shares).clamp(low, high).tolist(), high]
        # Threads of our own: those of numba would change how many torch has.
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(run, bounds[:-1], bounds[1:]))


def _begins(sizes: list[int]):  # type: ignore[no-untyped-def]
    return torch.tensor([0, *sizes]).cumsum(0)[:-1].numpy()


@cache
def _kernels() -> ModuleType:
    from tenfold.completion import _funbat_kernels

    return _funbat_kernels
