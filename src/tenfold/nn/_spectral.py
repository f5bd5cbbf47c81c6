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

from tenfold.nn._blocks import in_blocks

# As in the kernel: the first radix, bytes of a point.
FIRST, POINT = 8, 128
# Points of the longest transform: beyond, blocks leave the cache.
LONGEST = 2**18
# What is done for a point beside the passes, in passes: they are about as expensive whatever their radix.
_REST = 10


class Split(NamedTuple):
    """How a transform is split.

    Attributes:
        second: the second of the radices that stride from block to block, or 1; the first one is 8.
        inner: the radices within a block.
        points: their product: half the length of the cyclic convolution.
    """

    second: int
    inner: tuple[int, ...]
    points: int

    @property
    def radices(self) -> tuple[int, ...]:
        """All of them, in the order of the forward transform."""
        return (FIRST, *([self.second] if self.second > 1 else []), *self.inner)


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
    """

    numbers: np.ndarray
    program: np.ndarray
    places: np.ndarray
    made: int
    memory: int


def split(least: int) -> Split | None:
    """The cheapest transform of at least so many points; None where it would be too long."""
    return min((one for one in _splits() if one.points >= least), key=_cost, default=None)


@cache
def _splits() -> tuple[Split, ...]:
    found = []
    for many in range(1, 6):
        for inner in combinations_with_replacement((3, 4, 5, 8), many):
            for second in (1, 3, 4, 5, 8):
                points = FIRST * second * math.prod(inner)
                # Blocks are transposed eight points at a time.
                if points <= LONGEST and math.prod(inner) % 8 == 0:
                    found.append(Split(second, inner, points))
    return tuple(found)


def _cost(one: Split) -> tuple[int, bool]:
    return one.points * (_REST + len(one.radices)), one.second == 1


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
    # All points, a gap after each block, and a point of each block between two passes.
    memory = FIRST * one.second * (math.prod(one.inner) + 2) * POINT
    return Ready(numbers, plan.program, plan.places, made, memory)


@lru_cache(maxsize=64)
def _plan(one: Split) -> Plan:
    second, inner, points = one
    blocks, block = FIRST * second, math.prod(inner)
    parts: list[np.ndarray] = []
    # For each point of a block, the passes of the first radix that it needs.
    striding = (np.arange(block)[:, None] + block * np.arange(second)).ravel()
    begin = [0]

    def add(length: int, radix: int, exponents: np.ndarray) -> None:
        turns = np.outer(exponents, np.arange(1, radix)) / length
        parts.append(np.exp(-2j * np.pi * turns).ravel().view(np.float64))
        begin.append(begin[-1] + len(parts[-1]))

    add(points, FIRST, striding)
    add(points // FIRST, second, np.arange(block))
    passes, length = [], block
    for radix in inner:
        passes += [radix, length // radix, begin[-1]]
        add(length, radix, np.arange(length // radix))
        length //= radix
    frequencies = _frequencies(one.radices)
    place = np.argsort(frequencies)
    couples, places, pairs = [], [], []
    for n in range(blocks):
        mine = np.arange(n * block, (n + 1) * block)
        others = place[-frequencies[mine] % points]
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
    program = [blocks, second, block, len(inner), len(couples), begin[0], begin[1], begin[-1], *passes]
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

    return in_blocks(kernel, rows, bias, made.made, 64 // rows.element_size(), made.memory)
