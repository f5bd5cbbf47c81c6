"""The sum over paths and its derivatives written out for a plan: no loop over terms, no table of coefficients.

One function for each shape of a group runs over rows and vectors of channels; another one takes as many rows as the
caches hold through all groups. So the code of a group is used many times before that of the next one is loaded, and
all that is added up stays in registers or in the first cache.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from llvmlite import ir

from tenfold.so3._code import Code, compiled
from tenfold.so3._simd import BYTES, llvm
from tenfold.so3.products._trilinear_groups import Group, Shape

_I64 = llvm.I64
_PLACE, _TABLE = ir.IntType(8).as_pointer(), _I64.as_pointer()
# Multiplications and additions may be fused.
_CONTRACT = ("contract",)
NAME = "run"
# So many groups ahead gradients are fetched.
_AHEAD = 1
# Which components a tensor is made of; those alike have the same places.
_PLACES = {
    "left": "left",
    "left2": "left",
    "to_left": "left",
    "right": "right",
    "right2": "right",
    "to_right": "to_right",
    "out": "out",
    "grad": "out",
    "weight": "weight",
    "to_weight": "to_weight",
}
PLACES = ("left", "right", "to_right", "out", "weight", "to_weight")


@dataclass(frozen=True)
class Work:
    """What is computed.

    Attributes:
        wanted: ``("out",)``, or of ``"to_left"``, ``"to_right"`` (never one of these alone) and ``"to_weight"``.
        item: bytes of a number.
        weight: whether there are weights, for each channel or one for all.
        narrow: whether right has one channel; what it gets is then summed over vectors, not within them.
        twice: whether there is a second product of left and right.
        added: what weights get is added to and not overwritten.
        fixed: what weights get is summed over vectors of channels.
        streamed: out is written past the caches.
    """

    wanted: tuple[str, ...]
    item: int
    weight: Literal["", "narrow", "wide"] = ""
    narrow: bool = False
    twice: bool = False
    added: bool = False
    fixed: bool = False
    streamed: bool = False

    @property
    def tensors(self) -> tuple[str, ...]:
        """In the order in which code takes them."""
        second = ("left2", "right2") if self.twice else ()
        weight = ("weight",) if self.weight else ()
        grad = () if "out" in self.wanted else ("grad",)
        return (*self.wanted, "left", "right", *second, *weight, *grad)

    def still(self, name: str) -> bool:
        """Whether a tensor is the same for all vectors of channels."""
        if name in ("right", "right2", "to_right"):
            return self.narrow
        return (name == "weight" and self.weight == "narrow") or (name == "to_weight" and self.fixed)


@dataclass(frozen=True)
class Firsts:
    """For each group, whether what it adds to left, to right and to each of its ends is the first there."""

    left: Sequence[bool]
    right: Sequence[bool]
    ends: Sequence[tuple[bool, ...]]


def arguments(work: Work) -> int:
    """How many numbers the function `NAME` takes.

    They are an address for each tensor, how far its rows are from each other, then the address of the table, the bytes
    of all channels, the first row, the one after the last, and how many are taken at once. The table has for each
    group, for each of `PLACES`, where its components lie, in bytes.
    """
    return 2 * len(work.tensors) + 5


def code(groups: Sequence[Group], firsts: Firsts, work: Work) -> Code:
    """The function `NAME`, compiled."""
    shapes = list(dict.fromkeys(group.shape for group in groups))
    sizes = [(shapes.index(group.shape), *_sizes(group)) for group in groups]
    description = repr((work, firsts, sizes, shapes))
    return compiled(lambda: _written(groups, firsts, work), NAME, description, [sys.modules[__name__], llvm])


def _sizes(group: Group) -> tuple[int, int, int, int]:
    return len(group.lefts), len(group.rights), len(group.outs), len(group.paths)


def _written(groups: Sequence[Group], firsts: Firsts, work: Work) -> ir.Module:
    module = ir.Module("trilinear")
    known: dict[_Kind, ir.Function] = {}
    calls, offset = [], 0
    for number, group in enumerate(groups):
        after = groups[(number + _AHEAD) % len(groups)]
        kind = _Kind(group.shape, firsts.left[number], firsts.right[number], firsts.ends[number], len(after.outs))
        if kind not in known:
            known[kind] = _Group(module, f"group{len(known)}", work, kind, _sizes(group)).function
        lefts, rights, ends, paths = _sizes(group)
        calls.append(_Call(known[kind], offset, offset + lefts + 2 * rights))
        offset += lefts + 2 * rights + ends + 2 * paths
    _driver(module, work, calls)
    return module


class _Kind(NamedTuple):
    """What the function of a group depends on.

    Attributes:
        after: how many ends that group has whose gradients are fetched.
    """

    shape: Shape
    first_left: bool
    first_right: bool
    first_ends: tuple[bool, ...]
    after: int


class _Call(NamedTuple):
    """A function, where its part of the table begins, and where in that its ends."""

    function: ir.Function
    table: int
    ends: int


def _driver(module: ir.Module, work: Work, calls: Sequence[_Call]) -> None:
    function = ir.Function(module, ir.FunctionType(ir.VoidType(), [_TABLE]), NAME)
    entry, loop, done = (function.append_basic_block(name) for name in ("entry", "tile", "done"))
    builder = ir.IRBuilder(entry)
    number = len(work.tensors)
    given = [builder.load(builder.gep(function.args[0], [_I64(n)]), align=8) for n in range(arguments(work))]
    starts, rows, (table, width, first, last, tile) = given[:number], given[number:-5], given[-5:]
    table = builder.inttoptr(table, _TABLE)
    builder.cbranch(builder.icmp_signed("<", first, last), loop, done)
    builder.position_at_end(loop)
    row = builder.phi(_I64)
    row.add_incoming(first, entry)
    following = builder.add(row, tile)
    end = builder.select(builder.icmp_signed("<", following, last), following, last)
    places = [
        builder.inttoptr(builder.add(start, builder.mul(row, step)), _PLACE)
        for start, step in zip(starts, rows, strict=True)
    ]
    # The gradient comes last among tensors. After the last groups the first ones follow, with the next rows.
    later = builder.gep(places[-1], [builder.mul(tile, rows[-1])])
    for number, call in enumerate(calls):
        after = calls[(number + _AHEAD) % len(calls)]
        ahead = places[-1] if number + _AHEAD < len(calls) else later
        tables = [builder.gep(table, [_I64(place)]) for place in (call.table, after.ends)]
        builder.call(call.function, [*places, *rows, ahead, *tables, width, builder.sub(end, row)])
    row.add_incoming(following, loop)
    builder.cbranch(builder.icmp_signed("<", following, last), loop, done)
    builder.position_at_end(done)
    builder.ret_void()


class _Group:
    """Writes the function of one shape."""

    def __init__(self, module: ir.Module, name: str, work: Work, kind: _Kind, sizes: tuple[int, int, int, int]) -> None:
        self.work, self.kind, self.shape = work, kind, kind.shape
        self.number = ir.FloatType() if work.item == 4 else ir.DoubleType()
        self.vector = llvm.vector(self.number)
        number = len(work.tensors)
        types = [*[_PLACE] * number, *[_I64] * number, _PLACE, _TABLE, _TABLE, _I64, _I64]
        self.function = ir.Function(module, ir.FunctionType(ir.VoidType(), types), name)
        self.function.linkage = "internal"
        for argument in (*self.function.args[:number], *self.function.args[-4:-2]):
            argument.add_attribute("noalias")
        lefts, rights, ends, paths = sizes
        self.sizes = {"left": lefts, "right": rights, "to_right": rights, "weight": paths, "to_weight": paths}
        self.sizes["out"] = ends
        self.starts, start = {}, 0
        for place in PLACES:
            self.starts[place] = start
            start += self.sizes[place]
        self._loops()
        if "out" in work.wanted:
            self._forward()
        else:
            self._backward()
        self._close()

    # --- loops over rows, and over vectors of channels

    def _loops(self) -> None:
        names = self.work.tensors
        arguments = self.function.args
        entry, self.row, self.body = (self.function.append_basic_block(name) for name in ("entry", "row", "vector"))
        self.builder = builder = ir.IRBuilder(entry)
        ahead, self.table, self.ends_ahead, self.width, self.rows = arguments[-5:]
        self.row_bytes = dict(zip(names, arguments[len(names) :], strict=False))
        builder.branch(self.row)
        builder.position_at_end(self.row)
        self.row_number = builder.phi(_I64)
        self.row_number.add_incoming(_I64(0), entry)
        self.places = {}
        for name, argument in zip(names, arguments, strict=False):
            self.places[name] = builder.phi(_PLACE)
            self.places[name].add_incoming(argument, entry)
        row_ahead = builder.phi(_PLACE)
        row_ahead.add_incoming(ahead, entry)
        builder.branch(self.body)
        builder.position_at_end(self.body)
        self.channel = builder.phi(_I64)
        self.channel.add_incoming(_I64(0), self.row)
        self.ahead, self.row_ahead, self.done = builder.gep(row_ahead, [self.channel]), row_ahead, 0
        self.here = {
            name: place if self.work.still(name) else builder.gep(place, [self.channel])
            for name, place in self.places.items()
        }
        self.loaded: dict[tuple[str, int], ir.Value] = {}

    def _close(self) -> None:
        builder = self.builder
        row_done, done = (self.function.append_basic_block(name) for name in ("rowdone", "done"))
        following = builder.add(self.channel, _I64(BYTES))
        self.channel.add_incoming(following, self.body)
        builder.cbranch(builder.icmp_signed("<", following, self.width), self.body, row_done)
        builder.position_at_end(row_done)
        number = builder.add(self.row_number, _I64(1))
        self.row_number.add_incoming(number, row_done)
        self.row_ahead.add_incoming(builder.gep(self.row_ahead, [self.row_bytes[self.work.tensors[-1]]]), row_done)
        for name, place in self.places.items():
            place.add_incoming(builder.gep(place, [self.row_bytes[name]]), row_done)
        builder.cbranch(builder.icmp_signed("<", number, self.rows), self.row, done)
        builder.position_at_end(done)
        builder.ret_void()

    # --- components

    def _address(self, name: str, number: int) -> ir.Value:
        place = "right" if name == "to_right" and not self.work.narrow else _PLACES[name]
        entry = self.builder.gep(self.table, [_I64(self.starts[place] + number)])
        return self.builder.gep(self.here[name], [self.builder.load(entry, align=8)])

    def _load(self, name: str, number: int) -> ir.Value:
        if (name, number) not in self.loaded:
            address = self._address(name, number)
            if self.work.still(name):
                place = self.builder.bitcast(address, self.number.as_pointer())
                self.loaded[name, number] = llvm.spread(self.builder, self.builder.load(place, align=self.work.item))
            else:
                self.loaded[name, number] = llvm.load(self.builder, address, self.vector)
        return self.loaded[name, number]

    def _store(self, name: str, number: int, value: ir.Value | None, *, added: bool) -> None:
        """None is zero."""
        if value is None and added:
            return
        address = self._address(name, number)
        if value is None:
            value = llvm.zero(self.vector)
        elif added:
            value = self.builder.fadd(llvm.load(self.builder, address, self.vector), value, flags=_CONTRACT)
        llvm.store(self.builder, value, address, past_caches=self.work.streamed)

    def _product(self, one: ir.Value, other: ir.Value) -> ir.Value:
        return self.builder.fmul(one, other, flags=_CONTRACT)

    def _more(self, total: ir.Value | None, one: ir.Value, other: ir.Value, sign: int = 1) -> ir.Value:
        """``total + sign * one * other``."""
        product = self._product(one, other)
        if total is None:
            return product if sign > 0 else self.builder.fneg(product)
        write = self.builder.fadd if sign > 0 else self.builder.fsub
        return write(total, product, flags=_CONTRACT)

    # --- what is computed

    def _sums(self, products: tuple[tuple[int, int, int], ...]) -> ir.Value:
        total = None
        for left, right, sign in products:
            for second in ("", "2") if self.work.twice else ("",):
                one, other = self._load(f"left{second}", left), self._load(f"right{second}", right)
                total = self._more(total, one, other, sign)
        return total

    def _combined(self, values: Sequence[ir.Value], factors: Sequence[float]) -> ir.Value | None:
        total = None
        for value, factor in zip(values, factors, strict=True):
            if factor:
                total = self._more(total, value, ir.Constant(self.vector, [self.number(factor)] * self.vector.count))
        return total

    def _forward(self) -> None:
        work, left_over = self.work, set(range(self.sizes["out"]))
        for part in self.shape.parts:
            sums = [self._sums(products) for products in part.sums]
            for number, end in enumerate(part.ends):
                value = self._combined(sums, [factors[number] for factors in part.values])
                if work.weight:
                    value = self._product(value, self._load("weight", self.shape.paths[end]))
                self._store("out", end, value, added=not self.kind.first_ends[end])
                left_over.discard(end)
        for end in sorted(left_over):
            self._store("out", end, None, added=not self.kind.first_ends[end])

    def _backward(self) -> None:
        wanted = self.work.wanted
        to_left: list[ir.Value | None] = [None] * self.sizes["left"]
        to_right: list[ir.Value | None] = [None] * self.sizes["right"]
        to_weight: list[ir.Value | None] = [None] * self.sizes["weight"]
        for part in self.shape.parts:
            grads = [self._load("grad", end) for end in part.ends]
            self._fetch_ahead(len(part.ends))
            if "to_weight" in wanted:
                sums = [self._sums(products) for products in part.sums]
                for number, end in enumerate(part.ends):
                    value = self._combined(sums, [factors[number] for factors in part.values])
                    path = self.shape.paths[end]
                    to_weight[path] = self._more(to_weight[path], value, grads[number])
            if "to_left" not in wanted:
                continue
            if self.work.weight:
                paths = [self.shape.paths[end] for end in part.ends]
                grads = [
                    self._product(grad, self._load("weight", path)) for grad, path in zip(grads, paths, strict=True)
                ]
            for products, factors in zip(part.sums, part.values, strict=True):
                value = self._combined(grads, factors)
                for left, right, sign in products:
                    to_left[left] = self._more(to_left[left], value, self._load("right", right), sign)
                    to_right[right] = self._more(to_right[right], value, self._load("left", left), sign)
        if "to_left" in wanted:
            for number, value in enumerate(to_left):
                self._store("to_left", number, value, added=not self.kind.first_left)
            for number, value in enumerate(to_right):
                self._store("to_right", number, value, added=not self.kind.first_right)
        if "to_weight" in wanted:
            for number, value in enumerate(to_weight):
                self._store("to_weight", number, value, added=self.work.added)

    def _fetch_ahead(self, ends: int) -> None:
        """Gradients of the group after this one, as many in proportion as these ends are of this group's.

        They lie in pieces: no processor guesses where the next one is.
        """
        after, total = self.kind.after, self.sizes["out"]
        for number in range(self.done * after // total, (self.done + ends) * after // total):
            offset = self.builder.load(self.builder.gep(self.ends_ahead, [_I64(number)]), align=8)
            llvm.fetch(self.builder, self.builder.gep(self.ahead, [offset]), near=False)
        self.done += ends
