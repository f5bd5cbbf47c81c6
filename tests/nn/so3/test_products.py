"""Layers that hold the weights of products."""

from __future__ import annotations

import copy
import io
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tenfold.errors import DataError, TenfoldError
from tenfold.nn.so3 import Convolution, ManyBody, TensorProduct
from tenfold.so3 import (
    ClebschGordan,
    ClebschGordanConvolution,
    GauntConvolution,
    GauntGrid,
    GridPower,
    SO2Convolution,
    SO2MixingConvolution,
    SymmetricContraction,
    assert_equivariant,
)

SIGNAL = "3x0e+3x1o+3x2e"
SOURCE, TARGET = torch.tensor([0, 1, 2, 3, 0]), torch.tensor([1, 2, 2, 0, 3])

PRODUCTS = {
    "fully connected": lambda: ClebschGordan.fully_connected(SIGNAL, "0e+1o+2e", "4x0e+2x1e+2x1o"),
    "channelwise": lambda: ClebschGordan.channelwise(SIGNAL, SIGNAL, SIGNAL),
    "without weights": lambda: ClebschGordan.full("2x1o", "2x1o"),
    "gaunt": lambda: GauntGrid(SIGNAL, SIGNAL, SIGNAL, weights="degree"),
}
CONVOLUTIONS = {
    "clebsch gordan": lambda: ClebschGordanConvolution(SIGNAL, 2, "0e+1o+1e"),
    "so2": lambda: SO2Convolution(SIGNAL, SIGNAL, layout="mul_ir"),
    "so2 mixing": lambda: SO2MixingConvolution(SIGNAL, "2x0e+2x1o", layout="mul_ir"),
    "gaunt": lambda: GauntConvolution(SIGNAL, 2, SIGNAL, layout="mul_ir"),
}
POWERS = {
    "contraction": lambda: SymmetricContraction(SIGNAL, SIGNAL, 3),
    "grid": lambda: GridPower(SIGNAL, SIGNAL, 3, rank=2),
}


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def kept(layer: nn.Module, *inputs: Any, **others: Any) -> None:
    """The weights go through a file, and get gradients."""
    file = io.BytesIO()
    torch.save(layer.state_dict(), file)
    file.seek(0)
    fresh = copy.deepcopy(layer)
    for parameter in fresh.parameters():
        nn.init.zeros_(parameter)
    fresh.load_state_dict(torch.load(file, weights_only=True))
    found = layer(*inputs, **others)
    assert torch.equal(fresh(*inputs, **others), found)
    if found.requires_grad:
        found.square().sum().backward()
    for parameter in layer.parameters():
        assert parameter.grad is not None
        assert parameter.grad.abs().max() > 0


@pytest.mark.parametrize("name", PRODUCTS)
def test_products(name: str) -> None:
    torch.manual_seed(0)
    layer = TensorProduct(PRODUCTS[name](), dtype=torch.float64)
    assert_equivariant(layer, (layer.irreps_in1, layer.irreps_in2), layer.irreps_out, tol=1e-11)
    kept(layer, normal(4, layer.irreps_in1.dim), normal(4, layer.irreps_in2.dim, seed=1))
    assert str(layer.irreps_out) in repr(layer)


@pytest.mark.parametrize("edge_numel", [0, 2])
@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_convolutions(name: str, edge_numel: int) -> None:
    torch.manual_seed(0)
    made = CONVOLUTIONS[name]()
    layer = Convolution(made, edge_numel, dtype=torch.float64)
    known = normal(5, 2) if edge_numel else None

    def messages(features: Tensor, vectors: Tensor) -> Tensor:
        return layer(features, vectors, known, source=SOURCE, target=TARGET)

    features, vectors = normal(4, layer.irreps_in.dim), normal(5, 3, seed=1)
    turned = torch.linalg.qr(normal(3, 3, seed=2)).Q
    from tenfold.so3 import rotate

    torch.testing.assert_close(
        messages(rotate(features, layer.irreps_in, turned), vectors @ turned.mT),
        rotate(messages(features, vectors), layer.irreps_out, turned),
        rtol=0,
        atol=1e-11,
    )
    kept(layer, features, vectors, known, source=SOURCE, target=TARGET)


def test_a_network_makes_the_factors_of_edges_that_share_weights() -> None:
    torch.manual_seed(0)
    made = CONVOLUTIONS["so2 mixing"]()
    layer = Convolution(made, 2, dtype=torch.float64)
    features, vectors, known = normal(4, 27), normal(5, 3, seed=1), normal(5, 2, seed=2)
    factors = layer.network(known)
    assert factors.shape == (5, made.radial_numel)
    expected = made(features, vectors, layer.weights(), source=SOURCE, target=TARGET, radial=factors)
    assert torch.equal(layer(features, vectors, known, source=SOURCE, target=TARGET), expected)
    assert not torch.equal(layer(features, vectors, 2 * known, source=SOURCE, target=TARGET), expected)


def test_a_network_makes_weights_of_variance_one() -> None:
    torch.manual_seed(0)
    layer = Convolution(ClebschGordanConvolution("8x0e+8x1o", 2, "0e+1o"), 32, hidden=(128, 128))
    weights = layer.network(torch.randn(500, 32)).detach()
    assert 0.7 < float(weights.square().mean()) < 1.4


@pytest.mark.parametrize("species", [None, 2])
@pytest.mark.parametrize("name", POWERS)
def test_many_bodies(name: str, species: int | None) -> None:
    torch.manual_seed(0)
    layer = ManyBody(POWERS[name](), species, dtype=torch.float64)
    kinds = None if species is None else torch.tensor([0, 1, 1, 0])
    features = normal(4, layer.irreps_in.dim)
    if species is None:
        assert_equivariant(layer, layer.irreps_in, layer.irreps_out, tol=1e-10)
    else:
        expected = torch.stack([layer(features, torch.full((4,), kind)) for kind in range(2)])
        torch.testing.assert_close(layer(features, kinds), expected[kinds, torch.arange(4)], rtol=0, atol=1e-12)
    kept(layer, features, *([] if kinds is None else [kinds]))


def test_what_does_not_fit_is_told() -> None:
    layer = Convolution(CONVOLUTIONS["gaunt"](), 2)
    with pytest.raises(DataError, match=r"known must be of shape \(5, 2\), not missing"):
        layer(torch.zeros(4, 27), torch.ones(5, 3), source=SOURCE, target=TARGET)
    with pytest.raises(DataError, match="known must be None"):
        Convolution(CONVOLUTIONS["gaunt"]())(torch.zeros(5, 27), torch.ones(5, 3), torch.ones(5, 2))
    with pytest.raises(TenfoldError, match="each of hidden must be a whole number"):
        Convolution(CONVOLUTIONS["gaunt"](), 2, hidden=(0,))
    with pytest.raises(DataError, match="species must be None"):
        ManyBody(POWERS["contraction"]())(torch.zeros(4, 27), torch.zeros(4, dtype=torch.int64))
    with pytest.raises(DataError, match="species must be one of 2 numbers"):
        ManyBody(POWERS["contraction"](), 2)(torch.zeros(4, 27))
