"""Points that are drawn one by one while their structures are evaluated, however many there may be."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from tenfold.structure import Structure
from tenfold.structure_search.spaces import Point


class Drawn:
    """The structures of so many points, each drawn when it is asked for; a session that is spent asks for no more.

    Args:
        draw: makes a point.
        structure: what a point stands for.

    Attributes:
        points: those that were drawn so far.
    """

    def __init__(self, count: int, draw: Callable[[], Point], structure: Callable[[Point], Structure]) -> None:
        self.points: list[Point] = []
        self._count, self._draw, self._structure = count, draw, structure

    def __iter__(self) -> Iterator[Structure]:
        for _ in range(self._count):
            self.points.append(self._draw())
            yield self._structure(self.points[-1])
