"""Functions of scalars: normalized as they say, refused where they must be."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn
from torch.nn.functional import relu, silu

from tenfold.errors import DataError, EquivarianceError, TenfoldError
from tenfold.nn.so3 import Activation
from tenfold.nn.so3.activation import root_mean_square
from tenfold.so3 import Irreps


@pytest.mark.parametrize(
    ("function", "square"),
    [
        (relu, 1 / 2),
        (torch.abs, 1),
        (torch.exp, math.exp(2)),
        (torch.sin, (1 - math.exp(-2)) / 2),
        (lambda x: x**3, 15),
        (lambda x: (x > 0).to(x.dtype), 1 / 2),
    ],
)
def test_the_mean_square_is_that_of_a_normal_number(function, square: float) -> None:
    assert root_mean_square(function) == pytest.approx(math.sqrt(square), rel=1e-4)
    layer = Activation("0e", function)
    x = torch.linspace(-2, 2, 5, dtype=torch.float64)[:, None]
    torch.testing.assert_close(layer(x), function(x) / math.sqrt(square), rtol=1e-4, atol=0)
    torch.testing.assert_close(Activation("0e", function, normalize=False)(x), function(x), rtol=0, atol=0)


def test_each_block_has_its_function_and_none_is_left_alone() -> None:
    layer = Activation("2x0e+1o+3x0o+2x0o", [relu, None, torch.tanh, torch.abs], normalize=False)
    assert layer.irreps_out == Irreps("2x0e+1o+3x0o+2x0e")
    x = torch.randn(4, 10, generator=torch.Generator().manual_seed(0))
    parts = [relu(x[:, :2]), x[:, 2:5], torch.tanh(x[:, 5:8]), x[:, 8:].abs()]
    assert torch.equal(layer(x), torch.cat(parts, dim=-1))


def test_one_function_is_for_all_blocks() -> None:
    layer = Activation("2x0o+3x0e", torch.tanh)
    x = torch.randn(4, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    torch.testing.assert_close(layer(x), torch.tanh(x) / root_mean_square(torch.tanh))
    with pytest.raises(EquivarianceError, match=r"block 1 \(2x1o\) allows no function that is not linear: rotations"):
        Activation("4x0e+2x1o", torch.tanh)


def test_messages_count_blocks_as_the_input_does() -> None:
    with pytest.raises(EquivarianceError, match=r"block 2 \(2x0o\) allows odd and even functions only"):
        Activation("1o+0e+2x0o+0o", [None, silu, silu, torch.tanh])
    with pytest.raises(TenfoldError, match=r"functions has 1 entries, and '1x0e\+1x1o' has 2"):
        Activation("0e+1o", [silu])
    with pytest.raises(TenfoldError, match="has root mean square 0 and cannot be normalized: set normalize=False"):
        Activation("0e", torch.zeros_like)


def test_parameters_of_functions_are_learned() -> None:
    layer = Activation("2x0e+1o", [nn.PReLU(), None])
    assert [name for name, _ in layer.named_parameters()] == ["learned.0.weight"]
    layer(torch.randn(3, 5)).sum().backward()
    assert layer.learned[0].weight.grad is not None
    with pytest.raises(DataError, match=r"features are torch.float64 and the layer is torch.float32"):
        layer(torch.zeros(3, 5, dtype=torch.float64))
