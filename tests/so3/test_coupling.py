"""3j, Clebsch-Gordan and Gaunt coefficients against exact numbers, identities and quadrature."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sympy.physics.wigner import wigner_3j as exact_3j

from tenfold.errors import TenfoldError
from tenfold.so3 import clebsch_gordan, gaunt, random_rotations, spherical_harmonics, wigner_3j, wigner_d
from tenfold.so3._wigner3j import complex_3j

DEGREE = st.integers(0, 12)


def triples(most: int) -> list[tuple[int, int, int]]:
    return [
        (a, b, c) for a in range(most + 1) for b in range(most + 1) for c in range(abs(a - b), min(a + b, most) + 1)
    ]


@given(DEGREE, DEGREE, DEGREE, st.integers(-12, 12), st.integers(-12, 12))
def test_the_symbol_is_the_exact_one(l1: int, l2: int, l3: int, m1: int, m2: int) -> None:
    found = complex_3j((l1, l2, l3), (m1, m2, -m1 - m2))
    if abs(m1) > l1 or abs(m2) > l2 or abs(m1 + m2) > l3:
        assert found == 0
    else:
        assert found == pytest.approx(float(exact_3j(l1, l2, l3, m1, m2, -m1 - m2)), rel=1e-15, abs=0)


def test_a_symbol_of_large_degrees() -> None:
    assert complex_3j((60, 50, 40), (3, -7, 4)) == pytest.approx(float(exact_3j(60, 50, 40, 3, -7, 4)), rel=1e-15)


def test_the_cross_product_and_the_scalar_product() -> None:
    epsilon = torch.zeros(3, 3, 3, dtype=torch.float64)
    for i, j, k in ((0, 1, 2), (1, 2, 0), (2, 0, 1)):
        epsilon[i, j, k], epsilon[j, i, k] = 1, -1
    torch.testing.assert_close(wigner_3j(1, 1, 1), epsilon / math.sqrt(6), rtol=0, atol=1e-16)
    eye = torch.eye(3, dtype=torch.float64)
    torch.testing.assert_close(wigner_3j(1, 1, 0)[..., 0], eye / math.sqrt(3), rtol=0, atol=2e-16)


@pytest.mark.parametrize("degrees", [*triples(4), (12, 12, 12), (12, 11, 7), (3, 12, 10), (0, 12, 12), (20, 20, 13)])
def test_an_invariant_of_norm_one(degrees: tuple[int, int, int]) -> None:
    couple = wigner_3j(*degrees)
    assert float(torch.linalg.vector_norm(couple)) == pytest.approx(1, abs=1e-14)
    rotations = random_rotations(3, seed=1)
    first, second, third = (wigner_d(degree, rotations) for degree in degrees)
    turned = torch.einsum("abc,nai,nbj,nck->nijk", couple, first, second, third)
    torch.testing.assert_close(turned, couple.expand_as(turned), rtol=0, atol=1e-13)


@pytest.mark.parametrize(("l1", "l2"), [(0, 3), (1, 1), (2, 3), (4, 4), (12, 9)])
def test_clebsch_gordan_is_an_orthogonal_change_of_basis(l1: int, l2: int) -> None:
    parts = [clebsch_gordan(l1, l2, l3).flatten(0, 1) for l3 in range(abs(l1 - l2), l1 + l2 + 1)]
    basis = torch.cat(parts, dim=1)
    eye = torch.eye((2 * l1 + 1) * (2 * l2 + 1), dtype=torch.float64)
    torch.testing.assert_close(basis.T @ basis, eye, rtol=0, atol=1e-13)


def test_degrees_that_make_no_triangle_do_not_couple() -> None:
    assert wigner_3j(1, 1, 3).shape == (3, 3, 7)
    assert not wigner_3j(1, 1, 3).any()
    assert not gaunt(4, 1, 2).any()


def test_symmetry_and_zeros() -> None:
    for l1, l2, l3 in triples(5):
        couple = wigner_3j(l1, l2, l3)
        sign = (-1) ** (l1 + l2 + l3)
        torch.testing.assert_close(wigner_3j(l2, l1, l3).permute(1, 0, 2), sign * couple, rtol=0, atol=1e-15)
        # No numbers of roundoff: what is not zero is far from it.
        assert float(couple[couple != 0].abs().min()) > 1e-4


GAUNT_FACTORS = {
    (0, 0, 0): 0.2820947918,
    (1, 1, 0): 0.4886025119,
    (1, 1, 2): 0.6909882989,
    (2, 2, 2): 0.7539300439,
    (2, 2, 0): 0.6307831305,
    (2, 2, 4): 1.0115032970,
    (3, 3, 2): 0.8618138244,
}


@pytest.mark.parametrize(("degrees", "factor"), GAUNT_FACTORS.items())
def test_gaunt_is_a_positive_multiple_of_3j(degrees: tuple[int, int, int], factor: float) -> None:
    torch.testing.assert_close(gaunt(*degrees), factor * wigner_3j(*degrees), rtol=1e-9, atol=0)


@pytest.mark.parametrize(("most_first", "most_last"), [(4, 8), (10, 4)])
def test_gaunt_is_the_integral(most_first: int, most_last: int) -> None:
    """Gauss-Legendre in y and equal angles around it are exact for polynomials of this degree."""
    total = 2 * most_first + most_last
    nodes, weights = np.polynomial.legendre.leggauss(total // 2 + 1)
    turns = 2 * np.pi * np.arange(total + 1) / (total + 1)
    y, turn = (torch.from_numpy(grid.ravel()) for grid in np.meshgrid(nodes, turns, indexing="ij"))
    area = torch.from_numpy(np.repeat(weights, total + 1)) * 2 * math.pi / (total + 1)
    sine = torch.sqrt(1 - y * y)
    points = torch.stack([sine * torch.sin(turn), y, sine * torch.cos(turn)], dim=-1)
    values = [spherical_harmonics(degree, points) for degree in range(max(most_first, most_last) + 1)]
    chosen = triples(4) if most_first == 4 else [(10, 10, 4), (10, 9, 3), (9, 10, 2), (10, 8, 4), (7, 9, 4)]
    for l1, l2, l3 in chosen:
        integral = torch.einsum("n,na,nb,nc->abc", area, values[l1], values[l2], values[l3])
        torch.testing.assert_close(gaunt(l1, l2, l3), integral, rtol=0, atol=2e-14)


def test_what_is_returned_is_ones_own() -> None:
    wigner_3j(1, 1, 2).zero_()
    assert wigner_3j(1, 1, 2).any()
    assert wigner_3j(1, 1, 2, dtype=torch.float32).dtype == torch.float32


@pytest.mark.parametrize("function", [wigner_3j, clebsch_gordan, gaunt])
def test_bad_degrees_are_told(function) -> None:
    with pytest.raises(TenfoldError, match="l2 must be a whole number of at least 0, not -1"):
        function(1, -1, 1)
    with pytest.raises(TenfoldError, match=r"l3 must be a whole number of at least 0, not 1\.5"):
        function(1, 1, 1.5)
