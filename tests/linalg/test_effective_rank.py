"""Ranks that need not be whole: closed forms, bounds and scale."""

from __future__ import annotations

import math

import pytest
import torch

from tenfold.errors import DataError, TenfoldError
from tenfold.linalg.effective_rank import effective_rank, energy_rank, stable_rank

F64 = torch.float64


def with_values(*values: float) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    bases = [torch.linalg.qr(torch.randn(n, len(values), generator=generator, dtype=F64)).Q for n in (7, 9)]
    return bases[0] * torch.tensor(values, dtype=F64) @ bases[1].T


@pytest.mark.parametrize("scale", [1.0, 1e-200, 1e200])
def test_equal_singular_values_count_whole(scale: float) -> None:
    matrix = scale * with_values(2.0, 2.0, 2.0)
    assert float(effective_rank(matrix)) == pytest.approx(3)
    assert float(stable_rank(matrix)) == pytest.approx(3)
    assert int(energy_rank(matrix, 1e-6)) == 3


def test_unequal_ones_count_less() -> None:
    matrix = with_values(3.0, 1.0)
    entropy = -0.75 * math.log(0.75) - 0.25 * math.log(0.25)
    assert float(effective_rank(matrix)) == pytest.approx(math.exp(entropy))
    assert float(stable_rank(matrix)) == pytest.approx(10 / 9)
    assert int(energy_rank(matrix, 0.33)) == 1
    assert int(energy_rank(matrix, 0.31)) == 2
    assert int(energy_rank(matrix, 1.0)) == 0


def test_batches_gradients_and_borders() -> None:
    stack = torch.stack([with_values(1.0, 1.0), torch.zeros(7, 9, dtype=F64)])
    assert effective_rank(stack).tolist() == pytest.approx([2, 0])
    assert stable_rank(stack).tolist() == pytest.approx([2, 0])
    assert energy_rank(stack, 0.1).tolist() == [2, 0]
    assert float(effective_rank(torch.zeros(0, 4))) == float(stable_rank(torch.zeros(0, 4))) == 0
    assert float(effective_rank(torch.ones(3, 3).bfloat16())) == pytest.approx(1)
    square = torch.randn(3, 4, dtype=F64, generator=torch.Generator().manual_seed(1)).requires_grad_()
    assert torch.autograd.gradcheck(effective_rank, square)
    assert torch.autograd.gradcheck(stable_rank, square)
    for bad in (torch.full((2, 2), torch.nan), torch.ones(3)):
        with pytest.raises(DataError, match="matrix"):
            effective_rank(bad)
    with pytest.raises(TenfoldError, match="tolerance must be a number from 0 to 1, not 2"):
        energy_rank(square, 2.0)
