"""CP and tensor rings: of the size that the best network so far needs, or of growing rank."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence

from tenfold import formats
from tenfold.decomposition import Progress
from tenfold.errors import TenfoldError
from tenfold.observations import Observations
from tenfold.structure import Structure
from tenfold.structure_search.trials import SWEEPS, Array, Budget, Late, Trial, decompose, tried

# Flops that one fit may take; more is left to a fit with a structure given.
_WORK = 3e11
# Families that are no trees but whose ranks can be found: their method, and with which power of the rank they grow.
_GROWING = {"cp": ("cp_als", 1, 1), "tensor_ring": ("tensor_ring_als", 2, 1)}


def cp_rung(
    data: Array | Observations,
    budget: Budget,
    modes: Sequence[str],
    best: Trial | None,
    seed: int,
    max_rank: int | None = None,
    stop: Callable[[], bool] | None = None,
) -> Iterator[Trial]:
    """Canonical polyadic decompositions with as many components as could still be the best."""
    assert not isinstance(data, Observations)
    total = sum(data.shape)

    def build(rank: int) -> Structure:
        return formats.cp(tuple(data.shape), rank).name_outputs(modes)

    def largest(size: int) -> int:
        return _at_most(size // total, max_rank)

    yield from _alternating(data, budget, best, "cp", "cp_als", build, largest, 1, seed, stop)


def ring_rung(
    data: Array | Observations,
    budget: Budget,
    modes: Sequence[str],
    best: Trial | None,
    seed: int,
    max_rank: int | None = None,
    stop: Callable[[], bool] | None = None,
) -> Iterator[Trial]:
    """Tensor rings with one rank for all bonds, as large as could still be the best."""
    assert not isinstance(data, Observations)
    total = sum(data.shape)

    def build(rank: int) -> Structure:
        return formats.tensor_ring(tuple(data.shape), [rank] * data.ndim).name_outputs(modes)

    def largest(size: int) -> int:
        return _at_most(math.isqrt(size // total), max_rank)

    yield from _alternating(data, budget, best, "tensor ring", "tensor_ring_als", build, largest, 2, seed, stop)


def _at_most(rank: int, max_rank: int | None) -> int:
    return rank if max_rank is None else min(rank, max_rank)


def rank_trials(data: Array, family: str, budget: Budget, modes: Sequence[str], seed: int) -> Iterator[Trial]:
    """CP networks or tensor rings (``family``) of growing rank: up to an error, or of the largest size within one.

    With an error the rank doubles until that is reached, then halves what is between too small and enough.

    Raises:
        TenfoldError: ranks of this family cannot be found.
    """
    if family not in _GROWING:
        raise TenfoldError(f"ranks of {family} cannot be found; give ranks (they are found for {', '.join(_GROWING)})")
    method, step, smallest = _GROWING[family]
    label = family.replace("_", " ")

    def build(rank: int) -> Structure:
        ranks = rank if family == "cp" else [rank] * data.ndim
        return formats.for_arrays()[family](tuple(data.shape), ranks).name_outputs(modes)

    if budget.parameters is not None:

        def largest(size: int) -> int:
            return size // sum(data.shape) if step == 1 else math.isqrt(size // sum(data.shape))

        yield from _alternating(data, budget, None, label, method, build, largest, smallest, seed)
        return
    low, high, rank = smallest - 1, 0, smallest
    while True:
        structure = build(rank)
        if not low or not _too_much(data, structure):
            started = time.perf_counter()
            done = decompose(method, data, structure, error=budget.error, seed=seed)
            yield tried(label, done.network, done.error, started, method)
            enough = budget.error is not None and done.error <= budget.error
        else:
            return
        low, high = (low, rank) if enough else (rank, high)
        if high and high - low <= 1:
            return
        rank = (low + high) // 2 if high else 2 * rank


def _too_much(data: Array, structure: Structure) -> bool:
    """Whether one fit would take too long: a sweep contracts the data once and solves a system for each mode."""
    width = structure.parameters / sum(data.shape)
    return (4 * data.numel() * width + 30 * data.ndim * width**3) * SWEEPS > _WORK


def _alternating(
    data: Array,
    budget: Budget,
    best: Trial | None,
    label: str,
    method: str,
    build: Callable[[int], Structure],
    largest: Callable[[int], int],
    smallest: int,
    seed: int,
    stop: Callable[[], bool] | None = None,
) -> Iterator[Trial]:
    """The largest rank that could still be the best, and smaller ones: by halves of what is not yet decided.

    Raises:
        Late: ``stop`` says that there is no time, and there is something that was found before.
    """

    def check(_: Progress) -> None:
        if best is not None and stop is not None and stop():
            raise Late

    size = budget.parameters if budget.parameters is not None else best.parameters if best is not None else data.numel()
    high, low = largest(min(size, data.numel())), smallest
    tries = 4
    while high >= low and tries:
        started = time.perf_counter()
        rank = high if tries == 4 else (low + high) // 2
        structure = build(rank)
        if _too_much(data, structure):
            return
        limits = {"max_sweeps": SWEEPS, "tol": 1e-4, "callback": check}
        done = decompose(method, data, structure, error=budget.error, seed=seed, **limits)
        yield tried(label, done.network, done.error, started, method)
        tries -= 1
        if budget.error is None:
            # For the picture: what half and a quarter of the budget give.
            high = rank // 2
        elif done.error <= budget.error:
            high = rank - 1
        else:
            low = rank + 1
