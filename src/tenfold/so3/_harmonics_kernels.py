"""Spherical harmonics, their gradients and the gradients of these, `width` vectors at a time, compiled by Numba.

This module is imported only when a kernel runs: loading Numba takes longer than loading the rest of tenfold.

With Q the associated Legendre functions less their power of the sine, made homogeneous, a harmonic is
``Q[l, m](y, |v|) Re (z + ix)^m`` or ``Im``; the slopes of Q are multiples of Q one degree below.

``tables`` holds, for each degree and order: the two factors of the recurrence, of which the first is Q itself where the
order is the degree; the factors of the slopes of Q along y, and along x and z; the factor of the harmonic.
``places`` says at which component a degree begins, -1 where it is not wanted.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from numba import njit

from tenfold.so3._simd.arrays import load, scratch, store
from tenfold.so3._simd.lanes import all_between, larger, magnitude, root, spread, where_zero, width, zero
from tenfold.so3._simd.squares import load_triples, store_triples, turn_4, turn_8


def _inlined(function: Callable[..., Any]) -> Callable[..., Any]:
    # Calls would cost as much as what these do.
    return njit(function, forceinline=True)


def _compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    # Sums may be reordered and multiply-adds fused; NaN and infinity keep their meaning.
    loose = {"reassoc", "contract"}
    try:
        return njit(function, cache=True, nogil=True, fastmath=loose)
    except RuntimeError:  # there is no place to keep what was compiled
        return njit(function, nogil=True, fastmath=loose)


@_compiled
def values(vectors, places, tables, limits, normalize, out, first, last):  # type: ignore[no-untyped-def]
    """The harmonics of the vectors ``first:last``."""
    lead, less, factor = tables[0], tables[1], tables[4]
    degrees, components = len(places), out.shape[1]
    corner, lanes = _workspace(components + 5 * degrees, vectors)
    found, lanes = lanes[:components], lanes[components:]
    cosines, sines, legendre = lanes[:degrees], lanes[degrees : 2 * degrees], lanes[2 * degrees :]
    for begin in range(first, last, width(vectors)):
        x, y, z = _read_vectors(vectors, begin, last, corner)
        if normalize:
            x, y, z, _, _, _ = _directions(x, y, z, limits)
        square = x * x + y * y + z * z
        _powers(x, z, cosines, sines)
        now, before, below = 0, degrees, 2 * degrees
        for degree in range(degrees):
            now, before, below = below, now, before
            place = places[degree] + degree
            for order in range(degree + 1):
                if order < degree - 1:
                    upper = lead[degree, order] * y * load(legendre, before + order)
                    q = upper - less[degree, order] * square * load(legendre, below + order)
                elif order < degree:
                    q = lead[degree, order] * y * load(legendre, before + order)
                else:
                    q = spread(lead[degree, order])
                store(legendre, now + order, q)
                if places[degree] >= 0:
                    scaled = factor[degree, order] * q
                    if order:
                        store(found, place - order, scaled * load(sines, order))
                        store(found, place + order, scaled * load(cosines, order))
                    else:
                        store(found, place, scaled)
        _write_components(found, out, begin, last)


@_compiled
def slopes(vectors, grad, places, tables, limits, normalize, out, first, last):  # type: ignore[no-untyped-def]
    """The gradients of ``sum(grad * harmonics)`` at the vectors ``first:last``."""
    lead, less, rise, shrink, factor = tables[0], tables[1], tables[2], tables[3], tables[4]
    degrees, components = len(places), grad.shape[1]
    nothing = zero(vectors)
    one = spread(vectors.dtype.type(1))
    corner, lanes = _workspace(components + 7 * degrees, vectors)
    given, lanes = lanes[:components], lanes[components:]
    cosines, sines = lanes[:degrees], lanes[degrees : 2 * degrees]
    by_cosine, by_sine = lanes[2 * degrees : 3 * degrees], lanes[3 * degrees : 4 * degrees]
    legendre = lanes[4 * degrees :]
    for begin in range(first, last, width(vectors)):
        x, y, z = _read_vectors(vectors, begin, last, corner)
        inverse, scale, plain = one, one, True
        if normalize:
            x, y, z, inverse, scale, plain = _directions(x, y, z, limits)
        square = x * x + y * y + z * z
        _powers(x, z, cosines, sines)
        _read_components(grad, begin, last, given)
        by_cosine[:] = 0
        by_sine[:] = 0
        now, before, below = 0, degrees, 2 * degrees
        along, around = nothing, nothing
        for degree in range(degrees):
            now, before, below = below, now, before
            place = places[degree] + degree
            for order in range(degree + 1):
                if order < degree - 1:
                    upper = lead[degree, order] * y * load(legendre, before + order)
                    q = upper - less[degree, order] * square * load(legendre, below + order)
                elif order < degree:
                    q = lead[degree, order] * y * load(legendre, before + order)
                else:
                    q = spread(lead[degree, order])
                store(legendre, now + order, q)
                if places[degree] < 0:
                    continue
                if order:
                    plus, minus = load(given, place + order), load(given, place - order)
                    plus, minus = factor[degree, order] * plus, factor[degree, order] * minus
                    store(by_cosine, order, load(by_cosine, order) + q * plus)
                    store(by_sine, order, load(by_sine, order) + q * minus)
                    weight = plus * load(cosines, order) + minus * load(sines, order)
                else:
                    weight = factor[degree, order] * load(given, place)
                if order < degree:
                    along = along + rise[degree, order] * load(legendre, before + order) * weight
                if order < degree - 1:
                    around = around + shrink[degree, order] * load(legendre, before + order + 1) * weight
        by_x, by_y, by_z = -x * around, along, -z * around
        number = nothing
        for order in range(1, degrees):
            number = number + one
            cosine, sine = number * load(cosines, order - 1), number * load(sines, order - 1)
            by_x = by_x + load(by_sine, order) * cosine - load(by_cosine, order) * sine
            by_z = by_z + load(by_cosine, order) * cosine + load(by_sine, order) * sine
        if normalize:
            radial = by_x * x + by_y * y + by_z * z
            by_x = _shortened(by_x - radial * x, inverse, scale, plain)
            by_y = _shortened(by_y - radial * y, inverse, scale, plain)
            by_z = _shortened(by_z - radial * z, inverse, scale, plain)
        _write_vectors(by_x, by_y, by_z, out, begin, last, corner)


@_compiled
def bends(vectors, grad, pull, places, tables, limits, normalize, out, turned, first, last):  # type: ignore[no-untyped-def]
    """Both gradients of ``sum(pull * slopes)``: by ``grad`` to ``out``, by the vectors to ``turned``.

    The first is the slope of the harmonics along ``pull``; the second is that of `slopes`. Both are found by carrying
    a derivative along with every number.
    """
    lead, less, rise, shrink, factor = tables[0], tables[1], tables[2], tables[3], tables[4]
    degrees, components = len(places), grad.shape[1]
    nothing = zero(vectors)
    one = spread(vectors.dtype.type(1))
    corner, lanes = _workspace(2 * components + 14 * degrees, vectors)
    given, found, lanes = lanes[:components], lanes[components : 2 * components], lanes[2 * components :]
    # Each with its derivative in the second half.
    cosines, sines = lanes[: 2 * degrees], lanes[2 * degrees : 4 * degrees]
    by_cosine, by_sine = lanes[4 * degrees : 6 * degrees], lanes[6 * degrees : 8 * degrees]
    legendre, moved = lanes[8 * degrees : 11 * degrees], lanes[11 * degrees :]
    for begin in range(first, last, width(vectors)):
        pull_x, pull_y, pull_z = _read_vectors(pull, begin, last, corner)
        x, y, z = _read_vectors(vectors, begin, last, corner)
        inverse, scale, plain = one, one, True
        if normalize:
            x, y, z, inverse, scale, plain = _directions(x, y, z, limits)
        to_x, to_y, to_z, pulled = pull_x, pull_y, pull_z, nothing
        if normalize:
            pulled = pull_x * x + pull_y * y + pull_z * z
            to_x = _shortened(pull_x - pulled * x, inverse, scale, plain)
            to_y = _shortened(pull_y - pulled * y, inverse, scale, plain)
            to_z = _shortened(pull_z - pulled * z, inverse, scale, plain)
        square = x * x + y * y + z * z
        half = x * to_x + y * to_y + z * to_z
        to_square = half + half
        cosine, sine, to_cosine, to_sine = one, nothing, nothing, nothing
        for order in range(degrees):
            store(cosines, order, cosine)
            store(sines, order, sine)
            store(cosines, degrees + order, to_cosine)
            store(sines, degrees + order, to_sine)
            to_cosine, to_sine = (
                to_z * cosine + z * to_cosine - to_x * sine - x * to_sine,
                to_x * cosine + x * to_cosine + to_z * sine + z * to_sine,
            )
            cosine, sine = z * cosine - x * sine, x * cosine + z * sine
        _read_components(grad, begin, last, given)
        by_cosine[:] = 0
        by_sine[:] = 0
        now, before, below = 0, degrees, 2 * degrees
        along, around, to_along, to_around = nothing, nothing, nothing, nothing
        for degree in range(degrees):
            now, before, below = below, now, before
            place = places[degree] + degree
            for order in range(degree + 1):
                if order < degree:
                    upper, to_upper = load(legendre, before + order), load(moved, before + order)
                    q = lead[degree, order] * y * upper
                    to_q = lead[degree, order] * (to_y * upper + y * to_upper)
                    if order < degree - 1:
                        lower, to_lower = load(legendre, below + order), load(moved, below + order)
                        q = q - less[degree, order] * square * lower
                        to_q = to_q - less[degree, order] * (to_square * lower + square * to_lower)
                else:
                    q, to_q = spread(lead[degree, order]), nothing
                store(legendre, now + order, q)
                store(moved, now + order, to_q)
                if places[degree] < 0:
                    continue
                scaled, to_scaled = factor[degree, order] * q, factor[degree, order] * to_q
                if order:
                    cosine, to_cosine = load(cosines, order), load(cosines, degrees + order)
                    sine, to_sine = load(sines, order), load(sines, degrees + order)
                    store(found, place + order, to_scaled * cosine + scaled * to_cosine)
                    store(found, place - order, to_scaled * sine + scaled * to_sine)
                    plus, minus = load(given, place + order), load(given, place - order)
                    store(by_cosine, order, load(by_cosine, order) + scaled * plus)
                    store(by_sine, order, load(by_sine, order) + scaled * minus)
                    there = degrees + order
                    store(by_cosine, there, load(by_cosine, there) + to_scaled * plus)
                    store(by_sine, there, load(by_sine, there) + to_scaled * minus)
                    weight = factor[degree, order] * (plus * cosine + minus * sine)
                    to_weight = factor[degree, order] * (plus * to_cosine + minus * to_sine)
                else:
                    store(found, place, to_scaled)
                    weight, to_weight = factor[degree, order] * load(given, place), nothing
                if order < degree:
                    upper, to_upper = load(legendre, before + order), load(moved, before + order)
                    along = along + rise[degree, order] * upper * weight
                    to_along = to_along + rise[degree, order] * (to_upper * weight + upper * to_weight)
                if order < degree - 1:
                    upper, to_upper = load(legendre, before + order + 1), load(moved, before + order + 1)
                    around = around + shrink[degree, order] * upper * weight
                    to_around = to_around + shrink[degree, order] * (to_upper * weight + upper * to_weight)
        by_x, by_y, by_z = -x * around, along, -z * around
        bend_x, bend_y, bend_z = -x * to_around - to_x * around, to_along, -z * to_around - to_z * around
        number = nothing
        for order in range(1, degrees):
            number = number + one
            cosine, sine = number * load(cosines, order - 1), number * load(sines, order - 1)
            to_cosine = number * load(cosines, degrees + order - 1)
            to_sine = number * load(sines, degrees + order - 1)
            a, b = load(by_cosine, order), load(by_sine, order)
            to_a, to_b = load(by_cosine, degrees + order), load(by_sine, degrees + order)
            by_x = by_x + b * cosine - a * sine
            by_z = by_z + a * cosine + b * sine
            bend_x = bend_x + to_b * cosine + b * to_cosine - to_a * sine - a * to_sine
            bend_z = bend_z + to_a * cosine + a * to_cosine + to_b * sine + b * to_sine
        if normalize:
            # Directions bend too: of the gradient on the sphere only what is across the direction counts.
            radial = by_x * x + by_y * y + by_z * z
            common = by_x * to_x + by_y * to_y + by_z * to_z
            bend_x = bend_x - _shortened(pulled * by_x + radial * pull_x, inverse, scale, plain)
            bend_y = bend_y - _shortened(pulled * by_y + radial * pull_y, inverse, scale, plain)
            bend_z = bend_z - _shortened(pulled * by_z + radial * pull_z, inverse, scale, plain)
            common = common + bend_x * x + bend_y * y + bend_z * z
            bend_x = _shortened(bend_x - common * x, inverse, scale, plain)
            bend_y = _shortened(bend_y - common * y, inverse, scale, plain)
            bend_z = _shortened(bend_z - common * z, inverse, scale, plain)
        _write_components(found, out, begin, last)
        _write_vectors(bend_x, bend_y, bend_z, turned, begin, last, corner)


@_inlined
def _workspace(rows, vectors):  # type: ignore[no-untyped-def]
    """Room for a vector on each lane, and rows of lanes.

    In one piece: many small ones between the large arrays of torch would keep their memory from being used again.
    """
    lanes = scratch(rows + 3, vectors)
    return lanes[:3].reshape(width(vectors), 3), lanes[3:]


@_inlined
def _read_vectors(vectors, begin, last, corner):  # type: ignore[no-untyped-def]
    """x, y and z of vectors; zeros beyond the last one."""
    if last - begin >= width(vectors):
        return load_triples(vectors, begin)
    corner[:] = 0
    for lane in range(last - begin):
        for axis in range(3):
            corner[lane, axis] = vectors[begin + lane, axis]
    return load_triples(corner, 0)


@_inlined
def _write_vectors(x, y, z, out, begin, last, corner):  # type: ignore[no-untyped-def]
    if last - begin >= width(out):
        store_triples(out, begin, x, y, z)
        return
    store_triples(corner, 0, x, y, z)
    for lane in range(last - begin):
        for axis in range(3):
            out[begin + lane, axis] = corner[lane, axis]


@_inlined
def _directions(x, y, z, limits):  # type: ignore[no-untyped-def]
    """Vectors of length one, two factors by which `_shortened` makes each its direction, and whether one is enough.

    Zero vectors stay zero, by factors of 0 and 1.
    """
    one = spread(limits.dtype.type(1))
    square = x * x + y * y + z * z
    if all_between(limits[0], square, limits[1]):
        inverse = one / root(square)
        return x * inverse, y * inverse, z * inverse, inverse, one, True
    # Squares underflow or overflow without the scale. The sum, unlike the largest, is never zero beside NaN.
    far = larger(magnitude(x), larger(magnitude(y), magnitude(z)))
    total = magnitude(x) + magnitude(y) + magnitude(z)
    scale = where_zero(total, one, far)
    x, y, z = x / scale, y / scale, z / scale
    inverse = where_zero(total, one - one, one / root(x * x + y * y + z * z))
    return x * inverse, y * inverse, z * inverse, inverse, scale, False


@_inlined
def _shortened(lanes, inverse, scale, plain):  # type: ignore[no-untyped-def]
    """What is multiplied by one factor and divided by the other; divisions take as long as ten multiplications."""
    return lanes * inverse if plain else lanes * inverse / scale


@_inlined
def _powers(x, z, cosines, sines):  # type: ignore[no-untyped-def]
    """Real and imaginary parts of the powers of ``z + ix``, from 0 on."""
    cosine, sine = spread(cosines.dtype.type(1)), spread(cosines.dtype.type(0))
    for order in range(len(cosines)):
        store(cosines, order, cosine)
        store(sines, order, sine)
        cosine, sine = z * cosine - x * sine, x * cosine + z * sine


@_inlined
def _write_components(found, out, begin, last):  # type: ignore[no-untyped-def]
    """The components of vectors, each of which is a row of lanes, to the rows of the vectors."""
    components = len(found)
    whole = 0 if last - begin < width(out) else components - components % 4
    for lane in range(0, width(out), 8):
        for column in range(0, whole - 7, 8):
            turn_8(found, column, lane, out, begin + lane, column)
    if whole % 8:
        for lane in range(0, width(out), 4):
            turn_4(found, whole - 4, lane, out, begin + lane, whole - 4)
    # All degrees up to an even one have a component too many.
    for component in range(whole, components):
        for lane in range(min(width(out), last - begin)):
            out[begin + lane, component] = found[component, lane]


@_inlined
def _read_components(grad, begin, last, given):  # type: ignore[no-untyped-def]
    """The reverse; lanes beyond the last vector keep what they had."""
    components = len(given)
    whole = 0 if last - begin < width(grad) else components - components % 4
    for lane in range(0, width(grad), 8):
        for column in range(0, whole - 7, 8):
            turn_8(grad, begin + lane, column, given, column, lane)
    if whole % 8:
        for lane in range(0, width(grad), 4):
            turn_4(grad, begin + lane, whole - 4, given, whole - 4, lane)
    for component in range(whole, components):
        for lane in range(min(width(grad), last - begin)):
            given[component, lane] = grad[begin + lane, component]
