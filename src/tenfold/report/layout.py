"""Where the parts of a network are put on paper: chains, circles, stars, trees, and least stress for the rest."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from tenfold import formats
from tenfold.structure import Structure

Point = tuple[float, float]
Vertex = tuple[str, int | str]

# Cores in one line of a drawing; longer trains turn.
ROW = 11
_LEG = 0.62
# Room for the labels of lines that run in any direction.
_STRETCH = 1.3


@dataclass(frozen=True)
class Layout:
    """Positions, with a bond about 1 long and y upwards.

    Attributes:
        cores: one position for each term.
        dots: for each index that joins other than two ends, where its dot is.
        ports: for each output axis, where its legs end.
        brackets: output axes whose legs meet in a horizontal line at the height of their port.
    """

    cores: tuple[Point, ...]
    dots: dict[str, Point] = field(default_factory=dict)
    ports: tuple[Point, ...] = ()
    brackets: frozenset[int] = frozenset()


def arrange(structure: Structure) -> Layout:
    """The layout that shows best what a structure is."""
    family = formats.name(structure)
    order = path_of(structure)
    if order is not None and len(order) > 1:
        if all(len(group) == 1 for group in structure.outputs):
            return _chain(structure, order)
        if family in ("tensor_train_matrix", "kronecker", "phm") and len(order) <= ROW:
            return _two_sided(structure, order)
    if any(len(group) > 1 for group in structure.outputs):
        return _stress(structure)
    if family in ("tensor_ring", "fully_connected") and len(structure.terms) > 2:
        return _circle(structure, ring_of(structure) or tuple(range(len(structure.terms))))
    if family == "cp":
        return _star(structure, None, tuple(range(len(structure.terms))))
    if family == "tucker":
        inner = [n for n, term in enumerate(structure.terms) if not set(term.indices) & set(structure.output_indices)]
        leaves = tuple(n for n in range(len(structure.terms)) if n != inner[0])
        return _star(structure, inner[0], _by_output(structure, leaves))
    if family == "hierarchical_tucker":
        return _tree(structure)
    return _stress(structure)


def path_of(structure: Structure) -> tuple[int, ...] | None:
    """The terms from one end to the other if bonds join them into a path, else None."""
    neighbours = _neighbours(structure)
    if neighbours is None:
        return None
    ends = [n for n, near in enumerate(neighbours) if len(near) <= 1]
    if len(structure.terms) == 1:
        return (0,)
    if len(ends) != 2 or any(len(near) > 2 for near in neighbours):
        return None
    order = [min(ends)]
    while len(order) < len(neighbours):
        onward = [n for n in neighbours[order[-1]] if n not in order[-2:]]
        if not onward:
            return None
        order.append(onward[0])
    return tuple(order)


def ring_of(structure: Structure) -> tuple[int, ...] | None:
    """The terms in order around the ring if bonds join them into one."""
    neighbours = _neighbours(structure)
    if neighbours is None or len(neighbours) < 3 or any(len(near) != 2 for near in neighbours):
        return None
    order = [0]
    while len(order) < len(neighbours):
        onward = [n for n in neighbours[order[-1]] if n not in order]
        if not onward:
            return None
        order.append(onward[0])
    return tuple(order)


def _neighbours(structure: Structure) -> list[list[int]] | None:
    """For each term the terms that it shares a bond with; None where an index is more than a bond or a leg."""
    outputs = set(structure.output_indices)
    near: list[list[int]] = [[] for _ in structure.terms]
    for index in structure.sizes:
        places = structure.terms_with(index)
        if index in outputs:
            if len(places) > 1:
                return None
            continue
        if len(places) != 2:
            return None
        a, b = places
        if b not in near[a]:
            near[a].append(b)
            near[b].append(a)
    return [sorted(each) for each in near]


def _axis_of(structure: Structure) -> dict[str, int]:
    return {index: axis for axis, group in enumerate(structure.outputs) for index in group}


def _axes_on(structure: Structure, term: int) -> list[int]:
    axis = _axis_of(structure)
    return [axis[index] for index in structure.terms[term].indices if index in axis]


def _by_output(structure: Structure, terms: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(sorted(terms, key=lambda n: (min(_axes_on(structure, n), default=0), n)))


def _chain(structure: Structure, order: tuple[int, ...]) -> Layout:
    """A line from left to right that turns back where it gets long; legs point down, at the turns outwards."""
    cores: dict[int, Point] = {}
    legs: dict[int, Point] = {}
    rows = math.ceil(len(order) / (ROW + 1))
    width = ROW if rows > 1 else len(order)
    x, y, step, left = 0.0, 0.0, 1, width
    for term in order:
        if left == 0:
            # The core at the turn hangs between two rows.
            turn = x - step + step * 0.75
            cores[term], legs[term] = (turn, y - 0.85), (step * _LEG, 0.0)
            x, y, step, left = x - step, y - 1.7, -step, width
            continue
        cores[term], legs[term] = (x, y), (0.0, -_LEG)
        x, left = x + step, left - 1
    ports: list[Point] = [(0.0, 0.0)] * structure.order
    for term in order:
        axes = _axes_on(structure, term)
        for n, axis in enumerate(axes):
            dx, dy = legs[term]
            spread = (n - (len(axes) - 1) / 2) * 0.5
            at = cores[term]
            ports[axis] = (at[0] + dx + (spread if dy else 0), at[1] + dy + (0 if dy else spread))
    return Layout(tuple(cores[n] for n in range(len(order))), {}, _bare(structure, ports))


def _two_sided(structure: Structure, order: tuple[int, ...]) -> Layout:
    """A matrix train: the row group is a bracket above, the column group one below."""
    cores = {term: (float(place), 0.0) for place, term in enumerate(order)}
    middle = (len(order) - 1) / 2
    return Layout(tuple(cores[n] for n in range(len(order))), {}, ((middle, 0.9), (middle, -0.9)), frozenset((0, 1)))


def _circle(structure: Structure, order: tuple[int, ...]) -> Layout:
    n = len(order)
    radius = max(1.0, 0.5 / math.sin(math.pi / n))
    cores = {term: _around(radius, place, n) for place, term in enumerate(order)}
    return Layout(tuple(cores[k] for k in range(n)), {}, _outward(structure, cores))


def _star(structure: Structure, centre: int | None, leaves: tuple[int, ...]) -> Layout:
    """Leaves around a core, or around the dot of the one index that joins them all."""
    radius = max(1.2, 0.42 / math.sin(math.pi / max(len(leaves), 2)))
    cores = {term: _around(radius, place, len(leaves)) for place, term in enumerate(leaves)}
    dots: dict[str, Point] = {}
    if centre is None:
        (joint,) = structure.inner_indices
        if len(leaves) > 2:
            dots[joint] = (0.0, 0.0)
    else:
        cores[centre] = (0.0, 0.0)
    return Layout(tuple(cores[n] for n in range(len(cores))), dots, _outward(structure, cores))


def _around(radius: float, place: int, n: int) -> Point:
    # Two stand side by side; more start at the top and go clockwise.
    angle = math.pi * (1 - place) if n == 2 else math.pi / 2 - 2 * math.pi * place / n
    return radius * math.cos(angle), radius * math.sin(angle)


def _outward(structure: Structure, cores: dict[int, Point]) -> tuple[Point, ...]:
    ports: list[Point] = [(0.0, 0.0)] * structure.order
    for term, (x, y) in cores.items():
        far = math.hypot(x, y)
        direction = (x / far, y / far) if far > 1e-9 else (0.0, -1.0)
        for axis in _axes_on(structure, term):
            ports[axis] = (x + _LEG * direction[0], y + _LEG * direction[1])
    return _bare(structure, ports)


def _bare(structure: Structure, ports: list[Point]) -> tuple[Point, ...]:
    """Axes without an index (a group of none, of size 1) hang on nothing; they go to a corner."""
    lowest = min((y for _, y in ports), default=0.0)
    for axis, group in enumerate(structure.outputs):
        if not group:
            ports[axis] = (-1.0, lowest - 0.5)
    return tuple(ports)


def _tree(structure: Structure) -> Layout:
    """Root on top, leaves in one line at the bottom, each parent above the middle of its children."""
    neighbours = _neighbours(structure)
    assert neighbours is not None
    root = next(n for n, term in enumerate(structure.terms) if len(term.indices) == 2 and not _axes_on(structure, n))
    cores: dict[int, Point] = {}
    depth: dict[int, int] = {}
    free = 0.0

    def place(term: int, parent: int | None, level: int) -> float:
        nonlocal free
        depth[term] = level
        below = [place(n, term, level + 1) for n in neighbours[term] if n != parent]
        if below:
            x = sum(below) / len(below)
        else:
            x, free = free, free + 1.0
        cores[term] = (x, -float(level))
        return x

    place(root, None, 0)
    ports: list[Point] = [(0.0, 0.0)] * structure.order
    for term, (x, y) in cores.items():
        for axis in _axes_on(structure, term):
            ports[axis] = (x, y - _LEG)
    return Layout(tuple(cores[n] for n in range(len(cores))), {}, _bare(structure, ports))


def _stress(structure: Structure) -> Layout:
    """Distances on paper as close as can be to distances in the network, by majorisation of the stress.

    Paper: "Graph drawing by stress majorization", 2004.
    """
    from scipy.sparse.csgraph import shortest_path

    axis = _axis_of(structure)
    dotted = [i for i in structure.sizes if i in axis and len(structure.terms_with(i)) > 1]
    dotted += [i for i in structure.inner_indices if len(structure.terms_with(i)) > 2]
    vertices: list[Vertex] = [("core", n) for n in range(len(structure.terms))]
    vertices += [("dot", index) for index in dotted]
    vertices += [("port", n) for n in range(structure.order)]
    number = {vertex: n for n, vertex in enumerate(vertices)}
    length = np.full((len(vertices), len(vertices)), np.inf)

    def join(a: Vertex, b: Vertex, far: float) -> None:
        length[number[a], number[b]] = length[number[b], number[a]] = far

    for index in structure.sizes:
        ends: list[Vertex] = [("core", n) for n in structure.terms_with(index)]
        if index in dotted:
            for end in ends:
                join(("dot", index), end, 0.75)
            ends = [("dot", index)]
        if index in axis:
            join(ends[0], ("port", axis[index]), 0.7)
        elif len(ends) == 2:
            join(ends[0], ends[1], 1.0)
    distance = shortest_path(np.where(np.isfinite(length), length, 0), directed=False)
    place = np.zeros((len(vertices), 2))
    shift = 0.0
    for part in _parts(distance):
        spot = _majorise(distance[np.ix_(part, part)])
        spot = (spot - spot.min(axis=0)) * _STRETCH
        place[part] = spot + np.array([shift, 0.0])
        shift += float(spot[:, 0].max()) + 1.2
    points = [(float(x), float(y)) for x, y in place]
    return Layout(
        tuple(points[: len(structure.terms)]),
        {index: points[number["dot", index]] for index in dotted},
        tuple(points[len(points) - structure.order :]),
    )


def _parts(distance: np.ndarray) -> list[np.ndarray]:
    left = set(range(len(distance)))
    parts = []
    while left:
        part = np.flatnonzero(np.isfinite(distance[min(left)]))
        parts.append(part)
        left -= set(part.tolist())
    return parts


def _majorise(distance: np.ndarray, sweeps: int = 300) -> np.ndarray:
    n = len(distance)
    if n == 1:
        return np.zeros((1, 2))
    # Classical scaling as a start; a little fixed noise parts the vertices that it puts on one spot.
    centre = np.eye(n) - 1 / n
    values, vectors = np.linalg.eigh(-0.5 * centre @ distance**2 @ centre)
    place = vectors[:, [-1, -2]] * np.sqrt(np.clip(values[[-1, -2]], 0, None))
    place += np.random.default_rng(0).normal(scale=0.05, size=place.shape)
    weight = 1 / np.maximum(distance, 1e-9) ** 2
    np.fill_diagonal(weight, 0)
    laplacian = np.diag(weight.sum(1)) - weight
    inverse = np.linalg.pinv(laplacian)
    for _ in range(sweeps):
        gap = np.linalg.norm(place[:, None] - place[None], axis=2)
        with np.errstate(divide="ignore", invalid="ignore"):
            pull = np.where(gap > 1e-9, weight * distance / gap, 0)
        step = inverse @ ((np.diag(pull.sum(1)) - pull) @ place)
        if np.abs(step - place).max() < 1e-4:
            break
        place = step
    # Lay the longer side across the page.
    place = place - place.mean(0)
    _, _, axes = np.linalg.svd(place, full_matrices=False)
    turned = place @ axes.T
    # The sign of a singular vector is a matter of the machine; fix it.
    return turned * np.where(turned[np.abs(turned).argmax(0), [0, 1]] < 0, -1, 1)
