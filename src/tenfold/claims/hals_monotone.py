"""Hierarchical alternating least squares never raises the error, and is ahead of multiplicative updates."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import reduce
from itertools import pairwise

import torch
from torch import Tensor

from tenfold import formats
from tenfold.claims._registry import Measurement, claim
from tenfold.decomposition import Progress, find, relative_error
from tenfold.network import Network

_SHAPE, _RANK, _SWEEPS = (20, 22, 24), 5, 30


@claim(
    "hals_monotone",
    paper="Fast local algorithms for large scale nonnegative matrix and tensor factorizations",
    year=2009,
    where="the algorithm HALS and its comparison with multiplicative updates",
    stated=(
        "Each step of HALS minimises the error over one vector exactly, so no sweep raises it, and its error is "
        "smaller than that of as many sweeps of multiplicative updates."
    ),
)
def hals_monotone(*, seed: int = 0, seeds: int = 10) -> Measurement:
    """Fit planted nonnegative CP tensors with 10 % noise, and noise alone, from one random start by both.

    The errors of HALS are those of the networks themselves after each of 30 sweeps. Holds if none is larger than the
    one before by more than one part in 10^9, and the last is smaller than that of 30 sweeps of multiplicative updates
    for every tensor.
    """
    structure = formats.cp(_SHAPE, _RANK)
    largest, ahead, ratios = -1.0, 0, []
    for number in range(seed, seed + seeds):
        generator = torch.Generator().manual_seed(number)
        data, start = _data(number % 2 == 0, generator), _uniform(generator)
        errors: list[float] = []

        def note(progress: Progress, data: Tensor = data, errors: list[float] = errors) -> None:
            errors.append(relative_error(data, progress.network()))

        find("cp_hals").function(
            data, structure, init=Network(structure, start), max_sweeps=_SWEEPS, tol=0.0, callback=note
        )
        largest = max([largest, *(after / before - 1 for before, after in pairwise(errors))])
        other = relative_error(data, Network(structure, multiplied(data, start, _SWEEPS)))
        ahead += errors[-1] < other
        ratios.append(math.log(other / errors[-1]))
    mean = math.exp(math.fsum(ratios) / len(ratios))
    text = (
        f"{seeds} tensors of {'x'.join(map(str, _SHAPE))}, rank {_RANK}: the largest relative change of the error in a "
        f"sweep is {largest:+.1e}; after {_SWEEPS} sweeps the error is smaller in {ahead} of {seeds}, on average "
        f"{mean:.3f} times"
    )
    return Measurement(
        largest <= 1e-9 and ahead == seeds,
        text,
        {"tensors": seeds, "largest_relative_change": largest, "ahead": ahead, "mean_ratio_of_errors": mean},
    )


def _uniform(generator: torch.Generator) -> list[Tensor]:
    return [torch.rand(extent, _RANK, generator=generator, dtype=torch.float64) for extent in _SHAPE]


def _data(planted: bool, generator: torch.Generator) -> Tensor:
    noise = torch.rand(_SHAPE, generator=generator, dtype=torch.float64)
    if not planted:
        return noise
    signal = Network(formats.cp(_SHAPE, _RANK), _uniform(generator)).dense()
    return signal + 0.1 * float(signal.norm() / noise.norm()) * noise


def multiplied(data: Tensor, factors: Sequence[Tensor], sweeps: int) -> list[Tensor]:
    """Multiplicative updates: each factor times its right-hand side over what the normal equations make of it."""
    found = [factor.clone() for factor in factors]
    letters = "ijk"
    for _ in range(sweeps):
        for mode in range(3):
            others = [other for other in range(3) if other != mode]
            pattern = f"ijk,{','.join(f'{letters[other]}r' for other in others)}->{letters[mode]}r"
            right = torch.einsum(pattern, data, *[found[other] for other in others])
            gram = reduce(torch.mul, [found[other].T @ found[other] for other in others])
            found[mode] = found[mode] * right / (found[mode] @ gram + 1e-12)
    return found
