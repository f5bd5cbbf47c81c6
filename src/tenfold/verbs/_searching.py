"""One search: what it is, and how it is run. Two verbs do: `search`, and `fit` with time left."""

from __future__ import annotations

import hashlib
import json
import math
import os
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from itertools import count
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tenfold._arguments import quoted
from tenfold.decomposition import kind_of
from tenfold.errors import DataError, StructureError, TenfoldError
from tenfold.network import Network
from tenfold.observations import Observations
from tenfold.structure import Structure
from tenfold.structure_search import Budget, Trial, as_whole
from tenfold.structure_search._guard import Guard
from tenfold.structure_search._journal import Journal
from tenfold.structure_search._registry import SearcherEntry, find_searcher, searchers
from tenfold.structure_search.objectives import ErrorWithin, Objective, SizeWithin, WeightedSum
from tenfold.structure_search.session import Exhausted, Session, Spent
from tenfold.structure_search.spaces import Space
from tenfold.structure_search.targets import Dense, Loss, Observed, Target
from tenfold.verbs._arrays import Prepared
from tenfold.verbs._budget import in_words
from tenfold.verbs._options import check_options
from tenfold.verbs._progress import Bar
from tenfold.verbs._spaces import in_words as space_in_words
from tenfold.verbs._spaces import kinds_in_words, roomier, roomy, space_of
from tenfold.verbs.search_result import label

# Sweeps, samples, generations: with more than this a searcher would ask for nothing within the life of anybody.
_LARGEST = 10**6


@dataclass(frozen=True)
class Plan:
    """What makes a search what it is: with the same plan the same is found, whoever fits and however often it stops.

    Attributes:
        grows: whether the space may get larger ranks where nothing in it keeps the budget.
    """

    target: Target
    objective: Objective
    space: Space
    entry: SearcherEntry
    options: Mapping[str, Any]
    seed: int
    guarded: bool = False
    grows: bool = False

    def said(self) -> dict[str, Any]:
        """The plan as text, to know it again."""
        return {
            "data": _fingerprint(self.target),
            "objective": repr(self.objective),
            "space": repr(self.space),
            "method": self.entry.name,
            "options": json.loads(json.dumps(dict(self.options), default=repr)),
            "seed": self.seed,
            "guard": self.guarded,
        }

    def words(self) -> dict[str, str]:
        """The same for people."""
        sizes = "·".join(map(str, self.target.shape))
        what = f"a loss of networks of shape {sizes}" if isinstance(self.target, Loss) else f"of shape {sizes}"
        return {
            "data": f"{what} (known as {_fingerprint(self.target)[:8]})",
            "objective": _in_words(self.objective),
            "space": space_in_words(self.space),
            "method": self.entry.name,
            "options": ", ".join(f"{name}={quoted(value)}" for name, value in sorted(self.options.items())) or "none",
            "seed": str(self.seed),
            "guard": "on" if self.guarded else "off",
        }


@dataclass(frozen=True)
class Ended:
    """A search that came to its end.

    Attributes:
        why: ``"evaluations"`` or ``"seconds"`` where that was used up, ``"finished"`` where the searcher had nothing
            more to ask, or nothing that was new, ``"answers"`` where held-out cells have answered often enough,
            ``"interrupted"``.
        space: where was looked in the end.
    """

    session: Session
    why: str
    space: Space


def opened(plan: Plan, folder: str | os.PathLike[str]) -> Journal:
    """The journal that a search is kept in.

    Raises:
        TenfoldError: the folder cannot be used, or holds another search.
    """
    journal = Journal(folder, plan.said(), plan.words())
    if isinstance(plan.target, Loss):
        _check_loss(journal, plan.target)
    return journal


def run(
    plan: Plan,
    *,
    evaluations: int | None = None,
    seconds: float | None = None,
    workers: int = 1,
    client: Any = None,
    journal: Journal | None = None,
    watch: Callable[[Session], None] | None = None,
) -> Ended:
    """Search until there is nothing more to ask, a budget is used up, or somebody interrupts.

    The space's first point, of rank one, is fitted before anything else. The journal is closed at the end.
    """
    space = plan.space
    guard = None
    if plan.guarded and isinstance(plan.target, Observed) and plan.target.held is not None:
        guard = Guard(len(plan.target.held), plan.seed)
    with Session(
        plan.target,
        plan.objective,
        seed=plan.seed,
        evaluations=evaluations,
        seconds=seconds,
        workers=workers,
        client=client,
        journal=journal,
        guard=guard,
        watch=watch,
    ) as session:
        try:
            # Whatever a searcher does before it asks for anything, there is an answer, and it counts.
            session.evaluate([plan.space.structure(plan.space.first())])
            if isinstance(plan.target, Dense):
                plan.target.cuts(plan.space.sizes, session.late)
            while True:
                with suppress(Exhausted):
                    plan.entry.function(session, space, seed=plan.seed, **plan.options)
                larger = roomier(space, plan.target) if plan.grows and not _met(session) else None
                if larger is None:
                    return Ended(session, "finished", space)
                space = larger
        except Spent:
            if guard is not None and guard.spent:
                return Ended(session, "answers", space)
            used = evaluations is not None and session.counted >= evaluations
            return Ended(session, "evaluations" if used else "seconds", space)
        except KeyboardInterrupt:
            if session.best is None:
                raise
            return Ended(session, "interrupted", space)


def _met(session: Session) -> bool:
    best = session.best
    return best is not None and session.objective.met(best.parameters, best.error)


def best_of(trials: Iterable[Trial], budget: Budget) -> tuple[Trial, list[Trial], str]:
    """Take all trials; keep the numbers of the best only. An interrupt ends the climb with what there is."""
    best: Trial | None = None
    seen: list[Trial] = []
    stopped = ""
    try:
        for trial in trials:
            if best is None or budget.rank(trial) < budget.rank(best):
                if best is not None:
                    seen[seen.index(best)] = best.without_network()
                best = trial
                seen.append(trial)
            else:
                seen.append(trial.without_network())
    except KeyboardInterrupt:
        # A copy of the data is nothing that was found.
        if best is None or best.method == "copy":
            raise
        stopped = "interrupted"
    if best is None:
        raise TenfoldError(f"no network was found with {in_words(budget)}; ask for less")
    return best, seen, stopped or _ended(budget, best)


def _ended(budget: Budget, best: Trial) -> str:
    """Why a ladder that was climbed to its end stopped."""
    if budget == Budget():
        return "tried"
    return "budget" if budget.met(best) else "best"


def target_of(data: Tensor | Observations, test: float = 0.0) -> Target:
    """What structures are fitted to, without a part of the cells kept for the end where some are missing.

    Raises:
        DataError: nothing can be fitted to it.
    """
    whole = as_whole(data)
    values = whole.values if isinstance(whole, Observations) else whole
    if not bool((values != 0).any()):
        raise DataError("data is zero everywhere, so there is no structure to look for")
    if not isinstance(whole, Observations):
        return Dense(whole)
    if kind_of(whole) == "sparse":
        raise DataError(
            f"the sparse array has {whole.size:,} cells, too many to search structures for; fit does with a structure"
        )
    return Observed(whole, test=test)


def searcher_for(method: str | None, target: Target, space: Space, options: Mapping[str, Any]) -> SearcherEntry:
    """The searcher of a name, or the one for the target, its options checked.

    Raises:
        StructureError: it does not search such spaces.
        TenfoldError: it is not known, or does not have an option.
    """
    # Of whole arrays something is known before any structure is fitted.
    usual = "bound_guided" if isinstance(target, Dense) else "greedy"
    entry = find_searcher(usual if method is None else method)
    if not isinstance(space, entry.spaces):
        able = ", ".join(name for name, one in searchers().items() if isinstance(space, one.spaces))
        raise StructureError(f"searcher '{entry.name}' does not search {type(space).__name__}; {able} do")
    check_options(entry, options, "search")
    for name, value in options.items():
        if isinstance(value, int | np.integer) and not -_LARGEST <= int(value) <= _LARGEST:
            raise TenfoldError(f"option {name} must be a number up to {_LARGEST:,}, not {quoted(value)}")
    return entry


def shown(structure: Structure) -> Structure:
    """The structure with its bonds called r1, r2, ... in the order of its cores."""
    outer = structure.output_indices
    free = (name for n in count(1) if (name := f"r{n}") not in outer)
    inner = dict.fromkeys(index for term in structure.terms for index in term.indices if index not in outer)
    return structure.rename(dict(zip(inner, free, strict=False)))


def trials_of(session: Session, plan: Plan) -> list[Trial]:
    """Everything that was fitted to the end, in that order; the best one has its network."""
    best = session.best
    trials = []
    for found in session.history:
        one = found.evaluation
        structure = shown(one.structure)
        chosen = one is best and one.network is not None
        trials.append(
            Trial(
                name=label(structure),
                structure=structure,
                parameters=one.parameters,
                error=one.error,
                seconds=one.seconds,
                method=plan.entry.name,
                held_out=one.error if isinstance(plan.target, Observed) else None,
                network=Network(structure, one.network.cores) if chosen and one.network is not None else None,
            )
        )
    return trials


def after(
    found: tuple[Trial, list[Trial], str],
    ready: Prepared,
    budget: Budget,
    *,
    seconds: float,
    seed: int,
    bar: Bar,
) -> tuple[tuple[Trial, list[Trial], str], str]:
    """What was found and what a search of so many seconds finds besides, the best of both first.

    Returns:
        The same as ``found``, and what the search did, in words.
    """
    best, trials, stopped = found
    asked: Objective
    if budget.error is not None:
        asked = SizeWithin(budget.error)
    else:
        assert budget.parameters is not None
        asked = ErrorWithin(budget.parameters)
    try:
        target = target_of(ready.whole)
        space = space_of("any", ready.shape, ready.dims)
    except (DataError, StructureError) as cause:  # nothing to search in: zeros, or a single mode
        return found, f"nothing: {cause}"
    started = time.perf_counter()
    try:
        bar.starting(kinds_in_words(space), seconds)
        entry = searcher_for(None, target, space, {})
        plan = Plan(target, asked, roomy(space, target, asked), entry, {}, seed, grows=True)
        ended = run(plan, seconds=seconds, watch=bar.search)
    except KeyboardInterrupt:
        return (best, trials, "interrupted"), f"{kinds_in_words(space)}: interrupted before one was fitted"
    more = trials_of(ended.session, plan)
    seconds = time.perf_counter() - started
    took = f"in {seconds:.{0 if seconds >= 10 else 1}f} s"
    fitted = f"{ended.session.fits:,} fitted {took}" if ended.session.fits else f"none had to be fitted {took}"
    said = f"{kinds_in_words(space)}: {fitted}"
    leader = next((trial for trial in more if trial.network is not None), None)
    stopped = "interrupted" if ended.why == "interrupted" else stopped
    if leader is None or budget.rank(leader) >= budget.rank(best):
        said += f", none {'smaller' if budget.error is not None else 'closer'} than {_called(best)}"
        return (best, [*trials, *(trial.without_network() for trial in more)], stopped), said
    kept = [trial if trial is leader else trial.without_network() for trial in more]
    if stopped != "interrupted":
        stopped = _ended(budget, leader)
    found = leader, [*(trial.without_network() for trial in trials), *kept], stopped
    return found, f"{said}; " + _gain(best, leader, budget)


def _called(trial: Trial) -> str:
    return trial.name.replace("_", " ")


def _gain(before: Trial, now: Trial, budget: Budget) -> str:
    """How much better a trial is than the best before it, in words."""
    old = _called(before)
    if budget.met(now) and not budget.met(before):
        return f"the best keeps to what was asked for, which no common format did ({old} came nearest)"
    if budget.error is not None and now.parameters < before.parameters:
        return f"the best has {now.parameters:,} parameters, {old} {before.parameters:,}"
    return f"the best has error {now.error:.4g}, {old} {before.error:.4g}"


def _check_loss(journal: Journal, target: Loss) -> None:
    """Raise where a loss says something else than it did, of the first network that a journal holds.

    Functions can be told apart by nothing else: the code of two may be the same, and what it uses another.
    """
    if journal.first is None:
        return
    network, before = journal.first
    with torch.no_grad():
        now, again = (float(target.loss(network)) for _ in range(2))
    drawn = now != again  # it has chance in it, so nothing can be said
    if not drawn and math.isfinite(before) and not math.isclose(now, before, rel_tol=1e-3, abs_tol=1e-9):
        journal.close()
        raise TenfoldError(
            f"'{journal.folder}' holds a search with another loss: it was {before:g} for the first network, and this "
            f"one is {now:g}; give another folder, or ask the same"
        )


def _in_words(objective: Objective) -> str:
    """What is minimised, in short."""
    if isinstance(objective, SizeWithin):
        return f"error at most {objective.error:g}"
    if isinstance(objective, ErrorWithin):
        return f"at most {objective.parameters:,} parameters"
    return f"a sum with weight {objective.weight:g}" if isinstance(objective, WeightedSum) else quoted(objective)


def _fingerprint(target: Target) -> str:
    """A few letters that tell targets apart."""
    digest = hashlib.blake2b(repr((type(target).__name__, target.shape)).encode(), digest_size=12)
    if isinstance(target, Dense):
        _add(digest, target.data)
    elif isinstance(target, Observed):
        # The cells that are fitted too: what else is left out is another search.
        for part in (target.data.coordinates, target.data.values, target.data.weights, target.train.coordinates):
            if part is not None:
                _add(digest, part)
    elif isinstance(target, Loss):
        digest.update(getattr(target.loss, "__qualname__", type(target.loss).__qualname__).encode())
    return digest.hexdigest()


def _add(digest: Any, part: Tensor) -> None:
    digest.update(str(part.dtype).encode())
    flat = part.detach().cpu().contiguous().resolve_conj().resolve_neg()
    digest.update(flat.view(torch.uint8).numpy().tobytes() if flat.ndim else flat.reshape(1).view(torch.uint8).numpy())
