"""The product of two functions on the sphere in one pass, by separable transforms folded along three mirrors.

A harmonic is even or odd under each of the mirrors x, y and z. So values in one octant, kept apart by these eight
kinds, say everything; kind ``j`` times kind ``k`` is of kind ``j ^ k``. An eighth of the points is left, and in each
step of the transforms a part of the coefficients.

Columns are channels, of several rows side by side: loops over them are what the compiler makes vectors of. Scratch
arrays are flat, and distances in them constants, because only then it sees that stores and loads do not meet.
"""

from __future__ import annotations

import math
from functools import cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tenfold.so3._compiled import compiled
from tenfold.so3._shares import shared
from tenfold.so3.products import _sphere_tables as tables

# So many columns, and so many rings or steps, at a time.
COLUMNS = 192
TILE = 4
_FAR = TILE * COLUMNS


class Folded(NamedTuple):
    """What takes a signal to an octant, and back.

    Components are ordered by parity ``(l + m) % 2``, then order, then degree; orders by kind, then size.

    Attributes:
        row: of each component, in that order.
        begin: the first row of each parity and order.
        degrees: how many there are of it.
        legendre: for each order's size and parity: degree of ring.
        legendre_back: the same transposed, with areas.
        place: of each order among all.
        first: the place of the first order of each of the four kinds (mirrors x and z).
        number: how many orders, for each parity and kind.
        wave: for each kind: step by order.
        wave_back: the same transposed.
    """

    row: NDArray[np.int64]
    begin: NDArray[np.int64]
    degrees: NDArray[np.int64]
    legendre: NDArray[Any]
    legendre_back: NDArray[Any]
    place: NDArray[np.int64]
    first: NDArray[np.int64]
    number: NDArray[np.int64]
    wave: NDArray[Any]
    wave_back: NDArray[Any]


@cache
def folded(degree: int, total: int, dtype: str) -> Folded:
    """The tables of a signal, on an octant that integrates polynomials of degree ``total`` exactly."""
    rings, steps = total // 2 + 1, total // 4 + 1  # a quarter of the circle, whose ends lie between points
    cosine, area = np.polynomial.legendre.leggauss(rings)
    north = cosine > -1e-12
    cosine, area = np.maximum(cosine[north], 0.0), area[north]
    area = np.where(cosine < 1e-12, 0.5, 1.0) * area * 8 * 2 * math.pi / (4 * steps)
    turn = (np.arange(steps) + 0.5) * (math.pi / (2 * steps))
    orders = range(-degree, degree + 1)
    kind = {m: 2 * (m < 0) + (abs(m) + (m < 0)) % 2 for m in orders}
    sorted_orders = sorted(orders, key=lambda m: (kind[m], abs(m)))
    place = np.array([sorted_orders.index(m) for m in orders])
    first = np.array([sum(k < q for k in kind.values()) for q in range(4)])
    number = np.array([[sum(kind[m] == q and abs(m) + e <= degree for m in orders) for q in range(4)] for e in (0, 1)])
    count = np.array([[max(0, (degree - abs(m) - e) // 2 + 1) for m in orders] for e in (0, 1)])
    begin = (np.cumsum(count) - count.ravel()).reshape(count.shape)
    components = tables.components(degree)
    row = np.array([begin[(n - abs(m)) % 2, m + degree] + (n - abs(m)) // 2 for n, m in components])
    polar = tables.legendre(degree, cosine, np.sqrt(1 - cosine**2))
    legendre = np.zeros((degree + 1, 2, len(cosine), degree // 2 + 1))
    for m in range(degree + 1):
        for e in (0, 1):
            chosen = polar[m + e :: 2, m].T
            legendre[m, e, :, : chosen.shape[1]] = chosen
    around = tables.waves(degree, turn)
    wave = np.zeros((4, steps, degree // 2 + 1))
    for m in orders:
        wave[kind[m], :, place[m + degree] - first[kind[m]]] = around[m + degree]
    back = np.ascontiguousarray(np.swapaxes(legendre * area[:, None], 2, 3))
    wave_back = np.ascontiguousarray(np.swapaxes(wave, 1, 2))
    legendre, back, wave, wave_back = (table.astype(dtype) for table in (legendre, back, wave, wave_back))
    return Folded(row, begin, count, legendre, back, place, first, number, wave, wave_back)


def multiply(left: NDArray[Any], right: NDArray[Any], out: NDArray[Any], degrees: tuple[int, int, int]) -> None:
    """The product of two signals ``[row, component, channel]``, written to a third; columns shared between threads."""
    one, two, three = (folded(degree, sum(degrees), left.dtype.name) for degree in degrees)
    columns = left.shape[0] * left.shape[2]

    def run(begin: int, end: int) -> None:
        _multiply(left, right, out, one, two, three, begin * COLUMNS, min(end * COLUMNS, columns))

    shared(-(-columns // COLUMNS), run)


def _adder(apart: int, away: int) -> Any:
    """``target[r] += sum_s factor[r, s] source[s]``, rows lying ``apart`` in the source and ``away`` in the target.

    In tiles of four by four rows, which are in registers and the first cache when they are needed again. Places are
    unsigned: of others the compiler would have to ask whether they count from the end.
    """
    columns, four = np.uint64(COLUMNS), np.uint64(4)
    near, near2, near3 = np.uint64(apart), np.uint64(2 * apart), np.uint64(3 * apart)
    far, far2, far3 = np.uint64(away), np.uint64(2 * away), np.uint64(3 * away)
    four_near, four_far = four * near, four * far

    @compiled
    def add(
        factor: Any, at: int, ahead: int, rows: int, cols: int, source: Any, first: int, target: Any, begin: int
    ) -> None:
        y = np.uint64(begin)
        r = 0
        while r + 4 <= rows:
            x = np.uint64(first)
            s = 0
            while s < cols:
                i = at + r * ahead + s
                j = i + ahead
                k = j + ahead
                o = k + ahead
                if s + 4 <= cols:
                    i0, i1, i2, i3 = factor[i], factor[i + 1], factor[i + 2], factor[i + 3]
                    j0, j1, j2, j3 = factor[j], factor[j + 1], factor[j + 2], factor[j + 3]
                    k0, k1, k2, k3 = factor[k], factor[k + 1], factor[k + 2], factor[k + 3]
                    o0, o1, o2, o3 = factor[o], factor[o + 1], factor[o + 2], factor[o + 3]
                    for n in range(columns):
                        a, b, c, d = source[x + n], source[x + near + n], source[x + near2 + n], source[x + near3 + n]
                        target[y + n] += i0 * a + i1 * b + i2 * c + i3 * d
                        target[y + far + n] += j0 * a + j1 * b + j2 * c + j3 * d
                        target[y + far2 + n] += k0 * a + k1 * b + k2 * c + k3 * d
                        target[y + far3 + n] += o0 * a + o1 * b + o2 * c + o3 * d
                    s += 4
                    x += four_near
                elif s + 2 <= cols:
                    i0, i1, j0, j1 = factor[i], factor[i + 1], factor[j], factor[j + 1]
                    k0, k1, o0, o1 = factor[k], factor[k + 1], factor[o], factor[o + 1]
                    for n in range(columns):
                        a, b = source[x + n], source[x + near + n]
                        target[y + n] += i0 * a + i1 * b
                        target[y + far + n] += j0 * a + j1 * b
                        target[y + far2 + n] += k0 * a + k1 * b
                        target[y + far3 + n] += o0 * a + o1 * b
                    s += 2
                    x += near2
                else:
                    i0, j0, k0, o0 = factor[i], factor[j], factor[k], factor[o]
                    for n in range(columns):
                        a = source[x + n]
                        target[y + n] += i0 * a
                        target[y + far + n] += j0 * a
                        target[y + far2 + n] += k0 * a
                        target[y + far3 + n] += o0 * a
                    s += 1
                    x += near
            r += 4
            y += four_far
        while r < rows:
            x = np.uint64(first)
            s = 0
            while s < cols:
                i = at + r * ahead + s
                if s + 4 <= cols:
                    i0, i1, i2, i3 = factor[i], factor[i + 1], factor[i + 2], factor[i + 3]
                    for n in range(columns):
                        a, b, c, d = source[x + n], source[x + near + n], source[x + near2 + n], source[x + near3 + n]
                        target[y + n] += i0 * a + i1 * b + i2 * c + i3 * d
                    s += 4
                    x += four_near
                else:
                    i0 = factor[i]
                    for n in range(columns):
                        target[y + n] += i0 * source[x + n]
                    s += 1
                    x += near
            r += 1
            y += far

    return add


_add_near = _adder(COLUMNS, COLUMNS)
_add_from_far = _adder(_FAR, COLUMNS)
_add_to_far = _adder(COLUMNS, _FAR)


@compiled
def _gather(features: Any, begin: int, end: int, row: Any, rows: Any) -> None:
    """Columns ``begin`` to ``end`` of all components, each in its row."""
    channels = features.shape[2]
    for i in range(features.shape[1]):
        at, column = row[i] * COLUMNS, begin
        while column < end:
            item, channel = column // channels, column % channels
            width = min(channels - channel, end - column)
            source = features[item, i, channel : channel + width]
            target = rows[at : at + width]
            for c in range(width):
                target[c] = source[c]
            at += width
            column += width


@compiled
def _scatter(rows: Any, row: Any, begin: int, end: int, features: Any) -> None:
    """The inverse of `_gather`."""
    channels = features.shape[2]
    for i in range(features.shape[1]):
        at, column = row[i] * COLUMNS, begin
        while column < end:
            item, channel = column // channels, column % channels
            width = min(channels - channel, end - column)
            target = features[item, i, channel : channel + width]
            source = rows[at : at + width]
            for c in range(width):
                target[c] = source[c]
            at += width
            column += width


@compiled
def _to_rings(rows: Any, table: Any, ring: int, number: int, rings: Any) -> None:
    """Sums over degrees: ``rings[parity, place, ring of the tile]``."""
    places = len(table.place)
    degree, depth = places // 2, table.legendre.shape[3]
    factor, every = table.legendre.reshape(-1), table.legendre.shape[2]
    rings[:] = 0
    for parity in range(2):
        for order in range(places):
            _add_near(
                factor,
                ((2 * abs(order - degree) + parity) * every + ring) * depth,
                depth,
                number,
                table.degrees[parity, order],
                rows,
                table.begin[parity, order] * COLUMNS,
                rings,
                (parity * places + table.place[order]) * _FAR,
            )


@compiled
def _from_rings(rings: Any, table: Any, ring: int, number: int, rows: Any) -> None:
    """Sums over the rings of the tile, added to rows of degrees."""
    places = len(table.place)
    degree, every = places // 2, table.legendre_back.shape[3]
    factor, depth = table.legendre_back.reshape(-1), table.legendre_back.shape[2]
    for parity in range(2):
        for order in range(places):
            _add_near(
                factor,
                (2 * abs(order - degree) + parity) * depth * every + ring,
                every,
                table.degrees[parity, order],
                number,
                rings,
                (parity * places + table.place[order]) * _FAR,
                rows,
                table.begin[parity, order] * COLUMNS,
            )


@compiled
def _to_points(rings: Any, table: Any, ring: int, step: int, number: int, points: Any) -> None:
    """Sums over orders for one ring of the tile: ``points[kind, step of the tile]``."""
    places, steps, depth = len(table.place), table.wave.shape[1], table.wave.shape[2]
    factor = table.wave.reshape(-1)
    points[:] = 0
    for parity in range(2):
        for kind in range(4):
            _add_from_far(
                factor,
                (kind * steps + step) * depth,
                depth,
                number,
                table.number[parity, kind],
                rings,
                ((parity * places + table.first[kind]) * TILE + ring) * COLUMNS,
                points,
                (4 * parity + kind) * _FAR,
            )


@compiled
def _from_points(points: Any, table: Any, ring: int, step: int, number: int, rings: Any) -> None:
    """Sums over the steps of the tile, added to the orders of one ring."""
    places, steps, depth = len(table.place), table.wave.shape[1], table.wave.shape[2]
    factor = table.wave_back.reshape(-1)
    for parity in range(2):
        for kind in range(4):
            _add_to_far(
                factor,
                kind * depth * steps + step,
                steps,
                table.number[parity, kind],
                number,
                points,
                (4 * parity + kind) * _FAR,
                rings,
                ((parity * places + table.first[kind]) * TILE + ring) * COLUMNS,
            )


@compiled
def _kinds(left: Any, right: Any, out: Any, columns: int) -> None:
    """Eight kinds times eight kinds at each point."""
    for n in range(columns):
        a0, a1, a2, a3 = left[n], left[n + _FAR], left[n + 2 * _FAR], left[n + 3 * _FAR]
        a4, a5, a6, a7 = left[n + 4 * _FAR], left[n + 5 * _FAR], left[n + 6 * _FAR], left[n + 7 * _FAR]
        b0, b1, b2, b3 = right[n], right[n + _FAR], right[n + 2 * _FAR], right[n + 3 * _FAR]
        b4, b5, b6, b7 = right[n + 4 * _FAR], right[n + 5 * _FAR], right[n + 6 * _FAR], right[n + 7 * _FAR]
        out[n] = a0 * b0 + a1 * b1 + a2 * b2 + a3 * b3 + a4 * b4 + a5 * b5 + a6 * b6 + a7 * b7
        out[n + _FAR] = a0 * b1 + a1 * b0 + a2 * b3 + a3 * b2 + a4 * b5 + a5 * b4 + a6 * b7 + a7 * b6
        out[n + 2 * _FAR] = a0 * b2 + a2 * b0 + a1 * b3 + a3 * b1 + a4 * b6 + a6 * b4 + a5 * b7 + a7 * b5
        out[n + 3 * _FAR] = a0 * b3 + a3 * b0 + a1 * b2 + a2 * b1 + a4 * b7 + a7 * b4 + a5 * b6 + a6 * b5
        out[n + 4 * _FAR] = a0 * b4 + a4 * b0 + a1 * b5 + a5 * b1 + a2 * b6 + a6 * b2 + a3 * b7 + a7 * b3
        out[n + 5 * _FAR] = a0 * b5 + a5 * b0 + a1 * b4 + a4 * b1 + a2 * b7 + a7 * b2 + a3 * b6 + a6 * b3
        out[n + 6 * _FAR] = a0 * b6 + a6 * b0 + a1 * b7 + a7 * b1 + a2 * b4 + a4 * b2 + a3 * b5 + a5 * b3
        out[n + 7 * _FAR] = a0 * b7 + a7 * b0 + a1 * b6 + a6 * b1 + a2 * b5 + a5 * b2 + a3 * b4 + a4 * b3


@compiled
def _multiply(left: Any, right: Any, out: Any, one: Any, two: Any, three: Any, begin: int, end: int) -> None:
    rings, steps = one.legendre.shape[2], one.wave.shape[1]
    dtype = left.dtype
    x, y = np.zeros(left.shape[1] * COLUMNS, dtype), np.zeros(right.shape[1] * COLUMNS, dtype)
    z = np.empty(out.shape[1] * COLUMNS, dtype)
    first = np.empty(2 * len(one.place) * _FAR, dtype)
    second = np.empty(2 * len(two.place) * _FAR, dtype)
    third = np.empty(2 * len(three.place) * _FAR, dtype)
    a, b, c = np.empty(8 * _FAR, dtype), np.empty(8 * _FAR, dtype), np.empty(8 * _FAR, dtype)
    for column in range(begin, end, COLUMNS):
        last = min(column + COLUMNS, end)
        _gather(left, column, last, one.row, x)
        _gather(right, column, last, two.row, y)
        z[:] = 0
        for ring in range(0, rings, TILE):
            number = min(TILE, rings - ring)
            _to_rings(x, one, ring, number, first)
            _to_rings(y, two, ring, number, second)
            third[:] = 0
            for r in range(number):
                for step in range(0, steps, TILE):
                    here = min(TILE, steps - step)
                    _to_points(first, one, r, step, here, a)
                    _to_points(second, two, r, step, here, b)
                    _kinds(a, b, c, here * COLUMNS)
                    _from_points(c, three, r, step, here, third)
            _from_rings(third, three, ring, number, z)
        _scatter(z, three.row, column, last, out)
