"""A chain of small products applied to many rows at once, as machine code for the CPU.

A block of rows lies with its features first and its rows, the lanes, last. In this layout every product of the chain
is made of matrices times lanes, whatever indices it joins, and nothing is permuted on the way: only the rows that come
in and go out are transposed, in registers. A block and what is made of it stay in the cache.
"""

from __future__ import annotations

from typing import Any

import llvmlite.ir as ir
import numpy as np
from numba import extending, njit, types
from numba.core import cgutils
from numba.core.codegen import get_host_cpu_features

# Called from compiled code, without the first of their arguments.
intrinsic: Any = extending.intrinsic

_WIDE = "+avx512f" in get_host_cpu_features().split(",")
# Registers hold a tile of so many rows of the matrix times so many vectors of 64 bytes; 32 of them, or 16 halves.
TILE = 8 if _WIDE else 4
VECTORS = 2 if _WIDE else 1
# Numbers that describe a product: sizes, and where its parts begin.
HEAD = 12


def lanes(size: int, vectors: int = VECTORS) -> int:
    """Rows in a block of so many vectors, for numbers of ``size`` bytes."""
    return vectors * 64 // size


def _vector(array: Any) -> tuple[ir.Type, ir.Type, int]:
    """The type of a number, that of a vector of them, and how many it has."""
    if array.dtype == types.float32:
        return ir.FloatType(), ir.VectorType(ir.FloatType(), 16), 16
    return ir.DoubleType(), ir.VectorType(ir.DoubleType(), 8), 8


def _splat(builder: Any, value: Any, count: int) -> Any:
    kind = ir.VectorType(value.type, count)
    one = builder.insert_element(ir.Constant(kind, ir.Undefined), value, ir.Constant(ir.IntType(32), 0))
    return builder.shuffle_vector(one, ir.Constant(kind, ir.Undefined), _mask([0] * count))


def _fused(builder: Any, a: Any, b: Any, c: Any) -> Any:
    """``a * b + c``, of vectors."""
    name = "llvm.fma.v16f32" if a.type.count == 16 else "llvm.fma.v8f64"
    kind = ir.FunctionType(a.type, [a.type] * 3)
    return builder.call(cgutils.get_or_insert_function(builder.module, kind, name), [a, b, c])


def _mask(places: list[int]) -> Any:
    return ir.Constant(ir.VectorType(ir.IntType(32), len(places)), places)


def _at(builder: Any, address: Any, kind: ir.Type) -> Any:
    return builder.inttoptr(address, kind.as_pointer())


def _tile(height: int, vectors: int) -> Any:
    """``out[m, :] (+)= sum_k packed[k, m] x[k, :]`` for ``height`` values of m; addresses, and offsets in bytes."""

    @intrinsic
    def product(
        typing: Any, array: Any, packed: Any, x: Any, steps: Any, count: Any, out: Any, places: Any, add: Any
    ) -> Any:
        number, vector, width = _vector(array)
        size = 64 // width

        def generate(context: Any, builder: Any, signature: Any, given: Any) -> Any:
            _, packed, x, steps, count, out, places, add = given
            word = ir.IntType(64)
            sums = [[cgutils.alloca_once(builder, vector) for _ in range(vectors)] for _ in range(height)]
            rows = []
            for m in range(height):
                place = builder.load(_at(builder, builder.add(places, ir.Constant(word, 8 * m)), word))
                rows.append(builder.add(out, place))
            zero = ir.Constant(vector, [0.0] * width)
            with builder.if_else(builder.icmp_signed("!=", add, ir.Constant(word, 0))) as (then, otherwise):
                with then:
                    for m in range(height):
                        for v in range(vectors):
                            at = _at(builder, builder.add(rows[m], ir.Constant(word, 64 * v)), vector)
                            builder.store(builder.load(at, align=size), sums[m][v])
                with otherwise:
                    for m in range(height):
                        for v in range(vectors):
                            builder.store(zero, sums[m][v])
            with cgutils.for_range(builder, count, intp=word) as loop:
                k = loop.index
                step = builder.load(_at(builder, builder.add(steps, builder.mul(k, ir.Constant(word, 8))), word))
                source = builder.add(x, step)
                read = [
                    builder.load(_at(builder, builder.add(source, ir.Constant(word, 64 * v)), vector), align=size)
                    for v in range(vectors)
                ]
                column = builder.add(packed, builder.mul(k, ir.Constant(word, size * height)))
                for m in range(height):
                    factor = builder.load(_at(builder, builder.add(column, ir.Constant(word, size * m)), number))
                    spread = _splat(builder, factor, width)
                    for v in range(vectors):
                        builder.store(_fused(builder, spread, read[v], builder.load(sums[m][v])), sums[m][v])
            for m in range(height):
                for v in range(vectors):
                    at = _at(builder, builder.add(rows[m], ir.Constant(word, 64 * v)), vector)
                    builder.store(builder.load(sums[m][v]), at, align=size)
            return context.get_dummy_value()

        whole = types.int64
        return types.none(array, whole, whole, whole, whole, whole, whole, whole), generate

    return product


_tile_full, _tile_half, _tile_one = (_tile(height, VECTORS) for height in (TILE, TILE // 2, 1))
_thin_full, _thin_half, _thin_one = (_tile(height, 1) for height in (TILE, TILE // 2, 1))


@intrinsic
def _turn(
    typing: Any, array: Any, source: Any, apart: Any, read: Any, target: Any, pitch: Any, written: Any, added: Any
) -> Any:
    """A square block of one vector's width, transposed; ``added`` is the address of what each result gets, or 0.

    Of the source there are rows up to ``read``, which stands for those after it; of the target up to ``written``,
    which gets what would go after it: the same numbers, if they come from what stood for others.
    """
    _, vector, width = _vector(array)
    size = 64 // width

    def generate(context: Any, builder: Any, signature: Any, given: Any) -> Any:
        _, source, apart, read, target, pitch, written, added = given
        word = ir.IntType(64)

        def row(first: Any, step: Any, n: int, last: Any) -> Any:
            place = ir.Constant(word, n)
            place = builder.select(builder.icmp_signed("<", place, last), place, last)
            return builder.add(first, builder.mul(step, place))

        held = []
        for n in range(width):
            at = row(source, apart, n, read)
            held.append(builder.load(_at(builder, at, vector), align=size))
        distance = width // 2
        while distance:
            low = [n if not n & distance else n - distance + width for n in range(width)]
            high = [n + distance if not n & distance else n + width for n in range(width)]
            for n in range(width):
                if not n & distance:
                    a, b = held[n], held[n + distance]
                    held[n] = builder.shuffle_vector(a, b, _mask(low))
                    held[n + distance] = builder.shuffle_vector(a, b, _mask(high))
            distance //= 2
        more = cgutils.alloca_once_value(builder, ir.Constant(vector, [0.0] * width))
        with builder.if_then(builder.icmp_signed("!=", added, ir.Constant(word, 0))):
            builder.store(builder.load(_at(builder, added, vector), align=size), more)
        extra = builder.load(more)
        for n in range(width):
            at = row(target, pitch, n, written)
            builder.store(builder.fadd(held[n], extra), _at(builder, at, vector), align=size)
        return context.get_dummy_value()

    whole = types.int64
    return types.none(array, whole, whole, whole, whole, whole, whole, whole), generate


@intrinsic
def _get(typing: Any, array: Any, address: Any) -> Any:
    number, _, _ = _vector(array)

    def generate(context: Any, builder: Any, signature: Any, given: Any) -> Any:
        return builder.load(_at(builder, given[1], number))

    return array.dtype(array, types.int64), generate


@intrinsic
def _put(typing: Any, array: Any, address: Any, value: Any) -> Any:
    number, _, _ = _vector(array)

    def generate(context: Any, builder: Any, signature: Any, given: Any) -> Any:
        builder.store(given[2], _at(builder, given[1], number))
        return context.get_dummy_value()

    return types.none(array, types.int64, array.dtype), generate


def _chain(
    packed: np.ndarray,
    program: np.ndarray,
    vectors: int,
    x: int,
    x_pitch: int,
    y: int,
    y_pitch: int,
    bias: int,
    features: int,
    made: int,
    work: int,
    first: int,
    last: int,
) -> None:
    size = packed.itemsize
    width = 64 // size
    lanes = vectors * width
    wide = lanes * size
    at, numbers = program.ctypes.data, packed.ctypes.data
    result = work + program[1]
    for start in range(first, last, lanes):
        count = min(lanes, last - start)
        # in: features first
        for v in range(vectors):
            # The last row stands for those that are missing, before this vector where it has none of its own.
            end = min(count - v * width, width) - 1
            row = x + (start + v * width) * x_pitch
            to = work + v * 64
            whole = features // width * width
            for f in range(0, whole, width):
                _turn(packed, row + f * size, x_pitch, end, to + f * wide, wide, width, 0)
            for f in range(whole, features):
                for n in range(width):
                    _put(packed, to + f * wide + n * size, _get(packed, row + min(n, end) * x_pitch + f * size))
        # the products
        for s in range(program[0]):
            head = program[2 + HEAD * s : 2 + HEAD * (s + 1)]
            groups, others, height, summed, core, add = head[0], head[1], head[2], head[3], head[4], head[5]
            source, target = work + head[6], work + head[7]
            each, free, steps, places = head[8], head[9], at + 8 * head[10], head[11]
            for g in range(groups):
                for n in range(others):
                    x_at = source + program[each + 2 * g] + program[free + 2 * n]
                    y_at = target + program[each + 2 * g + 1] + program[free + 2 * n + 1]
                    a = numbers + (core + g * height * summed) * size
                    m = 0
                    while m < height:
                        to = at + 8 * (places + m)
                        if m + TILE <= height:
                            tall = TILE
                            if vectors == 1:
                                _thin_full(packed, a, x_at, steps, summed, y_at, to, add)
                            else:
                                _tile_full(packed, a, x_at, steps, summed, y_at, to, add)
                        elif m + TILE // 2 <= height:
                            tall = TILE // 2
                            if vectors == 1:
                                _thin_half(packed, a, x_at, steps, summed, y_at, to, add)
                            else:
                                _tile_half(packed, a, x_at, steps, summed, y_at, to, add)
                        else:
                            tall = 1
                            if vectors == 1:
                                _thin_one(packed, a, x_at, steps, summed, y_at, to, add)
                            else:
                                _tile_one(packed, a, x_at, steps, summed, y_at, to, add)
                        a += tall * summed * size
                        m += tall
        # out: rows first, with the bias
        for v in range(vectors):
            end = min(count - v * width, width) - 1
            row = y + (start + v * width) * y_pitch
            source = result + v * 64
            whole = made // width * width if end >= 0 else 0
            for f in range(0, whole, width):
                added = bias + f * size if bias != 0 else 0
                _turn(packed, source + f * wide, wide, width, row + f * size, y_pitch, end, added)
            for f in range(whole, made):
                for n in range(end + 1):
                    value = _get(packed, source + f * wide + n * size)
                    if bias != 0:
                        value += _get(packed, bias + f * size)
                    _put(packed, row + n * y_pitch + f * size, value)


try:
    chain = njit(_chain, cache=True, nogil=True)
except RuntimeError:  # there is no place to keep what was compiled
    chain = njit(_chain, nogil=True)
