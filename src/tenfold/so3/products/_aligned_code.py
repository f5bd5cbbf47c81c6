"""Convolutions in the frames of edges written out for a form: no loop over components, no table of the filter.

For each edge the turn into its frame is made first, as numbers on the stack. Vectors of channels then go through all
steps in registers: into the frame, through the filter, and back to where they are added up.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from llvmlite import ir

from tenfold.so3._simd import BYTES, llvm
from tenfold.so3.products import _edge_frames as frames
from tenfold.so3.products._aligned_form import Form
from tenfold.so3.products._edge_writer import Rows, Writer

_I8, _I32, _I64, _DOUBLE = ir.IntType(8).as_pointer(), llvm.I32, llvm.I64, ir.DoubleType()
NAME = "run"
# What the code takes: whole numbers, then addresses; what is not needed may be anything. Steps are bytes from the
# weights of one edge to those of the next.
ARGUMENTS = (
    *("first", "last", "width", "weight_step", "on_weight_step"),
    *("features", "vectors", "weight", "coming", "on_features", "on_vectors", "on_weight"),
    *("other", "order", "starts", "to", "to_weight", "to_vectors"),
)


@dataclass(frozen=True)
class Work:
    """What is computed.

    Attributes:
        kind: ``"messages"`` go to the rows of targets, ``"gradients"`` to those of sources.
        item: bytes of a number.
        along: whether it is how these change, where something does.
        features: whether features change.
        vectors: whether vectors change; for gradients, whether theirs is asked for.
        weight: the same for weights.
    """

    kind: Literal["messages", "gradients"]
    item: int
    along: bool = False
    features: bool = False
    vectors: bool = False
    weight: bool = False

    @property
    def derivatives(self) -> int:
        """How many of `Form.kept`."""
        return 2 if self.along else 1 if self.kind == "gradients" and self.vectors else 0


def written(form: Form, work: Work) -> ir.Module:
    """A module with the function `NAME` of `ARGUMENTS`; no edge has length zero, and channels fill vectors."""
    return _Writer(form, work).module


class _Side:
    """Where components are, in space and in frames."""

    def __init__(self, degrees: tuple[int, ...], wide: int) -> None:
        self.tables = frames.side(degrees, wide)
        self.size = sum(2 * degree + 1 for degree in degrees)
        self.cut = sum(2 * min(degree, wide) + 1 for degree in degrees)
        self.pairs = [(int(i), int(j), int(axis)) for i, j, axis in self.tables.pairs]

    def blocks(self) -> list[tuple[int, int, int, int]]:
        """Of each degree: it, orders kept, and where its middle is in space and in frames."""
        t = self.tables
        rows = zip(t.degrees, t.orders, t.full, t.cut, strict=True)
        return [(int(n), int(m), int(full + n), int(cut + m)) for n, m, full, cut in rows]


class _Writer(Writer):
    def __init__(self, form: Form, work: Work) -> None:
        self.work, self.wide = work, form.kept(work.derivatives)
        self.inner, self.outer = _Side(form.inner, self.wide), _Side(form.outer, self.wide)
        self.largest = max(*form.inner, *form.outer)
        self.turns = frames.turns(self.largest, self.wide, torch.float64)
        terms = form.terms(work.derivatives)
        # A weight of the frame has the same factor everywhere, up to its sign: it is made part of the weight.
        factor = np.zeros(len(form.slots()))
        for _, _, slot, value in terms:
            factor[slot] = abs(value)
        self.terms = [(k, i, slot, 1 if value > 0 else -1) for k, i, slot, value in terms]
        self.mixing = factor[:, None] * form.mixing()
        super().__init__("aligned", NAME, ARGUMENTS, ARGUMENTS.index("features"), work.item)
        waves = self.turns.waves.shape[1]
        self.angles = -(-2 * self.largest // self.lanes) * self.lanes
        self.table = self.stack(self.angles + -(-waves // self.lanes) * self.lanes)
        pairs = [-(-len(side.pairs) // self.lanes) * self.lanes for side in (self.inner, self.outer)]
        self.mixes = [self.stack(max(size, self.lanes)) for size in pairs]
        self.sums = self.stack(4 * self.lanes)
        self.edges((self.outer if work.kind == "messages" else self.inner).size, self._edge)
        self.builder.ret_void()

    # The parts of the work.

    def _edge(self, row: Any, to: Any, edge: Any, ahead: Any) -> None:
        builder, work, given = self.builder, self.work, self.given
        self._frame(edge)
        other, later = self.whole("other", edge), self.whole("other", ahead)
        messages = work.kind == "messages"
        near, far = (other, row) if messages else (row, other)
        features = self.at(given["features"], self.times(self.inner.size, near))
        on_features = self.at(given["on_features"], self.times(self.inner.size, near))
        coming = self.at(given["coming"], self.times(self.outer.size, far))
        weight = self.at(given["weight"], builder.mul(given["weight_step"], edge))
        on_weight = self.at(given["on_weight"], builder.mul(given["on_weight_step"], edge))
        count = self.mixing.shape[1]
        to_weight = self.at(given["to_weight"], self.times(count, edge))
        soon = [(self.at(given["weight"], builder.mul(given["weight_step"], ahead)), count)]
        name, side = ("features", self.inner) if messages else ("coming", self.outer)
        soon.append((self.at(given[name], self.times(side.size, later)), side.size))
        if work.along and work.weight:
            soon.append((self.at(given["on_weight"], builder.mul(given["on_weight_step"], ahead)), count))
        if work.along and work.features and messages:
            soon.append((self.at(given["on_features"], self.times(side.size, later)), side.size))
        torques = not messages and (work.vectors or work.along)
        if torques:
            for number in range(4):
                self.store(llvm.zero(self.vector), self.at(self.sums, number * BYTES))

        def channels(channel: Any) -> None:
            # Rows of the next edge lie anywhere, and take longer to come than the work on this one.
            for start, size in soon:
                rows = self.rows(start, channel)
                for number in range(size):
                    llvm.fetch(self.builder, rows(number))
            x, a, g = (self.rows(base, channel) for base in (features, on_features, coming))
            w, b, to_w = (self.rows(base, channel) for base in (weight, on_weight, to_weight))
            step = self._along if work.along else self._plain
            total = step(x, a, g, w, b, to_w)
            rows = self.rows(to, channel)
            for number, value in enumerate(self._back(total, self.outer if messages else self.inner)):
                if value is not None:
                    place = rows(number)
                    self.store(self.plus(self.load(place), value), place)

        self.loop(_I64(0), given["width"], BYTES, channels)
        if torques:
            self._to_vectors(edge)

    def _plain(self, x: Any, a: Any, g: Any, w: Any, b: Any, to_w: Any) -> Rows:
        """Messages, or gradients."""
        slots = self._slots(w)
        if self.work.kind == "messages":
            return self._applied(slots, self._into(x, self.inner))
        behind = self._into(g, self.outer)
        before = self._adjoint(slots, behind)
        if self.work.weight or self.work.vectors:
            seen = self._into(x, self.inner)
        if self.work.weight:
            self._to_weight(self._weighed(behind, seen), to_w)
        if self.work.vectors:
            self._torque(behind, self._applied(slots, seen), self.outer, 0, 1)
            self._torque(before, seen, self.inner, 0, -1)
        return before

    def _along(self, x: Any, a: Any, g: Any, w: Any, b: Any, to_w: Any) -> Rows:
        """How they change."""
        work, messages = self.work, self.work.kind == "messages"
        slots, seen = self._slots(w), self._into(x, self.inner)
        lead: Rows = self._into(a, self.inner) if work.features else [None] * self.inner.cut
        if work.vectors:
            lead = self._swirled(seen, 0, -1, lead)
        if messages:
            total = self._applied(slots, lead)
            if work.vectors:
                total = self._swirled(self._applied(slots, seen), 1, 1, total)
            if work.weight:
                total = self._sums(total, self._applied(self._slots(b), seen))
            return total
        behind = self._into(g, self.outer)
        before = self._adjoint(slots, behind)
        toward = self._weighed(behind, lead)
        made = self._applied(slots, lead)
        total = [None] * self.inner.cut
        self._torque(before, lead, self.inner, 0, -1)
        if work.vectors:
            total = self._swirled(before, 0, 1, total)
            self._torque(before, seen, self.inner, 2, -1)
            plain = self._applied(slots, seen)
            self._torque(behind, plain, self.outer, 2, 1)
            shaken = self._swirled(behind, 1, -1, [None] * self.outer.cut)
            self._torque(shaken, plain, self.outer, 0, 1)
            more = self._adjoint(slots, shaken)
            self._torque(more, seen, self.inner, 0, -1)
            total = self._sums(total, more)
            toward = self._sums(toward, self._weighed(shaken, seen))
        if work.weight:
            change = self._slots(b)
            made = self._sums(made, self._applied(change, seen))
            more = self._adjoint(change, behind)
            self._torque(more, seen, self.inner, 0, -1)
            total = self._sums(total, more)
        self._torque(behind, made, self.outer, 0, 1)
        self._to_weight(toward, to_w)
        return total

    # Steps on components.

    def _sums(self, one: Rows, other: Rows) -> Rows:
        return [self.plus(a, b) for a, b in zip(one, other, strict=True)]

    def _cosine(self, m: int) -> Any:
        return self.entry(self.table, m - 1)

    def _sine(self, m: int) -> Any:
        return self.entry(self.table, self.largest + m - 1)

    def _block(self, place: int) -> Any:
        return self.entry(self.table, self.angles + place)

    def _into(self, rows: Callable[[int], Any], side: _Side) -> Rows:
        """Components as the frame sees them."""
        found: Rows = [None] * side.cut
        for degree, orders, full, cut in side.blocks():
            room: Rows = [None] * (2 * degree + 1)
            room[degree] = self.load(rows(full))
            for m in range(1, degree + 1):
                plus, minus = self.load(rows(full + m)), self.load(rows(full - m))
                room[degree + m] = self.more(self.more(None, self._cosine(m), plus), self._sine(m), minus)
                room[degree - m] = self.more(self.more(None, self._cosine(m), minus), self._sine(m), plus, -1)
            if degree == 0:
                found[cut] = room[0]
                continue
            place = int(self.turns.places[degree])
            for m in range(orders + 1):
                for n in range(degree + 1):
                    factor = self._block(place + m * (degree + 1) + n)
                    found[cut + m] = self.more(found[cut + m], factor, room[degree + n])
            place += (orders + 1) * (degree + 1)
            for m in range(orders):
                for n in range(degree):
                    factor = self._block(place + m * degree + n)
                    found[cut - m - 1] = self.more(found[cut - m - 1], factor, room[degree - 1 - n])
        return found

    def _back(self, given: Rows, side: _Side) -> Rows:
        """Components in space."""
        found: Rows = [None] * side.size
        for degree, orders, full, cut in side.blocks():
            if degree == 0:
                found[full] = given[cut]
                continue
            room: Rows = [None] * (2 * degree + 1)
            place = int(self.turns.places[degree])
            for m in range(degree + 1):
                for n in range(orders + 1):
                    factor = self._block(place + m + n * (degree + 1))
                    room[degree + m] = self.more(room[degree + m], factor, given[cut + n])
            place += (orders + 1) * (degree + 1)
            for m in range(degree):
                for n in range(orders):
                    factor = self._block(place + m + n * degree)
                    room[degree - m - 1] = self.more(room[degree - m - 1], factor, given[cut - 1 - n])
            found[full] = room[degree]
            for m in range(1, degree + 1):
                plus, minus = room[degree + m], room[degree - m]
                one = self.more(None, self._cosine(m), plus)
                found[full + m] = self.more(one, self._sine(m), minus, -1)
                one = self.more(None, self._cosine(m), minus)
                found[full - m] = self.more(one, self._sine(m), plus)
        return found

    def _slots(self, rows: Callable[[int], Any]) -> Rows:
        """The weights of the frame, with their factors."""
        given = [self.load(rows(number)) for number in range(self.mixing.shape[1])]
        found: Rows = []
        for row in self.mixing:
            total = None
            for number in np.flatnonzero(np.abs(row) > 1e-12):
                total = self.more(total, given[number], self.everywhere(float(row[number])))
            found.append(total)
        return found

    def _to_weight(self, slots: Rows, rows: Callable[[int], Any]) -> None:
        for number, column in enumerate(self.mixing.T):
            total = None
            for slot in np.flatnonzero(np.abs(column) > 1e-12):
                total = self.more(total, slots[slot], self.everywhere(float(column[slot])))
            self.store(llvm.zero(self.vector) if total is None else total, rows(number))

    def _applied(self, slots: Rows, given: Rows) -> Rows:
        found: Rows = [None] * self.outer.cut
        for k, i, slot, sign in self.terms:
            found[k] = self.more(found[k], slots[slot], given[i], sign)
        return found

    def _adjoint(self, slots: Rows, given: Rows) -> Rows:
        found: Rows = [None] * self.inner.cut
        for k, i, slot, sign in self.terms:
            found[i] = self.more(found[i], slots[slot], given[k], sign)
        return found

    def _weighed(self, left: Rows, right: Rows) -> Rows:
        found: Rows = [None] * len(self.mixing)
        for k, i, slot, sign in self.terms:
            found[slot] = self.more(found[slot], left[k], right[i], sign)
        return found

    def _swirled(self, given: Rows, number: int, sign: int, total: Rows) -> Rows:
        """What components change by when the frame turns a little, added to others; 0 for features, 1 for messages."""
        found = list(total)
        for place, (i, j, _) in enumerate((self.inner, self.outer)[number].pairs):
            factor = self.entry(self.mixes[number], place)
            found[i] = self.more(found[i], factor, given[j], sign)
            found[j] = self.more(found[j], factor, given[i], -sign)
        return found

    def _torque(self, left: Rows, right: Rows, side: _Side, first: int, sign: int) -> None:
        """That of components around x and z, added to the sum ``first`` and the next."""
        totals: Rows = [None, None]
        for (i, j, axis), mix in zip(side.pairs, side.tables.mixes, strict=True):
            part = self.more(self.more(None, left[i], right[j]), left[j], right[i], -1)
            totals[axis] = self.more(totals[axis], part, self.everywhere(sign * float(mix)))
        for axis, total in enumerate(totals):
            if total is not None:
                place = self.at(self.sums, (first + axis) * BYTES)
                self.store(self.plus(self.load(place), total), place)

    # Numbers of an edge.

    def _wide(self, base: Any, edge: Any) -> list[Any]:
        """The vector of an edge, as numbers of 64 bits."""
        pointer = self.builder.bitcast(base, self.number.as_pointer())
        start = self.builder.mul(edge, _I64(3))
        found = []
        for axis in range(3):
            place = self.builder.gep(pointer, [self.builder.add(start, _I64(axis))])
            found.append(self._widened(self.builder.load(place, align=self.work.item)))
        return found

    def _widened(self, value: Any) -> Any:
        return value if self.work.item == 8 else self.builder.fpext(value, _DOUBLE)

    def _put(self, table: Any, place: int, value: Any) -> None:
        narrow = value if self.work.item == 8 else self.builder.fptrunc(value, self.number)
        pointer = self.builder.bitcast(self.at(table, place * self.work.item), self.number.as_pointer())
        self.builder.store(narrow, pointer, align=self.work.item)

    def _call(self, name: str, *values: Any) -> Any:
        kind = ir.FunctionType(_DOUBLE, [_DOUBLE] * len(values))
        function = self.module.globals.get(f"llvm.{name}.f64")
        if function is None:
            function = ir.Function(self.module, kind, f"llvm.{name}.f64")
        return self.builder.call(function, values)

    def _frame(self, edge: Any) -> None:
        """Cosines and sines of multiples of the angle around y, and the rotations around x, to the stack."""
        b, one, zero = self.builder, _DOUBLE(1.0), _DOUBLE(0.0)
        x, y, z = self._wide(self.given["vectors"], edge)
        scale = self._call(
            "maxnum", self._call("maxnum", *(self._call("fabs", v) for v in (x, y))), self._call("fabs", z)
        )
        x, y, z = (b.fdiv(value, scale) for value in (x, y, z))
        flat = self._call("sqrt", b.fadd(b.fmul(x, x), b.fmul(z, z)))
        length = self._call("sqrt", b.fadd(b.fmul(flat, flat), b.fmul(y, y)))
        self.up, self.side, self.length = b.fdiv(y, length), b.fdiv(flat, length), b.fmul(length, scale)
        pole = b.fcmp_ordered("==", flat, zero)
        safe = b.select(pole, one, flat)
        self.cosine = b.select(pole, one, b.fdiv(z, safe))
        self.sine = b.select(pole, zero, b.fdiv(x, safe))
        c, s, u, t = one, zero, one, zero
        tilt: dict[int, Any] = {}
        for m in range(1, self.largest + 1):
            c, s = (
                b.fsub(b.fmul(c, self.cosine), b.fmul(s, self.sine)),
                b.fadd(b.fmul(s, self.cosine), b.fmul(c, self.sine)),
            )
            u, t = (
                b.fsub(b.fmul(u, self.up), b.fmul(t, self.side)),
                b.fadd(b.fmul(t, self.up), b.fmul(u, self.side)),
            )
            self._put(self.table, m - 1, c)
            self._put(self.table, self.largest + m - 1, s)
            tilt[m], tilt[self.largest + m] = u, t
        spread = {number: self._spread(value) for number, value in tilt.items()}
        waves = self.turns.waves
        for first in range(0, waves.shape[1], self.lanes):
            total = None
            for number in range(len(waves)):
                part = waves[number, first : first + self.lanes]
                if np.any(part):
                    constant = self.constant(part)
                    total = constant if number == 0 else self.more(total, spread[number], constant)
            self.store(
                llvm.zero(self.vector) if total is None else total,
                self.at(self.table, (self.angles + first) * self.work.item),
            )
        if self.work.along and self.work.vectors:
            self._turn(edge)

    def _spread(self, value: Any) -> Any:
        """A number of 64 bits in all lanes."""
        narrow = value if self.work.item == 8 else self.builder.fptrunc(value, self.number)
        return llvm.spread(self.builder, narrow)

    def _turn(self, edge: Any) -> None:
        """The little turn that goes with the change of a vector, times what it mixes, to the stack."""
        b = self.builder
        x, y, z = self._wide(self.given["on_vectors"], edge)
        flat = b.fadd(b.fmul(self.sine, x), b.fmul(self.cosine, z))
        across = b.fsub(b.fmul(self.cosine, x), b.fmul(self.sine, z))
        self.stretch = b.fdiv(b.fadd(b.fmul(self.side, flat), b.fmul(self.up, y)), self.length)
        ahead = b.fsub(b.fmul(self.up, flat), b.fmul(self.side, y))
        self.axes = b.fdiv(ahead, self.length), b.fneg(b.fdiv(across, self.length))
        spread = [self._spread(axis) for axis in self.axes]
        for side, room in zip((self.inner, self.outer), self.mixes, strict=True):
            for first in range(0, len(side.pairs), self.lanes):
                some = side.pairs[first : first + self.lanes]
                total = None
                for axis in range(2):
                    mixes = side.tables.mixes[first : first + self.lanes]
                    part = [mix if pair[2] == axis else 0.0 for pair, mix in zip(some, mixes, strict=True)]
                    total = self.more(total, spread[axis], self.constant(part))
                self.store(total, self.at(room, first * self.work.item))

    def _to_vectors(self, edge: Any) -> None:
        """What the torques of an edge say of its vector."""
        b = self.builder
        a, c, turn_a, turn_c = (self._widened(self.across(self.load(self.at(self.sums, n * BYTES)))) for n in range(4))
        first, second, third = b.fneg(c), _DOUBLE(0.0), a
        if self.work.along and self.work.vectors:
            first = b.fadd(first, b.fmul(self.stretch, turn_c))
            third = b.fsub(third, b.fmul(self.stretch, turn_a))
            second = b.fneg(b.fadd(b.fmul(self.axes[0], turn_a), b.fmul(self.axes[1], turn_c)))
        first, second, third = (b.fdiv(value, self.length) for value in (first, second, third))
        flat = b.fadd(b.fmul(self.side, second), b.fmul(self.up, third))
        found = (
            b.fadd(b.fmul(self.cosine, first), b.fmul(self.sine, flat)),
            b.fsub(b.fmul(self.up, second), b.fmul(self.side, third)),
            b.fsub(b.fmul(self.cosine, flat), b.fmul(self.sine, first)),
        )
        base = self.at(self.given["to_vectors"], b.mul(edge, _I64(3 * self.work.item)))
        for axis, value in enumerate(found):
            self._put(base, axis, value)
