"""Core shapes by raising one rank at a time."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def greedy(
    shape: Sequence[int], costs: Sequence[NDArray[np.float64]], parameters: int, *, per_parameter: bool = False
) -> tuple[int, ...]:
    """Ranks raised from ones, each time where the most squared error goes, while the budget allows.

    ``per_parameter``: where the most of it goes for each parameter that the step adds.
    """
    ranks = [1] * len(shape)
    spent = 1 + sum(shape)
    while True:
        best: tuple[float, int, int] | None = None
        core = math.prod(ranks)
        for mode, (extent, cost, rank) in enumerate(zip(shape, costs, ranks, strict=True)):
            added = core // rank + extent
            if rank + 1 >= len(cost) or spent + added > parameters:
                continue
            gain = float(cost[rank] - cost[rank + 1]) / (added if per_parameter else 1)
            if best is None or gain > best[0]:
                best = (gain, mode, added)
        if best is None:
            return tuple(ranks)
        ranks[best[1]] += 1
        spent += best[2]
