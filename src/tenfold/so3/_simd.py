"""Blocks of channels as vectors: steps of kernels that LLVM would not keep in registers by itself.

Every step works on a block of ``n`` vectors of 64 bytes each, found by its address; where a machine has shorter
registers, LLVM splits vectors. Two arguments choose by their type what is compiled: ``block``, a tuple of n numbers, and
``like``, an array of the dtype. A kernel has to import the steps by name, as Numba needs them among its globals.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

BYTES = 64

_I32, _I64 = ir.IntType(32), ir.IntType(64)
_CONTRACT = ("contract",)


class _Block:
    """Writes LLVM code for vectors of one dtype."""

    def __init__(self, builder: ir.IRBuilder, block: types.UniTuple, like: types.Array) -> None:
        self.builder = builder
        self.count = len(block)
        self.item = ir.FloatType() if like.dtype == types.float32 else ir.DoubleType()
        self.size = like.dtype.bitwidth // 8
        self.vector = ir.VectorType(self.item, BYTES // self.size)

    def _place(self, address: ir.Value, number: int) -> ir.Value:
        moved = self.builder.add(address, _I64(number * BYTES))
        return self.builder.inttoptr(moved, self.vector.as_pointer())

    def load(self, address: ir.Value) -> list[ir.Value]:
        return [self.builder.load(self._place(address, n), align=self.size) for n in range(self.count)]

    def store(self, values: list[ir.Value], address: ir.Value, *, past_caches: bool = False) -> None:
        for number, value in enumerate(values):
            place = self._place(address, number)
            stored = self.builder.store(value, place, align=BYTES if past_caches else self.size)
            if past_caches:
                stored.set_metadata("nontemporal", self.builder.module.add_metadata([_I32(1)]))

    def splat(self, scalar: ir.Value) -> ir.Value:
        empty = ir.Constant(self.vector, ir.Undefined)
        first = self.builder.insert_element(empty, scalar, _I32(0))
        zeros = ir.Constant(ir.VectorType(_I32, self.vector.count), [0] * self.vector.count)
        return self.builder.shuffle_vector(first, empty, zeros)

    def multiply(self, left: list[ir.Value], right: list[ir.Value]) -> list[ir.Value]:
        return [self.builder.fmul(a, b, flags=_CONTRACT) for a, b in zip(left, right, strict=True)]

    def add(self, left: list[ir.Value], right: list[ir.Value]) -> list[ir.Value]:
        """Fused with a product where one of the two is one."""
        return [self.builder.fadd(a, b, flags=_CONTRACT) for a, b in zip(left, right, strict=True)]

    def zero(self) -> list[ir.Value]:
        return [ir.Constant(self.vector, [self.item(0.0)] * self.vector.count)] * self.count

    def scalar(self, address: ir.Value) -> ir.Value:
        return self.builder.load(self.builder.inttoptr(address, self.item.as_pointer()), align=self.size)

    def sum(
        self, rows: ir.Value, stride: ir.Value, numbers: ir.Value, values: ir.Value, first: ir.Value, last: ir.Value
    ) -> list[ir.Value]:
        """The sum of ``values[t] * rows[numbers[t]]`` over t from first to last, in registers throughout."""
        builder, before = self.builder, self.builder.block
        loop, done = builder.append_basic_block("terms"), builder.append_basic_block("summed")
        builder.cbranch(builder.icmp_signed("<", first, last), loop, done)
        builder.position_at_end(loop)
        term = builder.phi(_I64)
        term.add_incoming(first, before)
        sums = [builder.phi(self.vector) for _ in range(self.count)]
        place = builder.inttoptr(builder.add(numbers, builder.shl(term, _I64(2))), _I32.as_pointer())
        row = builder.add(rows, builder.mul(builder.zext(builder.load(place), _I64), stride))
        factor = self.splat(self.scalar(builder.add(values, builder.mul(term, _I64(self.size)))))
        grown = self.add(sums, self.multiply([factor] * self.count, self.load(row)))
        following = builder.add(term, _I64(1))
        term.add_incoming(following, loop)
        builder.cbranch(builder.icmp_signed("<", following, last), loop, done)
        for total, value, nothing in zip(sums, grown, self.zero(), strict=True):
            total.add_incoming(nothing, before)
            total.add_incoming(value, loop)
        builder.position_at_end(done)
        found = []
        for value, nothing in zip(grown, self.zero(), strict=True):
            total = builder.phi(self.vector)
            total.add_incoming(nothing, before)
            total.add_incoming(value, loop)
            found.append(total)
        return found


def _step(addresses: int, write: Callable[..., None]) -> Callable[..., Any]:
    """The body of an intrinsic that takes so many addresses or other whole numbers, then ``block`` and ``like``."""

    def typed(block: Any, like: Any) -> tuple[Any, Callable[..., Any]]:
        signature = types.void(*[types.int64] * addresses, block, like)

        def generate(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
            write(_Block(builder, block, like), *arguments[:addresses])
            return context.get_dummy_value()

        return signature, generate

    return typed


@intrinsic
def clear(typing, to, block, like):  # type: ignore[no-untyped-def]
    """to = 0"""

    def write(code: _Block, to: ir.Value) -> None:
        code.store(code.zero(), to)

    return _step(1, write)(block, like)


@intrinsic
def widen(typing, to, number, block, like):  # type: ignore[no-untyped-def]
    """to = number, the same for all channels"""

    def write(code: _Block, to: ir.Value, number: ir.Value) -> None:
        code.store([code.splat(code.scalar(number))] * code.count, to)

    return _step(2, write)(block, like)


@intrinsic
def product(typing, to, left, right, block, like):  # type: ignore[no-untyped-def]
    """to = left * right"""

    def write(code: _Block, to: ir.Value, left: ir.Value, right: ir.Value) -> None:
        code.store(code.multiply(code.load(left), code.load(right)), to)

    return _step(3, write)(block, like)


@intrinsic
def products(typing, to, left, right, left2, right2, block, like):  # type: ignore[no-untyped-def]
    """to = left * right + left2 * right2"""

    def write(code: _Block, to: ir.Value, *pairs: ir.Value) -> None:
        one, other, one2, other2 = (code.load(address) for address in pairs)
        code.store(code.add(code.multiply(one, other), code.multiply(one2, other2)), to)

    return _step(5, write)(block, like)


@intrinsic
def sum_to(typing, to, rows, stride, numbers, values, first, last, block, like):  # type: ignore[no-untyped-def]
    """to = sum"""

    def write(code: _Block, to: ir.Value, *terms: ir.Value) -> None:
        code.store(code.sum(*terms), to)

    return _step(7, write)(block, like)


@intrinsic
def sum_past_caches(typing, to, rows, stride, numbers, values, first, last, block, like):  # type: ignore[no-untyped-def]
    """to = sum, written to memory at once: what is larger than the caches is not read before it is overwritten"""

    def write(code: _Block, to: ir.Value, *terms: ir.Value) -> None:
        code.store(code.sum(*terms), to, past_caches=True)

    return _step(7, write)(block, like)


@intrinsic
def sum_add(typing, to, rows, stride, numbers, values, first, last, block, like):  # type: ignore[no-untyped-def]
    """to += sum"""

    def write(code: _Block, to: ir.Value, *terms: ir.Value) -> None:
        code.store(code.add(code.load(to), code.sum(*terms)), to)

    return _step(7, write)(block, like)


@intrinsic
def sum_scaled(typing, to, factor, rows, stride, numbers, values, first, last, block, like):  # type: ignore[no-untyped-def]
    """to = factor * sum"""

    def write(code: _Block, to: ir.Value, factor: ir.Value, *terms: ir.Value) -> None:
        code.store(code.multiply(code.load(factor), code.sum(*terms)), to)

    return _step(8, write)(block, like)


@intrinsic
def sum_scaled_past_caches(typing, to, factor, rows, stride, numbers, values, first, last, block, like):  # type: ignore[no-untyped-def]
    """to = factor * sum, written to memory at once"""

    def write(code: _Block, to: ir.Value, factor: ir.Value, *terms: ir.Value) -> None:
        code.store(code.multiply(code.load(factor), code.sum(*terms)), to, past_caches=True)

    return _step(8, write)(block, like)


@intrinsic
def sum_scaled_add(typing, to, factor, rows, stride, numbers, values, first, last, block, like):  # type: ignore[no-untyped-def]
    """to += factor * sum"""

    def write(code: _Block, to: ir.Value, factor: ir.Value, *terms: ir.Value) -> None:
        scaled = code.multiply(code.load(factor), code.sum(*terms))
        code.store(code.add(code.load(to), scaled), to)

    return _step(8, write)(block, like)


@intrinsic
def sum_to_both(typing, to, factor, to2, factor2, rows, stride, numbers, values, first, last, block, like):  # type: ignore[no-untyped-def]
    """to += factor * sum, to2 += factor2 * sum"""

    def write(code: _Block, to: ir.Value, factor: ir.Value, to2: ir.Value, factor2: ir.Value, *terms: ir.Value) -> None:
        total = code.sum(*terms)
        code.store(code.add(code.load(to), code.multiply(code.load(factor), total)), to)
        code.store(code.add(code.load(to2), code.multiply(code.load(factor2), total)), to2)

    return _step(10, write)(block, like)


@intrinsic
def channel_at(typing, row, channel, like):  # type: ignore[no-untyped-def]
    """row[channel]"""

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
        code = _Block(builder, types.UniTuple(types.int64, 1), like)
        return code.scalar(builder.add(arguments[0], builder.mul(arguments[1], _I64(code.size))))

    return like.dtype(types.int64, types.int64, like), generate
