"""Convolution of many rows with one filter by fast Fourier transforms, as machine code for the CPU.

A block of rows lies with its features first and its rows, the lanes, last, so that every operation is one of whole
vectors and the factors of the transforms are the same for all lanes. Two features, an even one and the odd one after
it, are the real and the imaginary part of one point: a row of real numbers is half as many complex ones, and with ``Z``
their spectrum, that of the result is ``A[k] Z[k] + B[k] conj(Z[-k])``. Forward transforms decimate in frequency and
backward ones in time, so that nothing is reordered. The first pass joins as many blocks as its radix; the others stay
within a block, which is worked on together with the one of its negative frequencies while both are in the cache.
"""

from __future__ import annotations

import math
from typing import Any

import llvmlite.ir as ir
import numpy as np
from numba import njit, types
from numba.core import cgutils

from tenfold.nn._kernels import _at, _fused, _get, _put, _splat, _turn, _vector, intrinsic
from tenfold.nn._spectral import FIRST, POINT

# A complex number of vectors: LLVM values, real part first.
Pair = tuple[Any, Any]

# What a pass of `FIRST` points is called whose inputs or outputs are pruned to half.
HALF = 2 * FIRST
RADICES = (8, 5, 4, 3)
# Numbers that describe a convolution, before those that describe its passes.
HEAD = 4


class _Arithmetic:
    """Complex numbers of vectors; ``turn`` is -1 in forward transforms, 1 in backward ones."""

    def __init__(self, builder: Any, vector: Any, turn: int) -> None:
        self.builder, self.vector, self.turn = builder, vector, turn

    def constant(self, value: float) -> Any:
        return ir.Constant(self.vector, [value] * self.vector.count)

    def plus(self, a: Pair, b: Pair) -> Pair:
        return self.builder.fadd(a[0], b[0]), self.builder.fadd(a[1], b[1])

    def minus(self, a: Pair, b: Pair) -> Pair:
        return self.builder.fsub(a[0], b[0]), self.builder.fsub(a[1], b[1])

    def plus_turned(self, a: Pair, b: Pair, sign: int = 1) -> Pair:
        """``a + sign * turn * i * b``."""
        plus, minus = self.builder.fadd, self.builder.fsub
        if sign * self.turn > 0:
            return minus(a[0], b[1]), plus(a[1], b[0])
        return plus(a[0], b[1]), minus(a[1], b[0])

    def scaled(self, a: Pair, b: Pair, factor: float) -> Pair:
        """``a + factor * b``."""
        spread = self.constant(factor)
        return _fused(self.builder, spread, b[0], a[0]), _fused(self.builder, spread, b[1], a[1])

    def times(self, a: Pair, real: Any, imaginary: Any) -> Pair:
        """By a factor of the forward transform, or by its conjugate in the backward one."""
        b = self.builder
        if self.turn < 0:
            return (
                _fused(b, a[0], real, b.fneg(b.fmul(a[1], imaginary))),
                _fused(b, a[1], real, b.fmul(a[0], imaginary)),
            )
        return _fused(b, a[0], real, b.fmul(a[1], imaginary)), _fused(b, a[1], real, b.fneg(b.fmul(a[0], imaginary)))

    def of_four(self, x: list[Pair]) -> list[Pair]:
        """The transform of four points, or of two and two zeros."""
        if len(x) == 2:
            return [
                self.plus(x[0], x[1]),
                self.plus_turned(x[0], x[1]),
                self.minus(x[0], x[1]),
                self.plus_turned(x[0], x[1], -1),
            ]
        a, b = self.plus(x[0], x[2]), self.minus(x[0], x[2])
        c, d = self.plus(x[1], x[3]), self.minus(x[1], x[3])
        return [self.plus(a, c), self.plus_turned(b, d), self.minus(a, c), self.plus_turned(b, d, -1)]

    def of_eight(self, x: list[Pair], made: int) -> list[Pair]:
        """The first ``made`` of the transform of eight points, or of four and four zeros."""
        even, odd = self.of_four(x[::2]), self.of_four(x[1::2])
        root = math.sqrt(0.5)
        # The odd ones times (1 + turn i) / sqrt 2 and (-1 + turn i) / sqrt 2, but for the root.
        one, three = self.plus_turned(odd[1], odd[1]), self.plus_turned(odd[3], odd[3], -1)
        low = [
            self.plus(even[0], odd[0]),
            self.scaled(even[1], one, root),
            self.plus_turned(even[2], odd[2]),
            self.scaled(even[3], three, -root),
        ]
        if made == 4:
            return low
        return [
            *low,
            self.minus(even[0], odd[0]),
            self.scaled(even[1], one, -root),
            self.plus_turned(even[2], odd[2], -1),
            self.scaled(even[3], three, root),
        ]

    def of_three(self, x: list[Pair]) -> list[Pair]:
        """The transform of three points."""
        both, rest = self.plus(x[1], x[2]), self.minus(x[1], x[2])
        return [self.plus(x[0], both), *self.mirrored(self.scaled(x[0], both, -0.5), self.root(rest, 1, 3))]

    def of_five(self, x: list[Pair]) -> list[Pair]:
        """The transform of five points."""
        one, two = self.plus(x[1], x[4]), self.plus(x[2], x[3])
        past, far = self.minus(x[1], x[4]), self.minus(x[2], x[3])
        c, d = math.cos(math.tau / 5), math.cos(2 * math.tau / 5)
        first, fourth = self.mirrored(
            self.scaled(self.scaled(x[0], one, c), two, d),
            self.scaled(self.root(past, 1, 5), far, math.sin(2 * math.tau / 5)),
        )
        second, third = self.mirrored(
            self.scaled(self.scaled(x[0], one, d), two, c),
            self.scaled(self.root(past, 2, 5), far, -math.sin(math.tau / 5)),
        )
        return [self.plus(self.plus(x[0], one), two), first, second, third, fourth]

    def root(self, a: Pair, step: int, parts: int) -> Pair:
        """``a`` times the sine of so many of the parts of a circle."""
        spread = self.constant(math.sin(step * math.tau / parts))
        return self.builder.fmul(spread, a[0]), self.builder.fmul(spread, a[1])

    def mirrored(self, a: Pair, b: Pair) -> list[Pair]:
        """``a + turn * i * b`` and ``a - turn * i * b``."""
        return [self.plus_turned(a, b), self.plus_turned(a, b, -1)]

    def of(self, radix: int, x: list[Pair], made: int) -> list[Pair]:
        """The first ``made`` of the transform of ``radix`` points."""
        if radix == 8:
            return self.of_eight(x, made)
        return {3: self.of_three, 4: self.of_four, 5: self.of_five}[radix](x)


def _pass(builder: Any, array: Any, given: Any, radix: int, forward: bool, half: bool) -> None:
    """Code for `_run`."""
    number, vector, width = _vector(array)
    size = 64 // width
    points, step, after, factors, more, count = given
    word = ir.IntType(64)
    come, go = (radix // 2 if half and here else radix for here in (forward, not forward))
    # What the loop would otherwise multiply again and again.
    steps = [builder.mul(step, ir.Constant(word, n)) for n in range(radix)]
    with cgutils.for_range(builder, count, intp=word) as loop:
        sums = _Arithmetic(builder, vector, -1 if forward else 1)
        here = builder.add(points, builder.mul(loop.index, after))
        table = builder.add(factors, builder.mul(loop.index, more))

        def factor(place: int) -> Any:
            at = _at(builder, builder.add(table, ir.Constant(word, place * size)), number)
            return _splat(builder, builder.load(at), width)

        def times(value: Pair, n: int) -> Pair:
            return sums.times(value, factor(2 * n - 2), factor(2 * n - 1)) if n else value

        x = []
        for n in range(come):
            at = builder.add(here, steps[n])
            real, imaginary = (
                builder.load(_at(builder, builder.add(at, ir.Constant(word, far)), vector), align=size)
                for far in (0, 64)
            )
            x.append((real, imaginary) if forward else times((real, imaginary), n))
        for n, value in enumerate(sums.of(radix, x, go)):
            at = builder.add(here, steps[n])
            for far, part in zip((0, 64), times(value, n) if forward else value, strict=True):
                builder.store(part, _at(builder, builder.add(at, ir.Constant(word, far)), vector), align=size)


@intrinsic
def _run(
    typing: Any,
    array: Any,
    kind: Any,
    points: Any,
    step: Any,
    after: Any,
    factors: Any,
    more: Any,
    count: Any,
) -> Any:
    """``count`` transforms of ``kind`` points in place, times factors, or ``-kind``: factors, then backward transforms.

    Points are ``step`` bytes apart, transforms ``after``, factors of a transform ``more``. ``HALF`` and ``-HALF`` are
    those of `FIRST` points whose second half is zero when it comes in (forward) or not wanted (backward).
    """
    word = ir.IntType(64)

    def function(module: Any) -> Any:
        """One function for all calls: each copy would be compiled."""
        name = f"tenfold_transforms_{array.dtype}"
        made = module.globals.get(name)
        if made is not None:
            return made
        made = ir.Function(module, ir.FunctionType(ir.VoidType(), [word] * 7), name)
        made.linkage = "internal"
        made.attributes.add("noinline")
        builder = ir.IRBuilder(made.append_basic_block())
        end = made.append_basic_block()
        kinds = builder.switch(made.args[0], end)
        for radix in (*RADICES, HALF):
            for sign in (1, -1):
                with builder.goto_block(made.append_basic_block()):
                    kinds.add_case(ir.Constant(word, sign * radix), builder.block)
                    half = radix == HALF
                    _pass(builder, array, made.args[1:], FIRST if half else radix, sign > 0, half)
                    builder.branch(end)
        builder.position_at_end(end)
        builder.ret_void()
        return made

    def generate(context: Any, builder: Any, signature: Any, given: Any) -> Any:
        builder.call(function(builder.module), given[1:])
        return context.get_dummy_value()

    return types.none(array, *[types.int64] * 7), generate


@intrinsic
def _product(typing: Any, array: Any, points: Any, places: Any, factors: Any, count: Any) -> Any:
    """``Z[k] = A[k] Z[k] + B[k] conj(Z[-k])`` for pairs of frequencies ``k`` and ``-k``.

    For each pair there are its two places in bytes, and the numbers ``A[k], A[-k], B[k]``; ``B[-k] = -conj(B[k])``.
    """
    number, vector, width = _vector(array)
    size = 64 // width

    def generate(context: Any, builder: Any, signature: Any, given: Any) -> Any:
        _, points, places, factors, count = given
        word = ir.IntType(64)
        with cgutils.for_range(builder, count, intp=word) as loop:
            pair = builder.add(places, builder.mul(loop.index, ir.Constant(word, 16)))
            row = builder.add(factors, builder.mul(loop.index, ir.Constant(word, 6 * size)))
            spread = []
            for n in range(6):
                at = _at(builder, builder.add(row, ir.Constant(word, n * size)), number)
                spread.append(_splat(builder, builder.load(at), width))
            a, b, both = spread[0:2], spread[2:4], spread[4:6]
            at = []
            for n in range(2):
                place = builder.load(_at(builder, builder.add(pair, ir.Constant(word, 8 * n)), word))
                first = builder.add(points, place)
                at.append([_at(builder, builder.add(first, ir.Constant(word, far)), vector) for far in (0, 64)])
            p, q = ([builder.load(part, align=size) for part in one] for one in at)
            minus = builder.fneg
            fused = lambda x, y, z: _fused(builder, x, y, z)  # noqa: E731
            # A p + B conj q
            pr = fused(both[1], q[1], fused(both[0], q[0], fused(minus(a[1]), p[1], builder.fmul(a[0], p[0]))))
            pi = fused(minus(both[0]), q[1], fused(both[1], q[0], fused(a[1], p[0], builder.fmul(a[0], p[1]))))
            # A' q - conj(B p)
            qr = fused(both[1], p[1], fused(minus(both[0]), p[0], fused(minus(b[1]), q[1], builder.fmul(b[0], q[0]))))
            qi = fused(both[0], p[1], fused(both[1], p[0], fused(b[1], q[0], builder.fmul(b[0], q[1]))))
            for value, to in zip((pr, pi, qr, qi), (*at[0], *at[1]), strict=True):
                builder.store(value, to, align=size)
        return context.get_dummy_value()

    whole = types.int64
    return types.none(array, whole, whole, whole, whole), generate


def _convolve(
    numbers: np.ndarray,
    program: np.ndarray,
    places: np.ndarray,
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
    size = numbers.itemsize
    width = 64 // size
    at, table = numbers.ctypes.data, places.ctypes.data
    inner, passes, couples = program[0], program[1], program[2]
    more = 2 * (FIRST - 1) * size
    # Where half of the points hold all features, the first pass knows that the others are zero, or not wanted.
    half_in, half_out = features <= FIRST * inner, made <= FIRST * inner
    # Blocks do not begin at multiples of 4096 bytes from each other, for those share their places in the cache.
    pitch = (inner + 1) * POINT
    for start in range(first, last, width):
        have = min(width, last - start) - 1
        # in: transposed, and through the pass that joins the blocks
        row = x + start * x_pitch
        for m in range(FIRST // 2 if half_in else FIRST):
            for j in range(0, inner, width // 2):
                f = 2 * (m * inner + j)
                to = work + m * pitch + j * POINT
                if f + width <= features:
                    _turn(numbers, row + f * size, x_pitch, have, to, 64, width, 0)
                    continue
                for k in range(width):
                    for n in range(width):
                        value = numbers.dtype.type(0)
                        if f + k < features:
                            value = _get(numbers, row + min(n, have) * x_pitch + (f + k) * size)
                        _put(numbers, to + k * 64 + n * size, value)
        _run(numbers, HALF if half_in else FIRST, work, pitch, POINT, at, more, inner)
        # each block with the one of the negative frequencies: the other passes, the product, and back
        pairs, spectrum = table + 24 * couples, at + program[3] * size
        for c in range(couples):
            one, two, count = places[3 * c], places[3 * c + 1], places[3 * c + 2]
            for n in range(2 * passes):
                s = n if n < passes else 2 * passes - 1 - n
                radix, span = program[HEAD + 3 * s], program[HEAD + 3 * s + 1]
                factors, kind = at + program[HEAD + 3 * s + 2] * size, radix if n < passes else -radix
                far = span * POINT
                # The last of them have no factors but 1, and are done in one go.
                if span == 1:
                    after, beside, each, repeats = radix * POINT, 0, inner // radix, 1
                else:
                    after, beside, each, repeats = POINT, 2 * (radix - 1) * size, span, inner // (span * radix)
                if n == passes:
                    _product(numbers, work, pairs, spectrum, count)
                for b in range(repeats if one == two else 2 * repeats):
                    block = work + (one if b < repeats else two) * pitch + b % repeats * radix * far
                    _run(numbers, kind, block, far, after, factors, beside, each)
            pairs += 16 * count
            spectrum += 6 * count * size
        # out: the pass that joins the blocks, and transposed, with the bias
        _run(numbers, -HALF if half_out else -FIRST, work, pitch, POINT, at, more, inner)
        row = y + start * y_pitch
        for m in range(FIRST // 2 if half_out else FIRST):
            for j in range(0, inner, width // 2):
                f = 2 * (m * inner + j)
                source = work + m * pitch + j * POINT
                if f + width <= made:
                    added = bias + f * size if bias != 0 else 0
                    _turn(numbers, source, 64, width, row + f * size, y_pitch, have, added)
                    continue
                for k in range(made - f):
                    for n in range(have + 1):
                        value = _get(numbers, source + k * 64 + n * size)
                        if bias != 0:
                            value += _get(numbers, bias + (f + k) * size)
                        _put(numbers, row + n * y_pitch + (f + k) * size, value)


try:
    convolve = njit(_convolve, cache=True, nogil=True)
except RuntimeError:  # there is no place to keep what was compiled
    convolve = njit(_convolve, nogil=True)
