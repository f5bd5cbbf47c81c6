"""Steps of the kernels on the sphere, written for LLVM: small matrix products, and products of eight kinds of mirrors.

Numbers are in rows of `ROW` bytes, one for each channel, found by their address. A kernel has to import the steps by
name: Numba needs them among its globals.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import binding, ir
from numba import extending, types

# Vectors are as wide as registers: products of kinds need 24 of them at once.
_BYTES = 64 if binding.get_host_cpu_features().get("avx512f") else 32
_COUNT = 2
ROW = _COUNT * _BYTES
#: So many rows are summed up in registers at once.
TILE = 8 if _BYTES == 64 else 5

# Numba declares a type that does not know how intrinsics are called.
intrinsic: Any = extending.intrinsic
_I32, _I64 = ir.IntType(32), ir.IntType(64)


class _Code:
    """Writes LLVM code for rows of one dtype."""

    def __init__(self, builder: ir.IRBuilder, like: types.Array) -> None:
        self.builder = builder
        single = like.dtype == types.float32
        self.item, self.size = (ir.FloatType(), 4) if single else (ir.DoubleType(), 8)
        self.vector = ir.VectorType(self.item, _BYTES // self.size)
        name = f"llvm.fmuladd.v{self.vector.count}f{8 * self.size}"
        kind = ir.FunctionType(self.vector, [self.vector] * 3)
        found = builder.module.globals.get(name)
        self.fused = found if found is not None else ir.Function(builder.module, kind, name)

    def number(self, address: ir.Value, kind: ir.Type, size: int) -> ir.Value:
        return self.builder.load(self.builder.inttoptr(address, kind.as_pointer()), align=size)

    def load(self, address: ir.Value, offset: int = 0) -> ir.Value:
        place = self.builder.add(address, _I64(offset)) if offset else address
        return self.builder.load(self.builder.inttoptr(place, self.vector.as_pointer()), align=self.size)

    def store(self, value: ir.Value, address: ir.Value, offset: int = 0) -> None:
        place = self.builder.add(address, _I64(offset)) if offset else address
        self.builder.store(value, self.builder.inttoptr(place, self.vector.as_pointer()), align=self.size)

    def splat(self, address: ir.Value, offset: int) -> ir.Value:
        number = self.number(self.builder.add(address, _I64(offset)), self.item, self.size)
        first = self.builder.insert_element(ir.Constant(self.vector, ir.Undefined), number, _I32(0))
        return self.builder.shuffle_vector(first, first, ir.Constant(ir.VectorType(_I32, self.vector.count), None))

    def multiply_add(self, a: ir.Value, b: ir.Value, c: ir.Value) -> ir.Value:
        return self.builder.call(self.fused, [a, b, c])

    @property
    def zero(self) -> ir.Value:
        return ir.Constant(self.vector, [self.item(0.0)] * self.vector.count)

    def loop(self, count: ir.Value, kept: list[ir.Value], body: Callable[..., list[ir.Value]]) -> list[ir.Value]:
        """``kept = body(n, *kept)`` for n from 0 to count, which is not zero."""
        builder, before = self.builder, self.builder.block
        around, done = builder.append_basic_block("around"), builder.append_basic_block("done")
        builder.branch(around)
        builder.position_at_end(around)
        number = builder.phi(_I64)
        number.add_incoming(_I64(0), before)
        values = []
        for start in kept:
            value = builder.phi(start.type)
            value.add_incoming(start, before)
            values.append(value)
        after = body(number, *values)
        following = builder.add(number, _I64(1))
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
            work = builder.add(works, builder.mul(number, _I64(40)))
            rows, terms, first, of, to = (code.number(builder.add(work, _I64(8 * n)), _I64, 8) for n in range(5))
            factor, of, to = builder.add(factors, first), builder.add(numbers, of), builder.add(numbers, to)
            after = builder.append_basic_block("after")
            impossible = builder.append_basic_block("impossible")
            choice = builder.switch(rows, impossible)
            builder.position_at_end(impossible)
            builder.unreachable()
            for size in range(1, TILE + 1):
                block = builder.append_basic_block(f"rows{size}")
                choice.add_case(_I64(size), block)
                builder.position_at_end(block)

                def term(k: ir.Value, *totals: ir.Value, size: int = size) -> list[ir.Value]:
                    row = builder.sext(code.number(builder.add(of, builder.shl(k, _I64(2))), _I32, 4), _I64)
                    begin = builder.add(source, builder.mul(row, apart))
                    read = [code.load(begin, v * _BYTES) for v in range(_COUNT)]
                    column = builder.add(factor, builder.mul(k, _I64(size * code.size)))
                    wide = [code.splat(column, r * code.size) for r in range(size)]
                    return [
                        code.multiply_add(wide[r], read[v], totals[r * _COUNT + v])
                        for r in range(size)
                        for v in range(_COUNT)
                    ]

                found = code.loop(terms, [code.zero] * (size * _COUNT), term)
                for r in range(size):
                    row = builder.sext(code.number(builder.add(to, _I64(4 * r)), _I32, 4), _I64)
                    begin = builder.add(target, builder.mul(row, away))
                    for v in range(_COUNT):
                        code.store(found[r * _COUNT + v], begin, v * _BYTES)
                builder.branch(after)
            builder.position_at_end(after)
            return []

        code.loop(count, [], one)

    return _step(8, write)(like)


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
        places = [builder.mul(apart, _I64(kind)) for kind in range(8)]

        def halves(address: ir.Value) -> tuple[list[ir.Value], list[ir.Value]]:
            read = [code.load(builder.add(address, place)) for place in places]
            north = [builder.fadd(read[kind], read[kind + 4]) for kind in range(4)]
            south = [builder.fsub(read[kind], read[kind + 4]) for kind in range(4)]
            return north, south

        def vector(at: ir.Value) -> list[ir.Value]:
            here = builder.mul(at, _I64(_BYTES))

            def term(n: ir.Value, *totals: ir.Value) -> list[ir.Value]:
                work = builder.add(terms, builder.mul(n, _I64(24)))
                left, right, sign = (code.number(builder.add(work, _I64(8 * i)), _I64, 8) for i in range(3))
                lefts, rights = (halves(builder.add(builder.add(points, side), here)) for side in (left, right))
                plus, minus, after = (builder.append_basic_block(name) for name in ("plus", "minus", "after"))
                builder.cbranch(builder.icmp_signed(">", sign, _I64(0)), plus, minus)
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

        code.loop(builder.mul(count, _I64(_COUNT)), [], vector)

    return _step(6, write)(like)


@intrinsic
def number_at(typing: Any, address: Any, like: Any) -> Any:
    """The number at an address."""

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
        code = _Code(builder, like)
        return code.number(arguments[0], code.item, code.size)

    return like.dtype(types.int64, like), generate


@intrinsic
def put_at(typing: Any, address: Any, number: Any, like: Any) -> Any:
    """Writes a number to an address."""

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
        code = _Code(builder, like)
        builder.store(arguments[1], builder.inttoptr(arguments[0], code.item.as_pointer()), align=code.size)
        return context.get_dummy_value()

    return types.void(types.int64, like.dtype, like), generate


@intrinsic
def fetch(typing: Any, address: Any, like: Any) -> Any:
    """Has a line brought to the caches that will be read soon; the address may be any."""

    def write(code: _Code, address: ir.Value) -> None:
        builder = code.builder
        pointer = ir.IntType(8).as_pointer()
        kind = ir.FunctionType(ir.VoidType(), [pointer, _I32, _I32, _I32])
        name = "llvm.prefetch.p0" if binding.llvm_version_info[0] >= 15 else "llvm.prefetch.p0i8"
        function = builder.module.declare_intrinsic(name, (), kind)
        builder.call(function, [builder.inttoptr(address, pointer), _I32(0), _I32(2), _I32(1)])

    return _step(1, write)(like)
