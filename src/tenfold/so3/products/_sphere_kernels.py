"""Products of signals on an octant of the sphere in one pass over the numbers.

Each signal is taken to the octant once, however many products it is in. A block of channels goes through all steps
before the next one begins, so that values on the sphere stay in the caches of a core.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

from tenfold.so3 import _memory
from tenfold.so3._compiled import compiled
from tenfold.so3._shares import shared
from tenfold.so3._simd import BYTES
from tenfold.so3._simd.blocks import channel_at
from tenfold.so3.products._sphere_plans import Plan, Way
from tenfold.so3.products._sphere_steps import ROW, TILE, contract, fetch, kinds, put_at, scale, sums

__all__ = ["TILE", "Weighted", "multiply", "multiply_weighted"]

# Fewer multiplications than this are done before another thread wakes up.
_WORTH_SHARING = 500_000


@dataclass(frozen=True)
class Weighted:
    """Factors ``[batch or 1, degree, channel]``, contiguous, and what is made of sums of products.

    Attributes:
        into: the factors of the signals that are given.
        back: those of the sums.
        outs: for each sum, whether it is wanted, times its factors.
        against: for each sum, which of the given signals it is multiplied by and summed over orders: what its factors
            have for a derivative, one for each item of the batch. -1: none.
        sizes: how many components the degrees of each of the three signals have.
    """

    into: Sequence[Tensor]
    back: Sequence[Tensor]
    outs: Sequence[bool]
    against: Sequence[int]
    sizes: Sequence[Sequence[int]]


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
    _fill(given, roles, terms, wanted, p, outs, None, [])
    return outs


def multiply_weighted(
    given: Sequence[Tensor],
    roles: Sequence[int],
    terms: Sequence[tuple[int, int, int]],
    wanted: Sequence[int],
    p: Plan,
    weighted: Weighted,
) -> tuple[list[Tensor | None], list[Tensor | None]]:
    """`multiply` of signals times factors, and what factors have for derivatives: see `Weighted`."""
    batch, _, channels = given[0].shape
    dtype = given[0].dtype
    outs = [
        _memory.empty((batch, p.back[role].components, channels), dtype) if out else None
        for role, out in zip(wanted, weighted.outs, strict=True)
    ]
    sums = [
        None if other < 0 else _memory.empty((batch, len(weighted.sizes[role]), channels), dtype)
        for role, other in zip(wanted, weighted.against, strict=True)
    ]
    _fill(given, roles, terms, wanted, p, outs, weighted, sums)
    return outs, sums


def _fill(
    given: Sequence[Tensor],
    roles: Sequence[int],
    terms: Sequence[tuple[int, int, int]],
    wanted: Sequence[int],
    p: Plan,
    outs: Sequence[Tensor | None],
    weighted: Weighted | None,
    derivatives: Sequence[Tensor | None],
) -> None:
    batch, _, channels = given[0].shape
    if not batch * channels:
        return
    size = given[0].itemsize
    # Scratch, in rows: components where they are gathered, orders of all rings, points of one ring.
    direct = channels * size % ROW == 0
    length = 0

    def place(rows: int) -> int:
        nonlocal length
        length += rows
        return (length - rows) * ROW

    def signal(tensor: Tensor | None, way: Way, gather: bool) -> list[int]:
        gathered, rings = place(way.components if gather else 0), place(p.rings * max(way.rows, 1))
        points = place(8 * way.fields * p.steps)
        return [_address(tensor), way.components, gathered, rings, points, way.rows, *way.polar, *way.around]

    def factor(tensor: Tensor, role: int) -> list[int]:
        """Where factors are, how far those of the next item are, where they are gathered, and by which degrees."""
        away = tensor[0].numel() * size if len(tensor) > 1 else 0
        return [tensor.data_ptr(), away, place(0 if direct else tensor.shape[1]), role, tensor.shape[1]]

    ins = np.array([signal(one, p.into[role], not direct) for one, role in zip(given, roles, strict=True)])
    gather = not direct or weighted is not None
    back = np.array([signal(one, p.back[role], gather) for one, role in zip(outs, wanted, strict=True)])
    # For each signal: its factors, and where it is multiplied by them. For each sum: its factors, where derivatives go,
    # where they are gathered, and the signal that they are taken with.
    weights, factors = np.zeros((0, 6), np.int64), np.zeros((0, 8), np.int64)
    sizes = np.zeros((3, 1), np.int64)
    if weighted is not None:
        sizes = np.zeros((3, max(map(len, weighted.sizes))), np.int64)
        for role, some in enumerate(weighted.sizes):
            sizes[role, : len(some)] = some
        weights = np.array(
            [
                [*factor(one, role), place(p.into[role].components)]
                for one, role in zip(weighted.into, roles, strict=True)
            ]
        )
        factors = np.array(
            [
                [*factor(one, role), _address(to), place(0 if direct else one.shape[1]), other]
                for one, role, to, other in zip(weighted.back, wanted, derivatives, weighted.against, strict=True)
            ]
        )
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
        weights,
        factors,
        sizes,
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


def _address(tensor: Tensor | None) -> int:
    """Where a tensor begins; 0 where there is none."""
    return 0 if tensor is None else tensor.data_ptr()


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
    features: int,
    apart: int,
    components: int,
    channels: int,
    begin: int,
    end: int,
    rows: int,
    size: int,
    back: bool,
    like: Any,
) -> None:
    """Columns ``begin`` to ``end`` of all components, copied into rows; or out of them. Items lie ``apart``."""
    for i in range(components):
        column, at = begin, rows + i * ROW
        while column < end:
            item, channel = column // channels, column % channels
            width = min(channels - channel, end - column)
            there = features + item * apart + (i * channels + channel) * size
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
def _scale(
    source: int, apart: int, rows: int, away: int, sizes: Any, degrees: int, target: int, to: int, like: Any
) -> None:
    """Components multiplied by the factors of their degrees."""
    for n in range(degrees):
        scale(source, apart, rows, target, to, sizes[n], like)
        source, target, rows = source + sizes[n] * apart, target + sizes[n] * to, rows + away


@compiled
def _contract(left: int, apart: int, right: int, sizes: Any, degrees: int, target: int, to: int, like: Any) -> None:
    """Products of components summed over the orders of each degree; those of the right lie in scratch."""
    for n in range(degrees):
        contract(left, apart, right, ROW, target, sizes[n], like)
        left, right, target = left + sizes[n] * apart, right + sizes[n] * ROW, target + to


@compiled
def _multiply(
    ins: Any,
    outs: Any,
    weights: Any,
    factors: Any,
    sizes: Any,
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
                apart_items = components * channels * size
                _gather(address, apart_items, components, channels, begin, end, source, size, False, like)
            between = apart
            if len(weights):
                own, degrees, scaled = weights[i, 0], weights[i, 4], scratch + weights[i, 5]
                rows = own + item * weights[i, 1] + channel * size if direct else scratch + weights[i, 2]
                if not direct:
                    _gather(own, weights[i, 1], degrees, channels, begin, end, rows, size, False, like)
                _scale(source, apart, rows, apart, sizes[weights[i, 3]], degrees, scaled, ROW, like)
                source, between = scaled, ROW
            _sums(work + 40 * ins[i, 6], ins[i, 7], number, factor, source, between, scratch + orders, ROW, like)
        for ring in range(rings):
            if direct and block + 1 < last:
                # What the next block needs lies far apart: it comes while this one is worked on.
                for i in range(len(ins)):
                    _fetch(ins[i, 0], ins[i, 1], end // channels, end % channels, channels, size, ring, rings, like)
                for i in range(len(outs)):
                    if not outs[i, 0]:
                        continue
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
            if len(factors):
                found, degrees, other = scratch + gathered, factors[i, 4], factors[i, 7]
                by = sizes[factors[i, 3]]
                _sums(work + 40 * outs[i, 6], outs[i, 7], number, factor, scratch + orders, ROW, found, ROW, like)
                if other >= 0:
                    source, to = scratch + ins[other, 2], scratch + factors[i, 6]
                    if direct:
                        source = ins[other, 0] + (item * components * channels + channel) * size
                        to = factors[i, 5] + (item * degrees * channels + channel) * size
                    _contract(source, apart, found, by, degrees, to, apart, like)
                    if not direct:
                        apart_items = degrees * channels * size
                        _gather(factors[i, 5], apart_items, degrees, channels, begin, end, to, size, True, like)
                if address:
                    own = factors[i, 0]
                    rows = own + item * factors[i, 1] + channel * size if direct else scratch + factors[i, 2]
                    if not direct:
                        _gather(own, factors[i, 1], degrees, channels, begin, end, rows, size, False, like)
                    _scale(found, ROW, rows, apart, by, degrees, target, apart, like)
            else:
                _sums(work + 40 * outs[i, 6], outs[i, 7], number, factor, scratch + orders, ROW, target, apart, like)
            if address and not direct:
                apart_items = components * channels * size
                _gather(address, apart_items, components, channels, begin, end, target, size, True, like)
