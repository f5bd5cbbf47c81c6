"""A sweep of CP on a sparse array takes a time that grows with its entries, not with its cells."""

from __future__ import annotations

import math
import time
from itertools import pairwise

import torch

from tenfold import formats
from tenfold.claims._registry import Measurement, Number, claim
from tenfold.decomposition import Progress, find
from tenfold.network import Network
from tenfold.observations import Observations

_RANK = 16
_LONGEST = 1.15


@claim(
    "sparse_sweep_cost",
    paper="Efficient MATLAB computations with sparse and factored tensors",
    year=2008,
    where="section 5, on products with matrices and vectors",
    stated=(
        "Products of a sparse array with the factors of a CP decomposition, and so a sweep of alternating least "
        "squares, take a time proportional to the number of its nonzero entries."
    ),
)
def sparse_sweep_cost(
    *, seed: int = 0, extent: int = 1000, smallest: int = 100_000, doublings: int = 4, sweeps: int = 8
) -> Measurement:
    """Time sweeps of rank 16 on evenly drawn cells of a cube, twice as many each time, and fit time = c entries^p.

    The time is that of the processor, the shortest of some sweeps. Holds if the exponent is at most 1.15.
    """
    structure = formats.cp((extent,) * 3, _RANK)
    start = Network.random(structure, seed=seed)
    method = find("cp_als_sparse").function
    # The first use compiles.
    method(_drawn(extent, 1000, seed), structure, init=start, max_sweeps=2, tol=0.0)
    points: list[tuple[float, float]] = []
    numbers: dict[str, Number] = {}
    for doubling in range(doublings + 1):
        data = _drawn(extent, smallest * 2**doubling, seed)
        clock: list[float] = []

        def note(progress: Progress, clock: list[float] = clock) -> None:
            clock.append(time.process_time())

        method(data, structure, init=start, max_sweeps=sweeps, tol=0.0, callback=note)
        # The first sweep also sorts.
        shortest = min(after - before for before, after in pairwise(clock))
        points.append((math.log(len(data)), math.log(shortest)))
        numbers[f"{len(data)} entries: milliseconds"] = round(1e3 * shortest, 3)
    mean = [sum(axis) / len(points) for axis in zip(*points, strict=True)]
    slope = sum((x - mean[0]) * (y - mean[1]) for x, y in points) / sum((x - mean[0]) ** 2 for x, _ in points)
    text = (
        f"a sweep of rank {_RANK} on {extent}^3 cells takes {', '.join(f'{1e3 * math.exp(y):.1f}' for _, y in points)} "
        f"ms for {', '.join(f'{math.exp(x):,.0f}' for x, _ in points)} entries: exponent {slope:.2f}"
    )
    return Measurement(slope <= _LONGEST, text, {"exponent": slope, **numbers})


def _drawn(extent: int, count: int, seed: int) -> Observations:
    generator = torch.Generator().manual_seed(seed)
    cells = torch.randint(extent**3, (count,), generator=generator).unique()
    values = torch.randn(len(cells), generator=generator, dtype=torch.float64)
    coordinates = torch.stack([cells // extent**2, cells // extent % extent, cells % extent], 1)
    return Observations(coordinates, values, (extent,) * 3, rest="zero")
