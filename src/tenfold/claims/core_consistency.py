"""Core consistency tells the right number of components from one too many."""

from __future__ import annotations

import torch
from torch import Tensor

from tenfold import components, formats
from tenfold.claims._registry import Measurement, Number, claim
from tenfold.network import Network
from tenfold.structure_search.restarts import restarts

_PLANTED = (((12, 11, 10), 2), ((15, 12, 10), 3), ((20, 15, 10), 4))
_NOISE = 0.1
_HIGH, _LOW = 90.0, 50.0
_MOST = 0.9  # of the tensors, for each of the two sides


@claim(
    "core_consistency",
    paper="A new efficient method for determining the number of components in PARAFAC models",
    year=2003,
    where="Sections 2 and 3",
    stated=(
        "The core consistency of a PARAFAC model is near 100 percent for the right number of components and falls "
        "sharply when there is one too many."
    ),
)
def core_consistency(*, seed: int = 0, seeds: int = 10, starts: int = 5) -> Measurement:
    """Plant components with positive (so correlated) factors under 10 % noise; fit the right rank and one more.

    Of ``starts`` random starts the one with the least error counts. Holds if in at least nine of ten tensors the core
    consistency is 90 or more at the right rank, and in at least nine of ten 50 or less with one component too many.
    """
    numbers: dict[str, Number] = {}
    lines = []
    high = low = total = 0
    for shape, rank in _PLANTED:
        right: list[float] = []
        more: list[float] = []
        for number in range(seed, seed + seeds):
            data = _noisy(shape, rank, number)
            for found, fitted in ((right, rank), (more, rank + 1)):
                runs = restarts(
                    data, formats.cp(shape, fitted), starts=starts, seed=1000 * number, options={"max_sweeps": 200}
                )
                found.append(components.core_consistency(data, runs.networks[0]))
        here = (sum(value >= _HIGH for value in right), sum(value <= _LOW for value in more))
        high, low, total = high + here[0], low + here[1], total + seeds
        label = f"{'x'.join(map(str, shape))} rank {rank}"
        lines.append(
            f"{label}: at least {_HIGH:g} in {here[0]} of {seeds} tensors (the least {min(right):.1f}); with one "
            f"component more at most {_LOW:g} in {here[1]} (the most {max(more):.1f})"
        )
        numbers |= {f"{label}: high": here[0], f"{label}: low with one more": here[1]}
    holds = high >= _MOST * total and low >= _MOST * total
    return Measurement(holds, "\n".join(lines), {"tensors": total, "high": high, "low": low, **numbers})


def _noisy(shape: tuple[int, ...], rank: int, seed: int) -> Tensor:
    planted = Network.random(formats.cp(shape, rank), seed=seed, dtype=torch.float64)
    data = planted.replace([core.abs() for core in planted.cores]).dense()
    noise = torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return data + _NOISE * data.norm() / noise.norm() * noise
