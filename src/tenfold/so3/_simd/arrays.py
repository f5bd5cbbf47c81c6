"""Lanes from contiguous arrays and to them.

A place is the number of an entry, of a row of a matrix, or a tuple of indices. Where ``count`` is given and not None,
only so many lanes are read, the others being zero, or written. Where the length of a tuple must be known, ``like`` is a
tuple of that length.
"""

# Intrinsics get types and return a signature and a generator of code; there is nothing in them to annotate.
# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit
from numba.core import cgutils, types

from tenfold.so3._simd import BYTES, llvm
from tenfold.so3._simd.lanes import Lanes, intrinsic, width


@njit(forceinline=True)
def scratch(rows, like):
    """An array of so many rows of lanes, each of which begins where a line of the cache does."""
    lanes = width(like)
    raw = np.empty((rows + 1) * lanes, like.dtype)
    first = -raw.ctypes.data % BYTES // raw.itemsize
    return raw[first : first + rows * lanes].reshape(rows, lanes)


@intrinsic
def load(typing, array, place, count=None):
    """The lanes from a place on."""
    lanes = Lanes(array.dtype)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        mask = mask_of(builder, lanes, count, arguments[-1])
        pointer = address(context, builder, array, arguments[0], indices(builder, arguments[1]))
        return llvm.load(builder, pointer, context.get_value_type(lanes), mask)

    return lanes(array, _place(place), _count(count)), generate


@intrinsic
def store(typing, array, place, value, count=None):
    """Writes the lanes from a place on."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        mask = mask_of(builder, value, count, arguments[-1])
        pointer = address(context, builder, array, arguments[0], indices(builder, arguments[1]))
        llvm.store(builder, arguments[2], pointer, mask)
        return context.get_dummy_value()

    return types.none(array, _place(place), value, _count(count)), generate


@intrinsic
def load_rows(typing, array, start, stride, count, like):
    """Those from ``start``, ``start + stride``, and so on, of an array of one axis."""
    lanes = Lanes(array.dtype)
    result = types.UniTuple(lanes, len(like))

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        source, place, step, number, _ = arguments
        mask, found = mask_of(builder, lanes, count, number), []
        for _ in range(len(like)):
            pointer = address(context, builder, array, source, (place,))
            found.append(llvm.load(builder, pointer, context.get_value_type(lanes), mask))
            place = builder.add(place, step)
        return context.make_tuple(builder, result, found)

    return result(array, types.intp, types.intp, count, like), generate


@intrinsic
def store_rows(typing, array, start, stride, count, values):
    """Writes a tuple of lanes to ``start``, ``start + stride``, and so on, of an array of one axis."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        target, place, step, number, given = arguments
        mask = mask_of(builder, Lanes(array.dtype), count, number)
        for value in cgutils.unpack_tuple(builder, given):
            llvm.store(builder, value, address(context, builder, array, target, (place,)), mask)
            place = builder.add(place, step)
        return context.get_dummy_value()

    return types.none(array, types.intp, types.intp, count, values), generate


@intrinsic
def zeros(typing, array, like):
    """A tuple of zeros of the dtype of an array."""
    lanes = Lanes(array.dtype)
    result = types.UniTuple(lanes, len(like))

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return context.make_tuple(builder, result, [llvm.zero(context.get_value_type(lanes))] * len(like))

    return result(array, like), generate


@intrinsic
def fetch(typing, array, place):
    """Has the entries from a place on brought closer while something else is done."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        llvm.fetch(builder, address(context, builder, array, arguments[0], indices(builder, arguments[1])))
        return context.get_dummy_value()

    return types.none(array, _place(place)), generate


@intrinsic
def remaining(typing, channels, first, partial):
    """``count`` for the channels from ``first`` on: None where ``partial`` is None, which says that all are whole."""
    result = types.none if isinstance(partial, types.NoneType) else types.intp

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        if result is types.none:
            return context.get_dummy_value()
        return builder.sub(arguments[0], arguments[1])

    return result(types.intp, types.intp, partial), generate


def address(context: Any, builder: Any, kind: Any, array: Any, place: tuple[Any, ...]) -> Any:
    """Where an entry of an array is; indices that are left out are zero."""
    nothing = context.get_constant(types.intp, 0)
    made = context.make_array(kind)(context, builder, array)
    whole = (*place, *[nothing] * (kind.ndim - len(place)))
    return cgutils.get_item_pointer(context, builder, kind, made, whole, wraparound=False)


def indices(builder: Any, place: Any) -> tuple[Any, ...]:
    """Those of a place."""
    return (place,) if isinstance(place.type, ir.IntType) else tuple(cgutils.unpack_tuple(builder, place))


def mask_of(builder: Any, lanes: Lanes, count: Any, number: Any) -> Any:
    """Which lanes count; None for all."""
    if count is None or isinstance(count, types.NoneType):
        return None
    kind = ir.VectorType(llvm.I64, lanes.count)
    return builder.icmp_signed("<", ir.Constant(kind, list(range(lanes.count))), llvm.spread(builder, number, kind))


def _place(place: Any) -> Any:
    return types.UniTuple(types.intp, len(place)) if isinstance(place, types.BaseTuple) else types.intp


def _count(count: Any) -> Any:
    return types.none if count is None or isinstance(count, types.NoneType) else types.intp
