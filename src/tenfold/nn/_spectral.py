"""Convolutions of rows with one filter, made ready for the kernel that does them by Fourier transforms."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache, lru_cache
from itertools import combinations_with_replacement
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from tenfold.nn._blocks import in_blocks, threads_for

# The first radix, which joins the blocks.
FIRST = 8
# Bytes of a point: its real parts in all lanes, then its imaginary ones.
POINT = 128
# Points of the longest transform: beyond, blocks leave the cache.
_LONGEST = 2**18
# What is done for a point beside the passes, in passes: they are about as expensive whatever their radix.
_REST = 10


class Split(NamedTuple):
    """How a transform is split.

    Attributes:
        inner: the radices within a block, after `FIRST`.
        points: the product of all radices, half the length of the cyclic convolution.
    """

    inner: tuple[int, ...]
    points: int


class Plan(NamedTuple):
    """What the kernel reads of a length, whatever the filter.

    Attributes:
        program: sizes, and where parts begin.
        places: pairs of blocks, and in each of them of points, of opposite frequencies.
        factors: of all passes.
        pairs: for each pair, the one frequency and the other.
    """

    program: np.ndarray
    places: np.ndarray
    factors: np.ndarray
    pairs: np.ndarray


class Ready(NamedTuple):
    """A filter for the kernel.

    Attributes:
        numbers: factors of the passes, then what the spectrum is multiplied by.
        program, places: of its `Plan`.
        made: features that come out.
        memory: bytes that the kernel works in.
        flops: multiplications and additions for one row, about.
    """

    numbers: np.ndarray
    program: np.ndarray
    places: np.ndarray
    made: int
    memory: int
    flops: int


def split(least: int) -> Split | None:
    """The cheapest transform of at least so many points; None where it would be too long."""
    return min((one for one in _splits() if one.points >= least), key=_cost, default=None)


@cache
def _splits() -> tuple[Split, ...]:
    found = []
    for many in range(1, 6):
        for inner in combinations_with_replacement((3, 4, 5, 8), many):
            block = math.prod(inner)
            # As many points as are transposed at once, or a multiple.
            if FIRST * block <= _LONGEST and block % 8 == 0:
                found.append(Split(inner, FIRST * block))
    return tuple(found)


def _cost(one: Split) -> int:
    return one.points * (_REST + len(one.inner))


def ready(taps: np.ndarray, lags: np.ndarray, one: Split, made: int, dtype: torch.dtype) -> Ready:
    """For ``y[i] = sum_d h[d] x[i - d]``, with ``taps[n]`` the ``h`` of the lag ``lags[n]``."""
    around = np.zeros(2 * one.points)
    around[lags % len(around)] = taps
    plan = _plan(one)
    # Even and odd lags apart; z turns by one point, so by two features.
    even, odd = np.fft.fft(around.reshape(-1, 2), axis=0).T / one.points
    z = np.exp(-2j * np.pi * np.arange(one.points) / one.points)
    own, other = even + 0.5j * odd * (1 - z), 0.5j * odd * (1 + z)
    k, minus = plan.pairs.T
    spectrum = np.stack([own[k], own[minus], other[k]], 1).view(np.float64)
    kind = np.float32 if dtype == torch.float32 else np.float64
    numbers = np.concatenate([plan.factors, spectrum.ravel()]).astype(kind)
    # All points, and a gap after each block.
    memory = (one.points + FIRST) * POINT
    flops = round(5 * len(around) * math.log2(len(around)) + 3 * len(around))
    return Ready(numbers, plan.program, plan.places, made, memory, flops)


@lru_cache(maxsize=64)
def _plan(one: Split) -> Plan:
    block = one.points // FIRST
    passes: list[int] = []
    parts: list[np.ndarray] = []
    begin, length = 0, one.points
    for radix in (FIRST, *one.inner):
        span = length // radix
        turns = np.outer(np.arange(span), np.arange(1, radix)) / length
        parts.append(np.exp(-2j * np.pi * turns).ravel().view(np.float64))
        passes += [radix, span, begin]
        begin += parts[-1].size
        length = span
    frequencies = _frequencies((FIRST, *one.inner))
    place = np.argsort(frequencies)
    couples, places, pairs = [], [], []
    for n in range(FIRST):
        mine = np.arange(n * block, (n + 1) * block)
        others = place[-frequencies[mine] % one.points]
        # All of them are in one block.
        partner = int(others[0]) // block
        if partner < n:
            continue
        if partner == n:
            mine, others = mine[others >= mine], others[others >= mine]
        couples.append((n, partner, len(mine)))
        both = np.stack([mine, others], 1)
        places.append((both // block * (block + 1) + both % block) * POINT)
        pairs.append(frequencies[both])
    # The first pass needs no words: its factors come first.
    program = [block, len(one.inner), len(couples), begin, *passes[3:]]
    table = np.concatenate([np.array(couples).ravel(), np.concatenate(places).ravel()])
    return Plan(np.array(program, dtype=np.int64), table, np.concatenate(parts), np.concatenate(pairs))


def _frequencies(radices: Sequence[int]) -> np.ndarray:
    """The frequency at each place after passes of these radices, where nothing is reordered."""
    if not radices:
        return np.zeros(1, dtype=np.int64)
    below = radices[0] * _frequencies(radices[1:])
    return np.concatenate([k + below for k in range(radices[0])])


def run(subject: object, made: Ready, rows: Tensor, bias: Tensor | None) -> Tensor:
    """The convolutions of all rows; what the filter is, is in what was made of it."""
    from tenfold.nn._spectral_kernels import convolve

    features = rows.shape[1]

    def kernel(x: int, x_pitch: int, y: int, y_pitch: int, added: int, work: int, first: int, last: int) -> None:
        convolve(
            made.numbers,
            made.program,
            made.places,
            x,
            x_pitch,
            y,
            y_pitch,
            added,
            features,
            made.made,
            work,
            first,
            last,
        )

    threads = threads_for(len(rows), made.flops)
    return in_blocks(kernel, rows, bias, made.made, 64 // rows.element_size(), made.memory, threads)
