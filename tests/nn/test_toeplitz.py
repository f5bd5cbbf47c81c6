from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from nn.linear_oracles import check_compiles, check_exports, check_gradients, check_linear, inputs_for
from scipy.linalg import toeplitz

from tenfold.errors import DataError
from tenfold.nn import ToeplitzLinear


@settings(max_examples=12, deadline=None)
@given(st.integers(0, 30), st.integers(0, 30), st.booleans())
def test_a_layer_is_its_matrix(columns: int, rows: int, bias: bool) -> None:
    check_linear(ToeplitzLinear(columns, rows, bias=bias, dtype=torch.float64))


@pytest.mark.parametrize("execution", ["factorised", "materialised"])
def test_both_ways_are_the_matrix_of_scipy(execution: str) -> None:
    torch.manual_seed(0)
    for rows, columns in ((1, 1), (5, 3), (3, 5), (40, 17)):
        layer = ToeplitzLinear(columns, rows, execution=execution, dtype=torch.float64)
        numbers = layer.diagonals.detach()
        wanted = torch.from_numpy(toeplitz(numbers[columns - 1 :], numbers[:columns].flip(0)))
        torch.testing.assert_close(layer.to_dense(), wanted)
        x = inputs_for(layer, 6)
        torch.testing.assert_close(layer(x), x @ wanted.T)


def test_derivatives_and_graphs() -> None:
    layer = ToeplitzLinear(4, 5, execution="factorised", dtype=torch.float64)
    check_gradients(layer)
    check_compiles(layer, inputs_for(layer, 3))
    check_exports(layer, lambda batch: inputs_for(layer, batch))


def test_from_dense_is_nearest() -> None:
    torch.manual_seed(0)
    for rows, columns in ((6, 6), (4, 9), (9, 4), (1, 3), (3, 1)):
        weight = torch.randn(rows, columns, dtype=torch.float64)
        bias = torch.randn(rows, dtype=torch.float64)
        mixing = torch.randn(columns, columns + 1, dtype=torch.float64)
        for covariance in (None, mixing @ mixing.T, torch.eye(columns, dtype=torch.float64)):
            layer = ToeplitzLinear.from_dense(weight, bias=bias, covariance=covariance)
            torch.testing.assert_close(layer.bias, torch.nn.Parameter(bias))
            spread = torch.eye(columns, dtype=torch.float64) if covariance is None else covariance
            left = weight - layer.to_dense()
            # Least squares: what is left is orthogonal to every Toeplitz matrix.
            (slope,) = torch.autograd.grad(torch.trace(left @ spread @ left.T), layer.diagonals)
            assert float(slope.abs().max()) < 1e-9
    exact = ToeplitzLinear(5, 7, bias=False)
    torch.testing.assert_close(ToeplitzLinear.from_dense(exact.to_dense()).diagonals, exact.diagonals)
    assert ToeplitzLinear.from_dense(torch.zeros(0, 4)).to_dense().shape == (0, 4)


def test_refusals() -> None:
    with pytest.raises(DataError, match="at least 0"):
        ToeplitzLinear(-1, 3)
    with pytest.raises(DataError, match="not finite"):
        ToeplitzLinear.from_dense(torch.full((2, 2), torch.nan))
    with pytest.raises(DataError, match="2 x 2"):
        ToeplitzLinear.from_dense(torch.ones(2, 2), covariance=torch.eye(3))
