"""`Session`: what a searcher talks to. It evaluates structures, remembers what it saw, and counts."""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Callable, Iterable
from contextlib import closing
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any

import numpy as np

from tenfold.errors import TenfoldError
from tenfold.network import Network
from tenfold.structure import Structure
from tenfold.structure_search._adapted import adapted
from tenfold.structure_search._guard import Guard
from tenfold.structure_search._journal import Journal
from tenfold.structure_search._processes import Processes
from tenfold.structure_search._workers import Cluster, Done, Here, Task, Workers
from tenfold.structure_search.objectives import Objective
from tenfold.structure_search.pareto import front
from tenfold.structure_search.spaces import Point, Space
from tenfold.structure_search.targets import Fitted, Target

# A network of so many times as many numbers as it replaces is not fitted, whatever its error, unless it has rank one.
_POINTLESS = 2
# Starts drawn before the smallest is taken.
_TRIES = 100
# What is as good as what is to be beaten is not given up for the rounding of logarithms.
_ROUNDING = 1e-9
# Structures that are made before any of them is fitted: many for the workers of a cluster, few beside a long search.
_TOGETHER = 256
# So many evaluations in a row of what is known, and so many for each structure that is, end a search.
_STALE, _STALE_EACH = 2000, 20


class Spent(Exception):
    """The evaluations or the seconds that a search may take are used up. Searchers let it pass."""


class Exhausted(Spent):
    """Whatever a searcher has asked for, for long, was known: there is nothing left that it would find."""


@dataclass(frozen=True)
class Evaluation:
    """What is known of one structure.

    Attributes:
        number: of the fit, in the order in which they were asked for; -1 where none was made.
        error: relative error of the network (what a loss says, where there is one); where no fit was made, an error
            that no network of this structure is below. None is made of structures with more than twice as many
            parameters as the target has numbers: their value is infinite.
        value: what the objective makes of size and error; smaller is better. Where the structure was not fitted to the
            end it is only a bound: just above what was to be beaten, or what the bound on the error makes of it.
        finished: whether the structure was fitted to the end.
        within: the error above which the fit was of no use when it was made.
        sweeps, seconds: what the fit took.
    """

    number: int
    structure: Structure
    parameters: int
    error: float
    value: float
    finished: bool
    within: float
    sweeps: int
    seconds: float
    network: Network | None = field(default=None, repr=False, compare=False)


@dataclass(frozen=True)
class Found:
    """One line of the history: a structure that was fitted to the end.

    The last one may be a fit that the end of the time cut off, where it was better than all before.

    Attributes:
        counted: evaluations so far as papers count them.
        elapsed: seconds since the beginning.
    """

    evaluation: Evaluation
    counted: int
    elapsed: float


class Session:
    """A search under way.

    Two numbers are counted: ``counted``, every evaluation that a searcher asks for, as papers count them, and ``fits``,
    those that had to be fitted, because the structure had not been seen in any other guise and could have won.

    Args:
        target: what structures are fitted to.
        objective: what is minimised.
        seed: fixes the starts of all fits, each by its structure.
        evaluations: how many may be counted.
        seconds: how long it may take, what was spent before a journal was taken up again included. The first fit is
            made however few they are; the last one ends with its sweep.
        workers: processes, up to four for each core; results do not depend on how many.
        client: a ``dask.distributed.Client`` instead.
        journal: where everything is kept while it is found.
        guard: what answers for the errors on held-out cells, instead of these; the search ends when it is spent. Fits
            are told to it in the order of their numbers, so that its answers do not depend on who made them.
        watch: called after every fit.

    Raises:
        TenfoldError: numbers that are not positive, or more workers than are of use.
    """

    def __init__(
        self,
        target: Target,
        objective: Objective,
        *,
        seed: int = 0,
        evaluations: int | None = None,
        seconds: float | None = None,
        workers: int = 1,
        client: Any = None,
        journal: Journal | None = None,
        guard: Guard | None = None,
        watch: Callable[[Session], None] | None = None,
    ) -> None:
        for name, number in (("evaluations", evaluations), ("seconds", seconds), ("workers", workers)):
            if number is not None and not 0 < number < math.inf:
                raise TenfoldError(f"{name} must be positive, not {number!r}")
        self.target, self.objective, self.seed = target, objective, seed
        self.evaluations, self.seconds = evaluations, seconds
        self.counted = self.fits = 0
        self.history: list[Found] = []
        self._seen: dict[str, Evaluation] = {}
        self._looks: dict[tuple[str, int, int], Evaluation] = {}
        self._idle = 0
        self._journal, self._guard, self._watch = journal, guard, watch
        self._begun = time.perf_counter() - (journal.elapsed if journal is not None else 0.0)
        self._workers: Workers
        if client is not None:
            self._workers = Cluster(target, client)
        else:
            self._workers = Here(target) if workers == 1 else Processes(target, workers)

    # --- what searchers ask -------------------------------------------------------------------------------------------

    def evaluate(
        self,
        structures: Iterable[Structure],
        *,
        near: Evaluation | None = None,
        beat: float = math.inf,
        sweeps: int | None = None,
    ) -> list[Evaluation]:
        """What is known of structures once all have been evaluated, side by side where there are workers.

        Args:
            structures: with the modes of the target as outputs; where these are many they need not be made before they
                are asked for.
            near: an evaluation whose network is a good start for them.
            beat: a value; structures that are sure or bound to be above it need not be fitted to the end. Their value
                is a lower bound, above ``beat``.
            sweeps: a first look only: so many sweeps from ``near``, which must be given. It counts as an evaluation.

        Raises:
            Spent: the budget is used up, or (`Exhausted`) nothing new has been asked for in thousands of evaluations;
                what was evaluated before is remembered.
        """
        found: list[Evaluation] = []
        rest, more = iter(structures), True
        while more:
            keys: list[str] = []
            fresh: dict[str, tuple[Structure, int]] = {}
            over: Spent | None = None
            more = False
            for structure in islice(rest, _TOGETHER):
                more = True
                if self.fits:
                    self.check()
                if self.evaluations is not None and self.counted >= self.evaluations:
                    over = Spent()
                elif self._idle >= max(_STALE, _STALE_EACH * (len(self._seen) + len(fresh))):
                    over = Exhausted()
                if over is not None:
                    break
                self.counted += 1
                key = structure.key
                keys.append(key)
                if key in fresh or self._known(key, beat, near, sweeps):
                    self._idle += 1
                else:
                    fresh[key] = structure, self.counted
                    self._idle = 0
            if keys:
                self._fit(fresh, near, beat, sweeps)
            if over is not None:
                raise over
            found.extend(self._recalled(key, near, sweeps) for key in keys)
        return found

    def work(self) -> None:
        """Count, as one evaluation, a piece of work that a searcher does itself and that takes about as long as a fit.

        It is not kept in the journal, so it must come out the same when it is done again.

        Raises:
            Spent: the budget is used up.
        """
        self.check()
        if self.evaluations is not None and self.counted >= self.evaluations:
            raise Spent
        self.counted += 1

    def check(self) -> None:
        """Raise `Spent` where it is `late`."""
        if self.late():
            raise Spent

    def late(self) -> bool:
        """Whether the time is used up; not before everything that the journal knows has been asked for."""
        to_come = self._journal is not None and self._journal.elapsed_at(self.fits) is not None
        return not to_come and self.seconds is not None and self.elapsed >= self.seconds

    def fits_at_all(self, structure: Structure) -> bool:
        """Whether a structure is small enough to be fitted, and so is what a fit makes on the way."""
        most = max(_POINTLESS * self.target.size, sum(structure.output_shape))
        return structure.parameters <= most and self.target.has_room(structure)

    def start(self, space: Space, generator: np.random.Generator) -> Point:
        """A point at random that is small enough to be fitted, the first of the space where none is drawn."""
        for _ in range(_TRIES):
            point = space.random(generator)
            if self.fits_at_all(space.structure(point)):
                return point
        return space.first()

    @property
    def best(self) -> Evaluation | None:
        """The best that was fitted to the end, what keeps the budget before what does not."""
        able = [found.evaluation for found in self.history]
        rank = self.objective.rank
        return min(able, key=lambda one: rank(one.parameters, one.error), default=None)

    @property
    def front(self) -> list[Evaluation]:
        """What was fitted and is neither larger nor worse than anything else, smallest first."""
        return front(self.history)

    @property
    def elapsed(self) -> float:
        return time.perf_counter() - self._begun

    def close(self) -> None:
        """Let the workers go and close the journal."""
        self._workers.close()
        if self._journal is not None:
            self._journal.close()

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # --- inside -------------------------------------------------------------------------------------------------------

    def _known(self, key: str, beat: float, near: Evaluation | None, sweeps: int | None) -> bool:
        if sweeps is not None:
            return self._look(key, near, sweeps) in self._looks
        known = self._seen.get(key)
        if known is None:
            return False
        # A fit that was given up because it could not win may be able to beat something larger.
        return known.finished or known.value > beat

    @staticmethod
    def _look(key: str, near: Evaluation | None, sweeps: int) -> tuple[str, int, int]:
        if near is None or near.network is None:
            raise TenfoldError("a first look needs an evaluation that was fitted to start from; give near")
        return key, near.number, sweeps

    def _recalled(self, key: str, near: Evaluation | None, sweeps: int | None) -> Evaluation:
        if sweeps is not None and (one := self._looks.get(self._look(key, near, sweeps))) is not None:
            return one
        # What is too large to be fitted is not looked at either.
        return self._seen[key]

    def _fit(
        self, fresh: dict[str, tuple[Structure, int]], near: Evaluation | None, beat: float, sweeps: int | None
    ) -> None:
        tasks: list[tuple[str, int, Task, float]] = []
        until = None if self.seconds is None else time.time() + self.seconds - self.elapsed
        for key, (structure, counted) in fresh.items():
            parameters = structure.parameters
            if not self.fits_at_all(structure):
                bound = self.target.bound(structure)
                self._seen[key] = Evaluation(-1, structure, parameters, bound, math.inf, False, 0.0, 0, 0.0)
                continue
            within, lowest = math.inf, -math.inf
            if beat < math.inf and sweeps is None:
                bound = self.target.bound(structure)
                least = self.objective.value(parameters, bound)
                within = self.objective.error_for(parameters, beat) * (1 + _ROUNDING)
                if least > beat:
                    # Sure to lose, whatever the fit: nothing is done.
                    self._seen[key] = Evaluation(-1, structure, parameters, bound, least, False, within, 0, 0.0)
                    continue
                # Given up, it would be worse than what it was to beat: that is all that is known of it.
                lowest = math.nextafter(beat, math.inf)
            number = self.fits + len(tasks)
            seed = int.from_bytes(hashlib.blake2b(f"{self.seed} {key}".encode(), digest_size=7).digest())
            start = None
            if near is not None and near.network is not None:
                start = adapted(near.network, structure, seed)
            path = None if self._journal is None else self._journal.path(number)
            tasks.append((key, counted, Task(number, structure, start, seed, sweeps, within, path, until), lowest))
        left: list[Task] = []
        done: dict[int, Done] = {}
        for _, _, task, _ in tasks:
            kept = None if self._journal is None else self._journal.found(task.number, task.structure)
            if kept is not None:
                done[task.number] = Done(*kept)
            else:
                left.append(task)
        # Where nothing is to be fitted the time counts too, or a searcher that asks for the same again and again would
        # never end.
        if not tasks:
            self.check()
        with closing(self._workers.run(left)) as rest:
            for key, counted, task, lowest in tasks:
                if self._guard is not None and self._guard.spent:
                    raise Spent
                if task.number not in done:
                    # Whatever the time, there is an answer.
                    if self.fits and self.seconds is not None and self.elapsed >= self.seconds:
                        raise Spent
                    made = next(rest)
                    if made.cut:
                        self._last(counted, task, made)
                        raise Spent
                    done[task.number] = made
                self._note(key, counted, task, done[task.number], near, lowest)

    def _last(self, counted: int, task: Task, made: Done) -> None:
        """What the end of the time has left of a fit: of use where it is the best, and never to be taken for the whole.

        So it is in no journal: a search that goes on makes this fit again.
        """
        value = self.objective.value(task.structure.parameters, made.fitted.error)
        one = _evaluation(task, replace(made.fitted, finished=False), made.seconds, value)
        self.fits += 1
        rank, best = self.objective.rank, self.best
        # A guard has not answered for it, so it is not compared with what a guard has answered for.
        better = best is not None and self._guard is None
        if best is None or (better and rank(one.parameters, one.error) < rank(best.parameters, best.error)):
            self.history.append(Found(one, counted, self.elapsed))
        if self._watch is not None:
            self._watch(self)

    def _note(self, key: str, counted: int, task: Task, made: Done, near: Evaluation | None, lowest: float) -> None:
        fitted, structure = made.fitted, task.structure
        if self._guard is not None and fitted.inside is not None:
            fitted = replace(fitted, error=self._guard.answer(fitted.inside, fitted.error))
        value = self.objective.value(structure.parameters, fitted.error) if fitted.finished else lowest
        one = _evaluation(task, fitted, made.seconds, value)
        self.fits += 1
        if task.sweeps is not None:
            self._looks[self._look(key, near, task.sweeps)] = one
        else:
            before = self._seen.get(key)
            if before is not None and before.network is not None and before.error < one.error:
                value = self.objective.value(before.parameters, before.error) if one.finished else one.value
                one = replace(before, value=value, finished=one.finished, within=one.within)
            self._seen[key] = one
        if one.finished and task.sweeps is None:
            before_now = None if self._journal is None else self._journal.elapsed_at(task.number)
            self.history.append(Found(one, counted, self.elapsed if before_now is None else before_now))
        if self._journal is not None:
            self._journal.write(
                {
                    "number": task.number,
                    "structure": structure.pattern,
                    "sizes": dict(structure.sizes),
                    "parameters": structure.parameters,
                    "error": fitted.error,
                    "sweeps": fitted.sweeps,
                    "finished": fitted.finished,
                    "look": task.sweeps is not None,
                    "near": None if near is None else near.number,
                    "counted": counted,
                    "seconds": round(made.seconds, 4),
                    "elapsed": round(self.elapsed, 3),
                }
            )
        if self._watch is not None:
            self._watch(self)


def _evaluation(task: Task, fitted: Fitted, seconds: float, value: float) -> Evaluation:
    """What is known of a structure once it was fitted."""
    return Evaluation(
        task.number,
        task.structure,
        task.structure.parameters,
        fitted.error,
        value,
        fitted.finished,
        task.within,
        fitted.sweeps,
        seconds,
        fitted.network,
    )
