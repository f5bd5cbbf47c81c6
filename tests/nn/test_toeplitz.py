from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from nn.linear_oracles import check_compiles, check_exports, check_gradients, check_linear, inputs_for
from scipy.linalg import toeplitz
from torch import nn

from tenfold.errors import DataError
from tenfold.nn import ToeplitzLinear, _execution, _spectral


def by_kernel(layer: ToeplitzLinear, rows: torch.Tensor) -> torch.Tensor:
    ways = layer._execution._ways
    with torch.no_grad():
        return ways.kernel.run(ways.subject, ways.kernel.prepare(ways.subject, layer._tensors()), rows, layer.bias)


def check_rows(made: torch.Tensor, wanted: torch.Tensor, scale: torch.Tensor) -> None:
    """Each row is right to 1e-5 or 1e-12 of its norm and that of the diagonals: no row owes anything to others."""
    error = (made - wanted).norm(dim=1)
    assert made.shape == wanted.shape
    assert bool((error <= (1e-5 if made.dtype == torch.float32 else 1e-12) * scale).all())


@settings(max_examples=8, deadline=None)
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


@settings(max_examples=40, deadline=None)
@given(
    st.one_of(st.integers(1, 40), st.integers(1, 700)),
    st.one_of(st.integers(1, 40), st.integers(1, 700)),
    st.integers(1, 70),
    st.booleans(),
    st.sampled_from([torch.float32, torch.float64]),
)
def test_the_kernel_is_the_same_product(columns: int, rows: int, batch: int, bias: bool, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    layer = ToeplitzLinear(columns, rows, bias=bias, dtype=dtype)
    if bias:
        nn.init.normal_(layer.bias)
    # Rows of very different sizes.
    x = inputs_for(layer, batch) * torch.logspace(-3, 3, batch, dtype=dtype)[:, None]
    with torch.no_grad():
        wanted = x @ layer.to_dense().T + (layer.bias if bias else 0.0)
        scale = x.norm(dim=1) * layer.diagonals.norm() + (layer.bias.norm() if bias else 0.0)
    wide = torch.cat([x, x], 1)[:, :columns]
    for same in (x, wide, x.t().contiguous().t(), wide.requires_grad_()):
        check_rows(by_kernel(layer, same), wanted, scale)
    check_rows(by_kernel(layer, x[:1].expand(3, columns)), wanted[:1].expand(3, rows), scale[:1].expand(3))


@pytest.mark.parametrize("split", [one for one in _spectral._splits() if one.points <= 1000], ids=str)
def test_transforms_of_any_radices(split: _spectral.Split) -> None:
    # The longest of its length, with what comes in or what goes out more than half of it, or both a quarter.
    for columns, rows in ((split.points + 3, split.points - 3), (split.points - 3, split.points + 3), (20, 20)):
        layer = ToeplitzLinear(columns, rows, bias=False, dtype=torch.float64)
        lags = torch.arange(1 - columns, rows).numpy()
        ready = _spectral.ready(layer.diagonals.detach().numpy(), lags, split, rows, torch.float64)
        x = inputs_for(layer, 3)
        wanted = x @ layer.to_dense().detach().T
        check_rows(_spectral.run(None, ready, x, None), wanted, x.norm(dim=1) * layer.diagonals.norm())


def test_the_shortest_transform_is_long_enough_and_not_much_longer() -> None:
    for least in (1, 63, 64, 65, 700, 2048, 2049, 2**18):
        split = _spectral.split(least)
        assert least <= split.points <= max(64, 2 * least)
        assert split.points == 8 * math.prod(split.inner)
    assert _spectral.split(2048).points == 2048
    assert _spectral.split(2**18 + 1) is None


def test_no_row_sees_another() -> None:
    layer = ToeplitzLinear(90, 75)
    x = inputs_for(layer, 37)
    whole = by_kernel(layer, x)
    for n in (0, 15, 16, 36):
        assert torch.equal(by_kernel(layer, x[n : n + 1])[0], whole[n])
    spoilt = x.clone()
    spoilt[17] = torch.inf
    others = torch.arange(37) != 17
    assert torch.equal(by_kernel(layer, spoilt)[others], whole[others])


@pytest.mark.parametrize("threads", [1, 3])
def test_layers_take_the_kernel_where_no_gradients_are_wanted(threads: int) -> None:
    layer = ToeplitzLinear(300, 200, execution="factorised").eval()
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        for batch in (31, 65, 100):
            x = inputs_for(layer, batch)
            trained = layer(x)
            with torch.no_grad():
                torch.testing.assert_close(layer(x), trained)
                layer.diagonals.mul_(2)
                torch.testing.assert_close(layer(x), 2 * trained)
    finally:
        torch.set_num_threads(before)
    assert {way.name for way in layer._execution._chosen.values()} == {"fourier", "lanes"}
    assert set(layer._execution._kept) == {"lanes"}
    # Where calling it is most of the time it is not compiled.
    with torch.no_grad():
        small = ToeplitzLinear(8, 8, execution="factorised").eval()
        assert 3 * small.flops() < _execution._SMALL
        small(inputs_for(small, 3))
    assert {way.name for way in small._execution._chosen.values()} == {"fourier"}
    assert ToeplitzLinear(0, 8)._execution._ways.kernel is None


@pytest.mark.parametrize("execution", ["auto", "factorised", "materialised"])
def test_there_may_be_no_rows(execution: str) -> None:
    assert ToeplitzLinear(64, 48, execution=execution)(torch.randn(0, 64)).shape == (0, 48)


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
