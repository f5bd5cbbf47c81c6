"""Search where singular values across cuts point: many structures are looked at, few are fitted."""

from __future__ import annotations

import math
from statistics import median

import numpy as np

from tenfold.errors import TenfoldError
from tenfold.structure_search._registry import searcher
from tenfold.structure_search.session import Evaluation, Session
from tenfold.structure_search.spaces import Point, Space
from tenfold.structure_search.tnale import tnale

# Descents from random points in each round, and steps of each at most.
_DESCENTS, _STEPS = 2, 40
# Bounds below this say nothing of how much larger errors are.
_NOTHING = 1e-6
# Points at random in each round: the bound may be wrong about what is good.
_ANYWHERE = 1


@searcher("bound_guided")
def bound_guided(session: Session, space: Space, seed: int = 0, *, together: int = 8) -> None:
    """Fit those structures of which the bounds promise most, learn how far bounds are from errors, and go on.

    In each round the objective is descended from the best structure so far and from random ones, with the bound across
    cuts times the usual ratio of errors to bounds in place of the error. Of all that was passed on the way, the most
    promising structures are evaluated. Targets without bounds are searched by `tnale`.

    Args:
        together: how many are evaluated in each round.

    Raises:
        TenfoldError: ``together`` is not positive.

    Cost: a millisecond for each structure that is passed, some hundreds in a round. The bound is that of "The
    approximation of one matrix by another of lower rank", 1936; the search is our own.
    """
    if isinstance(together, bool) or not isinstance(together, int) or together < 1:
        raise TenfoldError(f"together must be a whole number of at least 1, not {together!r}")
    if session.target.bound(space.structure(space.first())) == 0:
        tnale(session, space, seed=seed, start="random")
        return
    generator = np.random.default_rng(seed)
    guide = _Guide(session, space)
    best: tuple[Point, Evaluation] | None = None
    while True:
        starts = [space.random(generator) for _ in range(_DESCENTS if best is not None else 2 * _DESCENTS)]
        if best is not None:
            starts.append(best[0])
        passed: dict[str, Point] = {}
        for start in starts:
            passed.update(guide.descend(start))
        chosen = sorted(passed.items(), key=lambda item: guide.promise(item[1]))[:together]
        points = [point for _, point in chosen] + [space.random(generator) for _ in range(_ANYWHERE)]
        beat = best[1].value if best is not None else math.inf
        near = best[1] if best is not None else None
        found = session.evaluate([space.structure(point) for point in points], near=near, beat=beat)
        for point, one in zip(points, found, strict=True):
            guide.learn(point, one)
            if one.finished and (best is None or one.value < best[1].value):
                best = (point, one)


class _Guide:
    """What is expected of points before they are evaluated."""

    def __init__(self, session: Session, space: Space) -> None:
        self.session, self.space = session, space
        self.ratios: list[float] = []
        self.tried: set[str] = set()
        self.known: dict[Point, tuple[str, int, float]] = {}

    def about(self, point: Point) -> tuple[str, int, float]:
        """The pattern of a point's structure, its size and its bound."""
        if point not in self.known:
            structure = self.space.structure(point)
            self.known[point] = (repr(structure), structure.parameters, self.session.target.bound(structure))
        return self.known[point]

    def promise(self, point: Point) -> float:
        """The value that a point is expected to have."""
        _, parameters, bound = self.about(point)
        ratio = median(self.ratios) if self.ratios else 1.0
        return self.session.objective.value(parameters, bound * ratio)

    def learn(self, point: Point, one: Evaluation) -> None:
        name, _, bound = self.about(point)
        self.tried.add(name)
        if one.finished and bound > _NOTHING and math.isfinite(one.error):
            self.ratios.append(max(one.error / bound, 1.0))

    def descend(self, point: Point) -> dict[str, Point]:
        """Everything passed on the way down from a point that has not been tried, one point for each structure."""
        passed: dict[str, Point] = {}
        value = self.promise(point)
        for _ in range(_STEPS):
            around = {near: self.promise(near) for near in self.space.neighbours(point)}
            for near in (point, *around):
                name = self.about(near)[0]
                if name not in self.tried:
                    passed.setdefault(name, near)
            lower = min(around, key=lambda near: around[near], default=point)
            if not around or around[lower] >= value:
                break
            point, value = lower, around[lower]
        return passed
