"""Networks for what is not wholly known, growing until held-out observations say stop."""

from __future__ import annotations

import math
import time
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from torch import Tensor

from tenfold import formats
from tenfold.decomposition import find, relative_error
from tenfold.observations import Observations
from tenfold.structure import Structure
from tenfold.structure_search.trials import SWEEPS, Budget, Rung, Trial, tried

# Flops that one fit may take; more is left to a fit with a structure given.
_WORK = 5e10


def observed_rungs(data: Observations) -> list[tuple[str, Rung]]:
    """Labels and steps for each format that a tensor of this order can have."""
    builders: dict[str, Callable[[tuple[int, ...], int], Structure]] = {"tensor train": formats.tensor_train}
    if data.order >= 2:
        builders = {"cp": formats.cp, **builders}
    if data.order >= 3:
        builders["tucker"] = formats.tucker
    return [(label, _growing_rung(label, build)) for label, build in builders.items()]


def _ranks(parameters: Callable[[int], int], budget: Budget) -> list[int]:
    """Ranks to try, growing; the last one fills the number of parameters, where that is given."""
    ranks = [1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64]
    if budget.parameters is None:
        return ranks
    # No rank has fewer parameters than itself, so the largest that fits is not beyond the budget.
    most = bisect_right(range(1, min(budget.parameters, ranks[-1]) + 1), budget.parameters, key=parameters)
    return sorted({most, *(rank for rank in ranks if rank < most)} - {0})


def _growing_rung(label: str, build: Callable[[tuple[int, ...], int], Structure]) -> Rung:
    """Ranks from one upwards, until the budget is met, held-out observations say stop, or there is too little data."""

    def rung(
        data: Tensor | Observations, budget: Budget, modes: Sequence[str], best: Trial | None, seed: int
    ) -> Iterator[Trial]:
        assert isinstance(data, Observations)
        shape = data.shape
        assert shape is not None
        sparse = data.rest == "zero"
        # Where nothing is missing there is nothing to predict.
        complete = sparse or data.distinct == math.prod(shape)
        train, held_out = (data, None) if complete or len(data) < 20 else data.split(0.1, seed)
        known = math.prod(shape) if sparse else len(train)
        als = find("als").function
        lowest, worse, previous = math.inf, 0, -1
        for rank in _ranks(lambda rank: build(shape, rank).parameters, budget):
            structure = build(shape, rank).name_outputs(modes)
            if structure.parameters == previous:
                return
            previous = structure.parameters
            if budget.parameters is not None and structure.parameters > budget.parameters:
                return
            if rank > 1 and structure.parameters > known:
                return
            if not sparse and 2 * SWEEPS * len(train) * _unknowns(structure) > _WORK:
                return
            started = time.perf_counter()
            done = als(train, structure, seed=seed, max_sweeps=2 * SWEEPS, tol=1e-4)
            outside = None if held_out is None else relative_error(held_out, done.network)
            network = done.network
            if held_out is not None:
                network = als(data, structure, init=network, seed=seed, max_sweeps=SWEEPS, tol=1e-4).network
            error = relative_error(data, network)
            trial = tried(label, network, error, started, "als")
            yield replace(trial, held_out=outside)
            if budget.error is not None and error <= budget.error:
                return
            seen = error if outside is None else outside
            worse = worse + 1 if seen > 0.99 * lowest else 0
            lowest = min(lowest, seen)
            if worse == 2:
                return

    return rung


def _unknowns(structure: Structure) -> int:
    """Squares of how many unknowns one observation has in each core, added up: what its row costs a sweep."""
    inner = set(structure.inner_indices)
    return sum(math.prod(structure.sizes[i] for i in term.indices if i in inner) ** 2 for term in structure.terms)
