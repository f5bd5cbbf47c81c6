"""Where the parts of a network are put on paper: chains, circles, stars, trees, and least stress for the rest."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from tenfold import formats
from tenfold.structure import Structure

Point = tuple[float, float]
Vertex = tuple[str, int | str]

# Cores in one line of a drawing; longer trains turn, those with brackets over their legs a little later.
ROW, BRACKETED = 11, 24
_LEG = 0.62
# Room for the labels of lines that run in any direction.
_STRETCH = 1.3
# Room for two cores side by side, and for a letter between them.
_CIRCLES, _LETTER = 0.72, 0.083


@dataclass(frozen=True)
class Layout:
    """Positions, with a bond about 1 long and y upwards.

    Attributes:
        cores: one position for each term.
        dots: for each index that joins other than two ends, where its dot is.
        legs: for each output index, where the line that leaves the network with it ends.
        brackets: output axes whose legs all end at one height above (1) or below (-1) all cores.
    """

    cores: tuple[Point, ...]
    dots: dict[str, Point] = field(default_factory=dict)
    legs: dict[str, Point] = field(default_factory=dict)
    brackets: dict[int, int] = field(default_factory=dict)


def arrange(structure: Structure) -> Layout:
    """The layout that shows best what a structure is."""
    family = formats.name(structure)
    terms = tuple(range(len(structure.terms)))
    if any(len(group) > 1 for group in structure.outputs):
        order = path_of(structure, shared=True)
        if order is not None and len(order) <= BRACKETED:
            return _bracketed(structure, order)
    order = path_of(structure)
    if order is not None and len(order) > 1:
        return _chain(structure, order)
    ring = ring_of(structure)
    if ring is not None or (family == "fully_connected" and len(terms) > 2):
        return _circle(structure, ring or terms)
    if family == "cp" or (family == "kronecker" and len(terms) > 2):
        return _star(structure, None, terms)
    if family == "tucker":
        inner = [n for n, term in enumerate(structure.terms) if not set(term.indices) & set(structure.output_indices)]
        leaves = tuple(n for n in terms if n != inner[0])
        return _star(structure, inner[0], _by_output(structure, leaves))
    if family == "hierarchical_tucker":
        return _tree(structure)
    return _stress(structure)


def path_of(structure: Structure, *, shared: bool = False) -> tuple[int, ...] | None:
    """The terms from one end to the other if bonds join them into a path, else None.

    Args:
        structure: any.
        shared: whether an output index that two terms have in common joins them too.
    """
    neighbours = _neighbours(structure, shared=shared)
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


def _neighbours(structure: Structure, *, shared: bool = False) -> list[list[int]] | None:
    """For each term the terms that it shares a bond with; None where an index is more than a bond or a leg."""
    outputs = set(structure.output_indices)
    near: list[list[int]] = [[] for _ in structure.terms]
    for index in structure.sizes:
        places = structure.terms_with(index)
        if index in outputs:
            if len(places) == 1:
                continue
            if not shared:
                return None
        if len(places) != 2:
            return None
        a, b = places
        if b not in near[a]:
            near[a].append(b)
            near[b].append(a)
    return [sorted(each) for each in near]


def _axis_of(structure: Structure) -> dict[str, int]:
    return {index: axis for axis, group in enumerate(structure.outputs) for index in group}


def _legs_of(structure: Structure, term: int) -> list[str]:
    """The output indices of a term, in the order of the output."""
    return [index for index in structure.output_indices if index in structure.terms[term].indices]


def _by_output(structure: Structure, terms: tuple[int, ...]) -> tuple[int, ...]:
    first = {index: n for n, index in enumerate(structure.output_indices)}
    return tuple(sorted(terms, key=lambda n: (min((first[i] for i in _legs_of(structure, n)), default=0), n)))


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
    ends: dict[str, Point] = {}
    for term in order:
        (x, y), (dx, dy) = cores[term], legs[term]
        for index, aside in _spread(_legs_of(structure, term), 0.5):
            ends[index] = (x + dx + (aside if dy else 0), y + dy + (0 if dy else aside))
    return Layout(tuple(cores[n] for n in range(len(order))), {}, ends)


def _bracketed(structure: Structure, order: tuple[int, ...]) -> Layout:
    """One straight line of cores; the legs of a grouped axis all point up, those of the next one down, and so on."""
    axis = _axis_of(structure)
    grouped = [n for n, group in enumerate(structure.outputs) if len(group) > 1]
    brackets = {n: 1 - 2 * (k % 2) for k, n in enumerate(grouped)}
    dots = {index for index in structure.output_indices if len(structure.terms_with(index)) == 2}
    # What points up (1), down (-1) and out of the end of the line (0) at each core and, shared, after it.
    at: list[dict[int, list[str]]] = []
    after: list[dict[int, list[str]]] = []
    for place, term in enumerate(order):
        here: dict[int, list[str]] = {1: [], -1: [], 0: []}
        between: dict[int, list[str]] = {1: [], -1: []}
        own = _legs_of(structure, term)
        for index in sorted(own, key=lambda i: axis[i] not in brackets):
            side = brackets.get(axis[index])
            if index in dots:
                if order[place + 1 : place + 2] and order[place + 1] in structure.terms_with(index):
                    between[side or _emptier(between)].append(index)
            elif side is None and len(own) == 1 and len(order) > 1 and place in (0, len(order) - 1):
                here[0].append(index)
            else:
                here[side or _emptier(here)].append(index)
        at.append(here)
        after.append(between)
    cores: dict[int, Point] = {}
    ends: dict[str, Point] = {}
    joints: dict[str, Point] = {}
    x = 0.0
    for place, term in enumerate(order):
        if place:
            gap = max(1.0, _CIRCLES + max([_room(structure, i) for i in _bonds(structure, order, place)], default=0))
            for side in (1, -1):
                row = [*at[place - 1][side], *after[place - 1][side], *at[place][side]]
                widths = [_room(structure, index) for index in row]
                # Half of the labels of both cores and all of those between them stand side by side.
                gap = max(gap, (sum(widths) + sum(_room(structure, i) for i in after[place - 1][side])) / 2)
            for side in (1, -1):
                for index, aside in _spread(after[place - 1][side], 0.5):
                    joints[index] = (x + gap / 2 + aside, 0.32 * side)
                    ends[index] = (x + gap / 2 + aside, _LEG * side)
            x += gap
        cores[term] = (x, 0.0)
        for side in (1, -1):
            wide = max((_room(structure, index) for index in at[place][side]), default=0.0)
            for index, aside in _spread(at[place][side], wide):
                ends[index] = (x + aside, _LEG * side)
        for index in at[place][0]:
            ends[index] = (x + _LEG * (1 if place else -1), 0.0)
    return Layout(tuple(cores[n] for n in range(len(order))), joints, ends, brackets)


def _emptier(sides: dict[int, list[str]]) -> int:
    return 1 if len(sides[1]) < len(sides[-1]) else -1


def _bonds(structure: Structure, order: tuple[int, ...], place: int) -> list[str]:
    """The bonds of the core at a place with the one before it."""
    before, here = (set(structure.terms[order[k]].indices) for k in (place - 1, place))
    return sorted((before & here).difference(structure.output_indices))


def _room(structure: Structure, index: str) -> float:
    """How wide the label of an index is."""
    return _LETTER * (len(f"{index}={structure.sizes[index]:,}") + 1)


def _spread(items: list[str], apart: float) -> list[tuple[str, float]]:
    """Items side by side around 0."""
    return [(item, (n - (len(items) - 1) / 2) * apart) for n, item in enumerate(items)]


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


def _outward(structure: Structure, cores: dict[int, Point]) -> dict[str, Point]:
    """Legs away from the middle; those of one core part like fingers."""
    ends: dict[str, Point] = {}
    for term, (x, y) in cores.items():
        straight = math.atan2(y, x) if math.hypot(x, y) > 1e-9 else -math.pi / 2
        for index, aside in _spread(_legs_of(structure, term), 0.9):
            ends[index] = (x + _LEG * math.cos(straight + aside), y + _LEG * math.sin(straight + aside))
    return ends


def _tree(structure: Structure) -> Layout:
    """Root on top, leaves in one line at the bottom, each parent above the middle of its children."""
    neighbours = _neighbours(structure)
    assert neighbours is not None
    root = next(n for n, term in enumerate(structure.terms) if len(term.indices) == 2 and not _legs_of(structure, n))
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
    ends = {index: (x, y - _LEG) for term, (x, y) in cores.items() for index in _legs_of(structure, term)}
    return Layout(tuple(cores[n] for n in range(len(cores))), {}, ends)


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
    vertices += [("leg", index) for index in structure.output_indices]
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
            join(ends[0], ("leg", index), 0.7)
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
        {index: points[number["leg", index]] for index in structure.output_indices},
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
