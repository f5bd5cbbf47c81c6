"""Wigner D matrices: what makes them representations, and what the harmonics do."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from tenfold.errors import DataError, TenfoldError
from tenfold.so3 import (
    angles_to_matrix,
    matrix_to_angles,
    quaternion_to_matrix,
    random_rotations,
    spherical_harmonics,
    wigner_d,
    wigner_d_all,
    wigner_d_from_angles,
    wigner_d_from_quaternion,
)

DEGREES = (0, 1, 2, 3, 5, 8, 12, 20)


def angles(count: int = 40) -> tuple[Tensor, Tensor, Tensor]:
    drawn = torch.rand(3, count, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 2 * math.pi
    drawn[1] /= 2
    # Among them turns around the polar axis alone, and half a turn of it.
    drawn[1, 0], drawn[1, 1] = 0, math.pi
    return drawn[0], drawn[1], drawn[2]


@pytest.mark.parametrize("degree", DEGREES)
def test_harmonics_of_turned_vectors_are_turned_harmonics(degree: int) -> None:
    rotations = torch.cat([random_rotations(40, seed=2), angles_to_matrix(*angles())])
    vectors = torch.randn(80, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    turned = spherical_harmonics(degree, (rotations @ vectors[..., None])[..., 0])
    found = wigner_d(degree, rotations) @ spherical_harmonics(degree, vectors)[..., None]
    torch.testing.assert_close(found[..., 0], turned, rtol=0, atol=1e-12 if degree > 8 else 1e-13)


@pytest.mark.parametrize("degree", DEGREES)
def test_orthogonal_and_homomorphic(degree: int) -> None:
    first, second = random_rotations(20, seed=3), random_rotations(20, seed=4)
    one, other = wigner_d(degree, first), wigner_d(degree, second)
    eye = torch.eye(2 * degree + 1, dtype=torch.float64).expand_as(one)
    torch.testing.assert_close(one @ one.mT, eye, rtol=0, atol=1e-13)
    torch.testing.assert_close(one @ other, wigner_d(degree, first @ second), rtol=0, atol=1e-13)
    torch.testing.assert_close(one.mT, wigner_d(degree, first.mT), rtol=0, atol=1e-13)


@pytest.mark.parametrize("degree", DEGREES)
def test_angles_matrices_and_quaternions_agree(degree: int) -> None:
    alpha, beta, gamma = angles()
    rotations = angles_to_matrix(alpha, beta, gamma)
    expected = wigner_d(degree, rotations)
    torch.testing.assert_close(wigner_d_from_angles(degree, alpha, beta, gamma), expected, rtol=0, atol=2e-13)
    # A quaternion of each Euler angle, multiplied.
    zero = torch.zeros_like(alpha)

    def around(angle: Tensor, axis: int) -> Tensor:
        parts = [torch.cos(angle / 2), zero, zero, zero]
        parts[axis] = torch.sin(angle / 2)
        return torch.stack(parts, dim=-1)

    def times(p: Tensor, q: Tensor) -> Tensor:
        (a, b), (u, v) = (p[:, 0], q[:, 0]), (p[:, 1:], q[:, 1:])
        vector = a[:, None] * v + b[:, None] * u + torch.linalg.cross(u, v)
        return torch.cat([(a * b - (u * v).sum(-1))[:, None], vector], dim=-1)

    quaternions = times(times(around(alpha, 2), around(beta, 1)), around(gamma, 2))
    torch.testing.assert_close(quaternion_to_matrix(3 * quaternions), rotations, rtol=0, atol=1e-15)
    torch.testing.assert_close(wigner_d_from_quaternion(degree, -quaternions), expected, rtol=0, atol=2e-13)


def test_degree_one_is_the_rotation_itself() -> None:
    rotations = random_rotations(5)
    assert torch.equal(wigner_d(1, rotations), rotations)
    torch.testing.assert_close(wigner_d_from_angles(1, *angles()), angles_to_matrix(*angles()), rtol=0, atol=1e-15)


def test_the_inversion_has_the_parity_of_harmonics() -> None:
    rotations = random_rotations(4)
    for degree, (plain, inverted) in enumerate(
        zip(wigner_d_all(5, rotations), wigner_d_all(5, -rotations), strict=True)
    ):
        torch.testing.assert_close(inverted, (-1) ** degree * plain, rtol=0, atol=1e-15)


def test_angles_come_back_as_the_same_rotation() -> None:
    at_poles = angles_to_matrix(*angles())
    for rotations in (random_rotations(100, seed=5), at_poles):
        back = matrix_to_angles(rotations)
        torch.testing.assert_close(angles_to_matrix(*back), rotations, rtol=0, atol=1e-15)
        assert bool(((back[1] >= 0) & (back[1] <= math.pi)).all())


def test_random_rotations_are_uniform() -> None:
    rotations = random_rotations(20000, seed=6)
    torch.testing.assert_close(torch.linalg.det(rotations), torch.ones(20000, dtype=torch.float64))
    # Over the uniform distribution every matrix of degree above 0 averages to zero, and its squares to 1 / (2 l + 1).
    for degree, matrices in enumerate(wigner_d_all(3, rotations)[1:], start=1):
        assert float(matrices.mean(0).abs().max()) < 0.03
        torch.testing.assert_close(
            matrices.square().mean(0), torch.full_like(matrices[0], 1 / (2 * degree + 1)), rtol=0, atol=0.01
        )
    assert torch.equal(random_rotations(3, seed=6), random_rotations(3, seed=6))


def test_gradients() -> None:
    # The identity and half a turn are where Euler angles have none.
    rotations = torch.cat([random_rotations(1), torch.eye(3, dtype=torch.float64)[None]]).requires_grad_()
    assert torch.autograd.gradcheck(lambda given: wigner_d(3, given), rotations)
    assert torch.autograd.gradgradcheck(lambda given: wigner_d(2, given), rotations)
    (grad,) = torch.autograd.grad(wigner_d(0, rotations).sum(), rotations)
    assert not grad.any()
    given = [angle[:3].clone().requires_grad_() for angle in angles()]
    assert torch.autograd.gradcheck(lambda *three: wigner_d_from_angles(3, *three), given)
    quaternions = torch.randn(2, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(lambda q: wigner_d_from_quaternion(2, q), quaternions)


def test_infinitesimal_turns_are_the_momentum() -> None:
    """Around y the derivative at the identity mixes ``m`` with ``-m``, by ``m``."""
    zero = torch.zeros((), dtype=torch.float64)
    found = torch.func.jacrev(lambda angle: wigner_d_from_angles(4, angle, zero, zero))(zero)
    expected = torch.diag(-torch.arange(-4.0, 5, dtype=torch.float64)).flip(1)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-14)


def test_shapes_and_dtypes() -> None:
    assert wigner_d(2, random_rotations(6).reshape(2, 1, 3, 3, 3)).shape == (2, 1, 3, 5, 5)
    assert wigner_d(2, torch.zeros(0, 3, 3)).shape == (0, 5, 5)
    assert wigner_d_from_angles(2, torch.zeros(4, 1), torch.zeros(3), torch.zeros(())).shape == (4, 3, 5, 5)
    rotations = random_rotations(10)
    single = wigner_d(8, rotations.float())
    assert single.dtype == torch.float32
    torch.testing.assert_close(single.double(), wigner_d(8, rotations), rtol=0, atol=1e-5)
    assert [tuple(matrix.shape) for matrix in wigner_d_all(2, rotations)] == [(10, 1, 1), (10, 3, 3), (10, 5, 5)]
    assert len(wigner_d_all(0, rotations)) == 1


def test_what_is_no_rotation_is_told() -> None:
    with pytest.raises(DataError, match=r"matrices must be orthogonal: R R\^T differs from the identity by 3"):
        wigner_d(2, 2 * torch.eye(3))
    with pytest.raises(DataError, match="differs from the identity by nan"):
        wigner_d(2, torch.full((3, 3), math.nan))
    with pytest.raises(DataError, match=r"matrices of shape \(3, 2\)"):
        wigner_d(2, torch.zeros(3, 2))
    with pytest.raises(DataError, match="one has determinant -1"):
        matrix_to_angles(-torch.eye(3))
    with pytest.raises(DataError, match="finite and not zero"):
        wigner_d_from_quaternion(1, torch.zeros(4))
    with pytest.raises(DataError, match=r"quaternions of shape \(3,\)"):
        quaternion_to_matrix(torch.zeros(3))
    with pytest.raises(DataError, match="do not broadcast"):
        wigner_d_from_angles(1, torch.zeros(2), torch.zeros(3), torch.zeros(2))
    with pytest.raises(DataError, match="one floating dtype"):
        wigner_d_from_angles(1, torch.zeros(2), torch.zeros(2).double(), torch.zeros(2))
    with pytest.raises(TenfoldError, match="degree must be a whole number"):
        wigner_d(-1, torch.eye(3))
