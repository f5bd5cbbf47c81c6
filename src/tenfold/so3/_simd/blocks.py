"""Blocks of channels: steps from memory to memory that LLVM would not keep in registers by itself.

Every step works on a block of ``n`` vectors, found by its address. Two arguments choose by their type what is compiled:
``block``, a tuple of n numbers, and ``like``, an array of the dtype.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types

from tenfold.so3._simd import BYTES, llvm
from tenfold.so3._simd.lanes import intrinsic
from tenfold.so3._simd.llvm import I32, I64


class _Block:
    """Writes LLVM's code for the vectors of a block."""

    def __init__(self, builder: ir.IRBuilder, block: types.UniTuple, like: types.Array) -> None:
        self.builder = builder
        self.count = len(block)
        self.item = ir.FloatType() if like.dtype == types.float32 else ir.DoubleType()
        self.size = llvm.size(self.item)
        self.vector = llvm.vector(self.item)

    def places(self, address: ir.Value) -> list[ir.Value]:
        moved = (self.builder.add(address, I64(number * BYTES)) for number in range(self.count))
        return [self.builder.inttoptr(place, self.vector.as_pointer()) for place in moved]

    def load(self, address: ir.Value) -> list[ir.Value]:
        return [llvm.load(self.builder, place, self.vector) for place in self.places(address)]

    def store(self, values: list[ir.Value], address: ir.Value, *, past_caches: bool = False) -> None:
        for place, value in zip(self.places(address), values, strict=True):
            llvm.store(self.builder, value, place, past_caches=past_caches)

    def multiply(self, left: list[ir.Value], right: list[ir.Value]) -> list[ir.Value]:
        return [self.builder.fmul(a, b) for a, b in zip(left, right, strict=True)]

    def add(self, left: list[ir.Value], right: list[ir.Value]) -> list[ir.Value]:
        return [self.builder.fadd(a, b) for a, b in zip(left, right, strict=True)]

    def multiply_add(self, left: list[ir.Value], right: list[ir.Value], more: list[ir.Value]) -> list[ir.Value]:
        return [llvm.multiply_add(self.builder, a, b, c) for a, b, c in zip(left, right, more, strict=True)]

    def zero(self) -> list[ir.Value]:
        return [llvm.zero(self.vector)] * self.count

    def spread(self, address: ir.Value) -> list[ir.Value]:
        """One number on all lanes."""
        return [llvm.spread(self.builder, self.number(address))] * self.count

    def number(self, address: ir.Value) -> ir.Value:
        return self.builder.load(self.builder.inttoptr(address, self.item.as_pointer()), align=self.size)

    def sum(
        self, rows: ir.Value, stride: ir.Value, numbers: ir.Value, values: ir.Value, first: ir.Value, last: ir.Value
    ) -> list[ir.Value]:
        """The sum of ``values[t] * rows[numbers[t]]`` over t from first to last, in registers throughout."""
        builder, before = self.builder, self.builder.block
        loop, done = builder.append_basic_block("terms"), builder.append_basic_block("summed")
        builder.cbranch(builder.icmp_signed("<", first, last), loop, done)
        builder.position_at_end(loop)
        term = builder.phi(I64)
        term.add_incoming(first, before)
        sums = [builder.phi(self.vector) for _ in range(self.count)]
        place = builder.inttoptr(builder.add(numbers, builder.shl(term, I64(2))), I32.as_pointer())
        row = builder.add(rows, builder.mul(builder.zext(builder.load(place), I64), stride))
        factor = self.spread(builder.add(values, builder.mul(term, I64(self.size))))
        grown = self.multiply_add(factor, self.load(row), sums)
        following = builder.add(term, I64(1))
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
def clear(typing: Any, to: Any, block: Any, like: Any) -> Any:
    """to = 0"""

    def write(code: _Block, to: ir.Value) -> None:
        code.store(code.zero(), to)

    return _step(1, write)(block, like)


@intrinsic
def widen(typing: Any, to: Any, number: Any, block: Any, like: Any) -> Any:
    """to = number, the same for all channels"""

    def write(code: _Block, to: ir.Value, number: ir.Value) -> None:
        code.store(code.spread(number), to)

    return _step(2, write)(block, like)


@intrinsic
def product(typing: Any, to: Any, left: Any, right: Any, block: Any, like: Any) -> Any:
    """to = left * right"""

    def write(code: _Block, to: ir.Value, left: ir.Value, right: ir.Value) -> None:
        code.store(code.multiply(code.load(left), code.load(right)), to)

    return _step(3, write)(block, like)


@intrinsic
def products(typing: Any, to: Any, left: Any, right: Any, left2: Any, right2: Any, block: Any, like: Any) -> Any:
    """to = left * right + left2 * right2"""

    def write(code: _Block, to: ir.Value, *pairs: ir.Value) -> None:
        one, other, one2, other2 = (code.load(address) for address in pairs)
        code.store(code.multiply_add(one, other, code.multiply(one2, other2)), to)

    return _step(5, write)(block, like)


@intrinsic
def sum_to(
    typing: Any,
    to: Any,
    rows: Any,
    stride: Any,
    numbers: Any,
    values: Any,
    first: Any,
    last: Any,
    block: Any,
    like: Any,
) -> Any:
    """to = sum"""

    def write(code: _Block, to: ir.Value, *terms: ir.Value) -> None:
        code.store(code.sum(*terms), to)

    return _step(7, write)(block, like)


@intrinsic
def sum_past_caches(
    typing: Any,
    to: Any,
    rows: Any,
    stride: Any,
    numbers: Any,
    values: Any,
    first: Any,
    last: Any,
    block: Any,
    like: Any,
) -> Any:
    """to = sum, written to memory at once: what is larger than the caches is not read before it is overwritten"""

    def write(code: _Block, to: ir.Value, *terms: ir.Value) -> None:
        code.store(code.sum(*terms), to, past_caches=True)

    return _step(7, write)(block, like)


@intrinsic
def sum_add(
    typing: Any,
    to: Any,
    rows: Any,
    stride: Any,
    numbers: Any,
    values: Any,
    first: Any,
    last: Any,
    block: Any,
    like: Any,
) -> Any:
    """to += sum"""

    def write(code: _Block, to: ir.Value, *terms: ir.Value) -> None:
        found = code.sum(*terms)
        code.store(code.add(code.load(to), found), to)

    return _step(7, write)(block, like)


@intrinsic
def sum_scaled(
    typing: Any,
    to: Any,
    factor: Any,
    rows: Any,
    stride: Any,
    numbers: Any,
    values: Any,
    first: Any,
    last: Any,
    block: Any,
    like: Any,
) -> Any:
    """to = factor * sum"""

    def write(code: _Block, to: ir.Value, factor: ir.Value, *terms: ir.Value) -> None:
        code.store(code.multiply(code.load(factor), code.sum(*terms)), to)

    return _step(8, write)(block, like)


@intrinsic
def sum_scaled_past_caches(
    typing: Any,
    to: Any,
    factor: Any,
    rows: Any,
    stride: Any,
    numbers: Any,
    values: Any,
    first: Any,
    last: Any,
    block: Any,
    like: Any,
) -> Any:
    """to = factor * sum, written to memory at once"""

    def write(code: _Block, to: ir.Value, factor: ir.Value, *terms: ir.Value) -> None:
        code.store(code.multiply(code.load(factor), code.sum(*terms)), to, past_caches=True)

    return _step(8, write)(block, like)


@intrinsic
def sum_scaled_add(
    typing: Any,
    to: Any,
    factor: Any,
    rows: Any,
    stride: Any,
    numbers: Any,
    values: Any,
    first: Any,
    last: Any,
    block: Any,
    like: Any,
) -> Any:
    """to += factor * sum"""

    def write(code: _Block, to: ir.Value, factor: ir.Value, *terms: ir.Value) -> None:
        found = code.sum(*terms)
        code.store(code.multiply_add(code.load(factor), found, code.load(to)), to)

    return _step(8, write)(block, like)


@intrinsic
def sums_to_both(
    typing: Any,
    to: Any,
    factor: Any,
    to2: Any,
    factor2: Any,
    step: Any,
    places: Any,
    starts: Any,
    rows: Any,
    stride: Any,
    numbers: Any,
    values: Any,
    first: Any,
    last: Any,
    block: Any,
    like: Any,
) -> Any:
    """to += factor2[place] * sum, to2[place] += factor * sum, for the place and the sum of each number from first to
    last: ``places`` is where a place lies, in steps, and ``starts`` where the terms of a sum begin."""

    def write(code: _Block, *arguments: ir.Value) -> None:
        to, factor, to2, factor2, step, places, starts, rows, stride, numbers, values, first, last = arguments
        builder = code.builder
        begun, kept = code.load(to), code.load(factor)
        before = builder.block
        loop, done = builder.append_basic_block("sums"), builder.append_basic_block("all")
        builder.cbranch(builder.icmp_signed("<", first, last), loop, done)
        builder.position_at_end(loop)
        number = builder.phi(I64)
        totals = [builder.phi(code.vector) for _ in begun]
        offset = builder.shl(number, I64(3))
        here, following = (
            builder.load(builder.inttoptr(builder.add(builder.add(starts, offset), I64(8 * n)), I64.as_pointer()))
            for n in range(2)
        )
        place = builder.load(builder.inttoptr(builder.add(places, offset), I64.as_pointer()))
        moved = builder.mul(place, step)
        sums = code.sum(rows, stride, numbers, values, here, following)
        grown = code.multiply_add(code.load(builder.add(factor2, moved)), sums, totals)
        there = builder.add(to2, moved)
        code.store(code.multiply_add(kept, sums, code.load(there)), there)
        after = builder.add(number, I64(1))
        end = builder.block
        number.add_incoming(first, before)
        number.add_incoming(after, end)
        for total, one, value in zip(totals, begun, grown, strict=True):
            total.add_incoming(one, before)
            total.add_incoming(value, end)
        builder.cbranch(builder.icmp_signed("<", after, last), loop, done)
        builder.position_at_end(done)
        found = []
        for one, value in zip(begun, grown, strict=True):
            result = builder.phi(code.vector)
            result.add_incoming(one, before)
            result.add_incoming(value, end)
            found.append(result)
        code.store(found, to)

    return _step(13, write)(block, like)


@intrinsic
def fetch(typing: Any, row: Any, block: Any, like: Any) -> Any:
    """Has a row brought to the caches that will be read soon; the address may be any."""

    def write(code: _Block, row: ir.Value) -> None:
        for place in code.places(row):
            llvm.fetch(code.builder, place)

    return _step(1, write)(block, like)


@intrinsic
def channel_at(typing: Any, row: Any, channel: Any, like: Any) -> Any:
    """row[channel]"""

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
        code = _Block(builder, types.UniTuple(types.int64, 1), like)
        return code.number(builder.add(arguments[0], builder.mul(arguments[1], I64(code.size))))

    return like.dtype(types.int64, types.int64, like), generate
