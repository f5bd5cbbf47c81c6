"""The vector registers of the processor inside Numba: a type `Lanes` of 16 numbers that are worked on at once.

LLVM makes vectors of loops only where it can prove that no arrays overlap, which it rarely can. Numbers of this type
are vectors from the start, whatever the width of the registers is: where it is smaller they take two or four. Only
modules of kernels import this one: it loads Numba.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir
from numba import extending, njit
from numba.core import cgutils, types
from numba.extending import models, overload, register_model

WIDTH = 16
# What it makes is called by compiled code only, with other arguments than those that it is written with.
intrinsic: Any = extending.intrinsic


class Lanes(types.Type):
    """`WIDTH` numbers of one floating dtype."""

    def __init__(self, dtype: Any) -> None:
        self.dtype = dtype
        super().__init__(name=f"Lanes({dtype})")


@register_model(Lanes)
class _LanesModel(models.PrimitiveModel):
    def __init__(self, manager: Any, kind: Lanes) -> None:
        super().__init__(manager, kind, ir.VectorType(manager.lookup(kind.dtype).get_value_type(), WIDTH))


@njit(forceinline=True)
def scratch(rows, like):  # type: ignore[no-untyped-def]
    """An array of so many rows of lanes, each of which begins where a line of the cache does."""
    raw = np.empty((rows + 1) * WIDTH, like.dtype)
    first = -raw.ctypes.data % 64 // raw.itemsize
    return raw[first : first + rows * WIDTH].reshape(rows, WIDTH)


@intrinsic
def load(typing, array, row):  # type: ignore[no-untyped-def]
    """Row ``row`` of a contiguous array of `WIDTH` columns."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        source, place = arguments
        start = _address(context, builder, array, source, (place, None))
        return _load(builder, start, _number(context, array), WIDTH)

    return Lanes(array.dtype)(array, row), generate


@intrinsic
def store(typing, array, row, lanes):  # type: ignore[no-untyped-def]
    """Writes row ``row`` of a contiguous array of `WIDTH` columns."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        target, place, value = arguments
        _store(builder, value, _address(context, builder, array, target, (place, None)))
        return context.get_dummy_value()

    return types.void(array, row, lanes), generate


@intrinsic
def load_triples(typing, array, row):  # type: ignore[no-untyped-def]
    """The three columns of `WIDTH` rows, from ``row`` on, of a contiguous array that has three."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        number = _number(context, array)
        start = _address(context, builder, array, arguments[0], (arguments[1], None))
        parts = [_load(builder, _further(builder, start, part), number, WIDTH) for part in range(3)]
        columns = []
        for axis in range(3):
            places = [3 * lane + axis for lane in range(WIDTH)]
            both = _shuffled(builder, parts[0], parts[1], [min(place, 2 * WIDTH - 1) for place in places])
            mask = [lane if place < 2 * WIDTH else place - WIDTH for lane, place in enumerate(places)]
            columns.append(_shuffled(builder, both, parts[2], mask))
        return context.make_tuple(builder, signature.return_type, columns)

    return types.UniTuple(Lanes(array.dtype), 3)(array, row), generate


@intrinsic
def store_triples(typing, array, row, x, y, z):  # type: ignore[no-untyped-def]
    """Writes what `load_triples` reads."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        start = _address(context, builder, array, arguments[0], (arguments[1], None))
        for part in range(3):
            places = [divmod(part * WIDTH + lane, 3) for lane in range(WIDTH)]
            both = _shuffled(builder, arguments[2], arguments[3], [row + WIDTH * (axis == 1) for row, axis in places])
            mask = [row + WIDTH if axis == 2 else lane for lane, (row, axis) in enumerate(places)]
            _store(builder, _shuffled(builder, both, arguments[4], mask), _further(builder, start, part))
        return context.get_dummy_value()

    return types.void(array, row, x, y, z), generate


@intrinsic
def spread(typing, number):  # type: ignore[no-untyped-def]
    """A number on every lane."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return _spread(builder, arguments[0])

    return Lanes(number)(number), generate


@intrinsic
def root(typing, lanes):  # type: ignore[no-untyped-def]
    """Square roots."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return _called(builder, "llvm.sqrt", arguments[0])

    return lanes(lanes), generate


@intrinsic
def magnitude(typing, lanes):  # type: ignore[no-untyped-def]
    """Absolute values."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return _called(builder, "llvm.fabs", arguments[0])

    return lanes(lanes), generate


@intrinsic
def larger(typing, left, right):  # type: ignore[no-untyped-def]
    """The larger of each two; the second where one is NaN."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.select(builder.fcmp_ordered(">", *arguments), *arguments)

    return left(left, right), generate


@intrinsic
def where_zero(typing, test, then, other):  # type: ignore[no-untyped-def]
    """``then`` on lanes where ``test`` is zero, ``other`` elsewhere."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        tested, chosen, rest = arguments
        return builder.select(builder.fcmp_ordered("==", tested, ir.Constant(tested.type, None)), chosen, rest)

    return then(test, then, other), generate


@intrinsic
def all_between(typing, low, lanes, high):  # type: ignore[no-untyped-def]
    """Whether all lanes are above one number and below another; false where one is NaN."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        least, value, most = arguments
        above = builder.fcmp_ordered(">", value, _spread(builder, least))
        inside = builder.and_(above, builder.fcmp_ordered("<", value, _spread(builder, most)))
        bits = builder.bitcast(inside, ir.IntType(WIDTH))
        return builder.icmp_unsigned("==", bits, ir.Constant(bits.type, -1))

    return types.boolean(low, lanes, high), generate


def _turning(count: int) -> Any:
    @intrinsic
    def turn(typing, array, row, lane, out, first, column):  # type: ignore[no-untyped-def]
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            source, from_row, from_lane, target, to_row, to_column = arguments
            _turn(context, builder, count, array, source, (from_row, from_lane), out, target, (to_row, to_column))
            return context.get_dummy_value()

        return types.void(array, row, lane, out, first, column), generate

    return turn


# ``out[first + j, column + i] = array[row + i, lane + j]`` for squares of 4 and of 8, transposed in registers.
turn_4, turn_8 = _turning(4), _turning(8)


@intrinsic
def load_at(typing, array, first, second, third):  # type: ignore[no-untyped-def]
    """`WIDTH` numbers of an array of three axes, from an entry on, along the last one."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        source, *place = arguments
        start = _address(context, builder, array, source, tuple(place))
        return _load(builder, start, _number(context, array), WIDTH)

    return Lanes(array.dtype)(array, first, second, third), generate


@intrinsic
def store_at(typing, array, first, second, third, lanes):  # type: ignore[no-untyped-def]
    """Writes `WIDTH` numbers of an array of three axes, from an entry on, along the last one."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        target, *place, value = arguments
        _store(builder, value, _address(context, builder, array, target, tuple(place)))
        return context.get_dummy_value()

    return types.void(array, first, second, third, lanes), generate


@intrinsic
def multiply_add(typing, left, right, more):  # type: ignore[no-untyped-def]
    """``left * right + more``, rounded once."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        kind = arguments[0].type
        name = f"llvm.fma.v{WIDTH}f{8 * _size(kind.element)}"
        fused = builder.module.declare_intrinsic(name, (), ir.FunctionType(kind, [kind] * 3))
        return builder.call(fused, arguments)

    return left(left, right, more), generate


def _arithmetic(operation: Callable[[Any, Any], Any], instruction: str) -> None:
    """Makes an operator of Python work on lanes, and on lanes and numbers."""

    @intrinsic
    def both(typing, left, right):  # type: ignore[no-untyped-def]
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            return getattr(builder, instruction)(*arguments)

        return left(left, right), generate

    @overload(operation)
    def of_lanes(left, right):  # type: ignore[no-untyped-def]
        if isinstance(left, Lanes) and left == right:
            return lambda left, right: both(left, right)
        if isinstance(left, Lanes) and left.dtype == right:
            return lambda left, right: both(left, spread(right))
        if isinstance(right, Lanes) and right.dtype == left:
            return lambda left, right: both(spread(left), right)
        return None


for _operation, _instruction in (
    (operator.add, "fadd"),
    (operator.sub, "fsub"),
    (operator.mul, "fmul"),
    (operator.truediv, "fdiv"),
):
    _arithmetic(_operation, _instruction)


@intrinsic
def _opposite(typing, lanes):  # type: ignore[no-untyped-def]
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.fneg(arguments[0])

    return lanes(lanes), generate


@overload(operator.neg)
def _negative(lanes):  # type: ignore[no-untyped-def]
    return (lambda lanes: _opposite(lanes)) if isinstance(lanes, Lanes) else None


def _called(builder: Any, name: str, value: Any) -> Any:
    """What an operation that LLVM knows by name makes of lanes."""
    kind = f"{name}.v{WIDTH}f{8 * _size(value.type.element)}"
    function = cgutils.get_or_insert_function(builder.module, ir.FunctionType(value.type, [value.type]), kind)
    return builder.call(function, [value])


def _number(context: Any, array: Any) -> Any:
    return context.get_value_type(array.dtype)


def _address(context: Any, builder: Any, kind: Any, array: Any, indices: tuple[Any, ...]) -> Any:
    """Where an entry of an array is; an index of None is zero."""
    zero = context.get_constant(types.intp, 0)
    places = [zero if index is None else index for index in indices]
    made = context.make_array(kind)(context, builder, array)
    return cgutils.get_item_pointer(context, builder, kind, made, places, wraparound=False)


def _load(builder: Any, start: Any, number: Any, count: int) -> Any:
    vector = ir.VectorType(number, count)
    # Rows begin where a number may begin, no more.
    return builder.load(builder.bitcast(start, vector.as_pointer()), align=_size(number))


def _store(builder: Any, value: Any, start: Any) -> None:
    builder.store(value, builder.bitcast(start, value.type.as_pointer()), align=_size(value.type.element))


def _size(number: Any) -> int:
    return 4 if isinstance(number, ir.FloatType) else 8


def _spread(builder: Any, number: Any) -> Any:
    vector = ir.VectorType(number.type, WIDTH)
    single = builder.insert_element(ir.Constant(vector, ir.Undefined), number, ir.Constant(ir.IntType(32), 0))
    return _shuffled(builder, single, single, [0] * WIDTH)


def _shuffled(builder: Any, left: Any, right: Any, places: list[int]) -> Any:
    mask = ir.Constant(ir.VectorType(ir.IntType(32), len(places)), [ir.Constant(ir.IntType(32), p) for p in places])
    return builder.shuffle_vector(left, right, mask)


def _further(builder: Any, start: Any, part: int) -> Any:
    return builder.gep(start, [ir.Constant(ir.IntType(64), part * WIDTH)])


def _turn(
    context: Any, builder: Any, count: int, source: Any, array: Any, place: Any, target: Any, out: Any, to: Any
) -> None:
    """A square of numbers from one array to another, rows as columns: blocks of one, two and four change places."""
    number = _number(context, source)
    steps = [context.get_constant(types.intp, step) for step in range(count)]
    rows = []
    for step in steps:
        start = _address(context, builder, source, array, (builder.add(place[0], step), place[1]))
        rows.append(_load(builder, start, number, count))
    half = 1
    while half < count:
        # Lanes whose number has this bit come from the other of two rows that differ in it.
        low = [lane + count - half if lane & half else lane for lane in range(count)]
        high = [lane + count if lane & half else lane + half for lane in range(count)]
        for row in range(count):
            if not row & half:
                one, other = rows[row], rows[row | half]
                rows[row] = _shuffled(builder, one, other, low)
                rows[row | half] = _shuffled(builder, one, other, high)
        half *= 2
    for step, row in zip(steps, rows, strict=True):
        _store(builder, row, _address(context, builder, target, out, (builder.add(to[0], step), to[1])))
