"""EvoNorm: against its formulas, written with loops over samples and channels."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import Tensor, nn

from tenfold.errors import DataError
from tenfold.nn import EvoNormB0, EvoNormB1, EvoNormB2, EvoNormS0, EvoNormS1, EvoNormS2


@pytest.fixture(autouse=True)
def same_numbers_every_time() -> None:
    torch.manual_seed(0)


BATCH, SAMPLE = (EvoNormB0, EvoNormB1, EvoNormB2), (EvoNormS0, EvoNormS1, EvoNormS2)


def layer(kind: type[nn.Module], channels: int = 4, **options: object) -> nn.Module:
    made = kind(channels, dtype=torch.float64, **options)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.copy_(torch.linspace(0.5, 1.5, channels))
    return made


def formula(norm: nn.Module, x: Tensor, groups: int = 2) -> Tensor:
    """Loops over samples and channels."""
    out = torch.empty_like(x)
    wide = x.shape[1] // groups
    for b in range(x.shape[0]):
        for c in range(x.shape[1]):
            here = x[b, c]
            group = x[b, c // wide * wide : (c // wide + 1) * wide]
            whole = x[:, c].var(correction=0) if norm.training else getattr(norm, "running_var", torch.ones(99))[c]
            whole = (whole + norm.eps).sqrt()
            second = (here.square().mean() + norm.eps).sqrt()
            if isinstance(norm, EvoNormB0):
                y = here / torch.maximum(whole, norm.v[c] * here + (here.var(correction=0) + norm.eps).sqrt())
            elif isinstance(norm, EvoNormB1):
                y = here / torch.maximum(whole, (here + 1) * second)
            elif isinstance(norm, EvoNormB2):
                y = here / torch.maximum(whole, second - here)
            elif isinstance(norm, EvoNormS0):
                y = here * torch.sigmoid(norm.v[c] * here) / (group.var(correction=0) + norm.eps).sqrt()
            elif isinstance(norm, EvoNormS1):
                y = here * torch.sigmoid(here) / (group.var(correction=0) + norm.eps).sqrt()
            else:
                y = here * torch.sigmoid(here) / (group.square().mean() + norm.eps).sqrt()
            out[b, c] = norm.weight[c] * y + norm.bias[c]
    return out


@pytest.mark.parametrize("kind", [*BATCH, *SAMPLE])
def test_formulas(kind: type[nn.Module]) -> None:
    norm = layer(kind, **({"groups": 2} if kind in SAMPLE else {}))
    for shape in ((3, 4, 5, 6), (3, 4, 7)):
        x = torch.randn(shape, dtype=torch.float64) * 2 + 1
        torch.testing.assert_close(norm.train()(x), formula(norm, x))
        torch.testing.assert_close(norm.eval()(x), formula(norm, x))
    assert norm.eps == (1e-3 if kind is EvoNormB0 else 1e-5)


@pytest.mark.parametrize("kind", [*BATCH, *SAMPLE])
def test_gradients(kind: type[nn.Module]) -> None:
    norm = layer(kind, channels=2)
    x = torch.randn(2, 2, 3, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(norm, (x,))
    norm(x).sum().backward()
    assert all(p.grad is not None for p in norm.parameters())


@pytest.mark.parametrize("kind", BATCH)
def test_running_variance_is_that_of_batch_norm(kind: type[nn.Module]) -> None:
    norm, other = kind(4), nn.BatchNorm2d(4)
    for _ in range(3):
        x = torch.randn(3, 4, 5, 6) * 3
        norm(x), other(x)
    torch.testing.assert_close(norm.running_var, other.running_var)
    before = norm.running_var.clone()
    norm.eval()(x)
    assert torch.equal(norm.running_var, before)
    twin = kind(4)
    twin.load_state_dict(norm.state_dict())
    torch.testing.assert_close(twin.eval()(x), norm(x))
    torch.testing.assert_close(copy.deepcopy(norm)(x), norm(x))


@pytest.mark.parametrize("kind", SAMPLE)
def test_samples_do_not_see_each_other(kind: type[nn.Module]) -> None:
    norm = kind(6)
    assert norm.groups == 2
    with pytest.raises(DataError, match="one of 1, 2, 3, 6, not 4"):
        kind(6, groups=4)
    x = torch.randn(5, 6, 4, 4)
    torch.testing.assert_close(norm(x)[2:3], norm(x[2:3]))
    assert kind(64).groups == 32
    assert kind(48).groups == 16


@pytest.mark.parametrize("kind", [*BATCH, *SAMPLE])
def test_without_activation_there_are_factor_and_shift(kind: type[nn.Module]) -> None:
    norm = layer(kind, activation=False)
    x = torch.randn(2, 4, 3, 3, dtype=torch.float64)
    torch.testing.assert_close(norm(x), norm.weight[:, None, None] * x + norm.bias[:, None, None])


@pytest.mark.parametrize("kind", [*BATCH, *SAMPLE])
def test_low_precision_is_normalised_in_single(kind: type[nn.Module]) -> None:
    norm = kind(4)
    # The variance of these has no digits in half precision.
    x = (100 + torch.randn(2, 4, 8, 8)).bfloat16()
    found = norm(x)
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found.float(), copy.deepcopy(norm)(x.float()), rtol=0.02, atol=0.05)
    assert norm(x.double()).dtype == torch.float64
    nothing = norm(torch.zeros(0, 4, 3, 3))
    assert nothing.shape == (0, 4, 3, 3)
    x[0, 1, 0, 0] = math.nan
    assert norm.eval()(x)[0, 1].isnan().any()


def test_constant_channels_are_finite() -> None:
    for kind in (*BATCH, *SAMPLE):
        assert kind(4)(torch.full((2, 4, 3, 3), 3.0)).isfinite().all()


def test_refusals() -> None:
    with pytest.raises(DataError, match=r"the input must have shape \(batch, 4, \*places\), not \(2, 3, 5\)"):
        EvoNormS0(4)(torch.zeros(2, 3, 5))
