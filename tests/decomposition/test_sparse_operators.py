"""Sparse products as torch operators: derivatives against finite differences, and what torch asks of operators."""

from __future__ import annotations

import pytest
import torch

from tenfold.decomposition._sparse_operators import sparse_entries, sparse_mttkrp


def problem(shape, dtype, rank=3, seed=0):
    generator = torch.Generator().manual_seed(seed)
    cells = torch.stack([torch.randint(n, (25,), generator=generator) for n in shape], 1).unique(dim=0)
    values = torch.randn(len(cells), generator=generator, dtype=dtype, requires_grad=True)
    factors = [torch.randn(n, rank, generator=generator, dtype=dtype, requires_grad=True) for n in shape]
    return cells, values, factors


@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128], ids=str)
@pytest.mark.parametrize("shape", [(4, 5), (4, 5, 9), (3, 4, 2, 5)], ids=str)
def test_values_and_derivatives(shape, dtype):
    cells, values, factors = problem(shape, dtype)
    dense = torch.zeros(shape, dtype=dtype)
    dense[tuple(cells.T)] = values.detach()
    letters = "abcd"[: len(shape)]
    whole = torch.einsum(",".join(f"{x}r" for x in letters) + "->" + letters, *factors)
    torch.testing.assert_close(sparse_entries(cells, factors), whole[tuple(cells.T)])
    assert torch.autograd.gradcheck(lambda *f: sparse_entries(cells, f), factors)
    for mode in range(len(shape)):
        others = [m for m in range(len(shape)) if m != mode]
        rule = ",".join([letters, *(f"{letters[m]}r" for m in others)]) + f"->{letters[mode]}r"
        wanted = torch.einsum(rule, dense, *(factors[m] for m in others))
        torch.testing.assert_close(sparse_mttkrp(cells, values, factors, mode), wanted)
        assert torch.autograd.gradcheck(lambda v, *f, m=mode: sparse_mttkrp(cells, v, f, m), (values, *factors))


def test_second_derivatives():
    cells, values, factors = problem((3, 4, 3), torch.float64, rank=2)
    assert torch.autograd.gradgradcheck(lambda v, *f: sparse_mttkrp(cells, v, f, 1), (values, *factors))


@pytest.mark.parametrize("shape", [(4, 5, 9)], ids=str)
def test_what_torch_asks_of_operators(shape):
    cells, values, factors = problem(shape, torch.float64)
    torch.library.opcheck(torch.ops.tenfold.sparse_mttkrp.default, (cells, values, factors, 1))
    torch.library.opcheck(torch.ops.tenfold.sparse_entries.default, (cells, factors))
