"""Compiled loops of convolutions in the frames of edges: gather, turn, filter, turn back and add up, edge by edge."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from tenfold.so3._compiled import compiled
from tenfold.so3.products._edge_frame_kernels import Side, Turns, back, frame, into


class Sparse(NamedTuple):
    """Rows of a sparse matrix, or of a sparse trilinear form: row r has the entries ``starts[r]`` to ``starts[r + 1]``.

    Attributes:
        starts: where rows begin.
        one: which row of the first argument an entry takes.
        two: which of the second; of no use for a matrix.
        value: with which factor.
    """

    starts: np.ndarray
    one: np.ndarray
    two: np.ndarray
    value: np.ndarray


class Filter(NamedTuple):
    """The tables of a filter.

    Attributes:
        by_out: rows are components out, entries take components in and weights of the frame.
        by_in: rows are components in, entries take components out and weights.
        by_weight: rows are weights, entries take components out and in.
        given: weights of the frame from those given; no rows where they are the same.
        given_back: its transpose.
        none: what is left of the frame's weights for an edge of length zero.
        none_back: its transpose.
    """

    by_out: Sparse
    by_in: Sparse
    by_weight: Sparse
    given: Sparse
    given_back: Sparse
    none: Sparse
    none_back: Sparse


@compiled
def mapped(matrix: Sparse, given: Any, out: Any) -> None:
    """Rows of a sparse matrix times rows of numbers."""
    channels = out.shape[1]
    for r in range(len(matrix.starts) - 1):
        first, last = matrix.starts[r], matrix.starts[r + 1]
        target = out[r]
        rest = (last - first) % 2
        if rest:
            a, f = given[matrix.one[first]], matrix.value[first]
            for c in range(channels):
                target[c] = f * a[c]
        else:
            for c in range(channels):
                target[c] = 0
        for n in range(first + rest, last, 2):
            a, f = given[matrix.one[n]], matrix.value[n]
            b, g = given[matrix.one[n + 1]], matrix.value[n + 1]
            for c in range(channels):
                target[c] += f * a[c] + g * b[c]


@compiled
def applied(form: Sparse, given: Any, weight: Any, out: Any) -> None:
    """A filter with weights for each channel, or with one for all."""
    channels = out.shape[1]
    one = weight.shape[1] == 1
    for r in range(len(form.starts) - 1):
        first, last = form.starts[r], form.starts[r + 1]
        target = out[r]
        rest = (last - first) % 4
        for c in range(channels):
            target[c] = 0
        if one:
            for n in range(first, first + rest):
                a, f = given[form.one[n]], form.value[n] * weight[form.two[n], 0]
                for c in range(channels):
                    target[c] += f * a[c]
            for n in range(first + rest, last, 4):
                a, f = given[form.one[n]], form.value[n] * weight[form.two[n], 0]
                b, g = given[form.one[n + 1]], form.value[n + 1] * weight[form.two[n + 1], 0]
                d, h = given[form.one[n + 2]], form.value[n + 2] * weight[form.two[n + 2], 0]
                e, k = given[form.one[n + 3]], form.value[n + 3] * weight[form.two[n + 3], 0]
                for c in range(channels):
                    target[c] += f * a[c] + g * b[c] + h * d[c] + k * e[c]
        else:
            for n in range(first, first + rest):
                a, p, f = given[form.one[n]], weight[form.two[n]], form.value[n]
                for c in range(channels):
                    target[c] += f * a[c] * p[c]
            for n in range(first + rest, last, 4):
                a, p, f = given[form.one[n]], weight[form.two[n]], form.value[n]
                b, q, g = given[form.one[n + 1]], weight[form.two[n + 1]], form.value[n + 1]
                d, s, h = given[form.one[n + 2]], weight[form.two[n + 2]], form.value[n + 2]
                e, t, k = given[form.one[n + 3]], weight[form.two[n + 3]], form.value[n + 3]
                for c in range(channels):
                    target[c] += f * a[c] * p[c] + g * b[c] * q[c] + h * d[c] * s[c] + k * e[c] * t[c]


@compiled
def weighed(form: Sparse, left: Any, right: Any, out: Any) -> None:
    """The gradient with respect to weights: products of what comes in and out, for each channel or over all."""
    channels = left.shape[1]
    if out.shape[1] == 1:
        for r in range(len(form.starts) - 1):
            whole = 0.0
            for n in range(form.starts[r], form.starts[r + 1]):
                a, b, part = left[form.one[n]], right[form.two[n]], form.value[n] * 0
                for c in range(channels):
                    part += a[c] * b[c]
                whole += form.value[n] * part
            out[r, 0] = whole
        return
    for r in range(len(form.starts) - 1):
        first, last = form.starts[r], form.starts[r + 1]
        target = out[r]
        if last - first == 2:
            a, b, f = left[form.one[first]], right[form.two[first]], form.value[first]
            d, e, g = left[form.one[first + 1]], right[form.two[first + 1]], form.value[first + 1]
            for c in range(channels):
                target[c] = f * a[c] * b[c] + g * d[c] * e[c]
        else:
            a, b, f = left[form.one[first]], right[form.two[first]], form.value[first]
            for c in range(channels):
                target[c] = f * a[c] * b[c]


@compiled
def messages(
    first: int,
    last: int,
    given: Any,
    vectors: Any,
    weight: Any,
    source: Any,
    order: Any,
    starts: Any,
    out: Any,
    inner: Side,
    outer: Side,
    turns: Turns,
    tables: Filter,
) -> None:
    """Rows ``first`` to ``last`` of what comes out: the messages of their edges, added up in order."""
    largest, channels, kind = len(turns.places) - 2, given.shape[2], given.dtype
    around, tilt = np.empty((2, largest + 1), kind), np.empty(2 * largest + 1, kind)
    blocks, room = np.empty(turns.waves.shape[1], kind), np.empty((2 * largest + 1, channels), kind)
    seen = np.empty((len(tables.by_in.starts) - 1, channels), kind)
    made = np.empty((len(tables.by_out.starts) - 1, channels), kind)
    frames_own = len(tables.given.starts) == 1
    # Twice the weights of the frame: from those given, and what is left of them for no direction.
    some = np.empty((len(tables.by_weight.starts) - 1, weight.shape[2]), kind)
    none = np.empty((len(tables.by_weight.starts) - 1, weight.shape[2]), kind)
    each = weight.shape[0] > 1
    for row in range(first, last):
        for place in range(starts[row], starts[row + 1]):
            e = order[place]
            x, y, z = float(vectors[e, 0]), float(vectors[e, 1]), float(vectors[e, 2])
            length = frame(x, y, z, turns, around, tilt, blocks)
            now = weight[e] if each else weight[0]
            if not frames_own:
                mapped(tables.given, now, some)
                now = some
            if length == 0:
                mapped(tables.none, now, none)
                now = none
            into(given[source[e]], seen, inner, turns, around, blocks, room)
            applied(tables.by_out, seen, now, made)
            back(made, out[row], outer, turns, around, blocks, room)


@compiled
def twisted(left: Any, right: Any, side: Side, axis_x: float, axis_z: float, sign: float) -> Any:
    """The torque of two features of a frame around its x and z, added to those given."""
    channels = left.shape[1]
    for n in range(len(side.mixes)):
        i, j = side.pairs[n, 0], side.pairs[n, 1]
        a, b, d, e = left[i], left[j], right[i], right[j]
        part = a[0] * 0
        for c in range(channels):
            part += a[c] * e[c] - b[c] * d[c]
        if side.pairs[n, 2] == 0:
            axis_x += sign * side.mixes[n] * part
        else:
            axis_z += sign * side.mixes[n] * part
    return axis_x, axis_z


@compiled
def gradients(
    first: int,
    last: int,
    parts: int,
    coming: Any,
    given: Any,
    vectors: Any,
    weight: Any,
    target: Any,
    source: Any,
    order: Any,
    starts: Any,
    to_given: Any,
    to_weight: Any,
    to_vectors: Any,
    inner: Side,
    outer: Side,
    turns: Turns,
    tables: Filter,
) -> None:
    """Parts ``first`` to ``last`` of the rows that came in: their gradients, and those of their edges.

    Weights that all edges share get a sum for each part; how many parts there are does not depend on threads.
    """
    largest, channels, kind = len(turns.places) - 2, given.shape[2], given.dtype
    around, tilt = np.empty((2, largest + 1), kind), np.empty(2 * largest + 1, kind)
    blocks, room = np.empty(turns.waves.shape[1], kind), np.empty((2 * largest + 1, channels), kind)
    seen = np.empty((len(tables.by_in.starts) - 1, channels), kind)
    made = np.empty((len(tables.by_out.starts) - 1, channels), kind)
    behind, before = np.empty_like(made), np.empty_like(seen)
    frames_own = len(tables.given.starts) == 1
    some = np.empty((len(tables.by_weight.starts) - 1, weight.shape[2]), kind)
    none, toward, fewer = np.empty_like(some), np.empty_like(some), np.empty_like(some)
    last_one = np.empty((to_weight.shape[1], to_weight.shape[2]), kind)
    each, along, weighing = weight.shape[0] > 1, len(to_vectors) > 0, len(to_weight) > 0
    rows = len(starts) - 1
    for number in range(first, last):
        for row in range(rows * number // parts, rows * (number + 1) // parts):
            for place in range(starts[row], starts[row + 1]):
                e = order[place]
                x, y, z = float(vectors[e, 0]), float(vectors[e, 1]), float(vectors[e, 2])
                length = frame(x, y, z, turns, around, tilt, blocks)
                now = weight[e] if each else weight[0]
                if not frames_own:
                    mapped(tables.given, now, some)
                    now = some
                if length == 0:
                    mapped(tables.none, now, none)
                    now = none
                into(coming[target[e]], behind, outer, turns, around, blocks, room)
                applied(tables.by_in, behind, now, before)
                back(before, to_given[row], inner, turns, around, blocks, room)
                if weighing or along:
                    into(given[source[e]], seen, inner, turns, around, blocks, room)
                if weighing:
                    weighed(tables.by_weight, behind, seen, toward)
                    got = toward
                    if length == 0:
                        mapped(tables.none_back, got, fewer)
                        got = fewer
                    if not frames_own:
                        mapped(tables.given_back, got, last_one)
                        got = last_one
                    if each:
                        to_weight[e] = got
                    else:
                        to_weight[number] += got
                if along:
                    if length == 0:
                        to_vectors[e] = 0
                        continue
                    applied(tables.by_out, seen, now, made)
                    a, b = twisted(behind, made, outer, 0.0, 0.0, 1.0)
                    a, b = twisted(before, seen, inner, a, b, -1.0)
                    # From the frame to space, for a vector across the edge.
                    a, b = a / length, -b / length
                    cosine, sine = (around[0, 1], around[1, 1]) if largest else (1.0, 0.0)
                    up, side = (tilt[1], tilt[largest + 1]) if largest else (1.0, 0.0)
                    to_vectors[e, 0] = b * cosine + a * sine * up
                    to_vectors[e, 1] = -a * side
                    to_vectors[e, 2] = -b * sine + a * cosine * up
