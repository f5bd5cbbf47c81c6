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
    for row in range(len(matrix.starts) - 1):
        first, last = matrix.starts[row], matrix.starts[row + 1]
        if first == last:
            out[row] = 0
            continue
        done = (last - first - 1) % 4 + 1
        p, f = matrix.one[first], matrix.value[first]
        if done == 1:
            for c in range(channels):
                out[row, c] = f * given[p, c]
        elif done == 2:
            q, g = matrix.one[first + 1], matrix.value[first + 1]
            for c in range(channels):
                out[row, c] = f * given[p, c] + g * given[q, c]
        else:
            q, g = matrix.one[first + 1], matrix.value[first + 1]
            r, h = matrix.one[first + 2], matrix.value[first + 2]
            if done == 3:
                for c in range(channels):
                    out[row, c] = f * given[p, c] + g * given[q, c] + h * given[r, c]
            else:
                s, k = matrix.one[first + 3], matrix.value[first + 3]
                for c in range(channels):
                    out[row, c] = f * given[p, c] + g * given[q, c] + h * given[r, c] + k * given[s, c]
        for n in range(first + done, last, 4):
            p, f = matrix.one[n], matrix.value[n]
            q, g = matrix.one[n + 1], matrix.value[n + 1]
            r, h = matrix.one[n + 2], matrix.value[n + 2]
            s, k = matrix.one[n + 3], matrix.value[n + 3]
            for c in range(channels):
                out[row, c] += f * given[p, c] + g * given[q, c] + h * given[r, c] + k * given[s, c]


@compiled
def applied(form: Sparse, given: Any, weight: Any, out: Any, factors: Any) -> None:
    """A filter with weights for each channel, or with one for all, whose products with values go to ``factors``."""
    channels = out.shape[1]
    one = weight.shape[1] == 1
    if one:
        for n in range(len(form.value)):
            factors[n] = form.value[n] * weight[form.two[n], 0]
        mapped(Sparse(form.starts, form.one, form.two, factors), given, out)
        return
    for row in range(len(form.starts) - 1):
        first, last = form.starts[row], form.starts[row + 1]
        if first == last:
            out[row] = 0
            continue
        done = (last - first - 1) % 3 + 1
        p, t, f = form.one[first], form.two[first], form.value[first]
        if done == 1:
            for c in range(channels):
                out[row, c] = f * given[p, c] * weight[t, c]
        else:
            q, u, g = form.one[first + 1], form.two[first + 1], form.value[first + 1]
            if done == 2:
                for c in range(channels):
                    out[row, c] = f * given[p, c] * weight[t, c] + g * given[q, c] * weight[u, c]
            else:
                r, v, h = form.one[first + 2], form.two[first + 2], form.value[first + 2]
                for c in range(channels):
                    out[row, c] = (
                        f * given[p, c] * weight[t, c] + g * given[q, c] * weight[u, c] + h * given[r, c] * weight[v, c]
                    )
        for n in range(first + done, last, 3):
            p, t, f = form.one[n], form.two[n], form.value[n]
            q, u, g = form.one[n + 1], form.two[n + 1], form.value[n + 1]
            r, v, h = form.one[n + 2], form.two[n + 2], form.value[n + 2]
            for c in range(channels):
                out[row, c] += (
                    f * given[p, c] * weight[t, c] + g * given[q, c] * weight[u, c] + h * given[r, c] * weight[v, c]
                )


@compiled
def weighed(form: Sparse, left: Any, right: Any, out: Any) -> None:
    """The gradient with respect to weights: products of what comes in and out, for each channel or over all."""
    channels = left.shape[1]
    if out.shape[1] == 1:
        for row in range(len(form.starts) - 1):
            whole = 0.0
            for n in range(form.starts[row], form.starts[row + 1]):
                p, q, part = form.one[n], form.two[n], form.value[n] * 0
                for c in range(channels):
                    part += left[p, c] * right[q, c]
                whole += form.value[n] * part
            out[row, 0] = whole
        return
    for row in range(len(form.starts) - 1):
        first, last = form.starts[row], form.starts[row + 1]
        p, t, f = form.one[first], form.two[first], form.value[first]
        if last - first == 2:
            q, u, g = form.one[first + 1], form.two[first + 1], form.value[first + 1]
            for c in range(channels):
                out[row, c] = f * left[p, c] * right[t, c] + g * left[q, c] * right[u, c]
        else:
            for c in range(channels):
                out[row, c] = f * left[p, c] * right[t, c]


@compiled
def directed(vectors: Any) -> bool:
    """Whether no edge has length zero."""
    none = 0
    for e in range(len(vectors)):
        none += vectors[e, 0] == 0 and vectors[e, 1] == 0 and vectors[e, 2] == 0
    return none == 0


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
    factors = np.empty(len(tables.by_out.value), kind)
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
            applied(tables.by_out, seen, now, made, factors)
            back(made, out[row], outer, turns, around, blocks, room)


@compiled
def added(given: Any, out: Any) -> None:
    """Rows of numbers added to others."""
    for row in range(given.shape[0]):
        for c in range(given.shape[1]):
            out[row, c] += given[row, c]


@compiled
def twisted(left: Any, right: Any, side: Side, axis_x: float, axis_z: float, sign: float) -> Any:
    """The torque of two features of a frame around its x and z, added to those given."""
    channels = left.shape[1]
    for n in range(len(side.mixes)):
        i, j = side.pairs[n, 0], side.pairs[n, 1]
        part = side.mixes[n] * 0
        for c in range(channels):
            part += left[i, c] * right[j, c] - left[j, c] * right[i, c]
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
    factors = np.empty(len(tables.by_out.value), kind)
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
                applied(tables.by_in, behind, now, before, factors)
                back(before, to_given[row], inner, turns, around, blocks, room)
                if weighing or along:
                    into(given[source[e]], seen, inner, turns, around, blocks, room)
                if weighing:
                    # Straight to where it belongs, unless something is to be done with it first.
                    mine = to_weight[e] if each else last_one
                    got = mine if frames_own and length != 0 else toward
                    weighed(tables.by_weight, behind, seen, got)
                    if length == 0:
                        mapped(tables.none_back, toward, mine if frames_own else fewer)
                        got = fewer
                    if not frames_own:
                        mapped(tables.given_back, got, mine)
                    if not each:
                        added(mine, to_weight[number])
                if along:
                    if length == 0:
                        to_vectors[e] = 0
                        continue
                    applied(tables.by_out, seen, now, made, factors)
                    a, b = twisted(behind, made, outer, 0.0, 0.0, 1.0)
                    a, b = twisted(before, seen, inner, a, b, -1.0)
                    # From the frame to space, for a vector across the edge.
                    a, b = a / length, -b / length
                    cosine, sine = (around[0, 1], around[1, 1]) if largest else (1.0, 0.0)
                    up, side = (tilt[1], tilt[largest + 1]) if largest else (1.0, 0.0)
                    to_vectors[e, 0] = b * cosine + a * sine * up
                    to_vectors[e, 1] = -a * side
                    to_vectors[e, 2] = -b * sine + a * cosine * up


@compiled
def lies(around: Any, tilt: Any) -> Any:
    """Cosines and sines of the two angles of a frame."""
    largest = around.shape[1] - 1
    if largest == 0:
        return 1.0, 0.0, 1.0, 0.0
    return float(around[0, 1]), float(around[1, 1]), float(tilt[1]), float(tilt[largest + 1])


@compiled
def seen_from(x: float, y: float, z: float, around: Any, tilt: Any) -> Any:
    """A vector as the frame sees it."""
    cosine, sine, up, side = lies(around, tilt)
    flat = sine * x + cosine * z
    return cosine * x - sine * z, side * flat + up * y, up * flat - side * y


@compiled
def swirled(given: Any, out: Any, side: Side, axis_x: float, axis_z: float) -> None:
    """What a feature of a frame changes by when it is turned a little around its x and z, added to ``out``."""
    for n in range(len(side.mixes)):
        i, j = side.pairs[n, 0], side.pairs[n, 1]
        # Narrow again, or all channels would be multiplied as wide numbers.
        factor = out.dtype.type(side.mixes[n] * (axis_x if side.pairs[n, 2] == 0 else axis_z))
        for c in range(given.shape[1]):
            out[i, c] += factor * given[j, c]
        for c in range(given.shape[1]):
            out[j, c] -= factor * given[i, c]


@compiled
def weights_of(tables: Filter, given: Any, length: float, some: Any, none: Any) -> Any:
    """The weights of the frame of an edge; two arrays are there to write them to."""
    now = given
    if len(tables.given.starts) > 1:
        mapped(tables.given, now, some)
        now = some
    if length == 0:
        mapped(tables.none, now, none)
        now = none
    return now


@compiled
def messages_along(
    first: int,
    last: int,
    given: Any,
    vectors: Any,
    weight: Any,
    on_given: Any,
    on_vectors: Any,
    on_weight: Any,
    source: Any,
    order: Any,
    starts: Any,
    out: Any,
    inner: Side,
    outer: Side,
    turns: Turns,
    tables: Filter,
) -> None:
    """How `messages` change where features, vectors and weights do; what has no rows does not."""
    largest, channels, kind = len(turns.places) - 2, given.shape[2], given.dtype
    around, tilt = np.empty((2, largest + 1), kind), np.empty(2 * largest + 1, kind)
    blocks, room = np.empty(turns.waves.shape[1], kind), np.empty((2 * largest + 1, channels), kind)
    seen = np.empty((len(tables.by_in.starts) - 1, channels), kind)
    made = np.empty((len(tables.by_out.starts) - 1, channels), kind)
    lead, total = np.zeros_like(seen), np.empty_like(made)
    factors = np.empty(len(tables.by_out.value), kind)
    some = np.empty((len(tables.by_weight.starts) - 1, weight.shape[2]), kind)
    none, other = np.empty_like(some), np.empty_like(some)
    each, moved = weight.shape[0] > 1, len(on_vectors) > 0
    for row in range(first, last):
        for place in range(starts[row], starts[row + 1]):
            e = order[place]
            x, y, z = float(vectors[e, 0]), float(vectors[e, 1]), float(vectors[e, 2])
            length = frame(x, y, z, turns, around, tilt, blocks)
            now = weights_of(tables, weight[e] if each else weight[0], length, some, none)
            into(given[source[e]], seen, inner, turns, around, blocks, room)
            if len(on_given):
                into(on_given[source[e]], lead, inner, turns, around, blocks, room)
            else:
                lead[:] = 0
            total[:] = 0
            if moved and length != 0:
                d = seen_from(float(on_vectors[e, 0]), float(on_vectors[e, 1]), float(on_vectors[e, 2]), around, tilt)
                axis_x, axis_z = d[2] / length, -d[0] / length
                swirled(seen, lead, inner, -axis_x, -axis_z)
                applied(tables.by_out, seen, now, made, factors)
                swirled(made, total, outer, axis_x, axis_z)
            applied(tables.by_out, lead, now, made, factors)
            added(made, total)
            if len(on_weight):
                change = weights_of(tables, on_weight[e] if each else on_weight[0], length, other, none)
                applied(tables.by_out, seen, change, made, factors)
                added(made, total)
            back(total, out[row], outer, turns, around, blocks, room)


@compiled
def gradients_along(
    first: int,
    last: int,
    parts: int,
    coming: Any,
    given: Any,
    vectors: Any,
    weight: Any,
    on_given: Any,
    on_vectors: Any,
    on_weight: Any,
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
    """How `gradients` change where features, vectors and weights do."""
    largest, channels, kind = len(turns.places) - 2, given.shape[2], given.dtype
    around, tilt = np.empty((2, largest + 1), kind), np.empty(2 * largest + 1, kind)
    blocks, room = np.empty(turns.waves.shape[1], kind), np.empty((2 * largest + 1, channels), kind)
    seen = np.empty((len(tables.by_in.starts) - 1, channels), kind)
    made = np.empty((len(tables.by_out.starts) - 1, channels), kind)
    behind, before, lead, total = np.empty_like(made), np.empty_like(seen), np.empty_like(seen), np.empty_like(seen)
    shaken = np.empty_like(made)
    factors = np.empty(len(tables.by_out.value), kind)
    some = np.empty((len(tables.by_weight.starts) - 1, weight.shape[2]), kind)
    none, other = np.empty_like(some), np.empty_like(some)
    toward, more, fewer = np.empty_like(some), np.empty_like(some), np.empty_like(some)
    mine = np.empty((to_weight.shape[1], to_weight.shape[2]), kind)
    each, moved, rows = weight.shape[0] > 1, len(on_vectors) > 0, len(starts) - 1
    for number in range(first, last):
        for row in range(rows * number // parts, rows * (number + 1) // parts):
            for place in range(starts[row], starts[row + 1]):
                e = order[place]
                x, y, z = float(vectors[e, 0]), float(vectors[e, 1]), float(vectors[e, 2])
                length = frame(x, y, z, turns, around, tilt, blocks)
                now = weights_of(tables, weight[e] if each else weight[0], length, some, none)
                into(given[source[e]], seen, inner, turns, around, blocks, room)
                into(coming[target[e]], behind, outer, turns, around, blocks, room)
                if len(on_given):
                    into(on_given[source[e]], lead, inner, turns, around, blocks, room)
                else:
                    lead[:] = 0
                total[:] = 0
                # Torques, and what the turn itself has to do with the vector.
                a, b, c_x, c_z, axis_x, axis_z, d = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, (0.0, 0.0, 0.0)
                turning = moved and length != 0
                if turning:
                    d = seen_from(
                        float(on_vectors[e, 0]), float(on_vectors[e, 1]), float(on_vectors[e, 2]), around, tilt
                    )
                    axis_x, axis_z = d[2] / length, -d[0] / length
                    swirled(seen, lead, inner, -axis_x, -axis_z)
                applied(tables.by_in, behind, now, before, factors)
                applied(tables.by_out, lead, now, made, factors)
                a, b = twisted(behind, made, outer, a, b, 1.0)
                a, b = twisted(before, lead, inner, a, b, -1.0)
                weighed(tables.by_weight, behind, lead, toward)
                if turning:
                    swirled(before, total, inner, axis_x, axis_z)
                    c_x, c_z = twisted(before, seen, inner, c_x, c_z, -1.0)
                    applied(tables.by_out, seen, now, made, factors)
                    c_x, c_z = twisted(behind, made, outer, c_x, c_z, 1.0)
                    shaken[:] = 0
                    swirled(behind, shaken, outer, -axis_x, -axis_z)
                    a, b = twisted(shaken, made, outer, a, b, 1.0)
                    applied(tables.by_in, shaken, now, before, factors)
                    a, b = twisted(before, seen, inner, a, b, -1.0)
                    added(before, total)
                    weighed(tables.by_weight, shaken, seen, more)
                    added(more, toward)
                if len(on_weight):
                    change = weights_of(tables, on_weight[e] if each else on_weight[0], length, other, none)
                    applied(tables.by_out, seen, change, made, factors)
                    a, b = twisted(behind, made, outer, a, b, 1.0)
                    applied(tables.by_in, behind, change, before, factors)
                    a, b = twisted(before, seen, inner, a, b, -1.0)
                    added(before, total)
                back(total, to_given[row], inner, turns, around, blocks, room)
                got = toward
                if length == 0:
                    mapped(tables.none_back, toward, fewer)
                    got = fewer
                if len(tables.given.starts) > 1:
                    mapped(tables.given_back, got, mine)
                    got = mine
                if each:
                    to_weight[e] = got
                else:
                    added(got, to_weight[number])
                if length == 0:
                    to_vectors[e] = 0
                    continue
                # As the frame sees it: what turns the edge, and what changes the turn that goes with a change.
                v_x = (d[1] / length * c_z - b) / length
                v_y = -(axis_x * c_x + axis_z * c_z) / length
                v_z = (a - d[1] / length * c_x) / length
                cosine, sine, up, side = lies(around, tilt)
                to_vectors[e, 0] = cosine * v_x + sine * (side * v_y + up * v_z)
                to_vectors[e, 1] = up * v_y - side * v_z
                to_vectors[e, 2] = -sine * v_x + cosine * (side * v_y + up * v_z)
