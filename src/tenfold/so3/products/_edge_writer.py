"""Writes code for edges: loops over rows and their edges, addresses of channels, and steps on vectors of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from llvmlite import ir

from tenfold.so3._simd import BYTES, llvm

_I8, _I64 = ir.IntType(8).as_pointer(), llvm.I64
# Multiplications and additions may be fused.
_CONTRACT = ("contract",)

# Components as vectors of channels; None is zero.
Rows = list[Any]


class Writer:
    """A module with one function ``void(int64*)``, and its arguments by their names.

    Attributes:
        given: the arguments; those from ``addresses`` on are addresses.
        item: bytes of a number.
        lanes: numbers of a vector.
    """

    def __init__(self, module: str, name: str, arguments: Sequence[str], addresses: int, item: int) -> None:
        self.module, self.item = ir.Module(module), item
        function = ir.Function(self.module, ir.FunctionType(ir.VoidType(), [_I64.as_pointer()]), name)
        self.builder = ir.IRBuilder(function.append_basic_block("entry"))
        self.number: Any = ir.FloatType() if item == 4 else ir.DoubleType()
        self.lanes, self.vector = BYTES // item, llvm.vector(self.number)
        self.given: dict[str, Any] = {}
        for place, argument in enumerate(arguments):
            value = self.builder.load(self.builder.gep(function.args[0], [_I64(place)]), align=8)
            self.given[argument] = self.builder.inttoptr(value, _I8) if place >= addresses else value

    def stack(self, numbers: int) -> Any:
        room = self.builder.alloca(self.number, size=numbers)
        room.align = 64
        return self.builder.bitcast(room, _I8)

    def loop(self, first: Any, last: Any, step: int, body: Callable[[Any], None]) -> None:
        builder = self.builder
        before, loop, done = builder.block, builder.append_basic_block("loop"), builder.append_basic_block("done")
        builder.cbranch(builder.icmp_signed("<", first, last), loop, done)
        builder.position_at_end(loop)
        number = builder.phi(_I64)
        number.add_incoming(first, before)
        body(number)
        following = builder.add(number, _I64(step))
        number.add_incoming(following, builder.block)
        builder.cbranch(builder.icmp_signed("<", following, last), loop, done)
        builder.position_at_end(done)

    def edges(self, size: int, body: Callable[[Any, Any, Any, Any], None]) -> None:
        """Rows of so many components that begin with zeros, and what is done for each of their edges.

        The body gets the row, where it is, an edge and the one after it.
        """

        def row(number: Any) -> None:
            to = self.at(self.given["to"], self.times(size, number))

            def clear(place: Any) -> None:
                self.store(llvm.zero(self.vector), self.at(to, place))

            self.loop(_I64(0), self.builder.mul(self.given["width"], _I64(size)), BYTES, clear)
            last = self.whole("starts", self.builder.add(number, _I64(1)))

            def edge(place: Any) -> None:
                following = self.builder.add(place, _I64(1))
                inside = self.builder.icmp_signed("<", following, last)
                ahead = self.whole("order", self.builder.select(inside, following, place))
                body(number, to, self.whole("order", place), ahead)

            self.loop(self.whole("starts", number), last, 1, edge)

        self.loop(self.given["first"], self.given["last"], 1, row)

    def at(self, base: Any, *offsets: Any) -> Any:
        for offset in offsets:
            base = self.builder.gep(base, [_I64(offset) if isinstance(offset, int) else offset])
        return base

    def whole(self, name: str, place: Any) -> Any:
        """A whole number of an array."""
        pointer = self.builder.bitcast(self.given[name], _I64.as_pointer())
        return self.builder.load(self.builder.gep(pointer, [place]), align=8)

    def times(self, count: int, place: Any) -> Any:
        """Bytes of so many rows of channels, as often as ``place`` says."""
        return self.builder.mul(self.builder.mul(self.given["width"], _I64(count)), place)

    def rows(self, base: Any, channel: Any) -> Callable[[int], Any]:
        """Addresses of the rows that begin at an address, at a channel."""
        start = self.at(base, channel)
        return lambda row: self.at(start, self.builder.mul(self.given["width"], _I64(row)))

    def plus(self, one: Any, other: Any) -> Any:
        if one is None or other is None:
            return other if one is None else one
        return self.builder.fadd(one, other, flags=_CONTRACT)

    def more(self, total: Any, one: Any, other: Any, sign: int = 1) -> Any:
        if one is None or other is None:
            return total
        product = self.builder.fmul(one, other, flags=_CONTRACT)
        if total is None:
            return product if sign > 0 else self.builder.fneg(product)
        return (self.builder.fadd if sign > 0 else self.builder.fsub)(total, product, flags=_CONTRACT)

    def across(self, value: Any) -> Any:
        """The sum of all lanes, halves first: an order that does not depend on the compiler."""
        lanes = self.lanes
        while lanes > 1:
            lanes //= 2
            halves = (llvm.shuffle(self.builder, value, value, list(range(n, n + lanes))) for n in (0, lanes))
            value = self.builder.fadd(*halves)
        return self.builder.extract_element(value, llvm.I32(0))

    def entry(self, table: Any, place: int) -> Any:
        pointer = self.builder.bitcast(self.at(table, place * self.item), self.number.as_pointer())
        return llvm.spread(self.builder, self.builder.load(pointer, align=self.item))

    def load(self, address: Any) -> Any:
        return llvm.load(self.builder, address, self.vector)

    def store(self, value: Any, address: Any) -> None:
        llvm.store(self.builder, value, address)

    def everywhere(self, value: float) -> Any:
        return ir.Constant(self.vector, [self.number(value)] * self.lanes)

    def constant(self, values: Any) -> Any:
        padded = [*map(float, values), *[0.0] * (self.lanes - len(values))]
        return ir.Constant(self.vector, [self.number(value) for value in padded])
