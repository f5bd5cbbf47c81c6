"""Geometric parametrisation: the same functions as plain layers, and directions that turn no more than angles do."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import nn

from tenfold.errors import DataError
from tenfold.nn import GeometricConv2d, GeometricLinear
from tenfold.nn.geometric import angles_of, directions


@pytest.fixture(autouse=True)
def same_numbers_every_time() -> None:
    torch.manual_seed(0)


CONVOLUTIONS = [
    {},
    {"stride": 2, "padding": 1},
    {"padding": "same", "dilation": 2, "groups": 2},
    {"padding": (2, 1), "padding_mode": "circular", "bias": False},
]


@pytest.mark.parametrize("size", [1, 2, 3, 7, 2000])
def test_there_and_back(size: int) -> None:
    vectors = torch.randn(5, size, dtype=torch.float64)
    if size == 1:
        vectors = vectors.abs()
    vectors[-1, 1:] = 0  # along the first axis
    units = vectors / vectors.norm(dim=1, keepdim=True)
    found = directions(angles_of(vectors))
    torch.testing.assert_close(found, units, rtol=0, atol=1e-12)
    torch.testing.assert_close(directions(angles_of(vectors).float()).double(), units, rtol=0, atol=1e-5)


def test_any_angles_make_unit_vectors() -> None:
    # Products of so many sines are zero in single precision.
    angles = (20 * torch.randn(10, 3000)).requires_grad_()
    found = directions(angles)
    torch.testing.assert_close(found.norm(dim=1), torch.ones(10), rtol=0, atol=1e-5)
    found[:, :5].sum().backward()
    assert angles.grad.isfinite().all()


def test_the_metric_is_diagonal() -> None:
    angles = torch.rand(4, dtype=torch.float64) * 3
    slopes = torch.autograd.functional.jacobian(directions, angles)
    expected = torch.cat([torch.ones(1), angles.sin().square()[:-1].cumprod(0)]).diag()
    torch.testing.assert_close(slopes.T @ slopes, expected.double())


def test_a_step_of_an_angle_turns_no_further_however_short_the_weights() -> None:
    angles = angles_of(1e-6 * torch.randn(20, 6, dtype=torch.float64))
    for axis in range(5):
        moved = angles.clone()
        moved[:, axis] += 1e-3
        turned = (directions(moved) * directions(angles)).sum(dim=1).clamp(max=1).arccos()
        assert turned.max() <= 1e-3 * (1 + 1e-6)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("sizes", [(5, 3), (1, 4), (2, 1)])
def test_linear_layers_there_and_back(bias: bool, sizes: tuple[int, int]) -> None:
    plain = nn.Linear(*sizes, bias=bias, dtype=torch.float64)
    layer = GeometricLinear.from_linear(plain)
    x = torch.randn(2, 4, sizes[0], dtype=torch.float64)
    torch.testing.assert_close(layer(x), plain(x))
    torch.testing.assert_close(layer.to_linear()(x), plain(x))
    assert sum(p.numel() for p in layer.parameters()) == sum(p.numel() for p in plain.parameters())
    given = dict(layer.named_parameters())
    assert torch.autograd.gradcheck(
        lambda *values: torch.func.functional_call(layer, dict(zip(given, values, strict=True)), (x[0],)),
        tuple(given.values()),
    )


@pytest.mark.parametrize("options", CONVOLUTIONS, ids=str)
def test_convolutions_there_and_back(options: dict[str, object]) -> None:
    plain = nn.Conv2d(4, 6, (3, 2), **options, dtype=torch.float64).eval()
    layer = GeometricConv2d.from_conv2d(plain)
    x = torch.randn(2, 4, 9, 8, dtype=torch.float64)
    torch.testing.assert_close(layer(x), plain(x))
    torch.testing.assert_close(layer.to_conv2d()(x), plain(x))
    assert not layer.training
    assert not layer.to_conv2d().training
    assert sum(p.numel() for p in layer.parameters()) == sum(p.numel() for p in plain.parameters())
    twin = GeometricConv2d(4, 6, (3, 2), **options, dtype=torch.float64)
    twin.load_state_dict(layer.state_dict())
    torch.testing.assert_close(twin(x), plain(x))
    torch.testing.assert_close(copy.deepcopy(layer)(x), plain(x))


def test_neurons_bend_at_their_characteristic_points() -> None:
    layer = GeometricLinear(3, 8, dtype=torch.float64)
    nn.init.normal_(layer.shift)
    points = layer.characteristic_points()
    torch.testing.assert_close(layer(points).diagonal(), torch.zeros(8, dtype=torch.float64))
    torch.testing.assert_close(points.norm(dim=1), layer.shift.detach().abs())


def test_it_begins_as_glorot_does() -> None:
    layer = GeometricLinear(300, 200, generator=torch.Generator().manual_seed(0))
    reach = math.sqrt(6 / 500)
    weight = layer.weight.detach()
    assert 0.95 * reach < weight.abs().max() <= reach * 1.0001
    assert weight.std() == pytest.approx(reach / math.sqrt(3), rel=0.02)
    assert torch.equal(layer.bias, torch.zeros(200))
    again = GeometricLinear(300, 200, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(again.weight.detach(), weight, rtol=0, atol=0)


def test_neurons_without_weights() -> None:
    plain = nn.Linear(3, 2)
    nn.init.zeros_(plain.weight)
    with pytest.raises(DataError, match="neuron 0 has a bias but no weights, and so no direction"):
        GeometricLinear.from_linear(plain)
    nn.init.zeros_(plain.bias)
    layer = GeometricLinear.from_linear(plain)
    found = layer(torch.randn(4, 3))
    assert torch.equal(found, torch.zeros(4, 2))
    found.sum().backward()
    assert layer.radius.grad.abs().max() > 0


def test_autocast_and_export() -> None:
    layer = GeometricLinear(3, 2)
    x = torch.randn(5, 3)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(layer(x).float(), layer.to_linear()(x).float(), rtol=0.05, atol=0.05)
    batch = torch.export.Dim("batch", min=1, max=64)
    exported = torch.export.export(layer, (x,), dynamic_shapes=({0: batch},))
    torch.testing.assert_close(exported.module()(x[:2]), layer(x[:2]))
    with pytest.raises(DataError, match="the input must have shape"):
        layer(torch.zeros(2))
