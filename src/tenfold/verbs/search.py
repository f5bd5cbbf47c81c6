"""`search`: an array in, the network structure that suits it best out."""

from __future__ import annotations

import math
import os
import pickle
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing, nullcontext
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tenfold._arguments import quoted, real_number, whole_number
from tenfold._threads import threads_for
from tenfold.decomposition import relative_error
from tenfold.errors import TenfoldError
from tenfold.network import Network
from tenfold.structure import index_names
from tenfold.structure_search import Budget, Trial, climb
from tenfold.structure_search._processes import check_workers
from tenfold.structure_search.objectives import ErrorWithin, Objective, SizeWithin, WeightedSum
from tenfold.structure_search.pareto import non_dominated
from tenfold.structure_search.session import Session
from tenfold.structure_search.spaces import Space
from tenfold.structure_search.targets import Dense, Loss, Observed, Target
from tenfold.verbs._arrays import Prepared, as_dtype, as_names, as_text, prepare
from tenfold.verbs._budget import DEFAULT_ERROR, budget_of, check_seconds, check_seed, in_words
from tenfold.verbs._facts import observed_cells, rescaled, spectra_of
from tenfold.verbs._progress import Bar, progress_bar
from tenfold.verbs._searching import Ended, Plan, best_of, opened, run, searcher_for, target_of, trials_of
from tenfold.verbs._spaces import Fold, kinds_in_words, roomy, space_of
from tenfold.verbs.result import Fit
from tenfold.verbs.search_result import Candidate, Search, label

# How long is searched if nobody says.
DEFAULT_SECONDS = 60.0
# The part of observations that is kept for the end.
_TEST = 0.1
# What is left of the time, at the least, where common formats took all of it: a glance.
_LEAST_SECONDS = 1e-9


def search(
    data: Any = None,
    *,
    error: float | None = None,
    parameters: int | None = None,
    ratio: float | None = None,
    weight: float | None = None,
    space: str | Space = "any",
    max_rank: int | None = None,
    fixed_order: bool | None = None,
    fold: Fold | None = None,
    max_degree: int | None = None,
    method: str | None = None,
    evaluations: int | None = None,
    seconds: float | None = None,
    workers: int = 1,
    client: Any = None,
    resume: str | os.PathLike[str] | None = None,
    seed: int = 0,
    guard: bool = False,
    loss: Callable[[Network], Tensor] | None = None,
    shape: Sequence[int] | None = None,
    dtype: torch.dtype | str | None = None,
    dims: Sequence[str] | None = None,
    coordinates: Mapping[str, Any] | None = None,
    units: Mapping[str, str] | None = None,
    source: str | None = None,
    source_dtype: str | None = None,
    progress: bool | None = None,
    **options: Any,
) -> Search:
    """Search for the structure that suits data best: its topology, its ranks and the order of its modes.

    Structures of a space are fitted, one after the other or side by side, until a budget is used up. What is found
    depends on the data, the seed and the number of evaluations, and not on how many workers there are. Where the space
    is left open, whole arrays are fitted by the common formats first, as `fit` does: so there is a first answer within
    seconds, and the result is never worse.

    Args:
        data: whatever `fit` takes as long as it is in memory: a whole array, a sparse one, or one with missing cells.
            Then a tenth of the known ones is left out and predicted to compare structures, and another tenth is kept
            for the end: ``search.tested`` is the error on those, of what was found.
        error: relative error not to exceed (that of the prediction where cells are missing), with as few parameters as
            can be found; 0.1 if nothing is asked for.
        parameters: a number of parameters not to exceed, with as small an error as can be found.
        ratio: the same as ``parameters``: entries of the array for each parameter, at least.
        weight: instead of these the sum that papers minimise, ``parameters / entries + weight * error^2``.
        space: what is looked among: ``"ring"``, ``"chain"``, ``"tree"``, ``"tucker"``, ``"fully_connected"``,
            ``"any_graph"`` (`structure_search.spaces`) or a `Space`; ``"any"`` takes rings, or chains of two modes.
        max_rank: of every bond, also in common formats; by default 8 in what is searched, or as much more as the budget
            seems to need.
        fixed_order: whether the modes stay in the order of the axes; by default their order is looked for too.
        fold: how axes are cut into shorter modes: pieces of each, as ``((8, 8), (4, 16), 3)``, the longest that a piece
            may be, or whether they are at all. By default matrices and axes longer than 32 are.
        max_degree: for ``"any_graph"``, the most bonds of a core; 3 by default.
        method: the name of a searcher (`structure_search.searchers`); by default ``"bound_guided"`` for whole arrays
            and ``"greedy"`` for others and for losses.
        evaluations: how many may be asked for, as papers count them.
        seconds: how long it may take; 60 if neither this nor ``evaluations`` is given. However few they are, there is
            an answer; a fit is cut off between two sweeps, and common formats that there is no time for are left out.
        workers: processes that fit side by side, up to four for each core; they start where a search takes longer than
            a moment.
        client: a ``dask.distributed.Client`` whose workers fit instead.
        resume: a folder that everything is kept in while it is found: the same call goes on from there.
        seed: fixes every random draw.
        guard: where cells are missing, let the searcher see errors on what is left out through Thresholdout
            (`structure_search.ReusableHoldout`): noisy, not where the fitted cells say nearly the same, and only as
            often as there are such cells.
        loss: instead of data, what a network is to be good at: ``loss(network)`` is a differentiable scalar of at
            least 0. It stands where the error does.
        shape: of the tensor that networks stand for, with ``loss``.
        dtype: compute in this dtype instead of the data's own.
        dims, coordinates, units, source, source_dtype: as in `fit`, for people; coordinates and units with data only.
        progress: show a progress line on standard error; by default when that is a terminal.
        options: what the searcher takes beyond these.

    Returns:
        A `Search`. An interrupt (Ctrl-C) returns the best found so far with ``search.interrupted`` set; before
        anything is found it passes through.

    Raises:
        DataError: the data cannot be fitted (empty, NaN, infinite, zero, not in memory).
        StructureError: the space does not suit the data, or the searcher the space.
        TenfoldError: arguments contradict each other or are not known, or the folder holds another search.
    """
    seed = check_seed(seed)
    workers = check_workers(workers)
    if evaluations is not None:
        evaluations = whole_number("evaluations", evaluations, 1)
    seconds = check_seconds(seconds)
    folder = _folder(resume)
    if not isinstance(guard, bool | np.bool_):
        raise TenfoldError(f"guard must be true or false, not {quoted(guard)}")
    if client is not None and not hasattr(client, "submit"):
        raise TenfoldError(f"client must be a dask.distributed.Client, not {type(client).__name__}")
    own = {name: value for name, value in options.items() if value is not None}
    if loss is None:
        if shape is not None:
            raise TenfoldError("shape is given without loss; data has a shape of its own")
        ready = prepare(data, dtype=dtype, dims=dims, coordinates=coordinates, units=units)
        target: Target = target_of(ready.whole, test=_TEST)
        if guard and (not isinstance(target, Observed) or target.held is None):
            why = "so few" if isinstance(target, Observed) else "an array without missing ones"
            raise TenfoldError(f"guard answers for held-out cells, and none are held out of {why}; leave it out")
        about = _of_data(ready)
    else:
        given = {"guard": bool(guard), "coordinates": coordinates is not None, "units": units is not None}
        of_data = [name for name, there in given.items() if there]
        if of_data:
            verb, them = ("is", "it") if len(of_data) == 1 else ("are", "them")
            raise TenfoldError(f"{' and '.join(of_data)} {verb} for data, and there is a loss; leave {them} out")
        target, about = _of_loss(data, loss, shape, dtype, dims, sent=workers > 1 or client is not None)
    about = replace(
        about,
        source=about.source if source is None else as_text(source),
        source_dtype=about.source_dtype if source_dtype is None else as_text(source_dtype),
        journal=folder,
    )
    objective, said = _objective(error, parameters, ratio, weight, about)
    room = space_of(
        space,
        about.shape,
        about.dims,
        max_rank=max_rank,
        fixed_order=fixed_order,
        fold=fold,
        max_degree=max_degree,
    )
    entry = searcher_for(method, target, room, own)
    if evaluations is None and seconds is None:
        seconds = DEFAULT_SECONDS
        warnings.warn(f"neither evaluations nor seconds are given: the search ends after {seconds:g} s", stacklevel=2)
    with threads_for(0), progress_bar(progress) as bar:
        started = time.perf_counter()
        grows = not isinstance(space, Space) and max_rank is None
        if grows:
            room = roomy(room, target, objective)
        plan = Plan(target, objective, room, entry, own, seed, guarded=bool(guard), grows=grows)
        journal = None if folder is None else opened(plan, folder)
        # Whatever happens before the session takes it over, nobody else is kept out of the folder.
        with closing(journal) if journal is not None else nullcontext():
            until = math.inf if seconds is None else started + seconds
            common = _common(plan, about, max_rank, until, bar) if space == "any" else None
            before = time.perf_counter() - started
            if seconds is not None:
                seconds = max(seconds - before, _LEAST_SECONDS)
            try:
                if common is not None and common.interrupted:
                    raise KeyboardInterrupt
                bar.starting(kinds_in_words(room), seconds)
                ended = run(
                    plan,
                    evaluations=evaluations,
                    seconds=seconds,
                    workers=workers,
                    client=client,
                    journal=journal,
                    watch=bar.search,
                )
            except KeyboardInterrupt as stop:
                if common is None:
                    if folder is not None:
                        stop.add_note(f"the same call goes on from '{folder}'")
                    raise
                ended = Ended(Session(target, objective, seed=seed), "interrupted", room)
        best = ended.session.best
        if best is not None and not math.isfinite(best.error):
            raise TenfoldError(
                f"loss was no finite number for any of the {ended.session.fits:,} networks that were fitted"
            )
        found = _result(ended, plan, about, said, common, before)
    if not found.met and not found.interrupted:
        warnings.warn(_missed(found), stacklevel=2)
    return found


def _folder(resume: Any) -> str | None:
    """The name of the folder that a search is kept in."""
    if resume is None:
        return None
    named = os.fspath(resume) if isinstance(resume, str | os.PathLike) else None
    if not isinstance(named, str) or not named:
        raise TenfoldError(f"resume must be the name of a folder, not {quoted(resume)}")
    return named


@dataclass(frozen=True)
class _About:
    """What a result says of what was searched for."""

    shape: tuple[int, ...]
    dims: tuple[str, ...]
    source_dtype: str
    observed: int
    entries: int
    power: int = 0
    of_loss: bool = False
    source: str | None = None
    journal: str | None = None
    ready: Prepared | None = None


def _of_data(ready: Prepared) -> _About:
    return _About(
        shape=ready.shape,
        dims=ready.dims,
        source_dtype=ready.source_dtype,
        observed=observed_cells(ready),
        entries=ready.cells,
        power=ready.power,
        source=None if ready.source is None else as_text(ready.source),
        ready=ready,
    )


def _of_loss(
    data: Any,
    loss: Any,
    shape: Sequence[int] | None,
    dtype: torch.dtype | str | None,
    dims: Sequence[str] | None,
    *,
    sent: bool,
) -> tuple[Target, _About]:
    if data is not None:
        raise TenfoldError("data and loss are given; one of them says what a network is to be good at")
    if not callable(loss):
        raise TenfoldError(f"loss must be a function of a Network, not {type(loss).__name__}")
    if isinstance(shape, str | bytes) or not isinstance(shape, Sequence) or not shape:
        raise TenfoldError(f"loss needs the shape of the tensor, as shape=(4, 4, 4), not {quoted(shape)}")
    sizes = tuple(whole_number("a size of shape", n, 1) for n in shape)
    if sent:
        try:
            pickle.dumps(loss)
        except (pickle.PicklingError, AttributeError, TypeError) as cause:
            raise TenfoldError(
                f"loss cannot be sent to other processes ({cause}); define it at the top of a module, or give workers=1"
            ) from None
    kind = as_dtype(dtype) or torch.float64
    target = Loss(loss, sizes, kind)
    cells = math.prod(sizes)
    text = str(kind).removeprefix("torch.")
    return target, _About(sizes, as_names(dims, len(sizes)), text, cells, cells, of_loss=True)


def _objective(
    error: float | None, parameters: int | None, ratio: float | None, weight: float | None, about: _About
) -> tuple[Objective, str]:
    """What is minimised, and in words."""
    given = {"error": error, "parameters": parameters, "ratio": ratio, "weight": weight}
    named = [name for name, value in given.items() if value is not None]
    if len(named) > 1:
        raise TenfoldError(f"{' and '.join(named)} are given; one of them is the budget")
    if weight is not None:
        weight = real_number("weight", weight, "a positive number")
        if not 0 < weight < math.inf:
            raise TenfoldError(f"weight must be a positive number, not {weight!r}")
        what = "loss" if about.of_loss else "error"
        return WeightedSum(about.observed, weight), f"least parameters / {about.observed:,} + {weight:g} {what}^2"
    if about.of_loss:
        if not named:
            raise TenfoldError("loss is given without a budget; give error (of the loss), parameters or weight")
        if error is not None:
            error = real_number("error", error, "a loss of at least 0")
            if not 0 <= error < math.inf:
                raise TenfoldError(f"error must be a loss of at least 0, not {error!r}")
            return SizeWithin(error), f"loss at most {error:g}"
    budget = budget_of(DEFAULT_ERROR if not named else error, parameters, ratio, about.entries)
    if budget.error is not None:
        return SizeWithin(budget.error), in_words(budget)
    assert budget.parameters is not None
    return ErrorWithin(budget.parameters), in_words(budget)


@dataclass(frozen=True)
class _Common:
    """What the ladder of common formats found before anything was searched for."""

    best: Trial
    trials: tuple[Trial, ...]
    interrupted: bool


def _common(plan: Plan, about: _About, max_rank: int | None, until: float, bar: Bar) -> _Common | None:
    """A first answer within seconds; None for targets and budgets that the ladder does not know.

    Args:
        until: when no further format is begun, on `time.perf_counter`.
    """
    if not isinstance(plan.target, Dense):
        return None
    if isinstance(plan.objective, SizeWithin):
        budget = Budget(error=plan.objective.allowed)
    elif isinstance(plan.objective, ErrorWithin):
        budget = Budget(parameters=plan.objective.parameters)
    else:
        return None
    modes = index_names(about.dims)
    try:
        steps = climb(
            plan.target.data,
            budget,
            modes=modes,
            seed=plan.seed,
            max_rank=max_rank,
            on_rung=bar.rung,
            stop=lambda: time.perf_counter() >= until,
        )
        best, trials, why = best_of(bar.trials(steps, budget.rank), budget)
    except TenfoldError:  # so few parameters that no common format can have them
        return None
    # The array as its own only core is an answer where there is no other, and no rival of one.
    told = tuple(trial for trial in trials if trial.method != "copy" or trial is best)
    return _Common(best, told, why == "interrupted")


def _candidates(session: Session, trials: Sequence[Trial], common: _Common | None, before: float) -> list[Candidate]:
    """Everything that was fitted, common formats first."""
    made, elapsed = [], 0.0
    for trial in common.trials if common is not None else ():
        elapsed = min(elapsed + trial.seconds, before)
        value = session.objective.value(trial.parameters, trial.error)
        name = label(trial.structure, trial.name)
        made.append(Candidate(name, trial.structure, trial.parameters, trial.error, value, 0, trial.seconds, elapsed))
    for found, trial in zip(session.history, trials, strict=True):
        value = found.evaluation.value
        made.append(
            Candidate(
                trial.name,
                trial.structure,
                trial.parameters,
                trial.error,
                value,
                found.counted,
                trial.seconds,
                before + found.elapsed,
            )
        )
    return made


def _result(ended: Ended, plan: Plan, about: _About, said: str, common: _Common | None, before: float) -> Search:
    """What a session found, or the ladder ``before`` it, which took so many seconds."""
    session, ready = ended.session, about.ready
    trials = trials_of(session, plan)
    made = _candidates(session, trials, common, before)
    rank = session.objective.rank
    found = [trial for trial in (common.best if common is not None else None, *trials) if trial is not None]
    best = min((t for t in found if t.network is not None), key=lambda trial: rank(trial.parameters, trial.error))
    assert best.network is not None
    met = session.objective.met(best.parameters, best.error)
    front = [*(common.trials if common is not None else ()), *trials]
    network, error = best.network, best.error
    why, spectra = ended.why, {}
    tested, tested_cells = None, 0
    try:
        if isinstance(plan.target, Observed):
            tested = plan.target.tested(network)
            tested_cells = 0 if plan.target.test_cells is None else len(plan.target.test_cells)
            error = relative_error(plan.target.data, network)
            network = plan.target.whole(network, plan.seed)
            error = relative_error(plan.target.data, network)
        spectra = {} if ready is None else spectra_of(ready, None)
    except KeyboardInterrupt:
        why = "interrupted"
    fit = Fit(
        network=rescaled(network, about.power),
        error=error,
        method=best.method,
        seconds=before + session.elapsed,
        stopped="interrupted" if why == "interrupted" else "budget" if met else "best",
        target=said,
        front=tuple(trial.without_network(chosen=trial is best) for trial in front),
        dims=about.dims,
        coordinates={} if ready is None else ready.coordinates,
        units={} if ready is None else ready.units,
        spectra=spectra,
        source=about.source,
        source_dtype=about.source_dtype,
        observed=about.observed,
        cells=math.prod(about.shape),
        seed=plan.seed,
        data=None if ready is None else ready.data,
        of_loss=about.of_loss,
    )
    return Search(
        fit=fit,
        error=best.error,
        history=tuple(made),
        front=tuple(non_dominated(made, lambda one: (one.parameters, one.error))),
        counted=session.counted,
        fits=session.fits,
        space=ended.space,
        method=plan.entry.name,
        seed=plan.seed,
        seconds=before + session.elapsed,
        target=said,
        objective=plan.objective,
        stopped=why,
        journal=about.journal,
        of_loss=about.of_loss,
        tested=tested,
        tested_cells=tested_cells,
    )


def _missed(found: Search) -> str:
    """What to say when what was asked for was not reached."""
    would = "give more evaluations or seconds"
    if isinstance(found.objective, ErrorWithin):
        return (
            f"nothing that was tried keeps to {found.target}; the smallest has {found.parameters:,}: {would}, or a "
            f"smaller max_rank than {found.space.max_rank}"
        )
    if found.stopped == "finished":
        would = "another method or another seed may do better"
    what = "loss" if found.of_loss else "error"
    return (
        f"nothing that was tried keeps to {found.target}; the nearest has {found.parameters:,} parameters and {what} "
        f"{found.error:.4g}: {would}, or a larger max_rank than {found.space.max_rank}"
    )
