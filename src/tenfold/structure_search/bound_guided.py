"""Search where singular values across cuts point: many structures are looked at, few are fitted."""

from __future__ import annotations

import math
from functools import partial

import numpy as np

from tenfold.errors import TenfoldError
from tenfold.structure_search._drawn import Drawn
from tenfold.structure_search._foresight import Foresight, foresight
from tenfold.structure_search._registry import searcher
from tenfold.structure_search.greedy import greedy
from tenfold.structure_search.session import Evaluation, Session
from tenfold.structure_search.spaces import Point, Space

# Descents from random points in each round; the first round knows nothing better and makes twice as many.
_DESCENTS = 3
# So many rounds in a row in which nothing could win and nothing was fitted: there is nothing left to find.
_IDLE = 30


@searcher("bound_guided")
def bound_guided(session: Session, space: Space, seed: int = 0, *, together: int = 8) -> None:
    """Fit those structures of which singular values promise most, learn how errors follow from them, and go on.

    In each round the objective is descended from the best structure so far and from random ones, with a foretold error
    in place of the error: at first the bound across cuts, later what evaluations have taught. Of all that was passed on
    the way, the most promising structures are evaluated. Targets of which nothing is known before a fit (observations,
    losses) are searched by `greedy`.

    It ends where round after round nothing that is met could still be better than the best.

    Args:
        together: how many are evaluated in each round.

    Raises:
        TenfoldError: ``together`` is not positive.

    Cost: some ten microseconds for each structure that is passed, some thousands in a round. The bound is that of "The
    approximation of one matrix by another of lower rank", 1936; the search is our own.
    """
    if isinstance(together, bool) or not isinstance(together, int) or together < 1:
        raise TenfoldError(f"together must be a whole number of at least 1, not {together!r}")
    guide = foresight(session, space)
    if guide is None:
        greedy(session, space, seed=seed)
        return
    generator = np.random.default_rng(seed)
    tried: set[str] = set()
    best: tuple[Point, Evaluation] | None = None
    idle = 0
    while idle < _IDLE:
        starts = [space.random(generator) for _ in range(_DESCENTS if best is not None else 2 * _DESCENTS)]
        if best is not None:
            starts.insert(0, best[0])
        points = _promising(guide, space, starts, tried, together)
        if best is None:
            points = [_even(guide, space), *points][:together]
        if points:
            drawn = Drawn(len(points), iter(points).__next__, space.structure)
        else:  # all that descents pass has been tried
            drawn = Drawn(together, partial(space.random, generator), space.structure)
        beat = best[1].value if best is not None else math.inf
        near = best[1] if best is not None else None
        before = session.fits
        found = session.evaluate(drawn, near=near, beat=beat)
        idle = idle + 1 if session.fits == before else 0
        guide.learn(drawn.points, found)
        for point, one in zip(drawn.points, found, strict=True):
            if one.finished and (best is None or one.value < best[1].value):
                best = (point, one)


def _even(guide: Foresight, space: Space) -> Point:
    """The point with equal ranks of which most is foretold: what people would take without a search."""
    points = [point for rank in range(1, space.max_rank + 1) if space.allows(point := space.first(rank))]
    values = guide.values(points)
    return points[min(range(len(points)), key=values.__getitem__)]


def _promising(guide: Foresight, space: Space, starts: list[Point], tried: set[str], count: int) -> list[Point]:
    """The points of the least foretold values that descents pass, each structure once and none that was tried.

    Starts that are left once enough was passed are let go.
    """
    passed: dict[Point, float] = {}
    for start in starts:
        if len(passed) >= guide.enough:
            break
        passed.update(guide.descent(start)[2])
    chosen: list[Point] = []
    for point in sorted(passed, key=lambda point: (passed[point], point.ranks, point.order)):
        name = repr(space.structure(point))
        if name not in tried:
            tried.add(name)
            chosen.append(point)
            if len(chosen) == count:
                break
    return chosen
