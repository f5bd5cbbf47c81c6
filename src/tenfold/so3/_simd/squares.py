"""Between arrays whose rows are vectors of a few numbers, and lanes of many vectors."""

# Intrinsics get types and return a signature and a generator of code; there is nothing in them to annotate.
# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba.core import types

from tenfold.so3._simd import llvm
from tenfold.so3._simd.arrays import address
from tenfold.so3._simd.lanes import Lanes, intrinsic


@intrinsic
def load_triples(typing, array, row):
    """The three columns of as many rows as there are lanes, from ``row`` on, of a contiguous array that has three."""
    lanes = Lanes(array.dtype)
    result, count = types.UniTuple(lanes, 3), lanes.count

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        start = address(context, builder, array, arguments[0], (arguments[1],))
        kind = context.get_value_type(lanes)
        parts = [llvm.load(builder, builder.gep(start, [llvm.I64(part * count)]), kind) for part in range(3)]
        columns = []
        for axis in range(3):
            places = [3 * lane + axis for lane in range(count)]
            both = llvm.shuffle(builder, parts[0], parts[1], [min(place, 2 * count - 1) for place in places])
            mask = [lane if place < 2 * count else place - count for lane, place in enumerate(places)]
            columns.append(llvm.shuffle(builder, both, parts[2], mask))
        return context.make_tuple(builder, result, columns)

    return result(array, types.intp), generate


@intrinsic
def store_triples(typing, array, row, x, y, z):
    """Writes what `load_triples` reads."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        start = address(context, builder, array, arguments[0], (arguments[1],))
        for part in range(3):
            places = [divmod(part * x.count + lane, 3) for lane in range(x.count)]
            mask = [vector + x.count * (axis == 1) for vector, axis in places]
            both = llvm.shuffle(builder, arguments[2], arguments[3], mask)
            mask = [vector + x.count if axis == 2 else lane for lane, (vector, axis) in enumerate(places)]
            value = llvm.shuffle(builder, both, arguments[4], mask)
            llvm.store(builder, value, builder.gep(start, [llvm.I64(part * x.count)]))
        return context.get_dummy_value()

    return types.none(array, types.intp, x, y, z), generate


def _turning(count: int) -> Any:
    @intrinsic
    def turn(typing, array, row, column, out, to_row, to_column):
        places = [types.intp, types.intp]

        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            source, *place, target, first, second = arguments
            numbers = range(count)
            kind = ir.VectorType(context.get_value_type(array.dtype), count)

            def at(of: Any, value: Any, row: Any, number: int, column: Any) -> Any:
                moved = builder.add(row, context.get_constant(types.intp, number))
                return address(context, builder, of, value, (moved, column))

            rows = [llvm.load(builder, at(array, source, place[0], number, place[1]), kind) for number in numbers]
            for number, row in zip(numbers, llvm.turned(builder, rows), strict=True):
                llvm.store(builder, row, at(out, target, first, number, second))
            return context.get_dummy_value()

        return types.none(array, *places, out, *places), generate

    return turn


# ``out[to_row + j, to_column + i] = array[row + i, column + j]`` for squares of 4 and of 8, transposed in registers.
turn_4, turn_8 = _turning(4), _turning(8)
