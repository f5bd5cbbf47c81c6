"""Networks for what is not wholly known, growing until held-out observations say stop."""

from __future__ import annotations

import math
import time
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import TypeVar

import torch
from torch import Tensor

from tenfold import formats
from tenfold.decomposition import find, relative_error
from tenfold.decomposition.als_observed import als_observed
from tenfold.network import Network
from tenfold.observations import Observations
from tenfold.structure import Structure
from tenfold.structure_search.trials import SWEEPS, Array, Budget, Rung, Trial, tried

_Held = TypeVar("_Held")
# Flops that one fit may take; more is left to a fit with a structure given.
_WORK = 1.5e10
# How many times that, where one family only is asked for.
_ALONE = 10
# Nothing is left out of fewer observations.
_FEW = 20
# Sweeps of one fit that chooses its ridge, and its random starts.
_HELD_SWEEPS, _STARTS = 160, 2
# A part of the observations that tells structures from one another: at least so many, and so many for each row. So many
# for the root of the number of cells, up to a limit, let singular vectors stand out of the noise that zeros make.
_ENOUGH, _EACH = 300_000, 40
_ROOTS, _MANY = 20, 10**6
# The ridge where there are more.
_PLENTY = 1e-6
# Arrays of which every cell is known, listed or zero, are made dense up to this many cells.
_DENSE = 10**7
# Networks for sparse arrays of so many cells have to be smaller than a list of the entries.
_LISTED = 10**5
# A rank that is no better than the best before it by this part, so often running, ends the growth.
_BETTER, _OFTEN = 0.99, 2
# Ranks below this one that say no more than the mean do not end it.
_PATIENT = 6

Build = Callable[[int], Structure]


def as_whole(data: _Held) -> _Held | Tensor:
    """The dense array where every cell is known and it is not too large; else the data."""
    if not isinstance(data, Observations) or data.weights is not None or data.shape is None or data.size > _DENSE:
        return data
    if data.rest == "zero" or (len(data) == data.size and data.distinct == data.size):
        return data.dense()
    return data


def listed_size(data: Tensor | Observations) -> int | None:
    """The numbers in a list of the entries of a sparse array, where the array is large and has more; else None."""
    if not isinstance(data, Observations) or data.rest != "zero" or data.size < _LISTED:
        return None
    size = (data.order + 1) * data.distinct
    return size if size < data.size else None


def leaves_out(data: object) -> bool:
    """Whether some cells are missing and enough are known to leave out a part of those."""
    return isinstance(data, Observations) and data.rest == "unknown" and len(data) >= _FEW and data.distinct < data.size


def observed_rungs(data: Observations) -> list[tuple[str, Rung]]:
    """Labels and steps for each format that a tensor of this order can have."""
    builders: dict[str, Callable[[tuple[int, ...], int], Structure]] = {"tensor train": formats.tensor_train}
    if data.order >= 2:
        builders = {"cp": formats.cp, **builders}
    if data.order >= 3:
        builders["tucker"] = formats.tucker
    return [(label, _growing_rung(label, build)) for label, build in builders.items()]


def observed_trials(data: Observations, label: str, build: Build, budget: Budget, seed: int) -> Iterator[Trial]:
    """Networks of one family (``build`` makes the one of a rank) of growing rank."""
    return searched(data, lambda some: _growing(some, label, build, budget, seed, _ALONE * _WORK), budget, seed)


def searched(
    data: Observations, trials: Callable[[Observations], Iterable[Trial]], budget: Budget, seed: int
) -> Iterator[Trial]:
    """What ``trials`` makes of the data, the one to prefer marked.

    Where there are far more observations than it takes to tell one structure from another, that is seen on a part of
    them, drawn at random, and the best network is fitted to all of them at the end.
    """
    shape = data.shape or ()
    enough = max(_ENOUGH, _EACH * sum(shape), min(_ROOTS * math.isqrt(math.prod(shape)), _MANY))
    if data.rest == "zero" or len(data) <= enough:
        yield from best_predicting(data, trials(data), budget)
        return
    drawn = torch.randperm(len(data), generator=torch.Generator().manual_seed(seed))[:enough].to(data.device)
    weights = None if data.weights is None else data.weights[drawn]
    part = replace(data, coordinates=data.coordinates[drawn], values=data.values[drawn], weights=weights)
    best: Trial | None = None
    try:
        for trial in best_predicting(part, trials(part), budget):
            if best is None or budget.rank(trial) < budget.rank(best):
                best, trial = trial, best
            if trial is not None:
                yield trial
        best = None if best is None else _fitted_to_all(data, best, seed)
    finally:
        if best is not None:
            yield best


def _fitted_to_all(data: Observations, trial: Trial, seed: int) -> Trial:
    if trial.method != "als_observed":
        return trial
    started = time.perf_counter()
    # Rows that see many cells need no ridge.
    found = als_observed(
        data,
        trial.structure,
        init=trial.network,
        ridge=_PLENTY,
        holdout=0.0,
        seed=seed,
        max_sweeps=_HELD_SWEEPS // 4,
        tol=1e-4,
    )
    seconds = trial.seconds + time.perf_counter() - started
    return replace(trial, network=found.network, error=found.error, seconds=seconds)


def best_predicting(data: Observations, trials: Iterable[Trial], budget: Budget) -> Iterator[Trial]:
    """All trials, once the one to prefer is known; an interrupt gives those that there are.

    That is the smallest of those whose prediction of what was left out is within one standard error of the best; the
    error is that of the difference, cell by cell, from the best one. Where the mean of the other cells is within one
    too, the network that is the mean comes as one more trial, to prefer. Paper: "Classification and regression
    trees", 1984.
    """
    seen: list[Trial] = []
    try:
        seen.extend(trials)
    except KeyboardInterrupt:
        yield from _preferred(data, seen, budget)
        raise
    yield from _preferred(data, seen, budget)


def _preferred(data: Observations, seen: list[Trial], budget: Budget) -> Iterator[Trial]:
    able = [trial for trial in seen if trial.held_out is not None and trial.residuals is not None]
    if budget.parameters is not None:
        able = [trial for trial in able if trial.parameters <= budget.parameters]
    best = min(able, key=lambda trial: trial.held_out or 0.0, default=None)
    chosen: Trial | None = None
    if best is not None and best.held_out is not None and best.baseline is not None:
        assert best.residuals is not None
        if _as_good(best.residuals[1], best):
            mean = _mean(data, min(able, key=lambda trial: trial.parameters).structure, best.baseline)
            if budget.parameters is None or mean.parameters <= budget.parameters:
                seen = [mean, *seen]
                chosen = mean
        else:
            near = [trial for trial in able if trial.residuals is not None and _as_good(trial.residuals[0], best)]
            chosen = min(near, key=lambda trial: trial.parameters)
    for trial in seen:
        yield replace(trial, preferred=trial is chosen, residuals=None)


def _as_good(residuals: Tensor, best: Trial) -> bool:
    """Whether squared residuals add up to no more than the best ones and one standard error of the difference."""
    assert best.residuals is not None
    apart = residuals - best.residuals[0]
    return float(apart.sum()) <= math.sqrt(len(apart)) * float(apart.std(correction=0))


def _mean(data: Observations, structure: Structure, baseline: float) -> Trial:
    """The mean of the data as a network of a structure that uses every core once."""
    started = time.perf_counter()
    weights = torch.ones_like(data.values.real) if data.weights is None else data.weights
    value = (weights * data.values).sum() / weights.sum()
    cores = []
    for core in structure.cores:
        cores.append(torch.zeros(core.shape, dtype=data.dtype, device=data.device))
        first = tuple(slice(None) if index in structure.output_indices else 0 for index in core.indices)
        cores[-1][first] = value if len(cores) == 1 else 1.0
    network = Network(structure, cores)
    trial = tried("mean", network, relative_error(data, network), started, "mean")
    return replace(trial, held_out=baseline, baseline=baseline)


def _ranks(parameters: Callable[[int], int], budget: Budget) -> list[int]:
    """Ranks to try, growing; the last one fills the number of parameters, where that is given."""
    ranks = [1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64]
    if budget.parameters is None:
        return ranks
    # No rank has fewer parameters than itself, so the largest that fits is not beyond the budget.
    most = bisect_right(range(1, min(budget.parameters, ranks[-1]) + 1), budget.parameters, key=parameters)
    return sorted({most, *(rank for rank in ranks if rank < most)} - {0})


def _growing_rung(label: str, build: Callable[[tuple[int, ...], int], Structure]) -> Rung:
    def rung(
        data: Array | Observations, budget: Budget, modes: Sequence[str], best: Trial | None, seed: int
    ) -> Iterator[Trial]:
        assert isinstance(data, Observations)
        shape = data.shape
        assert shape is not None
        return _growing(data, label, lambda rank: build(shape, rank).name_outputs(modes), budget, seed)

    return rung


def _growing(
    data: Observations, label: str, build: Build, budget: Budget, seed: int, work: float = _WORK
) -> Iterator[Trial]:
    """Ranks from one upwards, until the budget is met, held-out observations say stop, or there is too little data."""
    sparse = data.rest == "zero"
    known = data.size if sparse else len(data)
    lowest, worse, previous = math.inf, 0, -1
    for rank in _ranks(lambda rank: build(rank).parameters, budget):
        structure = build(rank)
        if structure.parameters == previous:
            return
        previous = structure.parameters
        if budget.parameters is not None and structure.parameters > budget.parameters:
            return
        # With a ridge there may be more unknowns than observations, but they would not be known any better.
        if rank > 1 and structure.parameters > known:
            return
        if not sparse and _HELD_SWEEPS * len(data) * _unknowns(structure) > work:
            return
        trial = _fitted(data, label, structure, seed)
        yield trial
        if budget.error is not None and trial.error <= budget.error:
            return
        seen = trial.error if trial.held_out is None else trial.held_out
        if trial.baseline is not None and seen > _BETTER * trial.baseline and rank < _PATIENT:
            continue  # alternating from nothing may need more than one component to find any
        worse = worse + 1 if seen > _BETTER * lowest else 0
        lowest = min(lowest, seen)
        if worse == _OFTEN:
            return


def _fitted(data: Observations, label: str, structure: Structure, seed: int) -> Trial:
    started = time.perf_counter()
    if data.rest == "zero" or any(len(core.terms) > 1 for core in structure.cores):
        name = "als" if data.rest == "zero" else "lbfgs"
        done = find(name).function(data, structure, seed=seed, max_sweeps=2 * SWEEPS, tol=1e-4)
        return tried(label, done.network, done.error, started, name)
    found = als_observed(data, structure, seed=seed, max_sweeps=_HELD_SWEEPS, tol=1e-4, starts=_STARTS, fibres=True)
    trial = tried(label, found.network, found.error, started, "als_observed")
    return replace(trial, held_out=found.held_out, baseline=found.baseline, residuals=found.residuals)


def _unknowns(structure: Structure) -> int:
    """Squares of how many unknowns one observation has in each core, added up: what its row costs a sweep."""
    inner = set(structure.inner_indices)
    return sum(math.prod(structure.sizes[i] for i in term.indices if i in inner) ** 2 for term in structure.terms)
