"""Whole irreps are dropped, as often as asked for."""

from __future__ import annotations

import pytest
import torch

from tenfold.errors import TenfoldError
from tenfold.nn.so3 import Dropout
from tenfold.so3 import Irreps, equivariance_error, split

IRREPS = Irreps("4x0e+3x1o+2x2e")


@pytest.mark.parametrize("layout", ["mul_ir", "ir_mul"])
def test_an_irrep_stays_whole_or_goes(layout: str) -> None:
    torch.manual_seed(0)
    found = Dropout(IRREPS, 0.25, layout=layout)(torch.ones(4000, IRREPS.dim, dtype=torch.float64))
    for block in split(found, IRREPS, layout):
        assert torch.equal(block, block[..., :1].expand_as(block))
        assert sorted(block.unique().tolist()) == pytest.approx([0, 4 / 3])
        torch.testing.assert_close(block[..., 0].mean(dim=0), torch.ones_like(block[0, :, 0]), rtol=0, atol=0.05)
        # Copies and feature vectors draw for themselves: neighbours agree as often as chance has it.
        alike = (block[:, 0, 0] == block[:, 1, 0]).double().mean()
        assert float(alike) == pytest.approx(0.25**2 + 0.75**2, abs=0.04)


def seeded(layer: torch.nn.Module):
    def function(x: torch.Tensor) -> torch.Tensor:
        torch.manual_seed(7)
        return layer(x)

    return function


def test_with_the_same_draws_it_turns_with_its_input_and_dropout_of_components_does_not() -> None:
    assert equivariance_error(seeded(Dropout(IRREPS, 0.5)), IRREPS, IRREPS) < 1e-14
    assert equivariance_error(seeded(torch.nn.Dropout(0.5)), IRREPS, IRREPS) > 0.1


def test_nothing_happens_in_evaluation_mode_or_with_probability_zero() -> None:
    x = torch.ones(3, IRREPS.dim)
    assert torch.equal(Dropout(IRREPS, 0.9).eval()(x), x)
    assert torch.equal(Dropout(IRREPS, 0)(x), x)
    assert not Dropout(IRREPS, 1)(x).any()


def test_gradients_pass_where_irreps_were_kept() -> None:
    torch.manual_seed(0)
    x = torch.ones(50, IRREPS.dim, requires_grad=True)
    found = Dropout(IRREPS, 0.5)(x)
    found.sum().backward()
    assert torch.equal(x.grad, found.detach())


@pytest.mark.parametrize("p", [-0.1, 1.1, "half"])
def test_probabilities_are_between_0_and_1(p: object) -> None:
    with pytest.raises(TenfoldError, match="p must be"):
        Dropout("0e", p)
