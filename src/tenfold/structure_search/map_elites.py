"""A map of what can be had: the best structure for each compression and each cost (MAP-Elites)."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np

from tenfold.errors import TenfoldError
from tenfold.structure import Structure
from tenfold.structure_search._drawn import Drawn
from tenfold.structure_search._genome import Nursery, crossed, neighbour, random_graph
from tenfold.structure_search._placed import point_of
from tenfold.structure_search._registry import find_searcher, searcher
from tenfold.structure_search.session import Evaluation, Found, Session, Spent
from tenfold.structure_search.spaces import Point, Space

Cell = tuple[int, int]

# Batches in a row that bring nothing new before the search ends.
_STALE = 20
# Draws of a child that is not known yet before a known one is taken.
_TRIES = 10


@dataclass(frozen=True)
class Archive:
    """The best evaluation of each cell of a map.

    Rows are compressions, ``floor(log2(entries / parameters))``, columns the flops for making one entry of the dense
    tensor, ``floor(log2(flops / entries))``; what lies beyond the last lies in the last. Networks larger than the data
    have no cell. Equal errors: fewer parameters win, then fewer flops, so that the map does not depend on the order in
    which it was filled.

    Attributes:
        cells: the best of each cell that is not empty.
        compressions, costs: how many rows and columns there are.
    """

    cells: Mapping[Cell, Evaluation] = field(default_factory=dict)
    compressions: int = 12
    costs: int = 8

    def __post_init__(self) -> None:
        for name in ("compressions", "costs"):
            if getattr(self, name) < 1:
                raise TenfoldError(f"{name} must be at least 1, not {getattr(self, name)!r}")

    def cell(self, structure: Structure) -> Cell | None:
        """Where a structure belongs; None if it has more parameters than there are entries."""
        if structure.parameters > structure.size:
            return None
        compression = (structure.size // structure.parameters).bit_length() - 1
        cost = max(structure.cost().flops // structure.size, 1).bit_length() - 1
        return min(compression, self.compressions - 1), min(cost, self.costs - 1)

    def placed(self, evaluations: Iterable[Evaluation]) -> Archive:
        """The archive with these in it, where they are better than what was in their cells."""
        cells = dict(self.cells)
        for one in evaluations:
            cell = self.cell(one.structure)
            if cell is None or not one.finished or math.isnan(one.error):
                continue
            if cell not in cells or _order(one) < _order(cells[cell]):
                cells[cell] = one
        return Archive(cells, self.compressions, self.costs)

    @property
    def coverage(self) -> float:
        """The share of the cells that are not empty."""
        return len(self.cells) / (self.compressions * self.costs)

    @property
    def qd_score(self) -> float:
        """The sum over cells of ``1 - error^2``, the part of the data that is explained; empty ones count nothing."""
        return sum(max(0.0, 1.0 - one.error**2) for one in self.cells.values())

    @property
    def best(self) -> Evaluation | None:
        """What has the smallest error of all."""
        return min(self.cells.values(), key=_order, default=None)

    def __len__(self) -> int:
        return len(self.cells)

    def __iter__(self) -> Iterator[tuple[Cell, Evaluation]]:
        """The cells that are not empty, in their order."""
        return iter(sorted(self.cells.items(), key=lambda item: item[0]))

    def __str__(self) -> str:
        """The errors as a table: a line for each compression, a column for each cost."""
        lines = ["compression  flops/entry " + " ".join(f"{'>=' + str(2**cost):>7}" for cost in range(self.costs))]
        for row in range(self.compressions):
            line = [self.cells.get((row, column)) for column in range(self.costs)]
            if any(line):
                errors = " ".join(f"{one.error:7.1e}" if one is not None else f"{'.':>7}" for one in line)
                lines.append(f"{'>=' + str(2**row):>11}{'':14}{errors}")
        return "\n".join(lines)


def _order(one: Evaluation) -> tuple[float, int, int, str]:
    return one.error, one.parameters, one.structure.cost().flops, one.structure.key


def elites(history: Iterable[Found], *, compressions: int = 12, costs: int = 8) -> Archive:
    """The map of everything that a session saw, whichever searcher asked for it."""
    return Archive(compressions=compressions, costs=costs).placed(found.evaluation for found in history)


@searcher("map_elites")
def map_elites(
    session: Session,
    space: Space,
    seed: int = 0,
    *,
    initial: int = 200,
    batch: int = 32,
    crossover: float = 0.3,
    first: str | None = None,
) -> None:
    """Fills a map of compressions and costs with the best structures of each, which all may have children.

    A child is a neighbour of a structure on the map, or of a child of two of them, from cells that are drawn alike. So
    the search goes on in all parts of the map at once, and what is good in one can be a step to what is good in
    another. `elites` makes the map from the session's history. What is in that already, whichever searcher asked for it
    and in whichever space, is on the map from the beginning where this space has it, and takes the place of half of the
    random structures. The search ends when it finds nothing that it does not know, many times in a row.

    Args:
        initial: random structures at first, a quarter of the evaluations at most.
        batch: children at a time.
        crossover: the share of children that have two parents.
        first: the name of another searcher that makes half of these first evaluations. ``"greedy"``, which passes
            through all sizes from the smallest up, fills more of the map than random structures do.

    Raises:
        TenfoldError: options out of their ranges.

    Paper: "Illuminating search spaces by mapping elites", 2015.
    """
    if initial < 1 or batch < 1:
        raise TenfoldError(f"initial and batch must be at least 1, not {initial!r} and {batch!r}")
    if not 0 <= crossover <= 1:
        raise TenfoldError(f"crossover must be a probability, not {crossover!r}")
    if first == "map_elites":
        raise TenfoldError("first must be another searcher than map_elites itself")
    generator = np.random.default_rng(seed)
    nursery = Nursery(space, session.target.size)
    points: dict[str, Point] = {}
    if session.evaluations is not None:
        initial = max(1, min(initial, session.evaluations // 4))
    if first is not None:
        _led(session, space, seed, first, max(1, initial // 2))
    known = []
    for found in session.history:
        point = point_of(space, found.evaluation.structure)
        if point is not None and nursery.viable(point):
            points.setdefault(found.evaluation.structure.key, point)
            known.append(found.evaluation)
    archive = Archive().placed(known)
    if known:  # they may all lie in one corner of the map
        initial //= 2

    def explored(count: int, draw: Callable[[], Point]) -> Archive:
        drawn = Drawn(count, draw, nursery.structure)
        found = session.evaluate(drawn)
        for point in drawn.points:
            points.setdefault(nursery.structure(point).key, point)
        return archive.placed(found)

    def newcomer() -> Point:
        return nursery.born(lambda: random_graph(space, generator))

    def child() -> Point:
        parents = [points[one.structure.key] for _, one in archive]
        if not parents:
            return random_graph(space, generator)
        one, other = (parents[k] for k in generator.integers(len(parents), size=2).tolist())
        if generator.random() < crossover:
            one = crossed(space, one, other, generator)[0]
        return neighbour(space, one, generator)

    def fresh() -> Point:
        for _ in range(_TRIES):
            point = nursery.born(child)
            if nursery.structure(point).key not in points:
                break
        return point

    for start in range(0, initial, batch):
        archive = explored(min(batch, initial - start), newcomer)
    stale = 0
    while stale < _STALE:
        before = len(points)
        archive = explored(batch, fresh)
        stale = stale + 1 if len(points) == before else 0


def _led(session: Session, space: Space, seed: int, name: str, evaluations: int) -> None:
    """Let another searcher make so many evaluations, or fewer where it ends before."""
    entry = find_searcher(name)
    if not isinstance(space, entry.spaces):
        raise TenfoldError(f"first is '{name}', which does not search {type(space).__name__}; take another one")
    whole = session.evaluations
    session.evaluations = session.counted + evaluations
    try:
        entry.function(session, space, seed=seed)
    except Spent:
        pass
    finally:
        session.evaluations = whole
