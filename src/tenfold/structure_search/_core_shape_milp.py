"""Core shapes by integer programs: the budget is split between core and factors, on a grid of guesses."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

# What the solver may exceed a limit by; sizes are compared in whole numbers afterwards.
_SLACK = 1e-9


def milp(
    shape: Sequence[int], costs: Sequence[NDArray[np.float64]], parameters: int, *, eps: float = 0.5
) -> tuple[int, ...]:
    """The best ranks of all splits: the core's part or the factors' part of the budget is a power of ``1 + eps``.

    For each, a program chooses one rank for every mode with a limit on the sum of their logarithms and one on the
    parameters of the factors. Small ranks, up to ``1 / eps``, are all tried.
    """
    best = tuple(1 for _ in shape)
    least = math.fsum(float(cost[1]) for cost in costs)
    small = [range(1, min(len(cost) - 1, math.ceil(1 / eps)) + 1) for cost in costs]
    solved = (_solved(shape, costs, core, factors) for core, factors in _splits(parameters, eps))
    for ranks in itertools.chain(itertools.product(*small), solved):
        if ranks is None:
            continue
        lost = math.fsum(float(cost[rank]) for cost, rank in zip(costs, ranks, strict=True))
        needed = math.prod(ranks) + sum(extent * rank for extent, rank in zip(shape, ranks, strict=True))
        if needed <= parameters and lost < least:
            best, least = ranks, lost
    return best


def _splits(parameters: int, eps: float) -> Iterator[tuple[float, float]]:
    for power in range(math.floor(math.log(parameters) / math.log1p(eps))):
        part = (1 + eps) ** power
        yield part, parameters - part
        yield parameters - part, part


def _solved(
    shape: Sequence[int], costs: Sequence[NDArray[np.float64]], core: float, factors: float
) -> tuple[int, ...] | None:
    """The best ranks with so many parameters at most in the core and in the factors; None where there are none."""
    from scipy.optimize import Bounds, LinearConstraint
    from scipy.optimize import milp as solve

    if core < 1 or factors < sum(shape):
        return None
    ranks = [np.arange(1, len(cost)) for cost in costs]
    ends = np.cumsum([len(of_mode) for of_mode in ranks])
    mode = np.repeat(np.arange(len(shape)), [len(of_mode) for of_mode in ranks])
    flat = np.concatenate(ranks)
    rows = np.vstack([np.log(flat), np.asarray(shape)[mode] * flat, mode == np.arange(len(shape))[:, None]])
    low = np.array([-np.inf, -np.inf, *np.ones(len(shape))])
    high = np.array([math.log(core) + _SLACK, factors, *np.ones(len(shape))])
    found = solve(
        np.concatenate([cost[1:] for cost in costs]),
        integrality=np.ones(len(flat)),
        bounds=Bounds(0, 1),
        constraints=LinearConstraint(rows, low, high),
    )
    if found.x is None:
        return None
    return tuple(int(np.argmax(part)) + 1 for part in np.split(found.x, ends[:-1]))
