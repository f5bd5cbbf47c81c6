"""What is expected of points before any of them is fitted, from singular values across cuts; and descents on that."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np

from tenfold.structure_search.cuts import Cuts
from tenfold.structure_search.objectives import Objective
from tenfold.structure_search.session import Evaluation, Session
from tenfold.structure_search.spaces import Point, Space
from tenfold.structure_search.targets import Dense

# Bounds below this say nothing of how large errors are.
_NOTHING = 1e-6
# How many evaluations it takes to believe them rather than that errors are what the bound is.
_TRUST = 0.3
# The value of what is too large, before its logarithm is added.
_TOO_LARGE = 1e6
# Points that are looked at before it is asked again whether there is time.
_TOGETHER = 512
# Steps of a descent at most. Once descents have passed so many points, or so many times cuts, no further one is made; a
# single one passes no more than some times that.
_STEPS, _ENOUGH, _ENOUGH_CUTS, _LONGEST = 60, 2**14, 2**22, 4
# Where all around a point times cuts are more than this, a descent goes by single ranks as far as they lead.
_BROAD = 2**17


def foresight(session: Session, space: Space) -> Foresight | None:
    """What can be foretold for the target of a session; None where nothing is known of errors before they are made."""
    if not isinstance(session.target, Dense):
        return None
    cuts = session.target.cuts(space.sizes, session.late)
    first = Foresight(cuts, space, session.objective, session.check)
    return first if cuts.bound(space.structure(space.first())) > _NOTHING else None


class Foresight:
    """Values of the objective with foretold errors.

    An error is foretold as the bound across cuts at first; evaluations teach its logarithm as a linear function of
    those of the bound and of the root mean square over the cuts (ridge regression). It is never below the bound. Sizes
    are known: what cannot keep the budget whatever its error comes after all that can.

    Args:
        check: called before each few points of a descent; what it raises ends that.
    """

    def __init__(
        self, cuts: Cuts, space: Space, objective: Objective, check: Callable[[], None] = lambda: None
    ) -> None:
        self._check = check
        self._cuts, self._space, self._objective = cuts, space, objective
        vertices = max((max(edge) for edge in space.edges), default=0) + 1
        self._ends = np.zeros((len(space.edges), max(vertices, space.modes)))
        for number, (a, b) in enumerate(space.edges):
            self._ends[number, [a, b]] = 1
        self._seen: list[tuple[float, float, float]] = []
        self._weights = np.array([0.0, 1.0, 0.0])

    def values(self, points: Sequence[Point]) -> list[float]:
        """The foretold value of each point, as the bonds are, without what `Space.structure` saves by capping them."""
        found = [math.inf] * len(points)
        sizes = np.asarray(self._space.sizes, dtype=float)
        for orders, places in self._groups(points):
            self._check()
            # Either one order or one choice of ranks: all that points of one group share is worked out once.
            alike = places if len(orders) == 1 else places[:1]
            ranks = np.array([points[place].ranks for place in alike], dtype=float).reshape(len(alike), -1)
            profiles = self._cuts.profiles(self._space.edges, orders, ranks).reshape(len(places), 2)
            vertex = np.broadcast_to(np.exp(np.log(ranks) @ self._ends), (len(places), self._ends.shape[1])).copy()
            modes = len(orders[0])
            vertex[:, :modes] *= sizes[np.asarray(orders)]
            parameters = np.rint(vertex.sum(1) - (vertex[:, modes:] == 1).sum(1))
            errors = self._errors(profiles)
            for place, size, error in zip(places, parameters.tolist(), errors.tolist(), strict=True):
                size = max(int(size), 1)
                able = self._objective.met(size, 0.0)
                found[place] = self._objective.value(size, error) if able else _TOO_LARGE + math.log(size)
        return found

    @staticmethod
    def _groups(points: Sequence[Point]) -> Iterator[tuple[list[tuple[int, ...]], list[int]]]:
        """Orders, and the places of points: many of one order, or one each of many orders and the same ranks."""
        by_order: dict[tuple[int, ...], list[int]] = {}
        for place, point in enumerate(points):
            by_order.setdefault(point.order, []).append(place)
        single: dict[tuple[int, ...], list[int]] = {}
        for order, places in by_order.items():
            if len(places) == 1:
                single.setdefault(points[places[0]].ranks, []).extend(places)
                continue
            for first in range(0, len(places), _TOGETHER):
                yield [order], places[first : first + _TOGETHER]
        for places in single.values():
            for first in range(0, len(places), _TOGETHER):
                some = places[first : first + _TOGETHER]
                yield [points[place].order for place in some], some

    def _errors(self, profiles: np.ndarray) -> np.ndarray:
        bound, spread = profiles.T
        logs = np.log(np.maximum(profiles, _NOTHING))
        learnt = np.exp(self._weights[0] + logs @ self._weights[1:])
        return np.where(spread > _NOTHING, np.maximum(learnt, bound), bound)

    def learn(self, points: Iterable[Point], evaluations: Iterable[Evaluation]) -> None:
        """Take what was found into account."""
        for point, one in zip(points, evaluations, strict=True):
            if not one.finished or not _NOTHING < one.error < math.inf:
                continue
            ranks = np.array([point.ranks], dtype=float).reshape(1, -1)
            (((bound, spread),),) = self._cuts.profiles(self._space.edges, [point.order], ranks).tolist()
            if bound > _NOTHING:
                self._seen.append((math.log(bound), math.log(spread), math.log(one.error)))
        if self._seen:
            known = np.array(self._seen)
            design = np.column_stack([np.ones(len(known)), known[:, :2]])
            prior = np.array([0.0, 1.0, 0.0])
            pull = _TRUST * np.eye(3)
            left = design.T @ design + pull
            self._weights = np.linalg.solve(left, design.T @ known[:, 2] + pull @ prior)

    @property
    def enough(self) -> int:
        """Points that descents pass before there need be no further one: fewer where there is more to do for each."""
        return min(_ENOUGH, _ENOUGH_CUTS // max(self._cuts.count, 1))

    def descent(self, start: Point) -> tuple[float, Point, dict[Point, float]]:
        """Where steepest descent from a point ends, and the foretold values of all that was passed on the way."""
        point = start
        (value,) = self.values([point])
        passed = {point: value}
        most = _LONGEST * self.enough
        for _ in range(_STEPS):
            best = None
            for around in self._stages(point):
                values = self.values(around)
                passed.update(zip(around, values, strict=True))
                place = min(range(len(around)), key=values.__getitem__, default=None)
                if place is not None and values[place] < value:
                    best, value = around[place], values[place]
                    break
            if best is None or len(passed) >= most:
                break
            point = best
        return value, point, passed

    def _stages(self, point: Point) -> Iterator[list[Point]]:
        """All around a point; where that is much, what differs in one rank first, and only then the rest."""
        if len(point.ranks) ** 2 * self._cuts.count <= _BROAD:
            yield list(self._around(point))
            return
        single = [near for near in self._space.neighbours(point) if near.order == point.order]
        yield single
        known = set(single)
        yield [near for near in self._around(point) if near not in known]

    def _around(self, point: Point) -> Iterator[Point]:
        """The neighbours of a point, and those with one rank more and another less."""
        yield from self._space.neighbours(point)
        for a, rank in enumerate(point.ranks):
            if rank == 1:
                continue
            less = point.with_rank(a, rank - 1)
            for b, other in enumerate(point.ranks):
                if a != b:
                    near = less.with_rank(b, other + 1)
                    if self._space.allows(near):
                        yield near
