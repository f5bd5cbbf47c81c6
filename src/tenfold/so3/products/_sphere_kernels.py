"""Products of signals on an octant of the sphere in one pass over the numbers.

Each signal is taken to the octant once, however many products it is in. A block of channels goes through all steps
before the next one begins, so that values on the sphere stay in the caches of a core.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from torch import Tensor

from tenfold.so3 import _memory
from tenfold.so3._compiled import compiled
from tenfold.so3._shares import shared
from tenfold.so3._simd import BYTES
from tenfold.so3._simd.blocks import channel_at
from tenfold.so3.products._sphere_plans import Plan, Way
from tenfold.so3.products._sphere_steps import ROW, TILE, fetch, kinds, put_at, sums

__all__ = ["TILE", "multiply"]

# Fewer multiplications than this are done before another thread wakes up.
_WORTH_SHARING = 500_000


def multiply(
    given: Sequence[Tensor], roles: Sequence[int], terms: Sequence[tuple[int, int, int]], wanted: Sequence[int], p: Plan
) -> list[Tensor]:
    """Sums of products of signals ``[batch, component, channel]``.

    Args:
        given: contiguous, of one dtype.
        roles: which of the three signals of the plan each one is.
        terms: which are multiplied, in this order, and what they are added to.
        wanted: which of the three signals each of those is.
    """
    batch, _, channels = given[0].shape
    outs = [_memory.empty((batch, p.back[role].components, channels), given[0].dtype) for role in wanted]
    if not batch * channels:
        return outs
    size = given[0].itemsize
    # Scratch, in rows: components where they are gathered, orders of all rings, points of one ring.
    direct = channels * size % ROW == 0
    length = 0

    def place(rows: int) -> int:
        nonlocal length
        length += rows
        return (length - rows) * ROW

    def signal(tensor: Tensor, way: Way) -> list[int]:
        gathered, rings = place(0 if direct else way.components), place(p.rings * max(way.rows, 1))
        points = place(8 * way.fields * p.steps)
        return [tensor.data_ptr(), way.components, gathered, rings, points, way.rows, *way.polar, *way.around]

    ins = np.array([signal(one, p.into[role]) for one, role in zip(given, roles, strict=True)])
    back = np.array([signal(one, p.back[role]) for one, role in zip(outs, wanted, strict=True)])
    every = 8 * p.steps * ROW
    products: list[tuple[int, int, int]] = []
    fields: list[tuple[int, int, int]] = []
    for out, role in enumerate(wanted):
        for field in range(p.back[role].fields):
            own = [
                (ins[left, 4] + a * every, ins[right, 4] + b * every, sign)
                for left, right, to in terms
                if to == out
                for a, b, c, sign in p.terms
                if c == field and a < p.into[roles[left]].fields and b < p.into[roles[right]].fields
            ]
            if own:
                fields.append((back[out, 4] + field * every, len(products), len(own)))
                products += own
    arrays = (
        ins,
        back,
        np.array(products, np.int64).reshape(-1, 3),
        np.array(fields, np.int64).reshape(-1, 3),
        p.works,
        p.numbers,
        p.factors,
    )
    columns = ROW // size
    blocks = -(-batch * channels // columns)

    def run(first: int, last: int) -> None:
        held = np.zeros(length * ROW + BYTES, np.uint8)
        scratch = held.ctypes.data + -held.ctypes.data % BYTES
        _multiply(*arrays, p.rings, p.steps, batch, channels, size, direct, scratch, first, last)
        del held

    work = blocks * columns * len(terms) * p.operations
    shared(blocks, run, 1 if work < _WORTH_SHARING else None)
    return outs


@compiled
def _sums(works: int, count: int, numbers: int, factors: int, source: int, apart: int, to: int, away: int, like: Any):  # type: ignore[no-untyped-def]
    """Compiled once, and not where it is called: it is long."""
    if count:
        sums(works, count, numbers, factors, source, apart, to, away, like)


@compiled
def _kinds(terms: int, number: int, points: int, target: int, apart: int, count: int, like: Any):  # type: ignore[no-untyped-def]
    kinds(terms, number, points, target, apart, count, like)


@compiled
def _gather(
    features: int, components: int, channels: int, begin: int, end: int, rows: int, size: int, back: bool, like: Any
) -> None:
    """Columns ``begin`` to ``end`` of all components, copied into rows; or out of them."""
    for i in range(components):
        column, at = begin, rows + i * ROW
        while column < end:
            item, channel = column // channels, column % channels
            width = min(channels - channel, end - column)
            there = features + ((item * components + i) * channels + channel) * size
            for c in range(width):
                if back:
                    put_at(there + c * size, channel_at(at, c, like), like)
                else:
                    put_at(at + c * size, channel_at(there, c, like), like)
            at += width * size
            column += width


@compiled
def _fetch(
    features: int, components: int, item: int, channel: int, channels: int, size: int, part: int, parts: int, like: Any
) -> None:
    """Has one part of the rows of a block brought to the caches."""
    begin = features + (item * components * channels + channel) * size
    for i in range(components * part // parts, components * (part + 1) // parts):
        fetch(begin + i * channels * size, like)


@compiled
def _multiply(
    ins: Any,
    outs: Any,
    products: Any,
    fields: Any,
    works: Any,
    numbers: Any,
    like: Any,
    rings: int,
    steps: int,
    batch: int,
    channels: int,
    size: int,
    direct: bool,
    scratch: int,
    first: int,
    last: int,
) -> None:
    work, number, factor, term = works.ctypes.data, numbers.ctypes.data, like.ctypes.data, products.ctypes.data
    columns = ROW // size
    apart = channels * size if direct else ROW
    for block in range(first, last):
        begin, end = block * columns, min((block + 1) * columns, batch * channels)
        item, channel = begin // channels, begin % channels
        for i in range(len(ins)):
            address, components, gathered, orders = ins[i, 0], ins[i, 1], ins[i, 2], ins[i, 3]
            source = address + (item * components * channels + channel) * size if direct else scratch + gathered
            if not direct:
                _gather(address, components, channels, begin, end, source, size, False, like)
            _sums(work + 40 * ins[i, 6], ins[i, 7], number, factor, source, apart, scratch + orders, ROW, like)
        for ring in range(rings):
            if direct and block + 1 < last:
                # What the next block needs lies far apart: it comes while this one is worked on.
                for i in range(len(ins)):
                    _fetch(ins[i, 0], ins[i, 1], end // channels, end % channels, channels, size, ring, rings, like)
                for i in range(len(outs)):
                    _fetch(outs[i, 0], outs[i, 1], end // channels, end % channels, channels, size, ring, rings, like)
            for i in range(len(ins)):
                source = scratch + ins[i, 3] + ring * ins[i, 5] * ROW
                _sums(work + 40 * ins[i, 8], ins[i, 9], number, factor, source, ROW, scratch + ins[i, 4], ROW, like)
            for i in range(len(fields)):
                _kinds(
                    term + 24 * fields[i, 1], fields[i, 2], scratch, scratch + fields[i, 0], steps * ROW, steps, like
                )
            for i in range(len(outs)):
                target = scratch + outs[i, 3] + ring * outs[i, 5] * ROW
                _sums(work + 40 * outs[i, 8], outs[i, 9], number, factor, scratch + outs[i, 4], ROW, target, ROW, like)
        for i in range(len(outs)):
            address, components, gathered, orders = outs[i, 0], outs[i, 1], outs[i, 2], outs[i, 3]
            target = address + (item * components * channels + channel) * size if direct else scratch + gathered
            _sums(work + 40 * outs[i, 6], outs[i, 7], number, factor, scratch + orders, ROW, target, apart, like)
            if not direct:
                _gather(address, components, channels, begin, end, target, size, True, like)
