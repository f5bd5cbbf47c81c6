"""What the models of counts have in common: cells, steps on nonnegative factors, and how well they are known.

Counts are independent given their means, the rates: sums over components of products of one row a mode. The factors of
all modes are stacked to one matrix, and several starts are fitted side by side.

The prior of an entry is a gamma distribution around the mean of its column, as strong as ``prior`` counts: rows of
which nothing was counted get the mean row, and the posterior is proper.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from tenfold.completion.task import Task
from tenfold.errors import DataError, TenfoldError

# Entries are kept above this part of their column's mean where no prior does.
_SMALL = 1e-14


@dataclass(frozen=True, eq=False)
class Cells:
    """Counted cells: the stacked rows of each, its count, and how much it weighs."""

    rows: Int[Tensor, "n N"]
    counts: Float[Tensor, " n"]
    weights: Float[Tensor, " n"]
    sizes: tuple[int, ...]

    @classmethod
    def of(cls, task: Task, model: str) -> Cells:
        """Those of a task.

        Raises:
            DataError: a value is negative or no whole number.
            TenfoldError: a mode is continuous.
        """
        for mode, size in enumerate(task.sizes):
            if size is None:
                raise TenfoldError(f"model '{model}' takes modes with levels only, and mode {mode} is continuous")
        wrong = (task.values < 0) | (task.values != task.values.round())
        if bool(wrong.any()):
            first = int(wrong.nonzero()[0])
            raise DataError(
                f"value {float(task.values[first]):g} of observation {first} is no count: model '{model}' takes whole "
                "numbers from 0"
            )
        weights = torch.ones_like(task.values) if task.weights is None else task.weights / task.weights.mean()
        sizes = tuple(size for size in task.sizes if size is not None)
        return cls(stacked(task.coordinates, sizes), task.values, weights, sizes)

    def __len__(self) -> int:
        return len(self.counts)

    @property
    def begins(self) -> tuple[int, ...]:
        """Where the rows of each mode begin, and where the last ends."""
        return tuple(np.cumsum((0, *self.sizes)).tolist())

    @cached_property
    def told(self) -> Float[Tensor, " n"]:
        """The counts; if nothing was counted at all, half a count spread over all cells.

        That is the mean of the posterior of one rate for all cells under Jeffreys' prior.
        """
        return self.counts if bool(self.counts.any()) else torch.full_like(self.counts, 0.5 / len(self))


def stacked(coordinates: Float[Tensor, "n N"], sizes: tuple[int, ...]) -> Int[Tensor, "n N"]:
    """The row of each mode in the stacked factors. Raises `DataError` where a coordinate is no level of its mode."""
    if coordinates.ndim != 2 or coordinates.shape[1] != len(sizes):
        raise DataError(
            f"coordinates has shape {tuple(coordinates.shape)}: give a column for each of {len(sizes)} modes"
        )
    bounds = torch.tensor(sizes)
    wrong = (coordinates < 0) | (coordinates >= bounds) | (coordinates != coordinates.round())
    if bool(wrong.any()):
        mode = int(wrong.any(0).nonzero()[0])
        raise DataError(f"coordinates of mode {mode} must be whole numbers from 0 to {sizes[mode] - 1}")
    begins = torch.tensor([0, *sizes[:-1]]).cumsum(0)
    return (coordinates.long() + begins).contiguous()


def checked_rank(rank: int | None, cells: Cells, otherwise: int = 3) -> int:
    """The rank, or a usual one. Raises `TenfoldError` for one that cannot be meant."""
    chosen = otherwise if rank is None else rank
    if chosen < 1:
        raise TenfoldError(f"rank {chosen} must be positive")
    if rank is None:
        return min(chosen, len(cells))
    if chosen > len(cells):
        raise TenfoldError(f"rank {chosen} exceeds the number of observations, {len(cells)}")
    return chosen


def first_factors(
    cells: Cells, rank: int, starts: int, exposure: float, generator: torch.Generator
) -> Float[Tensor, "starts rows rank"]:
    """Uniform numbers, scaled so that as much is expected in all cells as was counted."""
    factors = torch.rand(starts, cells.begins[-1], rank, generator=generator, dtype=torch.float64)
    expected = exposure * (cells.weights * rates(cells.rows, factors)).sum(1)
    wanted = (cells.weights * cells.told).sum()
    # Spread evenly over the modes, so that huge counts do not leave the range of numbers in the products of some.
    return factors * ((wanted / expected) ** (1 / len(cells.sizes)))[:, None, None]


def rates(rows: Int[Tensor, "n N"], factors: Float[Tensor, "starts rows rank"]) -> Float[Tensor, "starts n"]:
    """The rates of cells. Costs n N rank products for each start."""
    from tenfold.completion import _count_kernels

    out = np.empty((len(factors), len(rows)))
    _count_kernels.rates(rows.numpy(), factors.numpy(), out)
    return torch.from_numpy(out)


def rates_plain(rows: Int[Tensor, "n N"], factors: Float[Tensor, "starts rows rank"]) -> Float[Tensor, "starts n"]:
    """The same in torch; the kernel is compared with it."""
    return factors[:, rows].prod(2).sum(-1)


def mode_sums(
    cells: Cells, mode: int, exposure: Float[Tensor, "starts n"], factors: Float[Tensor, "starts rows rank"]
) -> tuple[Float[Tensor, "starts rows rank"], Float[Tensor, "starts rows rank"]]:
    """For each row of a mode, counts over rates and exposures times the products of the other rows of its cells."""
    from tenfold.completion import _count_kernels

    gained, owed = np.zeros(factors.shape), np.zeros(factors.shape)
    weighted = (cells.weights * cells.told).numpy()
    exposed = (cells.weights * exposure).numpy()
    _count_kernels.mode_sums(cells.rows.numpy(), mode, weighted, exposed, factors.numpy(), gained, owed)
    return torch.from_numpy(gained), torch.from_numpy(owed)


def mode_sums_plain(
    cells: Cells, mode: int, exposure: Float[Tensor, "starts n"], factors: Float[Tensor, "starts rows rank"]
) -> tuple[Float[Tensor, "starts rows rank"], Float[Tensor, "starts rows rank"]]:
    """The same in torch; the kernel is compared with it."""
    gathered = factors[:, cells.rows]
    others = torch.cat((gathered[:, :, :mode], gathered[:, :, mode + 1 :]), dim=2).prod(2)
    ratio = cells.weights * cells.told / gathered.prod(2).sum(-1)
    gained, owed = torch.zeros_like(factors), torch.zeros_like(factors)
    gained.index_add_(1, cells.rows[:, mode], ratio[..., None] * others)
    owed.index_add_(1, cells.rows[:, mode], (cells.weights * exposure)[..., None] * others)
    return gained, owed


def sweep(
    cells: Cells, exposure: Float[Tensor, "starts n"], factors: Float[Tensor, "starts rows rank"], prior: float
) -> None:
    """One majorise-minimise step on the factor of each mode, in place.

    No step raises ``cost`` plus `penalty`: u (gained + prior) / (owed + prior / mean) minimises a function that touches
    both at the old u and lies above them elsewhere.
    """
    for mode, (begin, end) in enumerate(pairwise(cells.begins)):
        gained, owed = (part[:, begin:end] for part in mode_sums(cells, mode, exposure, factors))
        old = factors[:, begin:end]
        mean = old.mean(1, keepdim=True).clamp(min=1e-300)
        new = (old * gained + prior) / (owed + prior / mean).clamp(min=1e-300)
        if prior == 0:
            # Nothing was observed of a row: it stays. Zero would never be left again.
            new = torch.where(owed > 0, new.maximum(_SMALL * mean), old)
        factors[:, begin:end] = new


def penalty(cells: Cells, factors: Float[Tensor, "starts rows rank"], prior: float) -> Float[Tensor, " starts"]:
    """The negative logarithm of the prior, up to a constant, each column's mean being the best one."""
    total = torch.zeros(len(factors), dtype=torch.float64)
    if prior > 0:
        for begin, end in pairwise(cells.begins):
            part = factors[:, begin:end]
            total -= prior * (part / part.mean(1, keepdim=True)).log().sum((1, 2))
    return total


def deviance(cells: Cells, means: Float[Tensor, "starts n"]) -> Float[Tensor, "starts"]:
    """Half the mean deviance of the counts from their means: their Poisson cost less that of the best means."""
    told = cells.told
    apart = means - told - torch.special.xlogy(told, means.clamp(min=1e-300)) + torch.special.xlogy(told, told)
    return (cells.weights * apart).mean(-1)
