"""Compiled sums over the observations of each level, beside plain torch."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from tenfold.completion import _funbat_sums
from tenfold.completion._funbat_sums import Sorted


def given(order: int, n: int = 500) -> tuple[Tensor, Tensor, Tensor, tuple[int, ...]]:
    generator = torch.Generator().manual_seed(order)
    sizes = (7, 11, 5, 4)[:order]
    levels = torch.stack([torch.randint(size, (n,), generator=generator) for size in sizes])
    levels[0][levels[0] == 3] = 2  # a level of which nothing was observed
    values, weights = torch.randn(2, n, generator=generator, dtype=torch.float64)
    return levels, values, weights.abs(), sizes


def tables(order: int, mode: int, widths: list[int]) -> list[Tensor]:
    generator = torch.Generator().manual_seed(10 * order + mode)
    others = [size for place, size in enumerate((7, 11, 5, 4)[:order]) if place != mode] or [1]
    sizes = zip(others, widths, strict=False)
    return [torch.randn(size, width, generator=generator, dtype=torch.float64) for size, width in sizes]


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("order", [1, 2, 3, 4])
def test_products_and_outer_products(order: int, threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_funbat_sums, "_WORTH", 0)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        levels, values, weights, sizes = given(order)
        for mode in range(order):
            data = Sorted.of(levels, mode, sizes[mode], values, weights)
            equal = tables(order, mode, [6] * max(order - 1, 1))
            assert torch.allclose(data.products(equal, 4), data.plain_products(equal, 4), rtol=1e-12, atol=1e-12)
            other = tables(order, mode, [3, 2, 5])
            for numbers in (False, True):
                expected = data.plain_outer(other, numbers)
                assert torch.allclose(data.outer(other, numbers, 0, sizes[mode]), expected, rtol=1e-12, atol=1e-12)
                part = data.outer(other, numbers, 1, sizes[mode] - 1)
                assert torch.equal(part, data.outer(other, numbers, 0, sizes[mode])[1:-1])
    finally:
        torch.set_num_threads(before)


def test_threads_do_not_change_the_sums(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_funbat_sums, "_WORTH", 0)
    levels, values, weights, sizes = given(3)
    data = Sorted.of(levels, 1, sizes[1], values, weights)
    equal = tables(3, 1, [6, 6])
    before = torch.get_num_threads()
    found = []
    try:
        for threads in (1, 2, 5):
            torch.set_num_threads(threads)
            found.append(data.products(equal, 4))
    finally:
        torch.set_num_threads(before)
    assert torch.equal(found[0], found[1])
    assert torch.equal(found[0], found[2])
