"""Norm activation and the two normalizations against their definitions."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from tenfold.errors import TenfoldError
from tenfold.nn.so3 import EquivariantLayerNorm, EquivariantRMSNorm, NormActivation
from tenfold.so3 import Irreps, split

IRREPS = Irreps("4x0e+3x0o+5x1o+2x2e")
KW = {"dtype": torch.float64}


def drawn(irreps: Irreps, *batch: int) -> torch.Tensor:
    return torch.randn(*batch, irreps.dim, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def test_norm_activation_multiplies_by_a_function_of_the_mean_square() -> None:
    layer = NormActivation(IRREPS, torch.tanh, bias=True, **KW)
    nn.init.normal_(layer.bias)
    x = drawn(IRREPS, 6)
    biases = layer.bias.detach().split([block.mul for block in IRREPS])
    for before, after, bias in zip(split(x, IRREPS), split(layer(x), IRREPS), biases, strict=True):
        factor = torch.tanh(before.norm(dim=-1) ** 2 / before.shape[-1] + bias)
        torch.testing.assert_close(after, before * factor[..., None], rtol=0, atol=1e-14)


def test_norm_activation_is_smooth_at_zero() -> None:
    """Third differences through zero are those of a smooth odd function: small, where ``x tanh(|x|)`` has a kink."""
    layer = NormActivation("1o", torch.sigmoid)
    step = 1e-3
    points = step * torch.arange(-2, 3, dtype=torch.float64)[:, None] * torch.tensor([0.6, 0.0, 0.8]).double()
    values = layer(points)[:, 0]
    assert abs(torch.diff(values, n=2)).max() < step**3
    kinked = points[:, 0] * torch.sigmoid(points.norm(dim=-1))
    assert abs(torch.diff(kinked, n=2)).max() > 0.1 * step**2


def test_layer_norm_makes_each_block_of_mean_square_one() -> None:
    found = EquivariantLayerNorm(IRREPS, eps=1e-12, **KW)(7 * drawn(IRREPS, 6) + 1)
    for block in split(found.detach(), IRREPS):
        torch.testing.assert_close(block.square().mean(dim=(-2, -1)), torch.ones(6, **KW))
    torch.testing.assert_close(split(found.detach(), IRREPS)[0].mean(dim=(-2, -1)), torch.zeros(6, **KW))


def test_on_scalars_layer_norm_is_that_of_torch() -> None:
    ours, theirs = EquivariantLayerNorm("8x0e", **KW), nn.LayerNorm(8, **KW)
    for parameter in ours.parameters():
        nn.init.normal_(parameter)
    theirs.load_state_dict({name: value.reshape(8) for name, value in ours.state_dict().items()})
    x = drawn(Irreps("8x0e"), 5)
    torch.testing.assert_close(ours(x), theirs(x), rtol=0, atol=1e-14)


def test_on_one_block_rms_norm_is_that_of_torch() -> None:
    ours, theirs = EquivariantRMSNorm("8x0e", eps=1e-5, **KW), nn.RMSNorm(8, eps=1e-5, **KW)
    nn.init.normal_(ours.weight)
    theirs.load_state_dict(ours.state_dict())
    x = drawn(Irreps("8x0e"), 5)
    torch.testing.assert_close(ours(x), theirs(x), rtol=0, atol=1e-14)


def test_rms_norm_keeps_relations_and_counts_blocks_alike() -> None:
    x = drawn(IRREPS, 6)
    layer = EquivariantRMSNorm(IRREPS, eps=1e-12, affine=False)
    found = layer(x)
    ratio = found / x
    torch.testing.assert_close(ratio, ratio[:, :1].expand_as(ratio))
    means = torch.stack([block.square().mean(dim=(-2, -1)) for block in split(found, IRREPS)])
    torch.testing.assert_close(means.mean(dim=0), torch.ones(6, **KW))


@pytest.mark.parametrize("layer", [EquivariantLayerNorm, EquivariantRMSNorm])
def test_scale_of_the_input_does_not_matter_and_each_copy_has_a_factor(layer: type) -> None:
    norm = layer(IRREPS, eps=1e-20, **KW)
    x = drawn(IRREPS, 6)
    torch.testing.assert_close(norm(1e-4 * x), norm(x), rtol=1e-9, atol=1e-9)
    before = norm(x).detach()
    with torch.no_grad():
        norm.weight[8] = 3.0  # the second vector
    factors = torch.ones(IRREPS.dim, **KW)
    factors[7 + 3 : 7 + 6] = 3
    torch.testing.assert_close(norm(x), before * factors)
    assert list(layer(IRREPS, affine=False).parameters()) == []


@pytest.mark.parametrize("eps", [0, -1.0, float("inf"), "small"])
def test_eps_must_be_positive(eps: object) -> None:
    for layer in (EquivariantLayerNorm, EquivariantRMSNorm):
        with pytest.raises(TenfoldError, match="eps must be a positive number, not"):
            layer("0e", eps=eps)
