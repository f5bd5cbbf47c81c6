"""Search spaces: which structures are looked among. A space is a value, a `Point` in it a choice of ranks and order.

Every space is a template: vertices, some of which carry one mode of the data each, and edges between them. A point says
how large each edge is (1: it is not there) and which mode lies on which vertex. Points that make the same network under
other names are told apart by nothing but their names: `Structure.key` of what they make is equal.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from itertools import combinations

import numpy as np

from tenfold.errors import StructureError
from tenfold.structure import Structure, index_names

# Points drawn before one is made to fit: where hardly any lies in a space, no number of draws would find it.
_TRIES = 300

Edge = tuple[int, int]


@dataclass(frozen=True)
class Point:
    """One structure of a space.

    Attributes:
        ranks: the size of each edge of the template; 1 where there is none.
        order: the mode that lies on each vertex of the template that carries one.
    """

    ranks: tuple[int, ...]
    order: tuple[int, ...]

    def with_rank(self, edge: int, rank: int) -> Point:
        """The same with another size of one edge."""
        return replace(self, ranks=(*self.ranks[:edge], rank, *self.ranks[edge + 1 :]))

    def swapped(self, a: int, b: int) -> Point:
        """The same with the modes of two vertices exchanged."""
        order = list(self.order)
        order[a], order[b] = order[b], order[a]
        return replace(self, order=tuple(order))


@dataclass(frozen=True)
class Space:
    """What all spaces have in common; use `Ring`, `Chain`, `Tree`, `FullyConnected`, `Tucker` or `AnyGraph`.

    Args:
        shape: of the data.
        max_rank: of every edge.
        fixed_order: whether modes stay where they are, in the data's order.
        names: of the data's axes.
        folds: how each axis is cut into shorter modes, slowest first (``((4, 4), (4, 4))`` for a 16 x 16 matrix); by
            default each axis is one mode. `folded` finds some.

    Raises:
        StructureError: sizes that are not positive, folds that do not multiply to the shape, too few modes.
    """

    shape: tuple[int, ...]
    max_rank: int = 8
    fixed_order: bool = False
    names: tuple[str, ...] | None = None
    folds: tuple[tuple[int, ...], ...] | None = None
    # The fewest modes that make sense of a family.
    _least = 2

    def __post_init__(self) -> None:
        object.__setattr__(self, "shape", tuple(int(n) for n in self.shape))
        if self.names is not None:
            object.__setattr__(self, "names", tuple(self.names))
        if any(n < 1 for n in self.shape):
            raise StructureError(f"a space needs sizes of at least 1, not {self.shape}")
        if isinstance(self.max_rank, bool) or not isinstance(self.max_rank, int) or self.max_rank < 1:
            raise StructureError(f"max_rank must be a whole number of at least 1, not {self.max_rank!r}")
        if self.max_rank >= 2**31:
            raise StructureError(f"max_rank must be below 2**31, not {self.max_rank}")
        if self.names is not None and len(self.names) != len(self.shape):
            raise StructureError(f"{len(self.names)} names for {len(self.shape)} axes")
        if self.folds is not None:
            object.__setattr__(self, "folds", tuple(tuple(int(n) for n in fold) for fold in self.folds))
            if tuple(math.prod(fold) for fold in self.folds) != self.shape:
                raise StructureError(f"folds {self.folds} do not multiply to the shape {self.shape}")
        if len(self.sizes) < self._least:
            raise StructureError(
                f"{type(self).__name__} needs at least {self._least} modes, not {len(self.sizes)}: fold the axes, or "
                f"take another space"
            )

    # --- the template -------------------------------------------------------------------------------------------------

    @property
    def sizes(self) -> tuple[int, ...]:
        """The sizes of the modes: of the axes, or of the pieces they are folded into."""
        return self.shape if self.folds is None else tuple(n for fold in self.folds for n in fold)

    @property
    def modes(self) -> int:
        """How many modes there are, each on a vertex of its own; vertices after these carry none."""
        return len(self.sizes)

    @property
    def edges(self) -> tuple[Edge, ...]:
        """The edges of the template, as pairs of vertices."""
        raise NotImplementedError(f"{type(self).__name__} has no edges: use a space that has, such as Ring")

    @property
    def orders(self) -> bool:
        """Whether the order of the modes is part of what is looked for."""
        return not self.fixed_order

    @property
    def sparse(self) -> bool:
        """Whether most edges are not there in a typical structure."""
        return False

    # --- points -------------------------------------------------------------------------------------------------------

    def first(self, rank: int = 1) -> Point:
        """The point with all edges of one size and the modes in their order."""
        return Point((rank,) * len(self.edges), tuple(range(self.modes)))

    def random(self, generator: np.random.Generator) -> Point:
        """A point at random: orders alike, ranks alike from 1 on; in sparse spaces six of ten edges have rank 1.

        Where none of many draws lies in the space, the last one is `mended`.
        """
        for _ in range(_TRIES):
            ranks = generator.integers(1, self.max_rank + 1, len(self.edges))
            if self.sparse:
                there = generator.random(len(self.edges)) >= 0.6
                ranks = np.where(there, np.maximum(ranks, min(2, self.max_rank)), 1)
            order = generator.permutation(self.modes) if self.orders else np.arange(self.modes)
            point = Point(tuple(ranks.tolist()), tuple(order.tolist()))
            if self.allows(point):
                return point
        return self.mended(point, generator)

    def mended(self, point: Point, generator: np.random.Generator) -> Point:
        """A point that lies in the space, for one whose ranks may do and that does not."""
        return self.first()

    def allows(self, point: Point) -> bool:
        """Whether a point lies in the space."""
        return not point.ranks or (min(point.ranks) >= 1 and max(point.ranks) <= self.max_rank)

    def transpositions(self, point: Point) -> Iterator[Point]:
        """The points with two modes exchanged, none if the order is fixed."""
        if self.orders:
            for a, b in combinations(range(self.modes), 2):
                yield point.swapped(a, b)

    def neighbours(self, point: Point) -> Iterator[Point]:
        """The points one step away: one rank one more or less, or two modes exchanged."""
        for edge, rank in enumerate(point.ranks):
            for step in (-1, 1):
                near = point.with_rank(edge, rank + step)
                if self.allows(near):
                    yield near
        yield from self.transpositions(point)

    def size(self) -> int:
        """How many points there are (not all of them different structures)."""
        return self.max_rank ** len(self.edges) * (math.factorial(self.modes) if self.orders else 1)

    # --- structures ---------------------------------------------------------------------------------------------------

    @property
    def outputs(self) -> tuple[tuple[str, ...], ...]:
        """The names of the modes, grouped by axis."""
        names = index_names(self.names if self.names is not None else [f"i{k + 1}" for k in range(len(self.shape))])
        if self.folds is None:
            return tuple((name,) for name in names)
        taken = set(names)
        split = []
        for name, fold in zip(names, self.folds, strict=True):
            pieces = [name] if len(fold) == 1 else [f"{name}_{k + 1}" for k in range(len(fold))]
            while len(pieces) > 1 and taken & set(pieces):
                pieces = [f"{piece}_" for piece in pieces]
            taken.update(pieces)
            split.append(tuple(pieces))
        return tuple(split)

    def structure(self, point: Point) -> Structure:
        """What a point stands for: edges of size 1 left out, edges no larger than what their ends can use.

        A bond is named after what it joins. So points that differ by a symmetry of the template only make one
        structure, and what two structures have in common carries the same names in both.
        """
        modes = [name for group in self.outputs for name in group]
        taken = set(modes)
        names = {vertex: modes[mode] for vertex, mode in enumerate(point.order)}
        place = {vertex: mode for vertex, mode in enumerate(point.order)}
        inner = self._inner(place)
        for number, vertex in enumerate(inner):
            names[vertex], place[vertex] = f"c{number + 1}", self.modes + number
        vertices: dict[int, list[str]] = {place[v]: [names[v]] if v < self.modes else [] for v in names}
        sizes = dict(zip(modes, self.sizes, strict=True))
        joined = sorted(
            (*sorted((a, b), key=place.__getitem__), rank)
            for (a, b), rank in zip(self.edges, point.ranks, strict=True)
            if rank > 1
        )
        for a, b, rank in sorted(joined, key=lambda edge: (place[edge[0]], place[edge[1]])):
            name = f"{names[a]}_{names[b]}"
            while name in taken:
                name += "_"
            taken.add(name)
            vertices[place[a]].append(name)
            vertices[place[b]].append(name)
            sizes[name] = rank
        terms = [tuple(vertices[vertex]) for vertex in sorted(vertices)]
        return Structure.of(*_capped(terms, self.outputs, sizes))

    def _inner(self, place: Mapping[int, int]) -> list[int]:
        """The vertices without modes, in an order that the modes around them say (``place`` of each vertex)."""
        return sorted({vertex for edge in self.edges for vertex in edge} - set(place))


def _capped(
    terms: Sequence[tuple[str, ...]], outputs: tuple[tuple[str, ...], ...], sizes: dict[str, int]
) -> tuple[list[tuple[str, ...]], tuple[tuple[str, ...], ...], dict[str, int]]:
    """Bonds no larger than the rest of a core they lie on; cores without modes whose bonds are all of size 1 go."""
    kept = {index for group in outputs for index in group}
    changed = True
    while changed:
        changed = False
        for term in terms:
            whole = math.prod(sizes[index] for index in term)
            for index in term:
                most = whole // sizes[index]
                if index not in kept and sizes[index] > most:
                    whole = whole // sizes[index] * most
                    sizes[index] = most
                    changed = True
    gone = {index for index, size in sizes.items() if size == 1 and index not in kept}
    left = [tuple(index for index in term if index not in gone) for term in terms]
    return [term for term in left if term], outputs, {i: n for i, n in sizes.items() if i not in gone}


@dataclass(frozen=True)
class Ring(Space):
    """Tensor rings: every core has two neighbours."""

    _least = 3

    @property
    def edges(self) -> tuple[Edge, ...]:
        return tuple((k, (k + 1) % self.modes) for k in range(self.modes))


@dataclass(frozen=True)
class Chain(Space):
    """Tensor trains, in any order of the modes."""

    @property
    def edges(self) -> tuple[Edge, ...]:
        return tuple((k, k + 1) for k in range(self.modes - 1))


@dataclass(frozen=True)
class Tucker(Space):
    """One core in the middle and a factor on each mode."""

    @property
    def edges(self) -> tuple[Edge, ...]:
        return tuple((k, self.modes) for k in range(self.modes))

    @property
    def orders(self) -> bool:
        return False


@dataclass(frozen=True)
class Tree(Space):
    """Networks on one tree; vertices from the number of modes on carry none.

    Args:
        branches: the edges of the tree; by default the modes are halved again and again (hierarchical Tucker).
    """

    branches: tuple[Edge, ...] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.branches is not None:
            object.__setattr__(self, "branches", tuple((int(a), int(b)) for a, b in self.branches))
            parent: dict[int, int] = {}

            def root(vertex: int) -> int:
                while vertex in parent:
                    vertex = parent[vertex]
                return vertex

            for a, b in self.branches:
                if root(a) == root(b):
                    raise StructureError(f"branches {self.branches} have a cycle at ({a}, {b}); a tree has none")
                parent[root(a)] = root(b)
            seen = {vertex for edge in self.branches for vertex in edge} | set(range(self.modes))
            if len({root(vertex) for vertex in seen}) > 1:
                raise StructureError(f"branches {self.branches} leave a mode unconnected; a tree joins them all")

    @property
    def edges(self) -> tuple[Edge, ...]:
        return self.branches if self.branches is not None else _halved(self.modes)

    def _inner(self, place: Mapping[int, int]) -> list[int]:
        # In a tree a vertex is known by how it parts the modes, so symmetries of the tree rename nothing.
        around: dict[int, list[int]] = {}
        for a, b in self.edges:
            around.setdefault(a, []).append(b)
            around.setdefault(b, []).append(a)

        def beyond(vertex: int, source: int) -> list[int]:
            found = [place[vertex]] if vertex in place else []
            return found + [mode for other in around[vertex] if other != source for mode in beyond(other, vertex)]

        parted = {v: sorted(sorted(beyond(other, v)) for other in around[v]) for v in around if v not in place}
        return sorted(parted, key=lambda vertex: (parted[vertex], vertex))


def _halved(modes: int) -> tuple[Edge, ...]:
    edges: list[Edge] = []
    inner = modes

    def top(first: int, last: int) -> int:
        nonlocal inner
        if last - first == 1:
            return first
        middle = (first + last) // 2
        left, right = top(first, middle), top(middle, last)
        if last - first == modes:  # the two halves are joined directly: a core with two bonds would say nothing
            edges.append((left, right))
            return left
        mine = inner
        inner += 1
        edges.extend([(left, mine), (right, mine)])
        return mine

    top(0, modes)
    return tuple(edges)


@dataclass(frozen=True)
class FullyConnected(Space):
    """An edge between every two modes, where its rank is above 1: all graphs on the modes."""

    @property
    def edges(self) -> tuple[Edge, ...]:
        return _pairs(self.modes)

    @property
    def orders(self) -> bool:
        return False

    @property
    def sparse(self) -> bool:
        return True


@cache
def _pairs(modes: int) -> tuple[Edge, ...]:
    # Asked for thousands of times by those who look at all that lies around a point.
    return tuple(combinations(range(modes), 2))


@dataclass(frozen=True)
class AnyGraph(FullyConnected):
    """All graphs on the modes in which no core has more than ``max_degree`` bonds."""

    max_degree: int = field(default=3, kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        if isinstance(self.max_degree, bool) or not isinstance(self.max_degree, int) or self.max_degree < 1:
            raise StructureError(f"max_degree must be a whole number of at least 1, not {self.max_degree!r}")

    def allows(self, point: Point) -> bool:
        if not super().allows(point):
            return False
        ends = [vertex for edge, rank in zip(self.edges, point.ranks, strict=True) if rank > 1 for vertex in edge]
        return max(map(ends.count, range(self.modes))) <= self.max_degree

    def mended(self, point: Point, generator: np.random.Generator) -> Point:
        """The same with as many of its edges as cores may have, one after the other at random."""
        degrees = [0] * self.modes
        ranks = [1] * len(self.edges)
        for edge in generator.permutation(len(self.edges)).tolist():
            a, b = self.edges[edge]
            if point.ranks[edge] > 1 and max(degrees[a], degrees[b]) < self.max_degree:
                ranks[edge] = point.ranks[edge]
                degrees[a] += 1
                degrees[b] += 1
        return replace(point, ranks=tuple(ranks))


def spaces() -> dict[str, type[Space]]:
    """The spaces by the names that people give them."""
    return {
        "ring": Ring,
        "chain": Chain,
        "tree": Tree,
        "tucker": Tucker,
        "fully_connected": FullyConnected,
        "any_graph": AnyGraph,
    }


def folded(shape: Sequence[int], longest: int = 16) -> tuple[tuple[int, ...], ...]:
    """Each axis as a product of modes no longer than ``longest``, as equal as its divisors allow, largest first.

    An axis without divisors that small stays as it is.
    """
    return tuple(_folded_axis(int(n), longest) for n in shape)


def _folded_axis(n: int, longest: int) -> tuple[int, ...]:
    if n <= longest:
        return (n,)
    pieces = math.ceil(math.log(n) / math.log(longest))
    while 2**pieces <= n:
        wanted = n ** (1 / pieces)
        divisors = [d for d in range(2, longest + 1) if n % d == 0]
        if not divisors:
            break
        first = min(divisors, key=lambda d: abs(math.log(d / wanted)))
        rest = _folded_axis(n // first, longest)
        if max(rest) <= longest:
            return tuple(sorted((first, *rest), reverse=True))
        pieces += 1
    return (n,)
