"""Spherical harmonics against SciPy's, identities, and closed forms where coordinates of angles fail."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.special
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from tenfold.errors import DataError, TenfoldError
from tenfold.so3 import Irreps, spherical_harmonics

MOST = 20
SPECIAL = torch.tensor(
    [
        [0, 1, 0],
        [0, -1, 0],
        [1, 0, 0],
        [0, 0, -1],
        [1e-9, 1, -1e-9],
        [0, -1, 1e-160],
        [0.6, 0, 0.8],
    ],
    dtype=torch.float64,
)


def points(count: int = 200) -> Tensor:
    drawn = torch.randn(count, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return torch.cat([drawn, SPECIAL])


def from_scipy(degree: int, vectors: Tensor) -> Tensor:
    """The same basis from complex harmonics of angles, which have the sign of Condon and Shortley."""
    if not hasattr(scipy.special, "sph_harm_y"):
        pytest.skip("this SciPy has no sph_harm_y")
    x, y, z = vectors.numpy().T
    polar, around = np.arctan2(np.hypot(x, z), y), np.arctan2(x, z)
    columns = []
    for m in range(-degree, degree + 1):
        value = scipy.special.sph_harm_y(degree, abs(m), polar, around)
        part = value.imag if m < 0 else value.real
        columns.append(torch.from_numpy(part * ((-1) ** m * math.sqrt(2) if m else 1)))
    return torch.stack(columns, dim=-1)


@pytest.mark.parametrize("degree", range(MOST + 1))
def test_values_are_those_of_scipy(degree: int) -> None:
    found = spherical_harmonics(degree, points())
    torch.testing.assert_close(found, from_scipy(degree, points()), rtol=0, atol=5e-14)


def test_the_first_degrees_by_hand() -> None:
    x, y, z = (vectors := points(5)).unbind(-1)
    found = spherical_harmonics("0e+1o+2e", vectors, normalize=False, normalization="component")
    root = math.sqrt(15)
    second = [root * x * z, root * x * y, math.sqrt(5) * (y * y - (x * x + z * z) / 2), root * y * z]
    by_hand = [torch.ones_like(x), *(math.sqrt(3) * c for c in (x, y, z)), *second, root / 2 * (z * z - x * x)]
    torch.testing.assert_close(found, torch.stack(by_hand, dim=-1), rtol=1e-14, atol=1e-14)


@pytest.mark.parametrize("degree", [0, 1, 2, 7, 13, 20])
def test_the_sum_over_orders_is_a_legendre_polynomial(degree: int) -> None:
    vectors = torch.nn.functional.normalize(points(30), dim=-1)
    values = spherical_harmonics(degree, vectors, normalization="norm")
    legendre = scipy.special.eval_legendre(degree, (vectors @ vectors.T).clamp(-1, 1).numpy())
    torch.testing.assert_close(values @ values.T, torch.from_numpy(legendre), rtol=0, atol=2e-13)


@pytest.mark.parametrize("degree", [0, 1, 5, 20])
def test_normalizations(degree: int) -> None:
    def squares(normalization: str) -> Tensor:
        return spherical_harmonics(degree, points(), normalization=normalization).square().sum(-1)

    ones = torch.ones(len(points()), dtype=torch.float64)
    torch.testing.assert_close(squares("norm"), ones, rtol=1e-12, atol=0)
    torch.testing.assert_close(squares("component"), (2 * degree + 1) * ones, rtol=1e-12, atol=0)
    torch.testing.assert_close(squares("integral"), (2 * degree + 1) / (4 * math.pi) * ones, rtol=1e-12, atol=0)


@pytest.mark.parametrize("degree", range(0, MOST + 1, 4))
def test_at_the_pole_only_the_middle_is_left(degree: int) -> None:
    found = spherical_harmonics(degree, SPECIAL[:1], normalization="component")[0]
    expected = torch.zeros(2 * degree + 1, dtype=torch.float64)
    expected[degree] = math.sqrt(2 * degree + 1)
    torch.testing.assert_close(found, expected, rtol=1e-13, atol=0)


def test_small_values_near_a_pole_keep_their_digits() -> None:
    # Order m is the m-th power of the sine: an angle would have lost it at the first step.
    near = torch.tensor([0.0, 1.0, 1e-12], dtype=torch.float64)
    found = spherical_harmonics(3, near, normalization="norm")
    by_hand = [math.sqrt(6) * 1e-12, math.sqrt(15) / 2 * 1e-24, math.sqrt(5 / 8) * 1e-36]
    torch.testing.assert_close(found[4:], torch.tensor(by_hand, dtype=torch.float64), rtol=1e-13, atol=0)


@given(st.integers(-300, 300))
def test_directions_do_not_depend_on_the_length(power: int) -> None:
    vectors = points(3)[:3]
    found = spherical_harmonics([1, 4], vectors * 10.0**power)
    torch.testing.assert_close(found, spherical_harmonics([1, 4], vectors), rtol=1e-13, atol=1e-14)


@pytest.mark.parametrize("normalize", [True, False])
def test_both_parities(normalize: bool) -> None:
    values = spherical_harmonics(range(9), points(), normalize=normalize)
    mirrored = spherical_harmonics(range(9), -points(), normalize=normalize)
    signs = torch.cat([torch.full((2 * n + 1,), float((-1) ** n), dtype=torch.float64) for n in range(9)])
    assert torch.equal(mirrored, values * signs)


def test_not_normalized_is_a_polynomial_of_the_length() -> None:
    for degree in (0, 1, 6):
        grown = spherical_harmonics(degree, 2 * points(), normalize=False)
        plain = spherical_harmonics(degree, points(), normalize=False)
        torch.testing.assert_close(grown, 2**degree * plain, rtol=1e-14, atol=1e-300)


@pytest.mark.parametrize("normalize", [True, False])
def test_derivatives_by_differences(normalize: bool) -> None:
    drawn = points(2)[:2]
    vectors = torch.cat([drawn, SPECIAL[:3], *([] if normalize else [torch.zeros(1, 3, dtype=torch.float64)])])
    vectors.requires_grad_()

    def values(given: Tensor) -> Tensor:
        return spherical_harmonics(range(4), given, normalize=normalize)

    assert torch.autograd.gradcheck(values, vectors)
    assert torch.autograd.gradgradcheck(values, vectors)


def laplacian(values, vector: Tensor) -> Tensor:
    hessian = torch.func.jacfwd(torch.func.jacrev(values))(vector)
    return hessian.diagonal(dim1=-2, dim2=-1).sum(-1)


@pytest.mark.parametrize("degree", [1, 2, 7, 20])
def test_second_derivatives_are_those_of_harmonics(degree: int) -> None:
    """Without normalisation harmonic; on directions eigenfunctions of the Laplacian, at the poles as elsewhere."""
    for vector in torch.nn.functional.normalize(points(1)[[0, 1, 2, 5]], dim=-1):
        solid = laplacian(lambda v: spherical_harmonics(degree, v, normalize=False), vector)
        assert float(solid.abs().max()) <= 1e-13 * (degree + 1) ** 4
        on_sphere = laplacian(lambda v: spherical_harmonics(degree, v), vector)
        expected = -degree * (degree + 1) * spherical_harmonics(degree, vector)
        torch.testing.assert_close(on_sphere, expected, rtol=0, atol=1e-12 * (degree + 1) ** 2)


@pytest.mark.parametrize("degree", [1, 2, 9, 20])
def test_the_gradient_at_the_poles(degree: int) -> None:
    for sign in (1.0, -1.0):
        pole = torch.tensor([0, sign, 0], dtype=torch.float64)
        found = torch.func.jacrev(lambda v: spherical_harmonics(degree, v))(pole)
        expected = torch.zeros(2 * degree + 1, 3, dtype=torch.float64)
        slope = math.sqrt((2 * degree + 1) * degree * (degree + 1) / (8 * math.pi)) * sign ** (degree - 1)
        expected[degree - 1, 0] = expected[degree + 1, 2] = slope
        torch.testing.assert_close(found, expected, rtol=1e-13, atol=1e-13)


def test_the_zero_vector() -> None:
    zero = torch.zeros(3, dtype=torch.float64)
    for normalize in (True, False):

        def values(vector: Tensor, normalize: bool = normalize) -> Tensor:
            return spherical_harmonics(range(MOST + 1), vector, normalize=normalize, normalization="component")

        assert values(zero).tolist() == [1.0] + [0.0] * ((MOST + 1) ** 2 - 1)
        first = torch.func.jacrev(values)(zero)
        second = torch.func.jacfwd(torch.func.jacrev(values))(zero)
        if normalize:
            assert not first.any()
            assert not second.any()
        else:
            # Degree 1 is the vector itself, degree 2 its products; all others are flatter.
            torch.testing.assert_close(first[1:4], math.sqrt(3) * torch.eye(3, dtype=torch.float64))
            assert not first[4:].any()
            assert float(second[4, 0, 2]) == pytest.approx(math.sqrt(15))
            assert not second[9:].any()
            assert not second[:4].any()


def test_zero_vectors_among_others_leave_their_gradients_alone() -> None:
    vectors = torch.cat([torch.zeros(1, 3, dtype=torch.float64), points(4)]).requires_grad_()
    (grad,) = torch.autograd.grad(spherical_harmonics([1, 2], vectors).sum(), vectors)
    alone = vectors.detach()[1:].requires_grad_()
    (expected,) = torch.autograd.grad(spherical_harmonics([1, 2], alone).sum(), alone)
    assert not grad[0].any()
    torch.testing.assert_close(grad[1:], expected)


def test_the_derivative_of_the_constant_is_zero() -> None:
    vectors = points(2).requires_grad_()
    (grad,) = torch.autograd.grad(spherical_harmonics(0, vectors).sum(), vectors)
    assert not grad.any()


def test_shapes_dtypes_and_what_is_asked_for() -> None:
    vectors = points(4)
    assert spherical_harmonics(3, vectors[0]).shape == (7,)
    assert spherical_harmonics(range(4), vectors.reshape(1, 11, 1, 3)).shape == (1, 11, 1, 16)
    assert spherical_harmonics(2, torch.zeros(0, 3)).shape == (0, 5)
    assert spherical_harmonics([], vectors).shape == (11, 0)
    twice = spherical_harmonics("2x1o+0e", vectors)
    assert torch.equal(twice, spherical_harmonics([1, 1, 0], vectors))
    assert torch.equal(spherical_harmonics(Irreps.harmonics(3), vectors), spherical_harmonics(range(4), vectors))
    single = spherical_harmonics(range(MOST + 1), vectors.float())
    assert single.dtype == torch.float32
    torch.testing.assert_close(single.double(), spherical_harmonics(range(MOST + 1), vectors), rtol=0, atol=5e-5)
    assert spherical_harmonics(1, torch.full((3,), math.nan)).isnan().all()


@pytest.mark.parametrize(
    ("arguments", "options", "says"),
    [
        ((1, torch.zeros(2)), {}, r"vectors of shape \(2,\) must have x, y and z on the last axis"),
        ((1, torch.zeros(3, dtype=torch.int64)), {}, r"vectors must be floating, not torch\.int64"),
        ((-1, torch.zeros(3)), {}, "degrees must be a whole number of at least 0, not -1"),
        (([0, 1.5], torch.zeros(3)), {}, r"each of degrees must be a whole number of at least 0, not 1\.5"),
        (("1e", torch.zeros(3)), {}, "degrees '1x1e': spherical harmonics of degree 1 are 1o, not 1e"),
        ((1, torch.zeros(3)), {"normalization": "norms"}, r"not 'norms' \(did you mean 'norm'\?\)"),
    ],
)
def test_what_does_not_fit_is_told(arguments: tuple, options: dict, says: str) -> None:
    with pytest.raises((DataError, TenfoldError), match=says):
        spherical_harmonics(*arguments, **options)
