"""Steps of the kernels on the sphere, written for LLVM: small matrix products, and products of eight kinds of mirrors.

Numbers are in rows of `ROW` bytes, one for each channel, found by their address. A kernel has to import the steps by
name: Numba needs them among its globals.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import binding, ir
from numba import types

from tenfold.so3._simd import BYTES, llvm
from tenfold.so3._simd.lanes import intrinsic
from tenfold.so3._simd.llvm import I32, I64

_COUNT = 2
ROW = _COUNT * BYTES
#: So many rows are summed up in registers at once.
TILE = 8 if binding.get_host_cpu_features().get("avx512f") else 3


class _Code:
    """Writes LLVM code for rows of one dtype."""

    def __init__(self, builder: ir.IRBuilder, like: types.Array) -> None:
        self.builder = builder
        self.item = ir.FloatType() if like.dtype == types.float32 else ir.DoubleType()
        self.size = llvm.size(self.item)
        self.vector = llvm.vector(self.item)

    def number(self, address: ir.Value, kind: ir.Type, size: int) -> ir.Value:
        return self.builder.load(self.builder.inttoptr(address, kind.as_pointer()), align=size)

    def load(self, address: ir.Value, offset: int = 0) -> ir.Value:
        return llvm.load(self.builder, self._pointer(address, offset), self.vector)

    def store(self, value: ir.Value, address: ir.Value, offset: int = 0) -> None:
        llvm.store(self.builder, value, self._pointer(address, offset))

    def _pointer(self, address: ir.Value, offset: int) -> ir.Value:
        return self.builder.inttoptr(self.builder.add(address, I64(offset)), self.vector.as_pointer())

    def spread(self, address: ir.Value, offset: int) -> ir.Value:
        return llvm.spread(self.builder, self.number(self.builder.add(address, I64(offset)), self.item, self.size))

    def multiply_add(self, a: ir.Value, b: ir.Value, c: ir.Value) -> ir.Value:
        return llvm.multiply_add(self.builder, a, b, c)

    @property
    def zero(self) -> ir.Value:
        return llvm.zero(self.vector)

    def loop(self, count: ir.Value, kept: list[ir.Value], body: Callable[..., list[ir.Value]]) -> list[ir.Value]:
        """``kept = body(n, *kept)`` for n from 0 to count, which is not zero."""
        builder, before = self.builder, self.builder.block
        around, done = builder.append_basic_block("around"), builder.append_basic_block("done")
        builder.branch(around)
        builder.position_at_end(around)
        number = builder.phi(I64)
        number.add_incoming(I64(0), before)
        values = []
        for start in kept:
            value = builder.phi(start.type)
            value.add_incoming(start, before)
            values.append(value)
        after = body(number, *values)
        following = builder.add(number, I64(1))
        number.add_incoming(following, builder.block)
        for value, new in zip(values, after, strict=True):
            value.add_incoming(new, builder.block)
        builder.cbranch(builder.icmp_signed("<", following, count), around, done)
        builder.position_at_end(done)
        return after


def _step(addresses: int, write: Callable[..., None]) -> Callable[..., Any]:
    """The body of an intrinsic that takes so many whole numbers, then an array of the dtype."""

    def typed(like: Any) -> tuple[Any, Callable[..., Any]]:
        signature = types.void(*[types.int64] * addresses, like)

        def generate(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
            write(_Code(builder, like), *arguments[:addresses])
            return context.get_dummy_value()

        return signature, generate

    return typed


@intrinsic
def sums(
    typing: Any,
    works: Any,
    count: Any,
    numbers: Any,
    factors: Any,
    source: Any,
    apart: Any,
    target: Any,
    away: Any,
    like: Any,
) -> Any:
    """``target[to[r]] = sum_k factor[k, r] source[of[k]]`` for a number of works, rows ``apart`` and ``away``.

    A work is five whole numbers: how many ``r`` there are, how many ``k``, the first factor, and where among the
    numbers ``of`` and ``to`` begin; all in bytes.
    """

    def write(code: _Code, *arguments: ir.Value) -> None:
        works, count, numbers, factors, source, apart, target, away = arguments
        builder = code.builder

        def one(number: ir.Value) -> list[ir.Value]:
            work = builder.add(works, builder.mul(number, I64(40)))
            rows, terms, first, of, to = (code.number(builder.add(work, I64(8 * n)), I64, 8) for n in range(5))
            factor, of, to = builder.add(factors, first), builder.add(numbers, of), builder.add(numbers, to)
            after = builder.append_basic_block("after")
            impossible = builder.append_basic_block("impossible")
            choice = builder.switch(rows, impossible)
            builder.position_at_end(impossible)
            builder.unreachable()
            for size in range(1, TILE + 1):
                block = builder.append_basic_block(f"rows{size}")
                choice.add_case(I64(size), block)
                builder.position_at_end(block)

                def term(k: ir.Value, *totals: ir.Value, size: int = size) -> list[ir.Value]:
                    row = builder.sext(code.number(builder.add(of, builder.shl(k, I64(2))), I32, 4), I64)
                    begin = builder.add(source, builder.mul(row, apart))
                    read = [code.load(begin, v * BYTES) for v in range(_COUNT)]
                    column = builder.add(factor, builder.mul(k, I64(size * code.size)))
                    wide = [code.spread(column, r * code.size) for r in range(size)]
                    return [
                        code.multiply_add(wide[r], read[v], totals[r * _COUNT + v])
                        for r in range(size)
                        for v in range(_COUNT)
                    ]

                found = code.loop(terms, [code.zero] * (size * _COUNT), term)
                for r in range(size):
                    row = builder.sext(code.number(builder.add(to, I64(4 * r)), I32, 4), I64)
                    begin = builder.add(target, builder.mul(row, away))
                    for v in range(_COUNT):
                        code.store(found[r * _COUNT + v], begin, v * BYTES)
                builder.branch(after)
            builder.position_at_end(after)
            return []

        code.loop(count, [], one)

    return _step(8, write)(like)


@intrinsic
def scale(typing: Any, source: Any, apart: Any, factor: Any, target: Any, away: Any, count: Any, like: Any) -> Any:
    """``target[n] = factor source[n]`` for a number of rows, ``apart`` and ``away``; the factor is a row too."""

    def write(code: _Code, *arguments: ir.Value) -> None:
        source, apart, factor, target, away, count = arguments
        builder = code.builder
        factors = [code.load(factor, v * BYTES) for v in range(_COUNT)]

        def row(n: ir.Value) -> list[ir.Value]:
            begin, to = builder.add(source, builder.mul(n, apart)), builder.add(target, builder.mul(n, away))
            for v in range(_COUNT):
                code.store(builder.fmul(factors[v], code.load(begin, v * BYTES)), to, v * BYTES)
            return []

        code.loop(count, [], row)

    return _step(6, write)(like)


@intrinsic
def contract(typing: Any, left: Any, apart: Any, right: Any, away: Any, target: Any, count: Any, like: Any) -> Any:
    """``target = sum_n left[n] right[n]`` for a number of rows, ``apart`` and ``away``."""

    def write(code: _Code, *arguments: ir.Value) -> None:
        left, apart, right, away, target, count = arguments
        builder = code.builder

        def row(n: ir.Value, *totals: ir.Value) -> list[ir.Value]:
            one, two = builder.add(left, builder.mul(n, apart)), builder.add(right, builder.mul(n, away))
            return [
                code.multiply_add(code.load(one, v * BYTES), code.load(two, v * BYTES), totals[v])
                for v in range(_COUNT)
            ]

        for v, total in enumerate(code.loop(count, [code.zero] * _COUNT, row)):
            code.store(total, target, v * BYTES)

    return _step(6, write)(like)


# Kind j times kind k of two mirrors is of kind j ^ k.
_PAIRS = [(j, k) for j in range(4) for k in range(4)]


@intrinsic
def kinds(typing: Any, terms: Any, number: Any, points: Any, target: Any, apart: Any, count: Any, like: Any) -> Any:
    """Values of eight kinds, ``apart`` from each other, multiplied and added up over a number of terms, twice.

    A term is three whole numbers: where the left and the right begin beyond ``points``, and a sign. Of the mirror
    between north and south, values on both sides are multiplied instead of kinds: half of the products is enough.
    """

    def write(code: _Code, *arguments: ir.Value) -> None:
        terms, number, points, target, apart, count = arguments
        builder = code.builder
        places = [builder.mul(apart, I64(kind)) for kind in range(8)]

        def halves(address: ir.Value) -> tuple[list[ir.Value], list[ir.Value]]:
            read = [code.load(builder.add(address, place)) for place in places]
            north = [builder.fadd(read[kind], read[kind + 4]) for kind in range(4)]
            south = [builder.fsub(read[kind], read[kind + 4]) for kind in range(4)]
            return north, south

        def vector(at: ir.Value) -> list[ir.Value]:
            here = builder.mul(at, I64(BYTES))

            def term(n: ir.Value, *totals: ir.Value) -> list[ir.Value]:
                work = builder.add(terms, builder.mul(n, I64(24)))
                left, right, sign = (code.number(builder.add(work, I64(8 * i)), I64, 8) for i in range(3))
                lefts, rights = (halves(builder.add(builder.add(points, side), here)) for side in (left, right))
                plus, minus, after = (builder.append_basic_block(name) for name in ("plus", "minus", "after"))
                builder.cbranch(builder.icmp_signed(">", sign, I64(0)), plus, minus)
                both = []
                for block in (plus, minus):
                    builder.position_at_end(block)
                    grown = list(totals)
                    for side in range(2):
                        for j, k in _PAIRS:
                            a = lefts[side][j] if block is plus else builder.fneg(lefts[side][j])
                            grown[4 * side + (j ^ k)] = code.multiply_add(a, rights[side][k], grown[4 * side + (j ^ k)])
                    builder.branch(after)
                    both.append(grown)
                builder.position_at_end(after)
                joined = []
                for one, other in zip(*both, strict=True):
                    value = builder.phi(code.vector)
                    value.add_incoming(one, plus)
                    value.add_incoming(other, minus)
                    joined.append(value)
                return joined

            found = code.loop(number, [code.zero] * 8, term)
            to = builder.add(target, here)
            for kind in range(4):
                code.store(builder.fadd(found[kind], found[kind + 4]), builder.add(to, places[kind]))
                code.store(builder.fsub(found[kind], found[kind + 4]), builder.add(to, places[kind + 4]))
            return []

        code.loop(builder.mul(count, I64(_COUNT)), [], vector)

    return _step(6, write)(like)


@intrinsic
def put_at(typing: Any, address: Any, number: Any, like: Any) -> Any:
    """Writes a number to an address."""

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
        code = _Code(builder, like)
        builder.store(arguments[1], builder.inttoptr(arguments[0], code.item.as_pointer()), align=code.size)
        return context.get_dummy_value()

    return types.void(types.int64, like.dtype, like), generate


@intrinsic
def fetch(typing: Any, row: Any, like: Any) -> Any:
    """Has a row brought to the second cache; the address may be any. The first is full of what is worked on."""

    def write(code: _Code, row: ir.Value) -> None:
        for line in range(0, ROW, BYTES):
            place = code.builder.add(row, I64(line))
            llvm.fetch(code.builder, code.builder.inttoptr(place, code.vector.as_pointer()), near=False)

    return _step(1, write)(like)
