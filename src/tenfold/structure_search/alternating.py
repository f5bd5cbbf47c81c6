"""CP and tensor rings of the size that the best network so far needs."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence

from torch import Tensor

from tenfold import formats
from tenfold.decomposition import find
from tenfold.observations import Observations
from tenfold.structure import Structure
from tenfold.structure_search.trials import SWEEPS, Budget, Trial, tried

# Flops that one fit may take; more is left to a fit with a structure given.
_WORK = 3e11


def cp_rung(
    data: Tensor | Observations, budget: Budget, modes: Sequence[str], best: Trial | None, seed: int
) -> Iterator[Trial]:
    """Canonical polyadic decompositions with as many components as could still be the best."""
    assert isinstance(data, Tensor)
    total = sum(data.shape)

    def build(rank: int) -> Structure:
        return formats.cp(tuple(data.shape), rank).name_outputs(modes)

    yield from _alternating(data, budget, best, "cp", "cp_als", build, lambda size: size // total, 1, seed)


def ring_rung(
    data: Tensor | Observations, budget: Budget, modes: Sequence[str], best: Trial | None, seed: int
) -> Iterator[Trial]:
    """Tensor rings with one rank for all bonds, as large as could still be the best."""
    assert isinstance(data, Tensor)
    total = sum(data.shape)

    def build(rank: int) -> Structure:
        return formats.tensor_ring(tuple(data.shape), [rank] * data.ndim).name_outputs(modes)

    def largest(size: int) -> int:
        return math.isqrt(size // total)

    yield from _alternating(data, budget, best, "tensor ring", "tensor_ring_als", build, largest, 2, seed)


def _alternating(
    data: Tensor,
    budget: Budget,
    best: Trial | None,
    label: str,
    method: str,
    build: Callable[[int], Structure],
    largest: Callable[[int], int],
    smallest: int,
    seed: int,
) -> Iterator[Trial]:
    """The largest rank that could still be the best, and smaller ones: by halves of what is not yet decided."""
    size = budget.parameters if budget.parameters is not None else best.parameters if best is not None else data.numel()
    high, low = largest(min(size, data.numel())), smallest
    tries = 4
    while high >= low and tries:
        started = time.perf_counter()
        rank = high if tries == 4 else (low + high) // 2
        structure = build(rank)
        width = structure.parameters / sum(data.shape)
        # A sweep contracts the data once and solves one system of this width for each mode.
        if (4 * data.numel() * width + 30 * data.ndim * width**3) * SWEEPS > _WORK:
            return
        done = find(method).function(data, structure, error=budget.error, seed=seed, max_sweeps=SWEEPS, tol=1e-4)
        yield tried(label, done.network, done.error, started, method)
        tries -= 1
        if budget.error is None:
            # For the picture: what half and a quarter of the budget give.
            high = rank // 2
        elif done.error <= budget.error:
            high = rank - 1
        else:
            low = rank + 1
