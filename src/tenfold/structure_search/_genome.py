"""Points of a space crossed and changed at random: what searchers that breed structures have in common."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from tenfold.structure import Structure
from tenfold.structure_search.spaces import FullyConnected, Point, Space

# Draws before one takes what there is.
_TRIES = 50


def random_graph(space: Space, generator: np.random.Generator, size: int | None = None) -> Point:
    """A point at random; on graphs, each as sparse as a share of edges that is itself drawn says.

    Args:
        size: of all edges that are there, instead of any.
    """
    if not isinstance(space, FullyConnected):
        return space.random(generator)
    point = space.first()
    for _ in range(_TRIES):
        there = generator.random(len(space.edges)) >= generator.random()
        ranks = generator.integers(min(2, space.max_rank), space.max_rank + 1, len(space.edges))
        point = Point(tuple(np.where(there, size or ranks, 1).tolist()), tuple(range(space.modes)))
        if space.allows(point):
            return point
    return space.first()


def crossed(space: Space, first: Point, second: Point, generator: np.random.Generator) -> tuple[Point, Point]:
    """Two children of two points; what one child has of one parent, the other has of the other.

    On graphs they exchange all the edges of one core. On other templates each edge comes from either parent, and orders
    are crossed so that a stretch comes from one parent and the rest in the order of the other ("order crossover").
    Where no child lies in the space, the parents are returned.
    """
    if isinstance(space, FullyConnected):
        for core in generator.permutation(space.modes).tolist():
            pair = _exchanged(first, second, [core in edge for edge in space.edges])
            if all(map(space.allows, pair)) and set(pair) != {first, second}:
                return pair
        return first, second
    a, b = _exchanged(first, second, (generator.random(len(space.edges)) < 0.5).tolist())
    if space.orders:
        low, high = sorted(generator.choice(space.modes + 1, 2, replace=False).tolist())
        a = Point(a.ranks, _ordered(first.order, second.order, low, high))
        b = Point(b.ranks, _ordered(second.order, first.order, low, high))
    return (a, b) if space.allows(a) and space.allows(b) else (first, second)


def _exchanged(first: Point, second: Point, which: list[bool]) -> tuple[Point, Point]:
    """Both points with some of their edges exchanged."""
    pairs = list(zip(first.ranks, second.ranks, which, strict=True))
    return (
        Point(tuple(b if swap else a for a, b, swap in pairs), first.order),
        Point(tuple(a if swap else b for a, b, swap in pairs), second.order),
    )


def _ordered(kept: tuple[int, ...], filled: tuple[int, ...], low: int, high: int) -> tuple[int, ...]:
    """``kept[low:high]`` where it is; the other places, from ``high`` on and round, with the rest as in ``filled``."""
    count = len(kept)
    inside = set(kept[low:high])
    rest = iter(mode for mode in (filled[(high + k) % count] for k in range(count)) if mode not in inside)
    made = list(kept)
    for k in range(count - (high - low)):
        made[(high + k) % count] = next(rest)
    return tuple(made)


def mutated(
    space: Space, point: Point, generator: np.random.Generator, rate: float, *, size: int | None = None
) -> Point:
    """A point with each of its genes changed with probability ``rate``.

    An edge becomes larger or smaller, by one or by half; on graphs it appears or goes half of the time. A mode changes
    places with another one. Where the result does not lie in the space, others are drawn, and in the end the point is
    returned.

    Args:
        size: of all edges that are there: they only appear and go.
    """
    graphs = isinstance(space, FullyConnected)
    for _ in range(_TRIES):
        ranks = list(point.ranks)
        for edge in np.flatnonzero(generator.random(len(ranks)) < rate).tolist():
            if size is not None:
                ranks[edge] = size if ranks[edge] == 1 else 1
            elif graphs and generator.random() < 0.5:
                ranks[edge] = int(generator.integers(2, space.max_rank + 1)) if ranks[edge] == 1 < space.max_rank else 1
            else:
                ranks[edge] = _stepped(ranks[edge], space.max_rank, generator)
        made = Point(tuple(ranks), point.order)
        if space.orders:
            for place in np.flatnonzero(generator.random(space.modes) < rate).tolist():
                made = made.swapped(place, (place + int(generator.integers(1, space.modes))) % space.modes)
        if space.allows(made):
            return made
    return point


def _stepped(rank: int, most: int, generator: np.random.Generator) -> int:
    """One more or less, or half as much more or less: where ranks are large, single steps change next to nothing."""
    step = 1 if generator.random() < 0.5 else max(1, rank // 2)
    up = rank == 1 or (rank < most and generator.random() < 0.5)
    return min(rank + step, most) if up else rank - step


def neighbour(space: Space, point: Point, generator: np.random.Generator) -> Point:
    """A point with one gene changed, on average, and at least one where that is possible."""
    genes = len(point.ranks) + (space.modes if space.orders else 0)
    for _ in range(_TRIES):
        made = mutated(space, point, generator, 1 / genes)
        if made != point:
            return made
    return point


class Nursery:
    """Structures of points, each made once, and whether they are worth a fit.

    Args:
        size: how many numbers the networks replace; those that have more parameters are of no use.
    """

    def __init__(self, space: Space, size: int) -> None:
        self.space = space
        self._made: dict[Point, Structure] = {}
        self._most = max(size, self.structure(space.first()).parameters)

    def structure(self, point: Point) -> Structure:
        if point not in self._made:
            self._made[point] = self.space.structure(point)
        return self._made[point]

    def viable(self, point: Point) -> bool:
        """Whether the network is no larger than what it replaces."""
        return self.structure(point).parameters <= self._most

    def born(self, draw: Callable[[], Point]) -> Point:
        """The first viable of some draws; if none is, the point without any edge."""
        for _ in range(_TRIES):
            point = draw()
            if self.viable(point):
                return point
        return self.space.first()
