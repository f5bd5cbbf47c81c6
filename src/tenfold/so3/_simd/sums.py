"""Sums of products: of lanes, of numbers in contiguous arrays of one axis, of tuples of lanes."""

# Intrinsics get types and return a signature and a generator of code; there is nothing in them to annotate.
# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

from typing import Any

from numba.core import cgutils, types

from tenfold.so3._simd import llvm
from tenfold.so3._simd.arrays import address
from tenfold.so3._simd.lanes import intrinsic


@intrinsic
def scale_add(typing, array, place, lanes, total):
    """``array[place]`` times lanes, plus others."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        source, number, value, rest = arguments
        return llvm.multiply_add(builder, _everywhere(context, builder, array, source, number), value, rest)

    return lanes(array, types.intp, lanes, total), generate


@intrinsic
def combine_add(typing, array, start, values, total):
    """The sum of ``array[start + i]`` times lanes ``i`` of a tuple, plus others."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        source, place, given, found = arguments
        for value in cgutils.unpack_tuple(builder, given):
            found = llvm.multiply_add(builder, _everywhere(context, builder, array, source, place), value, found)
            place = builder.add(place, context.get_constant(types.intp, 1))
        return found

    return total(array, types.intp, values, total), generate


@intrinsic
def spread_add(typing, array, start, lanes, totals):
    """``array[start + i]`` times lanes, plus those ``i`` of a tuple: a tuple again."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        source, place, value, rest = arguments
        found = []
        for total in cgutils.unpack_tuple(builder, rest):
            factor = _everywhere(context, builder, array, source, place)
            found.append(llvm.multiply_add(builder, factor, value, total))
            place = builder.add(place, context.get_constant(types.intp, 1))
        return context.make_tuple(builder, totals, found)

    return totals(array, types.intp, lanes, totals), generate


@intrinsic
def multiply_each(typing, lanes, values):
    """Lanes times each of a tuple."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        found = [builder.fmul(arguments[0], value) for value in cgutils.unpack_tuple(builder, arguments[1])]
        return context.make_tuple(builder, values, found)

    return values(lanes, values), generate


@intrinsic
def multiply_add_each(typing, lanes, values, totals):
    """Lanes times each of a tuple, plus each of another."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        pairs = zip(*(cgutils.unpack_tuple(builder, given) for given in arguments[1:]), strict=True)
        found = [llvm.multiply_add(builder, arguments[0], value, total) for value, total in pairs]
        return context.make_tuple(builder, totals, found)

    return totals(lanes, values, totals), generate


@intrinsic
def inner_add(typing, left, right, total):
    """The products of the lanes of two tuples, summed, plus others."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        *both, found = arguments
        for one, other in zip(*(cgutils.unpack_tuple(builder, given) for given in both), strict=True):
            found = llvm.multiply_add(builder, one, other, found)
        return found

    return total(left, right, total), generate


def _everywhere(context: Any, builder: Any, kind: Any, array: Any, place: Any) -> Any:
    """A number of an array on all lanes."""
    return llvm.spread(builder, builder.load(address(context, builder, kind, array, (place,))))
