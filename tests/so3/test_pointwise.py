"""What may be applied number by number: the guard, and that what it forbids does break equivariance."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.functional import elu, hardtanh, leaky_relu, relu, silu, softplus

from tenfold.errors import DataError, EquivarianceError, TenfoldError
from tenfold.so3 import Irreps, check_pointwise, equivariance_error, random_rotations, wigner_d

# Functions and what they are.
LINEAR = {"identity": lambda x: x, "times": lambda x: -2.5 * x, "zero": torch.zeros_like}
AFFINE = {"shift": lambda x: x + 1, "line": lambda x: 3 - 2 * x}
ODD = {"tanh": torch.tanh, "sin": torch.sin, "cube": lambda x: x**3, "hardtanh": hardtanh}
EVEN = {"abs": torch.abs, "square": torch.square, "cos": torch.cos, "constant": torch.ones_like}
OTHER = {"relu": relu, "silu": silu, "elu": elu, "softplus": softplus, "exp": torch.exp, "leaky": leaky_relu}
HOMOGENEOUS = ("relu", "leaky")
NONLINEAR = ODD | {name: f for name, f in EVEN.items() if name != "constant"} | OTHER


def matrices(*rows: list[list[float]]) -> Tensor:
    return torch.tensor(rows, dtype=torch.float64)


ROTATE = [[0, 1, 0], [0, 0, 1], [1, 0, 0]]
SIGNS = [[0, -1, 0], [1, 0, 0], [0, 0, -1]]
SCALES = [[0, 2, 0], [0.5, 0, 0], [0, 0, 3]]


@pytest.mark.parametrize("name", NONLINEAR)
@pytest.mark.parametrize("irreps", ["1o", "4x0e+2x1e", "2e", "0o+3o"])
def test_no_function_of_components_is_allowed_above_degree_0(name: str, irreps: str) -> None:
    with pytest.raises(EquivarianceError, match="block"):
        check_pointwise(irreps, NONLINEAR[name])


@pytest.mark.parametrize("name", NONLINEAR)
@pytest.mark.parametrize("irreps", ["1o", "2x1e", "2e", "3o"])
def test_what_is_forbidden_does_break_equivariance(name: str, irreps: str) -> None:
    assert equivariance_error(NONLINEAR[name], irreps, irreps, batch=16) > 1e-2


@pytest.mark.parametrize("name", AFFINE)
def test_constants_are_for_even_scalars(name: str) -> None:
    assert check_pointwise("4x0e", AFFINE[name]) == Irreps("4x0e")
    for irreps in ("2x1o", "2e"):
        with pytest.raises(EquivarianceError, match="no function that adds a constant: rotations mix its"):
            check_pointwise(irreps, AFFINE[name])
        assert equivariance_error(AFFINE[name], irreps, irreps) > 1e-2
    with pytest.raises(EquivarianceError, match=r"block 1 \(3x0o\) allows odd and even functions only"):
        check_pointwise("0e+3x0o", AFFINE[name])
    assert equivariance_error(AFFINE[name], "0o", "0o") > 1e-2


@pytest.mark.parametrize("name", OTHER)
def test_odd_scalars_refuse_what_is_neither_odd_nor_even(name: str) -> None:
    with pytest.raises(EquivarianceError, match=r"block 0 \(2x0o\).*the inversion changes its sign"):
        check_pointwise("2x0o", OTHER[name])
    for out in ("2x0o", "2x0e"):
        assert equivariance_error(OTHER[name], "2x0o", out, batch=16) > 1e-2


@pytest.mark.parametrize("name", ODD | EVEN | LINEAR)
def test_odd_scalars_stay_odd_under_odd_functions_and_become_even_under_even_ones(name: str) -> None:
    function = (ODD | EVEN | LINEAR)[name]
    expected = Irreps("2x0e+3x0e" if name in EVEN else "2x0e+3x0o")
    assert check_pointwise("2x0e+3x0o", function) == expected
    assert equivariance_error(function, "2x0e+3x0o", expected) < 1e-14


@pytest.mark.parametrize("name", LINEAR)
def test_linear_functions_are_allowed_everywhere(name: str) -> None:
    irreps = Irreps("0e+2x0o+3x1o+2e")
    assert check_pointwise(irreps, LINEAR[name]) == irreps
    assert equivariance_error(LINEAR[name], irreps, irreps) < 1e-14


def test_a_constant_forgets_how_its_input_turns() -> None:
    assert check_pointwise("2x1o+0o", torch.ones_like) == Irreps("6x0e+0e")
    assert equivariance_error(torch.ones_like, "2x1o+0o", "6x0e+0e") == 0


def test_blocks_that_are_empty_or_even_scalars_are_not_looked_at() -> None:
    def fails(x: Tensor) -> Tensor:
        raise AssertionError

    assert check_pointwise("4x0e+0x1o", fails) == Irreps("4x0e+0x1o")


@pytest.mark.parametrize("name", NONLINEAR | AFFINE)
def test_permutations_allow_everything(name: str) -> None:
    function = (NONLINEAR | AFFINE)[name]
    assert torch.equal(check_pointwise(matrices(ROTATE), function), matrices(ROTATE))


@pytest.mark.parametrize("name", ODD | EVEN | OTHER)
def test_signed_permutations_allow_odd_and_even_functions(name: str) -> None:
    if name in OTHER:
        with pytest.raises(EquivarianceError, match=r"f\(-1 x\) is no multiple of f\(x\), and row"):
            check_pointwise(matrices(ROTATE, SIGNS), OTHER[name])
    else:
        found = check_pointwise(matrices(SIGNS), (ODD | EVEN)[name])
        if name == "constant":
            assert torch.equal(found[0], torch.eye(3, dtype=torch.float64))
        else:
            torch.testing.assert_close(found, matrices(SIGNS) if name in ODD else matrices(SIGNS).abs())


def test_positive_factors_allow_what_is_homogeneous() -> None:
    for name in HOMOGENEOUS:
        torch.testing.assert_close(check_pointwise(matrices(SCALES), OTHER[name]), matrices(SCALES))
    found = check_pointwise(matrices(SCALES, SIGNS), lambda x: x * x.abs())
    torch.testing.assert_close(found, matrices(SCALES, SIGNS) * matrices(SCALES, SIGNS).abs())
    for name in ("tanh", "silu", "sin"):
        with pytest.raises(EquivarianceError, match=r"is no multiple of f\(x\)"):
            check_pointwise(matrices(SCALES), NONLINEAR[name])


@pytest.mark.parametrize("name", NONLINEAR | AFFINE)
def test_matrices_of_rotations_are_refused_as_their_irreps_are(name: str) -> None:
    for degree in (1, 2, 3):
        with pytest.raises(EquivarianceError, match="matrix 0 allows"):
            check_pointwise(wigner_d(degree, random_rotations(2, seed=1)), (NONLINEAR | AFFINE)[name])


def test_rows_that_add_up_to_one_allow_a_constant() -> None:
    mean = matrices([[0.5, 0.5, 0], [0, 0.5, 0.5], [0.5, 0, 0.5]])
    assert torch.equal(check_pointwise(mean, lambda x: x + 1), mean)
    with pytest.raises(
        EquivarianceError, match="matrix 1 allows no function that adds a constant: row 0 adds up to -1"
    ):
        check_pointwise(matrices(ROTATE, SIGNS), lambda x: x + 1)


MONOMIAL = st.permutations(range(4)).flatmap(
    lambda order: st.lists(st.sampled_from([-2.0, -1.0, 0.5, 1.0, 3.0]), min_size=4, max_size=4).map(
        lambda entries: torch.eye(4, dtype=torch.float64)[list(order)] * torch.tensor(entries, dtype=torch.float64)
    )
)


@given(MONOMIAL, st.sampled_from([*ODD, *EVEN, *OTHER, "signed square"]), st.integers(0, 2**20))
def test_it_allows_exactly_what_commutes(matrix: Tensor, name: str, seed: int) -> None:
    """Where matrices of the result are returned, they are right; where none are, no matrix would do."""
    function: Callable[[Tensor], Tensor] = (ODD | EVEN | OTHER | {"signed square": lambda x: x * x.abs()})[name]
    numbers = 2 * torch.randn(64, 4, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    before, after = function(numbers @ matrix.T), function(numbers)
    try:
        found = check_pointwise(matrix, function)
    except EquivarianceError:
        best = torch.linalg.lstsq(after, before).solution
        assert (after @ best - before).abs().max() > 1e-2 * before.abs().max()
    else:
        torch.testing.assert_close(before, after @ found.T, rtol=1e-9, atol=1e-9)


def test_modules_are_seen_as_they_are() -> None:
    assert check_pointwise("0o", nn.Tanh()) == Irreps("0o")
    with pytest.raises(EquivarianceError):
        check_pointwise("0o", nn.PReLU())
    # Both slopes equal: linear.
    assert check_pointwise("1o", nn.PReLU(init=1.0)) == Irreps("1o")


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda x: torch.softmax(x, dim=-1), "function must act entry by entry: what it makes of a number"),
        (nn.Dropout(0.5), "function must act entry by entry: what it makes of a number is not always the same"),
        (lambda x: x.sum(), "function must act entry by entry: it does not return a tensor of the shape"),
        (lambda x: 3.0, "function must act entry by entry: it does not return a tensor of the shape"),
        (torch.sqrt, "function must be finite everywhere; at -"),
    ],
)
def test_what_is_no_function_of_a_number_is_told(function: Callable[[Tensor], Tensor], message: str) -> None:
    with pytest.raises(TenfoldError, match=message):
        check_pointwise("0o", function)


def test_what_is_no_representation_is_told() -> None:
    with pytest.raises(DataError, match=r"matrices of shape \(2, 3\) and torch.float64 must be floating and square"):
        check_pointwise(torch.zeros(2, 3, dtype=torch.float64), torch.tanh)
    with pytest.raises(DataError, match="matrices must be finite"):
        check_pointwise(math.nan * matrices(ROTATE), torch.tanh)
    with pytest.raises(TenfoldError, match="'1z' is not like '16x1o'"):
        check_pointwise("1z", torch.tanh)
