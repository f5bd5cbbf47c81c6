"""Filters made ready for the kernel that convolves blocks of rows with them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from tenfold.nn import _lanes


class Ready(NamedTuple):
    numbers: np.ndarray
    program: np.ndarray
    pairs: np.ndarray
    memory: int
    rows: int


def _frequencies(radices):
    if not radices:
        return np.zeros(1, dtype=np.int64)
    first, *rest = radices
    below = _frequencies(rest)
    return np.concatenate([k + first * below for k in range(first)])


def _factors(length, radix, places):
    k = np.arange(1, radix)
    return np.exp(-2j * np.pi * np.outer(places, k) / length).view(np.float64).ravel()


def ready(filter_: np.ndarray, second: int, inner: tuple[int, ...], features: int, made: int, dtype) -> Ready:
    """filter_: h[d mod 2M]"""
    radices = [8, *([second] if second > 1 else []), *inner]
    outer, block = 8 * second, int(np.prod(inner))
    points = outer * block
    assert len(filter_) == 2 * points
    freq = _frequencies(radices)
    place = np.empty(points, dtype=np.int64)
    place[freq] = np.arange(points)
    even, odd = np.fft.fft(filter_[::2]) / points, np.fft.fft(filter_[1::2]) / points
    w = np.exp(-2j * np.pi * np.arange(points) / points)
    a, b = even + 0.5j * odd * (1 - w), 0.5j * odd * (1 + w)
    parts = []
    starts = []

    def add(x):
        starts.append(sum(map(len, parts)))
        parts.append(x)

    # order: j, b
    j, c = np.meshgrid(np.arange(block), np.arange(second), indexing="ij")
    add(_factors(points, 8, (j + block * c).ravel()))
    add(_factors(points // 8, second, np.arange(block)))
    program = [second, outer, block, features <= points, made <= points]
    length = block
    stages = []
    for r in inner:
        add(_factors(length, r, np.arange(length // r)))
        stages += [r, starts[-1]]
        length //= r
    couples, offsets, spectrum = [], [], []
    seen = set()
    size = torch.empty(0, dtype=dtype).element_size()
    for one in range(outer):
        mine = np.arange(one * block, (one + 1) * block)
        other = place[-freq[mine] % points]
        two = int(other[0]) // block
        assert (other // block == two).all()
        if two < one:
            continue
        if two == one:
            keep = other >= mine
            mine, other = mine[keep], other[keep]
        couples.append((one, two, len(mine)))
        address = lambda p: ((p // block) * (block + 1) + p % block) * 128
        offsets.append(np.stack([address(mine), address(other)], 1))
        spectrum.append(np.stack([a[freq[mine]], a[freq[other]], b[freq[mine]]], 1))
    add(np.concatenate(spectrum).view(np.float64).ravel())
    head = np.array([*program, starts[0], starts[1], starts[-1], len(inner), len(couples), 0, 0, 0, 0, 0, 0, *stages], dtype=np.int64)
    numbers = np.concatenate(parts).astype(np.float32 if dtype == torch.float32 else np.float64)
    pairs = np.concatenate([np.array(couples).ravel(), np.concatenate(offsets).ravel()])
    width = 64 // size
    memory = outer * (block + 1) * 128 + outer * (width // 2 + 1) * 128 + outer * 128
    pairs = pairs.astype(np.int64)
    pairs = np.concatenate([pairs, np.zeros(-len(pairs) % 3, np.int64)]).reshape(-1, 3)
    return Ready(numbers, head, pairs, memory, made)


def run(subject: object, made: Ready, rows: Tensor, bias: Tensor | None) -> Tensor:
    from tenfold.nn._spectral_kernels import convolve
    count, features = rows.shape
    size = rows.element_size()
    result = torch.empty(count, made.rows, dtype=rows.dtype)
    work = _lanes._work(made.memory)
    convolve(made.numbers, made.program, made.pairs, rows.data_ptr(), rows.stride(0) * size, result.data_ptr(),
             made.rows * size, 0 if bias is None else bias.data_ptr(), features, made.rows, work.data_ptr(), 0, count)
    return result
