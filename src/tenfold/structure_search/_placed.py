"""Which point of a space a structure is: the way back from `Space.structure`."""

from __future__ import annotations

from collections.abc import Iterator

from tenfold.structure import Structure
from tenfold.structure_search.spaces import Edge, Point, Space

# Vertices tried before it is taken that there is no point: rings, trains and trees are found after a few dozen.
_TRIES = 10_000


def point_of(space: Space, structure: Structure) -> Point | None:
    """A point of a space that makes this structure; None where none is found.

    Cost: that of laying a sparse graph over a template, which rarely has to be taken back.
    """
    if structure.outputs != space.outputs or any(len(core.terms) > 1 for core in structure.cores):
        return None
    mode = {index: number for number, index in enumerate(structure.output_indices)}
    carried = [[mode[index] for index in term.indices if index in mode] for term in structure.terms]
    if any(len(modes) > 1 for modes in carried):
        return None
    bonds: dict[Edge, int] = {}
    for index in structure.inner_indices:
        ends = structure.terms_with(index)
        if len(ends) != 2:
            return None
        a, b = ends
        bonds[a, b] = bonds.get((a, b), 1) * structure.sizes[index]
    for places in _laid(space, [modes[0] if modes else None for modes in carried], list(bonds)):
        at = {vertex: term for term, vertex in places.items()}
        order = tuple(carried[at[vertex]][0] for vertex in range(space.modes))
        ranks = []
        for a, b in space.edges:
            ends = (at.get(a, -1), at.get(b, -1))
            ranks.append(bonds.get(ends, bonds.get(ends[::-1], 1)))
        point = Point(tuple(ranks), order)
        if space.allows(point) and space.structure(point).key == structure.key:
            return point
    return None


def _laid(space: Space, modes: list[int | None], bonds: list[Edge]) -> Iterator[dict[int, int]]:
    """Ways to lay the terms (the mode of each, if it has one) on the vertices so that each bond lies on an edge."""
    joined: dict[int, set[int]] = {}
    for a, b in space.edges:
        joined.setdefault(a, set()).add(b)
        joined.setdefault(b, set()).add(a)
    vertices = max((max(edge) for edge in space.edges), default=0) + 1
    near: list[set[int]] = [set() for _ in modes]
    for a, b in bonds:
        near[a].add(b)
        near[b].add(a)
    # From the ends of each part inwards, the largest part first: what is left over fits into what is left free.
    order: list[int] = []
    for part in sorted(_parts(near), key=len, reverse=True):
        queue = [min(part, key=lambda term: (len(near[term]), term))]
        while queue:
            term = queue.pop(0)
            if term not in order:
                order.append(term)
                queue.extend(sorted(near[term] - set(order)))
    places: dict[int, int] = {}
    tries = 0

    def further(step: int) -> Iterator[dict[int, int]]:
        nonlocal tries
        if step == len(order):
            yield dict(places)
            return
        term = order[step]
        mode = modes[term]
        if mode is None:
            free = range(space.modes, vertices)
        else:
            free = range(space.modes) if space.orders else range(mode, mode + 1)
        taken = set(places.values())
        for vertex in free:
            around = [places[other] for other in near[term] if other in places]
            if vertex in taken or not joined.get(vertex, set()).issuperset(around):
                continue
            tries += 1
            if tries > _TRIES:
                return
            places[term] = vertex
            yield from further(step + 1)
            del places[term]

    return further(0)


def _parts(near: list[set[int]]) -> list[set[int]]:
    """The connected parts of a graph."""
    parts: list[set[int]] = []
    for first in range(len(near)):
        if any(first in part for part in parts):
            continue
        part, queue = {first}, [first]
        while queue:
            for other in near[queue.pop()] - part:
                part.add(other)
                queue.append(other)
        parts.append(part)
    return parts
