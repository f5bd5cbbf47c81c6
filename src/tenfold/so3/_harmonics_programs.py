"""The loops of `_harmonics_kernels` written out for degrees that are known: no table is left, no index, no branch.

LLVM gets the polynomials as they are, for as many vectors as there are lanes; Numba compiles what is around them, and
keeps the whole on disk for the next process. This module loads Numba.

Legendre functions are divided by their leading coefficients, which go to the constants that others are multiplied by:
``Q[l, m] = y Q[l - 1, m] - b |v|^2 Q[l - 2, m]`` has but one constant.
"""

# Intrinsics get types and return a signature and a generator of code; there is nothing in them to annotate.
# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from numba.core import types
from numba.extending import NativeValue, models, register_model, typeof_impl, unbox

from tenfold.so3._harmonics_kernels import _compiled, _directions, _shortened
from tenfold.so3._harmonics_plain import recurrence, scale
from tenfold.so3._simd import llvm
from tenfold.so3._simd.columns import Columns
from tenfold.so3._simd.lanes import Lanes, intrinsic, spread, width, zero
from tenfold.so3._simd.squares import load_triples, store_triples


class Harmonics(types.Opaque):
    """Harmonics of some degrees as a type, for which functions are compiled, and an argument of that type."""

    def __init__(self, degrees: tuple[int, ...], normalization: str) -> None:
        self.degrees, self.normalization = degrees, normalization
        super().__init__(name=f"Harmonics({degrees}, {normalization})")

    @property
    def components(self) -> int:
        """How many there are."""
        return sum(2 * degree + 1 for degree in self.degrees)


register_model(Harmonics)(models.OpaqueModel)
typeof_impl.register(Harmonics)(lambda program, context: program)


@unbox(Harmonics)
def _unboxed(kind: Any, program: Any, c: Any) -> Any:
    return NativeValue(c.context.get_dummy_value())


@_compiled
def values(code, vectors, limits, normalize, out, first, last):
    """As there; of vectors there must be as many as there are lanes, here and in the others."""
    for begin in range(first, last, width(vectors)):
        # The last ones are worked on with some before them, and become again what they were.
        row = min(begin, len(vectors) - width(vectors))
        x, y, z = load_triples(vectors, row)
        if normalize:
            x, y, z, _, _, _ = _directions(x, y, z, limits)
        _values(code, x, y, z, out, row)


@_compiled
def slopes(code, vectors, grad, limits, normalize, out, first, last):
    """As there."""
    one = spread(vectors.dtype.type(1))
    for begin in range(first, last, width(vectors)):
        row = min(begin, len(vectors) - width(vectors))
        x, y, z = load_triples(vectors, row)
        inverse, length, plain = one, one, True
        if normalize:
            x, y, z, inverse, length, plain = _directions(x, y, z, limits)
        by_x, by_y, by_z = _slopes(code, x, y, z, grad, row)
        if normalize:
            radial = by_x * x + by_y * y + by_z * z
            by_x = _shortened(by_x - radial * x, inverse, length, plain)
            by_y = _shortened(by_y - radial * y, inverse, length, plain)
            by_z = _shortened(by_z - radial * z, inverse, length, plain)
        store_triples(out, row, by_x, by_y, by_z)


@_compiled
def bends(code, vectors, grad, pull, limits, normalize, out, turned, first, last):
    """As there."""
    one = spread(vectors.dtype.type(1))
    for begin in range(first, last, width(vectors)):
        row = min(begin, len(vectors) - width(vectors))
        pull_x, pull_y, pull_z = load_triples(pull, row)
        x, y, z = load_triples(vectors, row)
        inverse, length, plain = one, one, True
        to_x, to_y, to_z, pulled = pull_x, pull_y, pull_z, zero(vectors)
        if normalize:
            x, y, z, inverse, length, plain = _directions(x, y, z, limits)
            pulled = pull_x * x + pull_y * y + pull_z * z
            to_x = _shortened(pull_x - pulled * x, inverse, length, plain)
            to_y = _shortened(pull_y - pulled * y, inverse, length, plain)
            to_z = _shortened(pull_z - pulled * z, inverse, length, plain)
        by_x, by_y, by_z, bend_x, bend_y, bend_z = _bends(code, x, y, z, to_x, to_y, to_z, grad, out, row)
        if normalize:
            # Directions bend too: of the gradient on the sphere only what is across the direction counts.
            radial = by_x * x + by_y * y + by_z * z
            common = by_x * to_x + by_y * to_y + by_z * to_z
            bend_x = bend_x - _shortened(pulled * by_x + radial * pull_x, inverse, length, plain)
            bend_y = bend_y - _shortened(pulled * by_y + radial * pull_y, inverse, length, plain)
            bend_z = bend_z - _shortened(pulled * by_z + radial * pull_z, inverse, length, plain)
            common = common + bend_x * x + bend_y * y + bend_z * z
            bend_x = _shortened(bend_x - common * x, inverse, length, plain)
            bend_y = _shortened(bend_y - common * y, inverse, length, plain)
            bend_z = _shortened(bend_z - common * z, inverse, length, plain)
        store_triples(turned, row, bend_x, bend_y, bend_z)


class _Number:
    """A value of lanes in arithmetic that is written down; zero is None, and is left out."""

    def __init__(self, builder: Any, value: Any) -> None:
        self.builder, self.value = builder, value

    def __add__(self, other: _Number) -> _Number:
        if self.value is None or other.value is None:
            return self if other.value is None else other
        return _Number(self.builder, self.builder.fadd(self.value, other.value))

    def __sub__(self, other: _Number) -> _Number:
        if other.value is None:
            return self
        if self.value is None:
            return _Number(self.builder, self.builder.fneg(other.value))
        return _Number(self.builder, self.builder.fsub(self.value, other.value))

    def __mul__(self, other: Any) -> _Number:
        if isinstance(other, float):
            return self.times(other)
        if self.value is None or other.value is None:
            return _Number(self.builder, None)
        return _Number(self.builder, self.builder.fmul(self.value, other.value))

    def times(self, factor: float) -> _Number:
        if self.value is None or factor == 1:
            return self
        kind = self.value.type
        constant = kind([kind.element(factor)] * kind.count)
        return _Number(self.builder, self.builder.fmul(self.value, constant))


class _Dual(NamedTuple):
    """A number and its derivative."""

    number: _Number
    slope: _Number

    def __add__(self, other: Any) -> _Dual:
        return _Dual(self.number + other.number, self.slope + other.slope)

    def __sub__(self, other: Any) -> _Dual:
        return _Dual(self.number - other.number, self.slope - other.slope)

    def __mul__(self, other: Any) -> _Dual:
        if isinstance(other, float):
            return _Dual(self.number * other, self.slope * other)
        return _Dual(self.number * other.number, self.slope * other.number + self.number * other.slope)


class _Legendre(NamedTuple):
    """A function of some degree and order as harmonics have it, and its slopes; None where they are zero."""

    degree: int
    order: int
    number: Any
    along: Any
    around: Any


def _legendre(program: Harmonics, y: Any, square: Any, one: Any) -> Iterator[_Legendre]:
    """Those of all degrees up to the largest one; slopes are along y, and around it, less a factor of -x or -z."""
    largest = max(program.degrees)
    leading = {(0, 0): 1.0}
    below: list[Any] = []
    before: list[Any] = []
    for degree in range(largest + 1):
        if degree:
            diagonal = leading[degree - 1, degree - 1] * math.sqrt((2 * degree + 1) / (2 * degree))
            leading[degree, degree] = diagonal
            leading[degree, degree - 1] = math.sqrt(2 * degree + 1) * leading[degree - 1, degree - 1]
        lead, less = recurrence(degree)
        now = []
        for order in range(degree + 1):
            if order < degree - 1:
                leading[degree, order] = lead[order] * leading[degree - 1, order]
                ratio = less[order] * leading[degree - 2, order] / leading[degree, order]
                now.append(before[order] * y - square * below[order] * ratio)
            else:
                now.append(one if order == degree else before[order] * y)
            factor = scale(degree, program.normalization) * (math.sqrt(2) if order else 1.0) * leading[degree, order]
            along, around = None, None
            ratio = (2 * degree + 1) / max(2 * degree - 1, 1) * (degree - order)
            if order < degree:
                rise = math.sqrt(ratio * (degree + order)) * leading[degree - 1, order]
                along = before[order] * (factor * rise / leading[degree, order])
            if order < degree - 1:
                shrink = math.sqrt(ratio * (degree - order - 1)) * leading[degree - 1, order + 1]
                around = before[order + 1] * (factor * shrink / leading[degree, order])
            yield _Legendre(degree, order, now[order] * factor, along, around)
        below, before = before, now


def _powers(program: Harmonics, x: Any, z: Any, one: Any, nothing: Any) -> tuple[list[Any], list[Any]]:
    """Real and imaginary parts of the powers of ``z + ix``."""
    cosines, sines = [one], [nothing]
    for order in range(max(program.degrees)):
        cosine, sine = cosines[-1], sines[-1]
        cosines.append(z * cosine - x * sine if order else z)
        sines.append(x * cosine + z * sine if order else x)
    return cosines, sines


def _write_values(program: Harmonics, vector: Sequence[Any], one: Any, nothing: Any, write: Any) -> None:
    """Calls ``write(component, number)`` for all components in order."""
    places, (x, y, z) = _places(program), vector
    cosines, sines = _powers(program, x, z, one, nothing)
    for legendre in _legendre(program, y, x * x + y * y + z * z, one):
        if legendre.degree in places:
            place, scaled = places[legendre.degree], legendre.number
            if legendre.order:
                write(place - legendre.order, scaled * sines[legendre.order])
                write(place + legendre.order, scaled * cosines[legendre.order])
            else:
                write(place, scaled)


def _write_slopes(
    program: Harmonics, vector: Sequence[Any], one: Any, nothing: Any, read: Any, write: Any
) -> tuple[Any, Any, Any]:
    """The gradient of the sum of ``read(component)`` times components, which are written too where there is ``write``.

    Slopes of the powers of ``z + ix`` are powers again: what they are given is added up first.
    """
    places, largest, (x, y, z) = _places(program), max(program.degrees), vector
    cosines, sines = _powers(program, x, z, one, nothing)
    by_cosine, by_sine = [nothing] * (largest + 1), [nothing] * (largest + 1)
    along, around = nothing, nothing
    for legendre in _legendre(program, y, x * x + y * y + z * z, one):
        if legendre.degree not in places:
            continue
        place, order, scaled = places[legendre.degree], legendre.order, legendre.number
        if order:
            plus, minus = read(place + order), read(place - order)
            by_cosine[order] = by_cosine[order] + scaled * plus
            by_sine[order] = by_sine[order] + scaled * minus
            weight = plus * cosines[order] + minus * sines[order]
            if write:
                write(place - order, scaled * sines[order])
                write(place + order, scaled * cosines[order])
        else:
            weight = read(place)
            if write:
                write(place, scaled)
        if legendre.along is not None:
            along = along + legendre.along * weight
        if legendre.around is not None:
            around = around + legendre.around * weight
    by_x, by_z = nothing - x * around, nothing - z * around
    for order in range(1, largest + 1):
        cosine, sine = cosines[order - 1] * float(order), sines[order - 1] * float(order)
        by_x = by_x + by_sine[order] * cosine - by_cosine[order] * sine
        by_z = by_z + by_cosine[order] * cosine + by_sine[order] * sine
    return by_x, along, by_z


def _places(program: Harmonics) -> dict[int, int]:
    """The component of order 0 of each degree."""
    places, begin = {}, 0
    for degree in program.degrees:
        places[degree] = begin + degree
        begin += 2 * degree + 1
    return places


def _matrix(context: Any, builder: Any, program: Harmonics, array: Any, value: Any, row: Any) -> Columns:
    kind, constant = context.get_value_type(Lanes(array.dtype)), program.degrees[0] == 0
    return Columns(context, builder, kind, array, value, row, program.components, constant=constant)


def _filled(builder: Any, number: _Number, kind: Any) -> Any:
    return llvm.zero(kind) if number.value is None else number.value


@intrinsic
def _values(typing, program, x, y, z, out, row):
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        to = _matrix(context, builder, program, out, *arguments[4:])
        numbers = [_Number(builder, value) for value in arguments[1:4]]
        one = _Number(builder, to.kind([to.kind.element(1)] * to.kind.count))

        def write(place: int, number: _Number) -> None:
            to.write(place, _filled(builder, number, to.kind))

        _write_values(program, numbers, one, _Number(builder, None), write)
        return context.get_dummy_value()

    return types.none(program, x, y, z, out, types.intp), generate


@intrinsic
def _slopes(typing, program, x, y, z, grad, row):
    result = types.UniTuple(x, 3)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        given = _matrix(context, builder, program, grad, *arguments[4:])
        numbers = [_Number(builder, value) for value in arguments[1:4]]
        one = _Number(builder, given.kind([given.kind.element(1)] * given.kind.count))
        found = _write_slopes(
            program,
            numbers,
            one,
            _Number(builder, None),
            lambda place: _Number(builder, given.read(place)),
            None,
        )
        return context.make_tuple(builder, result, [_filled(builder, number, given.kind) for number in found])

    return result(program, x, y, z, grad, types.intp), generate


@intrinsic
def _bends(typing, program, x, y, z, to_x, to_y, to_z, grad, out, row):
    result = types.UniTuple(x, 6)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        *_, grad_value, out_value, place = arguments
        given = _matrix(context, builder, program, grad, grad_value, place)
        to = _matrix(context, builder, program, out, out_value, place)
        nothing = _Number(builder, None)
        vector = [_Number(builder, value) for value in arguments[1:7]]
        duals = [_Dual(*pair) for pair in zip(vector[:3], vector[3:], strict=True)]
        one = _Number(builder, given.kind([given.kind.element(1)] * given.kind.count))
        found = _write_slopes(
            program,
            duals,
            _Dual(one, nothing),
            _Dual(nothing, nothing),
            lambda place: _Dual(_Number(builder, given.read(place)), nothing),
            lambda place, dual: to.write(place, _filled(builder, dual.slope, given.kind)),
        )
        both = [dual.number for dual in found] + [dual.slope for dual in found]
        return context.make_tuple(builder, result, [_filled(builder, number, given.kind) for number in both])

    return result(program, x, y, z, to_x, to_y, to_z, grad, out, types.intp), generate
