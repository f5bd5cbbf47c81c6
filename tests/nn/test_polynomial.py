"""Polynomial networks: against their coefficients written out."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import Tensor

from tenfold.errors import DataError, TenfoldError
from tenfold.nn import CCP, NCP, StarLinear


@pytest.fixture(autouse=True)
def same_numbers_every_time() -> None:
    torch.manual_seed(0)


MADE = {"dtype": torch.float64, "generator": torch.Generator().manual_seed(0)}


def networks() -> list[CCP | NCP]:
    return [
        CCP(3, 2, degree=3, rank=4, **MADE),
        CCP(3, 2, degree=1, rank=4, bias=False, **MADE),
        CCP(1, 1, degree=5, rank=2, **MADE),
        NCP(3, 2, degree=3, rank=4, **MADE),
        NCP(3, 2, degree=1, rank=4, **MADE),
        NCP(2, 3, degree=4, rank=3, bias=False, skip=True, **MADE),
    ]


@pytest.fixture(params=range(6), ids=lambda n: repr(networks()[n]))
def network(request: pytest.FixtureRequest) -> CCP | NCP:
    made = networks()[request.param]
    for parameter in made.parameters():
        torch.nn.init.normal_(parameter, generator=torch.Generator().manual_seed(1))
    return made


def evaluated(coefficients: list[Tensor], x: Tensor) -> Tensor:
    """A polynomial of one vector, degree by degree."""
    total = torch.zeros_like(coefficients[0])
    for each in coefficients:
        while each.ndim > 1:
            each = each @ x
        total = total + each
    return total


def test_it_is_the_polynomial_of_its_coefficients(network: CCP | NCP) -> None:
    coefficients = network.to_polynomial()
    assert [c.ndim for c in coefficients] == list(range(1, network.degree + 2))
    for x in torch.randn(5, network.in_features, dtype=torch.float64):
        torch.testing.assert_close(network(x), evaluated(coefficients, x), rtol=1e-10, atol=1e-10)


def test_on_a_line_it_has_its_degree_and_no_more(network: CCP | NCP) -> None:
    a = torch.randn(network.in_features, dtype=torch.float64)
    t = torch.arange(network.degree + 2, dtype=torch.float64)
    values = network(t[:, None] * a)
    signs = torch.tensor([(-1.0) ** n * math.comb(network.degree + 1, n) for n in range(network.degree + 2)])
    assert (signs.double() @ values).abs().max() < 1e-10 * values.abs().max()
    assert values.diff(n=network.degree, dim=0).abs().max() > 1e-3


def test_gradients_shapes_and_copies(network: CCP | NCP) -> None:
    x = torch.randn(2, network.in_features, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(network, (x,))
    assert torch.autograd.gradgradcheck(network, (x,), fast_mode=True)
    assert network(x.detach().expand(4, 0, 2, -1)).shape == (4, 0, 2, network.out_features)
    torch.testing.assert_close(copy.deepcopy(network)(x), network(x))
    twin = type(network)(
        network.in_features,
        network.out_features,
        degree=network.degree,
        rank=network.rank,
        bias=network.bias is not None,
        dtype=torch.float64,
        **({"skip": network.skips is not None} if isinstance(network, NCP) else {}),
    )
    twin.load_state_dict(network.state_dict())
    torch.testing.assert_close(twin(x), network(x))


def test_numbers_of_parameters() -> None:
    count = lambda net: sum(p.numel() for p in net.parameters())  # noqa: E731
    assert count(CCP(5, 3, degree=4, rank=7)) == 4 * 5 * 7 + 7 * 3 + 3
    assert count(NCP(5, 3, degree=4, rank=7, bias=False)) == 4 * 5 * 7 + 4 * 7 + 3 * 49 + 7 * 3


def test_without_between_the_nested_one_is_linear() -> None:
    network = NCP(3, 2, degree=3, rank=4, **MADE)
    torch.nn.init.zeros_(network.between)
    assert all(c.abs().max() == 0 for c in network.to_polynomial()[2:])
    assert network.to_polynomial()[1].abs().max() > 0


def test_values_begin_with_a_size_near_that_of_inputs() -> None:
    x = torch.randn(500, 64, generator=torch.Generator().manual_seed(0))
    for kind in (CCP, NCP):
        network = kind(64, 32, degree=3, rank=48, generator=torch.Generator().manual_seed(0))
        assert 0.5 < float(network(x).detach().std()) < 4


def test_half_precision_runs() -> None:
    x = torch.randn(2, 3)
    for kind in (CCP, NCP):
        network = kind(3, 2, degree=3, rank=4)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            torch.testing.assert_close(network(x).float(), network.float()(x).float(), rtol=0.1, atol=0.1)


def test_refusals() -> None:
    with pytest.raises(DataError, match=r"the input must have shape \(\*batch, 3\), not \(2, 4\)"):
        CCP(3, 2, degree=2, rank=4)(torch.zeros(2, 4))
    with pytest.raises(TenfoldError, match="degree must be a whole number of at least 1, not 0"):
        NCP(3, 2, degree=0, rank=4)
    with pytest.raises(TenfoldError, match=r"a polynomial of degree 6 in 100 variables has .* coefficients"):
        CCP(100, 2, degree=6, rank=4).to_polynomial()


class TestStarLinear:
    def test_it_is_its_quadratic_forms(self) -> None:
        layer = StarLinear(3, 5, **MADE)
        torch.nn.init.normal_(layer.bias)
        constant, linear, quadratic = layer.to_polynomial()
        torch.testing.assert_close(quadratic, quadratic.mT)
        assert torch.linalg.matrix_rank(quadratic).max() <= 2
        x = torch.randn(4, 3, dtype=torch.float64)
        expected = constant + x @ linear.T + torch.einsum("bi,oij,bj->bo", x, quadratic, x)
        torch.testing.assert_close(layer(x), expected)
        bare = StarLinear(3, 5, bias=False, dtype=torch.float64)
        assert bare.to_polynomial()[0].abs().max() == bare.to_polynomial()[1].abs().max() == 0

    def test_activation_and_gradients(self) -> None:
        layer = StarLinear(3, 2, activation=torch.nn.GELU(), dtype=torch.float64)
        x = torch.randn(2, 3, dtype=torch.float64, requires_grad=True)
        assert torch.autograd.gradcheck(layer, (x,))
        first, second = (torch.nn.functional.linear(x, layer.weight[n], layer.bias[n]) for n in range(2))
        torch.testing.assert_close(layer(x), torch.nn.functional.gelu(first) * second)
        with pytest.raises(TenfoldError, match="with activation GELU this layer is no polynomial"):
            layer.to_polynomial()
        with pytest.raises(DataError, match="the input must have shape"):
            layer(torch.zeros(4))
