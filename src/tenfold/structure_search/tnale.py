"""TnALE: one variable of the structure after the other, each enumerated in a small window, to and fro."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from tenfold.errors import TenfoldError
from tenfold.structure_search._foresight import foresight
from tenfold.structure_search._registry import searcher
from tenfold.structure_search.session import Evaluation, Session
from tenfold.structure_search.spaces import Point, Space

# After so many round trips in a row that end where they began, the search starts anew elsewhere.
_STATIONARY = 2
# Windows of more ranks than this leave out those that are of no use; papers count narrower ones as they are.
_WIDE = 100
# Tries at drawing a point of the window that is not its middle.
_TRIES = 100


@searcher("tnale")
def tnale(
    session: Session,
    space: Space,
    seed: int = 0,
    *,
    radius: int = 1,
    first_radius: int = 2,
    first_trips: int = 2,
    interpolate: bool = True,
    start: str = "bounds",
) -> None:
    """Alternating local enumeration of ranks and order, restarted where it stands still.

    A round trip goes through the ranks, the order of the modes, and back. Each rank is enumerated in a window around
    the best point of the trip before, the order over all exchanges of two modes, and the best value is taken over at
    once. In the first trips only the ends and the middle of wider windows are fitted, and errors between them are
    interpolated.

    Args:
        radius: of the windows of ranks.
        first_radius, first_trips: the radius in the first trips, and how many those are.
        interpolate: whether errors are interpolated in the first trips.
        start: "random" as in the paper, or "bounds": where a descent on what singular values across cuts allow ends,
            which evaluates nothing.

    Raises:
        TenfoldError: an option out of range.

    Cost of a round trip on a ring of N modes: ``2 N (2 radius + 1) + 1 + N (N - 1) / 2`` evaluations as papers count
    them, 52 for N = 6; fits are fewer. Paper: "Alternating Local Enumeration (TnALE): Solving Tensor Network Structure
    Search with Fewer Evaluations", 2023, algorithm 1.
    """
    for name, number, least in (
        ("radius", radius, 1),
        ("first_radius", first_radius, 1),
        ("first_trips", first_trips, 0),
    ):
        if isinstance(number, bool) or not isinstance(number, int) or number < least:
            raise TenfoldError(f"{name} must be a whole number of at least {least}, not {number!r}")
    if start not in ("random", "bounds"):
        raise TenfoldError(f"start must be 'random' or 'bounds', not {start!r}")
    generator = np.random.default_rng(seed)
    guide = foresight(session, space) if start == "bounds" else None
    while True:
        centre = session.start(space, generator)
        if guide is not None:
            ends = [guide.descent(point) for point in (centre, space.random(generator), space.random(generator))]
            centre = min(ends, key=lambda end: end[0])[1]
        _Climb(session, space, generator, centre).run(radius, first_radius, first_trips, interpolate)


@dataclass
class _Best:
    """A point and what is known of it."""

    point: Point
    value: float
    evaluation: Evaluation | None = None


class _Climb:
    """Round trips from one start until they stand still."""

    def __init__(self, session: Session, space: Space, generator: np.random.Generator, centre: Point) -> None:
        self.session, self.space, self.generator = session, space, generator
        self.centre = _Best(centre, math.inf)
        self.current = self.centre
        self.trip = self.centre
        # Variables: the ranks by the number of their edge, and one more for the order.
        self.edges = len(space.edges)
        self.variables = self.edges + space.orders

    def run(self, radius: int, first_radius: int, first_trips: int, interpolate: bool) -> None:
        still = 0
        for _ in range(first_trips):
            self.begin(self.centre.point)
            self.go(first_radius, sampled=interpolate)
            # Interpolated values are not to be trusted: only the place is kept.
            self.centre = _Best(self.trip.point, math.inf)
        self.begin(self.centre.point)
        while still < _STATIONARY:
            moved = self.go(radius, sampled=False)
            if moved and self.trip.value <= self.centre.value:
                improved = self.trip.value < self.centre.value
                self.centre = self.trip
                self.begin(self.centre.point)
                if improved:
                    continue
            # Nothing better around here: another trip from beside the centre.
            still += 1
            self.begin(self.beside(radius))

    def begin(self, point: Point) -> None:
        self.current = _Best(point, math.inf)
        self.trip = _Best(point, math.inf)

    def go(self, radius: int, *, sampled: bool) -> bool:
        """One round trip; False if it ended early because everything stood still."""
        quiet = 0
        for variable in trip_order(self.edges, self.variables):
            at_centre = self.enumerate(variable, radius, sampled)
            quiet = quiet + 1 if at_centre else 0
            if quiet >= self.variables and not sampled:
                return False
        return True

    def enumerate(self, variable: int, radius: int, sampled: bool) -> bool:
        """Try all values of one variable and take the best; whether that leaves the centre as it is."""
        points = list(dict.fromkeys(self.candidates(variable, radius)))
        points = [point for point in points if self.space.allows(point)] or [self.current.point]
        # The value that is there stays a candidate, also where its window has moved on.
        if self.current.point in points:
            points.remove(self.current.point)
        points.insert(0, self.current.point)
        if sampled and variable < self.edges and len(points) > 3:
            values = self.sampled(points, variable)
        else:
            values = self.measured(points)
        best = min(values, key=lambda one: (one.value, self.space.structure(one.point).parameters))
        self.current = best
        if best.value <= self.trip.value:
            self.trip = best
        return best.point == self.centre.point

    def candidates(self, variable: int, radius: int) -> Iterator[Point]:
        if variable == self.edges:
            yield from (self.with_order(point.order) for point in self.space.transpositions(self.centre.point))
            yield self.with_order(self.centre.point.order)
            return
        for rank in self.window(self.current.point, variable, radius):
            yield self.current.point.with_rank(variable, rank)

    def window(self, point: Point, edge: int, radius: int) -> list[int]:
        """The ranks around that of the centre; where they are many, those of use beside the others of a point."""
        rank, largest = self.centre.point.ranks[edge], self.space.max_rank
        if min(2 * radius + 1, largest) > _WIDE:
            # Structures leave out what a bond's ends cannot use.
            wide, narrow = (self.space.structure(point.with_rank(edge, r)) for r in (largest, 1))
            used = set(wide.inner_indices) - set(narrow.inner_indices)
            largest = max([rank, *(wide.sizes[bond] for bond in used)])
        return window(rank, radius, largest)

    def with_order(self, order: tuple[int, ...]) -> Point:
        return Point(self.current.point.ranks, order)

    def measured(self, points: list[Point]) -> list[_Best]:
        """The first point is the one to beat."""
        known = self.current.evaluation
        beat = self.current.value if known is not None and known.finished else math.inf
        if beat == math.inf:
            (known,) = self.session.evaluate([self.space.structure(points[0])], near=known)
            beat = known.value
            self.current = _Best(points[0], beat, known)
            rest = points[1:]
        else:
            # It counts, as everywhere, but is remembered.
            rest = points[1:]
            self.session.evaluate([self.space.structure(points[0])])
        found = self.session.evaluate([self.space.structure(p) for p in rest], near=known, beat=beat)
        return [self.current, *(_Best(p, e.value, e) for p, e in zip(rest, found, strict=True))]

    def sampled(self, points: list[Point], variable: int) -> list[_Best]:
        """Fit the ends and the middle of a window, and the current value; interpolate the squared error between."""
        ranks = sorted({point.ranks[variable] for point in points})
        chosen = {ranks[0], ranks[(len(ranks) - 1) // 2], ranks[-1]}
        by_rank = {point.ranks[variable]: point for point in points}
        knots = [by_rank[rank] for rank in sorted(chosen)]
        near = self.current.evaluation
        found = self.session.evaluate([self.space.structure(point) for point in knots], near=near)
        known = {point.ranks[variable]: one for point, one in zip(knots, found, strict=True)}
        here = self.current.point.ranks[variable]
        if near is not None and here not in known:
            known[here] = near
        places = sorted(known)
        squares = [min(known[rank].error, 1e150) ** 2 for rank in places]
        made = []
        for rank, point in by_rank.items():
            parameters = self.space.structure(point).parameters
            error = math.sqrt(float(np.interp(rank, places, squares)))
            made.append(_Best(point, self.session.objective.value(parameters, error), known.get(rank)))
        return made

    def beside(self, radius: int) -> Point:
        """A point of the window around the centre that differs from it, the first rank excepted."""
        centre = self.centre.point
        for _ in range(_TRIES):
            point = centre
            for edge in range(1, self.edges):
                near = self.window(point, edge, radius)
                point = point.with_rank(edge, int(self.generator.choice(near)))
            if self.space.orders:
                orders = [centre.order, *(p.order for p in self.space.transpositions(centre))]
                point = Point(point.ranks, orders[int(self.generator.integers(len(orders)))])
            if point != centre and self.space.allows(point):
                return point
        return self.space.random(self.generator)


def window(rank: int, radius: int, largest: int) -> list[int]:
    """``2 radius + 1`` ranks around one, moved (not cut) so that they lie between 1 and the largest."""
    width = min(2 * radius + 1, largest)
    first = min(max(rank - radius, 1), largest - width + 1)
    return list(range(first, first + width))


def trip_order(edges: int, variables: int) -> list[int]:
    """The variables of a round trip: there and back, the last of them once."""
    there = list(range(variables))
    return there + there[-2::-1]
