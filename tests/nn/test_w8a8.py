from __future__ import annotations

import copy
import io
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from tenfold.errors import DataError, TenfoldError
from tenfold.nn import W8A8Conv, W8A8Linear
from tenfold.nn import _whole_products as whole
from tenfold.nn.recipes import module_of, recipe_of

vnni = pytest.mark.skipif(not whole.there(), reason="this processor has no instruction for products of whole numbers")


def rounded(x: torch.Tensor) -> torch.Tensor:
    """Each row as whole numbers times its scale, in double precision."""
    scale = x.double().abs().amax(dim=-1, keepdim=True) / 127
    return (x.double() / scale.clamp(min=1e-300)).round() * scale


def linear(*, smooth: bool = False, bias: bool = True, columns: int = 37, rows: int = 21) -> W8A8Linear:
    torch.manual_seed(0)
    factors = torch.rand(columns) + 0.1 if smooth else None
    return W8A8Linear.from_dense(
        torch.randn(rows, columns), bias=torch.randn(rows) if bias else None, factors=factors
    ).eval()


@vnni
@torch.no_grad()
@pytest.mark.parametrize("shape", [(37,), (1, 37), (3, 70, 37), (0, 37)])
@pytest.mark.parametrize(("smooth", "bias"), [(False, True), (True, False)])
def test_it_is_the_product_of_what_was_rounded(shape: tuple[int, ...], smooth: bool, bias: bool) -> None:
    layer = linear(smooth=smooth, bias=bias)
    x = torch.randn(shape) * torch.logspace(-3, 3, 37)[torch.randperm(37)]
    inner = x if layer.factors is None else x * layer.factors
    wanted = rounded(inner) @ layer.quantized.dequantized().double().T
    wanted = wanted if layer.bias is None else wanted + layer.bias.double()
    made = layer(x)
    assert made.dtype == torch.float32
    torch.testing.assert_close(
        made.double(), wanted, rtol=1e-4, atol=1e-4 * float(wanted.abs().max() if x.numel() else 1)
    )
    plain = whole.product_by_torch(x, layer.quantized.numbers, layer.quantized.scale, layer.factors, layer.bias)
    assert (made - plain).norm() <= 2e-3 * plain.norm()  # a tie may go the other way


@vnni
@torch.no_grad()
def test_the_weight_that_it_stands_for_is_near_to_the_one_given() -> None:
    torch.manual_seed(0)
    weight, x = torch.randn(64, 128), torch.randn(200, 128)
    x[:, 5] *= 100
    factors = 1 / x.abs().amax(dim=0).sqrt()
    plain, smooth = (W8A8Linear.from_dense(weight, factors=f).eval() for f in (None, factors))
    for layer in (plain, smooth):
        assert (layer.to_dense() - weight).norm() < 0.03 * weight.norm()
    off = [float((layer(x) - x @ weight.T).norm() / (x @ weight.T).norm()) for layer in (plain, smooth)]
    assert off[1] < 0.7 * off[0] < 0.05


@vnni
@torch.no_grad()
def test_rows_of_zeros_tiny_rows_and_rows_that_are_not_finite() -> None:
    layer = linear()
    x = torch.randn(5, 37)
    x[1], x[2], x[3, 4], x[4, 0] = 0, 1e-42, float("nan"), float("inf")
    made = layer(x)
    torch.testing.assert_close(made[1:3], layer.bias.expand(2, -1))
    assert torch.isfinite(made[0]).all()
    assert not torch.isfinite(made[3:]).any()


@vnni
@torch.no_grad()
def test_rows_with_gaps_between_them_and_several_threads() -> None:
    layer, x = linear(), torch.randn(300, 80)[:, 3:40]
    alone = layer(x)
    torch.testing.assert_close(alone, layer(x.contiguous()))
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        torch.testing.assert_close(layer(x), alone)
    finally:
        torch.set_num_threads(before)


def test_gradients_other_numbers_and_transforms_take_floating_point() -> None:
    layer, x = linear(smooth=True), torch.randn(6, 37)
    dense, bias = layer.to_dense(), layer.bias
    torch.testing.assert_close(layer(x), x @ dense.T + bias)
    x.requires_grad_()
    layer(x).square().sum().backward()
    assert x.grad is not None
    assert bias.grad is not None
    with torch.no_grad():
        torch.testing.assert_close(torch.vmap(layer)(x), x @ dense.T + bias)
        half = copy.deepcopy(layer).to(torch.bfloat16)
        assert half(x.bfloat16()).dtype == torch.bfloat16
        meta = copy.deepcopy(layer).to("meta")
        assert meta(x.to("meta")).shape == (6, 21)


@pytest.mark.parametrize("smooth", [False, True])
def test_a_layer_can_be_kept_and_made_again(tmp_path: Path, smooth: bool) -> None:
    layer, x = linear(smooth=smooth), torch.randn(4, 37)
    again = module_of(recipe_of(layer))
    save_file(layer.state_dict(), tmp_path / "layer.safetensors")
    again.load_state_dict(load_file(tmp_path / "layer.safetensors"))
    with torch.no_grad():
        torch.testing.assert_close(again(x), layer(x))
        torch.testing.assert_close(copy.deepcopy(layer)(x), layer(x))


@vnni
@torch.no_grad()
def test_a_program_multiplies_whole_numbers_and_takes_any_number_of_rows() -> None:
    layer, x = linear(smooth=True), torch.randn(6, 37)
    program = torch.export.export(layer, (x,), dynamic_shapes=({0: torch.export.Dim("n", min=2)},))
    assert "_int_mm" in str(program.graph)
    kept = io.BytesIO()
    torch.export.save(program, kept)
    kept.seek(0)
    more = torch.randn(9, 37)
    made = torch.export.load(kept).module()(more)
    assert (made - layer(more)).norm() <= 2e-3 * made.norm()


@vnni
@torch.no_grad()
def test_it_compiles_as_one_graph() -> None:
    layer, x = linear(smooth=True), torch.randn(6, 37)
    torch._dynamo.reset()
    made = torch.compile(layer, backend="eager", fullgraph=True)(x)
    assert (made - layer(x)).norm() <= 2e-3 * made.norm()


def convolutions() -> list[tuple[nn.Module, torch.Tensor]]:
    torch.manual_seed(0)
    return [
        (nn.Conv2d(4, 8, 3, stride=2, padding=1, dilation=2), torch.randn(3, 4, 13, 11)),
        (nn.Conv2d(4, 8, (3, 1), padding="same", bias=False), torch.randn(2, 4, 5, 6)),
        (nn.Conv1d(6, 8, 5, padding=2, groups=2), torch.randn(2, 6, 9)),
        (nn.Conv2d(4, 8, 1, padding="valid"), torch.randn(2, 4, 5, 6).to(memory_format=torch.channels_last)),
    ]


@vnni
@torch.no_grad()
@pytest.mark.parametrize("number", range(4))
def test_a_convolution_of_what_was_rounded(number: int) -> None:
    conv, x = convolutions()[number]
    layer = W8A8Conv.from_dense(conv, bias=conv.bias).eval()
    if not whole.convolutions_there():
        pytest.skip("this torch has no convolution of whole numbers")
    reference = copy.deepcopy(conv).double()
    reference.weight.copy_(layer.to_dense())
    x = x * torch.logspace(-2, 2, len(x)).reshape(-1, *(1,) * (x.ndim - 1))
    made = layer(x)
    wanted = reference(rounded(x.flatten(1)).reshape(x.shape))
    torch.testing.assert_close(made.double(), wanted, rtol=1e-4, atol=1e-4 * float(wanted.abs().max()))
    assert (made - conv(x)).norm() < 0.03 * conv(x).norm()
    again = module_of(recipe_of(layer))
    again.load_state_dict(layer.state_dict())
    for other in (again.eval(), copy.deepcopy(layer)):
        torch.testing.assert_close(other(x), made)
    layer.quantized.scale.mul_(2)
    layer.quantized.numbers.neg_()
    shift = 0 if conv.bias is None else conv.bias.reshape(-1, *(1,) * (x.ndim - 2))
    torch.testing.assert_close(layer(x) - shift, -2 * (made - shift), rtol=1e-4, atol=1e-3)


def test_convolutions_that_are_not_there_are_refused() -> None:
    with pytest.raises(TenfoldError, match="Conv1d and Conv2d with zeros"):
        W8A8Conv(nn.Conv2d(4, 8, 3, padding=1, padding_mode="circular"))
    layer = W8A8Conv(nn.Conv2d(4, 8, 3)).eval()
    torch.testing.assert_close(torch.func.vmap(layer)(torch.randn(2, 1, 4, 5, 5)).shape, torch.Size([2, 1, 8, 3, 3]))


@vnni
def test_what_has_another_size_or_dtype_is_not_read_by_address() -> None:
    torch.manual_seed(0)
    weight, x = torch.randn(64, 48), torch.randn(4, 48)
    layer = W8A8Linear.from_dense(weight, bias=torch.randn(64).double(), factors=torch.rand(48) + 0.5)
    assert layer.bias is not None
    assert layer.bias.dtype == torch.float32
    with torch.no_grad():
        torch.testing.assert_close(layer(x), x @ weight.T + layer.bias, rtol=0, atol=0.5)
        layer.bias = torch.nn.Parameter(torch.zeros(1))
        torch.testing.assert_close(layer(x), x @ weight.T, rtol=0, atol=0.5)
        with pytest.raises(RuntimeError):
            layer(torch.randn(4, 49))
    for factors in (torch.tensor([2.0]), torch.zeros(48), torch.full((48,), torch.inf)):
        with pytest.raises(DataError, match="48 positive numbers"):
            W8A8Linear.from_dense(weight, factors=factors)
