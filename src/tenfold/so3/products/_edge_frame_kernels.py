"""Compiled loops that turn features into the frame of an edge and back, channels last."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from tenfold.so3._compiled import compiled


class Side(NamedTuple):
    """How features lie in memory, degree by degree.

    Attributes:
        degrees: which degrees there are.
        full: where each begins among the components in space.
        cut: where each begins among those kept in the frame.
        orders: how far from zero orders are kept in each.
        pairs: components of the frame that infinitesimal turns mix: rows ``i, j, axis``, axis 0 for x, 1 for z.
        mixes: by how much.
    """

    degrees: np.ndarray
    full: np.ndarray
    cut: np.ndarray
    orders: np.ndarray
    pairs: np.ndarray
    mixes: np.ndarray


class Turns(NamedTuple):
    """Rotations around x as sums of cosines and sines of multiples of their angle.

    Attributes:
        waves: row k has what goes with the cosine of k times the angle, then come the sines, from 1 on.
        begins: the first entry of a row that is not zero.
        places: where the entries of each degree begin: first those of cosines of the angle around y, then of sines.
    """

    waves: np.ndarray
    begins: np.ndarray
    places: np.ndarray


@compiled
def grouped(index: Any, rows: int) -> Any:
    """Edges ordered by the node they belong to, and where each node's begin; order within a node stays."""
    starts = np.zeros(rows + 1, dtype=np.int64)
    for e in range(len(index)):
        starts[index[e] + 1] += 1
    for row in range(rows):
        starts[row + 1] += starts[row]
    order = np.empty(len(index), dtype=np.int64)
    following = starts[:rows].copy()
    for e in range(len(index)):
        row = index[e]
        order[following[row]] = e
        following[row] += 1
    return order, starts


@compiled
def frame(x: float, y: float, z: float, turns: Turns, around: Any, tilt: Any, blocks: Any) -> float:
    """The turn that takes the polar axis to a direction: around y by alpha, after around x by beta.

    ``around`` gets cosines and sines of multiples of alpha, ``tilt`` those of beta, ``blocks`` the rotations around x.
    Returns the length of the vector. At the poles, where alpha is free, and for no vector at all, alpha is zero.
    """
    scale = max(abs(x), abs(y), abs(z))
    if scale == 0:
        length, cosine, sine, up, side = 0.0, 1.0, 0.0, 1.0, 0.0
    else:
        x, y, z = x / scale, y / scale, z / scale
        flat = math.sqrt(x * x + z * z)
        length = math.sqrt(flat * flat + y * y)
        up, side = y / length, flat / length
        length *= scale
        cosine, sine = (z / flat, x / flat) if flat != 0 else (1.0, 0.0)
    largest = around.shape[1] - 1
    c, s, u, t = 1.0, 0.0, 1.0, 0.0
    for m in range(largest + 1):
        around[0, m], around[1, m] = c, s
        tilt[m] = u
        if m:
            tilt[largest + m] = t
        c, s = c * cosine - s * sine, s * cosine + c * sine
        u, t = u * up - t * side, t * up + u * side
    # Slices begin at zero, which the compiler has to know to make vectors of a loop.
    blocks[:] = turns.waves[0]
    for k in range(1, 2 * largest + 1):
        wave, part, factor = turns.waves[k, turns.begins[k] :], blocks[turns.begins[k] :], tilt[k]
        for i in range(len(part)):
            part[i] += factor * wave[i]
    return length


@compiled
def combine(
    out: Any, row: int, given: Any, first: int, step: int, count: int, factors: Any, at: int, stride: int
) -> None:
    """``out[row] = sum(factors[at + i stride] given[first + i step])``: four rows in one pass."""
    channels = out.shape[1]
    done = (count - 1) % 4 + 1
    # Two indices and no views: each view would be counted by threads.
    p, f = first, factors[at]
    if done == 1:
        for c in range(channels):
            out[row, c] = f * given[p, c]
    elif done == 2:
        q, g = first + step, factors[at + stride]
        for c in range(channels):
            out[row, c] = f * given[p, c] + g * given[q, c]
    else:
        q, g = first + step, factors[at + stride]
        r, h = first + 2 * step, factors[at + 2 * stride]
        if done == 3:
            for c in range(channels):
                out[row, c] = f * given[p, c] + g * given[q, c] + h * given[r, c]
        else:
            s, k = first + 3 * step, factors[at + 3 * stride]
            for c in range(channels):
                out[row, c] = f * given[p, c] + g * given[q, c] + h * given[r, c] + k * given[s, c]
    while done < count:
        p, f = first + done * step, factors[at + done * stride]
        q, g = first + (done + 1) * step, factors[at + (done + 1) * stride]
        r, h = first + (done + 2) * step, factors[at + (done + 2) * stride]
        s, k = first + (done + 3) * step, factors[at + (done + 3) * stride]
        for c in range(channels):
            out[row, c] += f * given[p, c] + g * given[q, c] + h * given[r, c] + k * given[s, c]
        done += 4


@compiled
def into(given: Any, out: Any, side: Side, turns: Turns, around: Any, blocks: Any, room: Any) -> None:
    """One feature as it is seen from the frame: around y first, into ``room``, then around x."""
    channels = given.shape[1]
    for d in range(len(side.degrees)):
        degree, orders = side.degrees[d], side.orders[d]
        full, cut = side.full[d] + degree, side.cut[d] + orders
        if degree == 0:
            for c in range(channels):
                out[cut, c] = given[full, c]
            continue
        for c in range(channels):
            room[degree, c] = given[full, c]
        for m in range(1, degree + 1):
            cosine, sine = around[0, m], around[1, m]
            up, down, right, left = full + m, full - m, degree + m, degree - m
            for c in range(channels):
                plus, minus = given[up, c], given[down, c]
                room[right, c] = cosine * plus + sine * minus
                room[left, c] = cosine * minus - sine * plus
        place = turns.places[degree]
        for m in range(orders + 1):
            combine(out, cut + m, room, degree, 1, degree + 1, blocks, place + m * (degree + 1), 1)
        place += (orders + 1) * (degree + 1)
        for m in range(orders):
            combine(out, cut - m - 1, room, degree - 1, -1, degree, blocks, place + m * degree, 1)


@compiled
def back(given: Any, out: Any, side: Side, turns: Turns, around: Any, blocks: Any, room: Any) -> None:
    """One feature from the frame back to space, added to what is there."""
    channels = given.shape[1]
    for d in range(len(side.degrees)):
        degree, orders = side.degrees[d], side.orders[d]
        full, cut = side.full[d] + degree, side.cut[d] + orders
        if degree == 0:
            for c in range(channels):
                out[full, c] += given[cut, c]
            continue
        place = turns.places[degree]
        for m in range(degree + 1):
            combine(room, degree + m, given, cut, 1, orders + 1, blocks, place + m, degree + 1)
        place += (orders + 1) * (degree + 1)
        for m in range(degree):
            if orders:
                combine(room, degree - m - 1, given, cut - 1, -1, orders, blocks, place + m, degree)
            else:
                room[degree - m - 1] = 0
        for c in range(channels):
            out[full, c] += room[degree, c]
        for m in range(1, degree + 1):
            cosine, sine = around[0, m], around[1, m]
            up, down, right, left = full + m, full - m, degree + m, degree - m
            for c in range(channels):
                plus, minus = room[right, c], room[left, c]
                out[up, c] += cosine * plus - sine * minus
                out[down, c] += cosine * minus + sine * plus


@compiled
def into_frames(
    first: int, last: int, given: Any, vectors: Any, source: Any, out: Any, side: Side, turns: Turns
) -> None:
    """Features of edges ``first`` to ``last``, each gathered from its node, as their frames see them."""
    largest = len(turns.places) - 2
    around, tilt = np.empty((2, largest + 1), given.dtype), np.empty(2 * largest + 1, given.dtype)
    blocks = np.empty(turns.waves.shape[1], given.dtype)
    room = np.empty((2 * largest + 1, given.shape[2]), given.dtype)
    for e in range(first, last):
        frame(float(vectors[e, 0]), float(vectors[e, 1]), float(vectors[e, 2]), turns, around, tilt, blocks)
        into(given[source[e]], out[e], side, turns, around, blocks, room)


@compiled
def from_frames(
    first: int, last: int, given: Any, vectors: Any, order: Any, starts: Any, out: Any, side: Side, turns: Turns
) -> None:
    """Nodes ``first`` to ``last``: what their edges hold in their frames, turned back and added up."""
    largest = len(turns.places) - 2
    around, tilt = np.empty((2, largest + 1), given.dtype), np.empty(2 * largest + 1, given.dtype)
    blocks = np.empty(turns.waves.shape[1], given.dtype)
    room = np.empty((2 * largest + 1, given.shape[2]), given.dtype)
    for row in range(first, last):
        for place in range(starts[row], starts[row + 1]):
            e = order[place]
            frame(float(vectors[e, 0]), float(vectors[e, 1]), float(vectors[e, 2]), turns, around, tilt, blocks)
            back(given[e], out[row], side, turns, around, blocks, room)


@compiled
def swirled(first: int, last: int, given: Any, turn: Any, out: Any, pairs: Any, mixes: Any) -> None:
    """Edges ``first`` to ``last``: what features change by when they are turned a little."""
    channels = given.shape[2]
    for e in range(first, last):
        x, y = given[e], out[e]
        for n in range(len(mixes)):
            i, j, factor = pairs[n, 0], pairs[n, 1], mixes[n] * turn[e, pairs[n, 2]]
            for c in range(channels):
                y[i, c] += factor * x[j, c]
            for c in range(channels):
                y[j, c] -= factor * x[i, c]


@compiled
def torques(first: int, last: int, left: Any, right: Any, out: Any, pairs: Any, mixes: Any) -> None:
    """Edges ``first`` to ``last``: what a little turn of the right does to its product with the left."""
    channels = left.shape[2]
    for e in range(first, last):
        x, y = left[e], right[e]
        for n in range(len(mixes)):
            i, j, part = pairs[n, 0], pairs[n, 1], mixes[n] * 0
            for c in range(channels):
                part += x[i, c] * y[j, c] - x[j, c] * y[i, c]
            out[e, pairs[n, 2]] += mixes[n] * part
