"""Transforms between signals and an octant of the sphere, as lists of small matrix products.

A harmonic is even or odd under each of the mirrors x, y and z. So values in one octant, kept apart by these eight
kinds, say everything; kind ``j`` times kind ``k`` is of kind ``j ^ k``. An eighth of the points is left, and in each
step of the transforms a part of the coefficients.
"""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from jaxtyping import Float64
from numpy.typing import NDArray

from tenfold.so3._wigner3j import real_3j
from tenfold.so3.products import _sphere_tables as tables

# Field, whether odd between north and south, order; and what each component gives it, ring by ring.
_Place = tuple[int, int, int]
_Map = dict[_Place, dict[int, Float64[np.ndarray, " ring"]]]


@dataclass(frozen=True)
class Octant:
    """Points of a grid that lie between three mirrors.

    Attributes:
        cosine, sine: of the polar angle of each ring.
        area: what a point weighs, with all points that it stands for.
        turn: the angles around the axis.
    """

    cosine: Float64[np.ndarray, " ring"]
    sine: Float64[np.ndarray, " ring"]
    area: Float64[np.ndarray, " ring"]
    turn: Float64[np.ndarray, " step"]

    @classmethod
    def exact(cls, total: int) -> Octant:
        """The fewest points that integrate polynomials of this degree exactly."""
        rings, steps = total // 2 + 1, total // 4 + 1  # a quarter of the circle, whose ends lie between points
        cosine, area = np.polynomial.legendre.leggauss(rings)
        north = cosine > -1e-12
        cosine, area = np.maximum(cosine[north], 0.0), area[north]
        area = np.where(cosine < 1e-12, 0.5, 1.0) * area * 8 * 2 * math.pi / (4 * steps)
        turn = (np.arange(steps) + 0.5) * (math.pi / (2 * steps))
        return cls(cosine, np.sqrt(1 - cosine**2), area, turn)


@dataclass(frozen=True)
class Way:
    """What takes one signal to the octant, or back.

    Attributes:
        components: of the signal.
        fields: how many functions it becomes.
        rows: how many orders, of all fields, a ring has.
        polar: the first of the works between components and rings, and how many.
        around: likewise between the orders of one ring and its points.
    """

    components: int
    fields: int
    rows: int
    polar: tuple[int, int]
    around: tuple[int, int]


@dataclass(frozen=True)
class Plan:
    """All works of a product of three signals.

    Attributes:
        works: five whole numbers each: see `tenfold.so3.products._sphere_steps.sums`.
        numbers: which rows they read and write.
        factors: of the rows they read.
        into: the ways of the three signals to the octant.
        back: their ways back.
        terms: ``out[c] += sign left[a] right[b]`` for fields ``a, b, c, sign``.
        rings, steps: of the octant.
    """

    works: NDArray[np.int64]
    numbers: NDArray[np.int32]
    factors: NDArray[Any]
    into: tuple[Way, ...]
    back: tuple[Way, ...]
    terms: tuple[tuple[int, int, int, int], ...]
    rings: int
    steps: int

    @property
    def operations(self) -> int:
        """Multiplications for one channel where two signals make the third."""
        ways = (self.into[0], self.into[1], self.back[2])
        sizes = self.works[:, 0] * self.works[:, 1]
        sums = sum(
            int(sizes[first : first + count].sum()) * times
            for way in ways
            for (first, count), times in ((way.polar, 1), (way.around, self.rings))
        )
        return sums + self.rings * self.steps * 32 * len(self.terms)


class _Works:
    def __init__(self, tile: int, itemsize: int) -> None:
        self._tile, self._itemsize = tile, itemsize
        self.works: list[tuple[int, int, int, int, int]] = []
        self.numbers: list[int] = []
        self.factors: list[NDArray[np.float64]] = []
        self._length = 0

    def add(self, matrix: Float64[np.ndarray, "to of"], of: list[int], to: list[int]) -> None:
        """``target[to] = matrix source[of]``, in tiles of about equal size."""
        begin = 4 * len(self.numbers)
        self.numbers += of
        for part in np.array_split(np.arange(len(to)), -(-len(to) // self._tile)):
            self.works.append((len(part), len(of), self._length * self._itemsize, begin, 4 * len(self.numbers)))
            self.numbers += [to[row] for row in part]
            self.factors.append(matrix[part].T.ravel())
            self._length += self.factors[-1].size


@lru_cache(maxsize=256)
def plan(
    kind: str,
    degrees: tuple[tuple[int, ...], ...],
    scale: tuple[float, ...],
    total: int,
    tile: int,
    dtype: str,
) -> Plan:
    """The works for signals of these degrees, components out scaled by degree.

    Args:
        kind: how functions are multiplied: ``"multiply"``, ``"bracket"`` or ``"cross"``.
        total: the degree of the polynomial that is integrated.
        tile: how many rows a work makes at most.
    """
    octant, works = Octant.exact(total), _Works(tile, np.dtype(dtype).itemsize)
    scales = [(1.0,) * len(degrees[0]), (1.0,) * len(degrees[1]), scale]
    into, back = [], []
    for some, factors in zip(degrees, scales, strict=True):
        components = [(n, m, factor) for n, factor in zip(some, factors, strict=True) for m in range(-n, n + 1)]
        values = _FIELDS[kind](components, octant)
        into.append(_into(works, octant, values, len(components)))
        back.append(_back(works, octant, _area(kind, values, components, octant), components))
    return Plan(
        np.array(works.works, np.int64).reshape(-1, 5),
        np.array(works.numbers, np.int32),
        np.concatenate([np.zeros(0), *works.factors]).astype(dtype),
        tuple(into),
        tuple(back),
        TERMS[kind],
        len(octant.cosine),
        len(octant.turn),
    )


# Even permutations of three axes, then odd ones.
TERMS = {
    "multiply": ((0, 0, 0, 1),),
    "bracket": ((0, 1, 0, 1), (1, 0, 0, -1)),
    "cross": ((0, 1, 2, 1), (1, 2, 0, 1), (2, 0, 1, 1), (1, 0, 2, -1), (2, 1, 0, -1), (0, 2, 1, -1)),
}
_Components = list[tuple[int, int, float]]


def _values(components: _Components, octant: Octant) -> _Map:
    polar = tables.legendre(max(n for n, _, _ in components), octant.cosine, octant.sine)
    found: _Map = defaultdict(dict)
    for row, (n, m, factor) in enumerate(components):
        found[0, (n + m) % 2, m][row] = factor * polar[n, abs(m)]
    return found


def _gradient(components: _Components, octant: Octant) -> _Map:
    """The slope by the polar angle, and that by the angle around the axis."""
    largest = max(n for n, _, _ in components)
    polar, slope = (table(largest, octant.cosine, octant.sine) for table in (tables.legendre, tables.slopes))
    found: _Map = defaultdict(dict)
    for row, (n, m, factor) in enumerate(components):
        found[0, (n + m + 1) % 2, m][row] = factor * slope[n, abs(m)]
        if m:
            found[1, (n + m) % 2, -m][row] = -m * factor * polar[n, abs(m)]
    return found


def _vectors(components: _Components, octant: Octant) -> _Map:
    """The three components of the field that carries degree ``j``: harmonics of degree ``j - 1``."""
    polar = tables.legendre(max(n for n, _, _ in components), octant.cosine, octant.sine)
    found: _Map = defaultdict(dict)
    for row, (j, k, factor) in enumerate(components):
        if j == 0:
            continue
        couple = math.sqrt(2 * j + 1) * real_3j(1, j - 1, j)[:, :, k + j]
        for axis, at in zip(*np.nonzero(np.abs(couple) > 1e-14), strict=True):
            m = int(at) - (j - 1)
            found[int(axis), (j - 1 + m) % 2, m][row] = factor * couple[axis, at] * polar[j - 1, abs(m)]
    return found


_FIELDS = {"multiply": _values, "bracket": _gradient, "cross": _vectors}


def _area(kind: str, into: _Map, components: _Components, octant: Octant) -> _Map:
    """What is integrated against, areas included; half of it, for north and south are added up."""
    area = octant.area / 2
    if kind == "bracket":
        into, area = _values(components, octant), area / octant.sine
    return {place: {row: values * area for row, values in rows.items()} for place, rows in into.items()}


def _mirrors(place: _Place) -> tuple[int, int]:
    """The field, and which of the eight kinds."""
    field, odd, m = place
    return field, 4 * odd + 2 * (m < 0) + (abs(m) + (m < 0)) % 2


def _ordered(places: _Map) -> list[_Place]:
    return sorted(places, key=lambda place: (*_mirrors(place), abs(place[2])))


def _by_kind(places: list[_Place]) -> dict[tuple[int, int], list[int]]:
    found: dict[tuple[int, int], list[int]] = defaultdict(list)
    for row, place in enumerate(places):
        found[_mirrors(place)].append(row)
    return found


def _fields(places: list[_Place]) -> int:
    return 1 + max((field for field, _, _ in places), default=0)


def _waves(places: list[_Place], rows: list[int], octant: Octant) -> Float64[np.ndarray, "order step"]:
    largest = max(abs(m) for _, _, m in places)
    return tables.waves(largest, octant.turn)[[places[row][2] + largest for row in rows]]


def _into(works: _Works, octant: Octant, values: _Map, components: int) -> Way:
    places, rings, steps = _ordered(values), len(octant.cosine), len(octant.turn)
    begin = len(works.works)
    for row, place in enumerate(places):
        matrix = np.stack(list(values[place].values()), axis=1)
        works.add(matrix, list(values[place]), [ring * len(places) + row for ring in range(rings)])
    middle = len(works.works)
    for (field, kind), rows in _by_kind(places).items():
        points = [(8 * field + kind) * steps + step for step in range(steps)]
        works.add(_waves(places, rows, octant).T, rows, points)
    polar, around = (begin, middle - begin), (middle, len(works.works) - middle)
    return Way(components, _fields(places), len(places), polar, around)


def _back(works: _Works, octant: Octant, values: _Map, components: _Components) -> Way:
    places, rings, steps = _ordered(values), len(octant.cosine), len(octant.turn)
    begin = len(works.works)
    # Components that are integrated against the same orders of the same fields.
    groups: dict[tuple[int, int], list[int]] = defaultdict(list)
    for component, (n, m, _) in enumerate(components):
        groups[n % 2, m].append(component)
    for group in groups.values():
        read = [row for row, place in enumerate(places) if any(one in values[place] for one in group)]
        nothing = np.zeros(rings)
        # What has no path is zero, and written as such.
        matrix = np.zeros((len(group), 1))
        of = [0]
        if read:
            matrix = np.stack([np.concatenate([values[places[p]].get(one, nothing) for p in read]) for one in group])
            of = [ring * len(places) + p for p in read for ring in range(rings)]
        works.add(matrix, of, group)
    middle = len(works.works)
    for (field, kind), rows in _by_kind(places).items():
        points = [(8 * field + kind) * steps + step for step in range(steps)]
        works.add(_waves(places, rows, octant), points, rows)
    polar, around = (begin, middle - begin), (middle, len(works.works) - middle)
    return Way(len(components), _fields(places), len(places), polar, around)
