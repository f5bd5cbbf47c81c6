"""The measure of equivariance: zero for what turns, the right size for what does not."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from tenfold.errors import DataError, EquivarianceError, TenfoldError
from tenfold.so3 import assert_equivariant, equivariance_error, spherical_harmonics


def test_harmonics_turn_as_their_irreps_say_and_not_otherwise() -> None:
    def harmonics(vectors: Tensor) -> Tensor:
        return spherical_harmonics("0e+1o+2e", vectors)

    assert assert_equivariant(harmonics, "1o", "0e+1o+2e") < 1e-14
    # Another parity shows only with the inversion.
    assert equivariance_error(harmonics, "1o", "0e+1e+2e", improper=False) < 1e-14
    assert equivariance_error(harmonics, "1o", "0e+1e+2e") > 0.1
    with pytest.raises(
        EquivarianceError, match=r"block 1 \(1x1e\) of the output differs by .* after a rotation with the inversion"
    ):
        assert_equivariant(harmonics, "1o", "0e+1e+2e")


def test_the_cross_product_is_a_pseudovector_of_two_vectors() -> None:
    def cross(first: Tensor, second: Tensor) -> Tensor:
        return torch.linalg.cross(first, second)

    assert assert_equivariant(cross, ("1o", "1o"), "1e") < 1e-14
    assert equivariance_error(cross, ("1o", "1o"), "1o") > 0.1
    assert equivariance_error(cross, ("1o", "1e"), "1o") < 1e-14


def test_several_outputs_and_inputs_that_do_not_turn() -> None:
    weights = torch.tensor([2.0, 3.0], dtype=torch.float64)

    def function(vectors: Tensor, factors: Tensor, pairs: Tensor) -> tuple[Tensor, Tensor]:
        arms = vectors[pairs[0]] - vectors[pairs[1]]
        return factors[0] * arms, factors[1] * arms.norm(dim=-1)

    pairs = torch.tensor([[0, 1], [1, 2]])
    kinds = {"inputs": (None, weights, pairs), "batch": 3}
    assert assert_equivariant(function, ("1o", None, None), ("1o", None), **kinds) < 1e-14
    with pytest.raises(EquivarianceError, match="output 1 differs by"):
        assert_equivariant(lambda *x: (x[0], x[0].abs().sum(-1)), ("1o", None, None), ("1o", None), **kinds)


def test_the_error_is_in_units_of_the_largest_output() -> None:
    """A constant vector that is added stays where it is; the rest turns."""
    constant = torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64)
    positions = torch.zeros(1, 3, dtype=torch.float64)
    for scale in (1e-6, 1.0, 1e6):
        error = equivariance_error(lambda x, s=scale: s * (x + constant), "1o", "1o", inputs=[positions])
        # The inversion takes the expected vector to the opposite of what is there: at most twice its length.
        assert 1 < error <= 2 + 1e-12


def test_what_is_given_is_used() -> None:
    """An error that shows at one input only."""
    bad = torch.tensor([[1e3, 0.0, 0.0]], dtype=torch.float64)

    def function(x: Tensor) -> Tensor:
        return torch.where(x.norm(dim=-1, keepdim=True) > 100, x.abs(), x)

    assert equivariance_error(function, "1o", "1o") < 1e-14
    assert equivariance_error(function, "1o", "1o", inputs=[bad]) > 0.1


def test_numbers_that_are_none_fail() -> None:
    assert math.isnan(equivariance_error(lambda x: x * torch.nan, "1o", "1o"))
    with pytest.raises(EquivarianceError, match="differs by nan"):
        assert_equivariant(lambda x: x * torch.nan, "1o", "1o")
    # After a rotation only.
    calls = iter([1.0, *[torch.nan] * 10])
    assert math.isnan(equivariance_error(lambda x: x * next(calls), "1o", "1o"))


def test_precision_is_that_of_the_module_and_the_tolerance_follows() -> None:
    class Times(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.tensor(3.0))

        def forward(self, x: Tensor) -> Tensor:
            assert x.dtype == self.weight.dtype
            return self.weight * x

    assert 1e-12 < assert_equivariant(Times(), "2x3o", "2x3o") < 2e-5
    assert assert_equivariant(Times().double(), "2x3o", "2x3o") < 1e-14
    with pytest.raises(EquivarianceError, match="above 1e-12"):
        assert_equivariant(Times(), "2x3o", "2x3o", tol=1e-12)
    assert assert_equivariant(lambda x: 2 * x, "1o", "1o", dtype=torch.float32) < 1e-6


def test_nothing_has_no_error() -> None:
    assert equivariance_error(lambda x: x, "1o", "1o", batch=0) == 0
    assert equivariance_error(lambda x: x[..., :0], "1o", "") == 0
    assert equivariance_error(torch.zeros_like, "1o", "1o") == 0


def test_layouts_of_features_are_told_apart() -> None:
    def first_vector(x: Tensor) -> Tensor:
        return x[..., :3]

    assert equivariance_error(first_vector, "2x1o", "1o") < 1e-14
    assert equivariance_error(first_vector, "2x1o", "1o", layout="ir_mul") > 0.1
    assert equivariance_error(lambda x: x[..., ::2], "2x1o", "1o", layout="ir_mul") < 1e-14


def test_what_cannot_be_measured_is_told() -> None:
    with pytest.raises(TenfoldError, match="inputs has 1 entries, and irreps_in has 2: one each"):
        equivariance_error(torch.add, ("1o", "1o"), "1o", inputs=[torch.zeros(1, 3)])
    with pytest.raises(TenfoldError, match="inputs needs a value for input 1: it has no irreps to draw it from"):
        equivariance_error(torch.mul, ("1o", None), "1o")
    with pytest.raises(TenfoldError, match="irreps_in must name at least one input that turns"):
        equivariance_error(torch.abs, None, "1o", inputs=[torch.zeros(1)])
    with pytest.raises(DataError, match=r"function returned .*; irreps_out is for 2 tensors"):
        equivariance_error(lambda x: x, "1o", ("1o", "1o"))
    with pytest.raises(DataError, match="must end with the 5 of '1x2e'"):
        equivariance_error(lambda x: x, "1o", "2e")
    with pytest.raises(DataError, match="output 0 changes its shape with a rotation"):
        equivariance_error(lambda x: x[x[:, 0] > 0], "1o", "1o", batch=9)
    with pytest.raises(TenfoldError, match="rotations must be a whole number of at least 1, not 0"):
        equivariance_error(lambda x: x, "1o", "1o", rotations=0)
