"""What comes before and after a product of whole numbers, one row after the other, as machine code for the CPU.

Before it, each row is divided by its largest entry and rounded; after it, the sums get their scales and the bias. Both
go through the memory once, where the operators of torch take four turns.
"""

from __future__ import annotations

from typing import Any

import llvmlite.ir as ir
from numba import extending, njit, types
from numba.core import cgutils

# Called from compiled code, without the first of their arguments.
intrinsic: Any = extending.intrinsic

_LANES = 16
# Largest of the whole numbers, and the smallest entry by which it is divided.
_MOST, _LEAST = 127.0, 2.0**-119
_FLOAT, _INT, _BYTE, _WORD = ir.FloatType(), ir.IntType(32), ir.IntType(8), ir.IntType(64)


def _wide(kind: ir.Type, count: int) -> ir.Type:
    return kind if count == 1 else ir.VectorType(kind, count)


def _all(kind: ir.Type, count: int, value: float) -> Any:
    return ir.Constant(kind, value) if count == 1 else ir.Constant(_wide(kind, count), [value] * count)


def _splat(builder: Any, value: Any, count: int) -> Any:
    if count == 1:
        return value
    kind = ir.VectorType(value.type, count)
    one = builder.insert_element(ir.Constant(kind, ir.Undefined), value, ir.Constant(_INT, 0))
    return builder.shuffle_vector(one, ir.Constant(kind, ir.Undefined), ir.Constant(ir.VectorType(_INT, count), None))


def _call(builder: Any, name: str, *given: Any) -> Any:
    """An intrinsic of LLVM whose result is of the type of its arguments."""
    kind = given[0].type
    letter = "f32" if kind in (_FLOAT, _wide(_FLOAT, _LANES)) else "i32"
    full = f"llvm.{name}.{f'v{kind.count}' if isinstance(kind, ir.VectorType) else ''}{letter}"
    made = cgutils.get_or_insert_function(builder.module, ir.FunctionType(kind, [kind] * len(given)), full)
    return builder.call(made, list(given))


def _at(builder: Any, address: Any, place: Any, size: int, kind: ir.Type) -> Any:
    byte = builder.add(address, builder.mul(place, ir.Constant(_WORD, size)))
    return builder.inttoptr(byte, kind.as_pointer())


def _each(builder: Any, count: Any, body: Any) -> None:
    """``body(place, lanes)`` for vectors of entries as long as there are whole ones, and for the rest one by one."""
    lanes = ir.Constant(_WORD, _LANES)
    whole = builder.mul(builder.udiv(count, lanes), lanes)
    with cgutils.for_range_slice(builder, ir.Constant(_WORD, 0), whole, lanes, _WORD) as (place, _):
        body(place, _LANES)
    with cgutils.for_range_slice(builder, whole, count, ir.Constant(_WORD, 1), _WORD) as (place, _):
        body(place, 1)


def _entry(builder: Any, x: Any, factors: Any, place: Any, lanes: int, *, smooth: bool) -> Any:
    value = builder.load(_at(builder, x, place, 4, _wide(_FLOAT, lanes)), align=4)
    if smooth:
        factor = builder.load(_at(builder, factors, place, 4, _wide(_FLOAT, lanes)), align=4)
        value = builder.fmul(value, factor)
    return value


def _rounding(*, smooth: bool) -> Any:
    @intrinsic
    def row(typing: Any, x: Any, factors: Any, count: Any, numbers: Any, flip: Any) -> Any:
        """Round ``count`` entries times their factors to the bytes at ``numbers``; returns the scale."""

        def generate(context: Any, builder: Any, signature: Any, given: Any) -> Any:
            x, factors, count, numbers, flip = given
            # As whole numbers, bits of absolute values are ordered as the values are, and NaN is above all of them.
            most = {n: cgutils.alloca_once_value(builder, _all(_INT, n, 0)) for n in (_LANES, 1)}

            def largest(place: Any, lanes: int) -> None:
                value = _entry(builder, x, factors, place, lanes, smooth=smooth)
                bits = builder.and_(builder.bitcast(value, _wide(_INT, lanes)), _all(_INT, lanes, 0x7FFFFFFF))
                builder.store(_call(builder, "smax", builder.load(most[lanes]), bits), most[lanes])

            _each(builder, count, largest)
            bits, vector = builder.load(most[1]), builder.load(most[_LANES])
            for lane in range(_LANES):
                bits = _call(builder, "smax", bits, builder.extract_element(vector, ir.Constant(_INT, lane)))
            peak = builder.bitcast(bits, _FLOAT)
            # The reciprocal of what is smaller than this is not finite: such rows count as zero.
            none = builder.icmp_signed("<", bits, builder.bitcast(ir.Constant(_FLOAT, _LEAST), _INT))
            scale = builder.fdiv(peak, ir.Constant(_FLOAT, _MOST))
            share = builder.select(none, ir.Constant(_FLOAT, 0.0), builder.fdiv(ir.Constant(_FLOAT, _MOST), peak))

            def rounded(place: Any, lanes: int) -> None:
                value = _entry(builder, x, factors, place, lanes, smooth=smooth)
                value = _call(builder, "rint", builder.fmul(value, _splat(builder, share, lanes)))
                number = builder.trunc(builder.fptosi(value, _wide(_INT, lanes)), _wide(_BYTE, lanes))
                number = builder.xor(number, _splat(builder, builder.trunc(flip, _BYTE), lanes))
                builder.store(number, _at(builder, numbers, place, 1, _wide(_BYTE, lanes)), align=1)

            _each(builder, count, rounded)
            return scale

        return types.float32(*[types.int64] * 5), generate

    return row


def _scaling(*, whole: bool, added: bool) -> Any:
    @intrinsic
    def row(typing: Any, sums: Any, count: Any, scale: Any, scales: Any, bias: Any) -> Any:
        """``sums * scale * scales + bias`` of ``count`` sums, in their place."""

        def generate(context: Any, builder: Any, signature: Any, given: Any) -> Any:
            sums, count, scale, scales, bias = given

            def one(place: Any, lanes: int) -> None:
                wide = _wide(_FLOAT, lanes)
                if whole:
                    number = builder.load(_at(builder, sums, place, 4, _wide(_INT, lanes)), align=4)
                    value = builder.sitofp(number, wide)
                else:
                    value = builder.load(_at(builder, sums, place, 4, wide), align=4)
                value = builder.fmul(value, _splat(builder, scale, lanes))
                factor = builder.load(_at(builder, scales, place, 4, wide), align=4)
                if added:
                    more = builder.load(_at(builder, bias, place, 4, wide), align=4)
                    value = _call(builder, "fma", value, factor, more)
                else:
                    value = builder.fmul(value, factor)
                builder.store(value, _at(builder, sums, place, 4, wide), align=4)

            _each(builder, count, one)
            return context.get_dummy_value()

        number = types.int64
        return types.none(number, number, types.float32, number, number), generate

    return row


@intrinsic
def _get(typing: Any, address: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, given: Any) -> Any:
        return builder.load(builder.inttoptr(given[0], _FLOAT.as_pointer()))

    return types.float32(types.int64), generate


@intrinsic
def _put(typing: Any, address: Any, value: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, given: Any) -> Any:
        builder.store(given[1], builder.inttoptr(given[0], _FLOAT.as_pointer()))
        return context.get_dummy_value()

    return types.none(types.int64, types.float32), generate


_plain, _smoothed = _rounding(smooth=False), _rounding(smooth=True)
_whole_bias, _whole = _scaling(whole=True, added=True), _scaling(whole=True, added=False)
_float_bias, _float = _scaling(whole=False, added=True), _scaling(whole=False, added=False)


def _round_rows(
    x: int, pitch: int, factors: int, features: int, numbers: int, flip: int, scales: int, first: int, last: int
) -> None:
    for n in range(first, last):
        source, target = x + n * pitch, numbers + n * features
        if factors != 0:
            _put(scales + 4 * n, _smoothed(source, factors, features, target, flip))
        else:
            _put(scales + 4 * n, _plain(source, factors, features, target, flip))


def _scale_rows(
    sums: int, whole: int, features: int, each: int, rows: int, columns: int, bias: int, first: int, last: int
) -> None:
    for n in range(first, last):
        place, scale = sums + 4 * n * features, _get(rows + 4 * (n // each))
        if whole != 0:
            if bias != 0:
                _whole_bias(place, features, scale, columns, bias)
            else:
                _whole(place, features, scale, columns, bias)
        elif bias != 0:
            _float_bias(place, features, scale, columns, bias)
        else:
            _float(place, features, scale, columns, bias)


try:
    round_rows, scale_rows = njit(_round_rows, cache=True, nogil=True), njit(_scale_rows, cache=True, nogil=True)
except RuntimeError:  # there is no place to keep what was compiled
    round_rows, scale_rows = njit(_round_rows, nogil=True), njit(_scale_rows, nogil=True)
