"""Code that turns the blocks of rows from one layout into the other: a transpose of each, many numbers at once.

Loading llvmlite takes a while: this is imported where such code runs.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from llvmlite import ir

from tenfold.so3._code import Code, compiled
from tenfold.so3._simd import BYTES, llvm

_NAME = "turn"
# Whole numbers: rows, where the first is read and where it is written, and bytes from there to the next.
ARGUMENTS = ("rows", "source", "target", "source_step", "target_step")
# More components than this are turned in squares, where a number takes half a shuffle; otherwise it takes one for each
# lane's worth of components more.
_SQUARE = 8


def code(blocks: tuple[tuple[int, int], ...], item: int, *, inward: bool) -> Code:
    """A function of `ARGUMENTS` for rows of blocks, of which the channels and the components are given.

    Args:
        item: bytes of a number, 4 or 8.
        inward: whether channels come to be last, as in ``"ir_mul"``.
    """
    writers = (sys.modules[__name__], llvm)
    return compiled(lambda: _written(blocks, item, inward=inward), _NAME, f"{blocks} {item} {inward}", writers)


def _written(blocks: tuple[tuple[int, int], ...], item: int, *, inward: bool) -> ir.Module:
    module = ir.Module(_NAME)
    function = ir.Function(module, ir.FunctionType(ir.VoidType(), [llvm.I64.as_pointer()]), _NAME)
    builder = ir.IRBuilder(function.append_basic_block())
    number = ir.FloatType() if item == 4 else ir.DoubleType()
    places = (builder.gep(function.args[0], [llvm.I64(place)]) for place in range(len(ARGUMENTS)))
    rows, *starts_and_steps = map(builder.load, places)
    with _loop(builder, rows, 1) as row:
        ends = [
            builder.inttoptr(builder.add(start, builder.mul(row, step)), number.as_pointer())
            for start, step in zip(starts_and_steps[:2], starts_and_steps[2:], strict=True)
        ]
        first = 0
        for mul, dim in blocks:
            # As many channels at once as a vector has lanes, or the largest power of two that is not more.
            lanes = min(BYTES // item, 1 << (mul.bit_length() - 1))
            turn = _squares if lanes >= _SQUARE < dim else _whole
            begins = [builder.gep(end, [llvm.I64(first)]) for end in ends]
            with _loop(builder, llvm.I64(mul), lanes) as channel:
                # The last channels may be turned twice: that takes less than to do them one by one.
                last = llvm.I64(mul - lanes)
                begin = (
                    builder.select(builder.icmp_signed("<", channel, last), channel, last) if mul % lanes else channel
                )
                turn(builder, dim, lanes, *_places(builder, begins, begin, mul, dim, inward=inward), inward=inward)
            first += mul * dim
    builder.ret_void()
    return module


Place = Callable[[int, int], Any]


def _places(builder: Any, ends: list[Any], begin: Any, mul: int, dim: int, *, inward: bool) -> tuple[Place, Place]:
    """Where a component of a channel is where components are last, and where it is where channels are last."""
    inner, outer = ends if inward else reversed(ends)
    inner = builder.gep(inner, [builder.mul(begin, llvm.I64(dim))])
    outer = builder.gep(outer, [begin])

    def components_last(channel: int, component: int) -> Any:
        return builder.gep(inner, [llvm.I64(channel * dim + component)])

    def channels_last(channel: int, component: int) -> Any:
        return builder.gep(outer, [llvm.I64(component * mul + channel)])

    return components_last, channels_last


def _whole(builder: Any, dim: int, lanes: int, components_last: Place, channels_last: Place, *, inward: bool) -> None:
    """All components of as many channels as there are lanes: each vector is picked out of those that have parts."""
    kind = ir.VectorType(components_last(0, 0).type.pointee, lanes)
    rows = [components_last(*divmod(number * lanes, dim)) for number in range(dim)]
    columns = [channels_last(0, component) for component in range(dim)]
    if inward:
        vectors = [llvm.load(builder, row, kind) for row in rows]
        for component, column in enumerate(columns):
            places = [divmod(channel * dim + component, lanes) for channel in range(lanes)]
            llvm.store(builder, _picked(builder, vectors, places), column)
        return
    vectors = [llvm.load(builder, column, kind) for column in columns]
    for number, row in enumerate(rows):
        numbers = range(number * lanes, (number + 1) * lanes)
        places = [(place % dim, place // dim) for place in numbers]
        llvm.store(builder, _picked(builder, vectors, places), row)


def _picked(builder: Any, vectors: list[Any], places: list[tuple[int, int]]) -> Any:
    """The vector of what is at these places: which vector, and which of its lanes."""
    lanes = len(places)
    first, *others = sorted({vector for vector, _ in places})
    found, have = vectors[first], [lane if vector == first else 0 for vector, lane in places]
    if not others and have == list(range(lanes)):
        return found
    for other in others or [first]:
        mask = [lane + lanes if vector == other else old for (vector, lane), old in zip(places, have, strict=True)]
        found, have = llvm.shuffle(builder, found, vectors[other], mask), list(range(lanes))
    return found


def _squares(builder: Any, dim: int, lanes: int, components_last: Place, channels_last: Place, *, inward: bool) -> None:
    """The same for many components and 8 or 16 lanes, in squares; the last one may overlap the one before."""
    number = components_last(0, 0).type.pointee
    part, kind = ir.VectorType(number, _SQUARE), ir.VectorType(number, lanes)
    for first in (*range(0, dim - _SQUARE, _SQUARE), dim - _SQUARE):
        if inward:
            starts = [components_last(channel, first) for channel in range(lanes)]
            rows = [llvm.load(builder, start, part) for start in starts]
            if lanes > _SQUARE:
                pairs = zip(rows[:_SQUARE], rows[_SQUARE:], strict=True)
                rows = [llvm.shuffle(builder, one, other, list(range(lanes))) for one, other in pairs]
            for component, column in enumerate(llvm.turned(builder, rows), first):
                llvm.store(builder, column, channels_last(0, component))
            continue
        columns = [llvm.load(builder, channels_last(0, first + row), kind) for row in range(_SQUARE)]
        for channel, row in enumerate(llvm.turned(builder, columns)):
            for begin in range(0, lanes, _SQUARE):
                piece = llvm.shuffle(builder, row, row, list(range(begin, begin + _SQUARE)))
                llvm.store(builder, piece, components_last(channel + begin, first))


@contextmanager
def _loop(builder: Any, end: Any, step: int) -> Iterator[Any]:
    """Whole numbers from zero while they are less than the end."""
    before = builder.block
    head, body, after = (builder.append_basic_block() for _ in range(3))
    builder.branch(head)
    builder.position_at_end(head)
    number = builder.phi(llvm.I64)
    number.add_incoming(llvm.I64(0), before)
    builder.cbranch(builder.icmp_signed("<", number, end), body, after)
    builder.position_at_end(body)
    yield number
    number.add_incoming(builder.add(number, llvm.I64(step)), builder.block)
    builder.branch(head)
    builder.position_at_end(after)
