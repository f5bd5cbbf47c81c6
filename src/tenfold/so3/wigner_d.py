"""Wigner D matrices: how irreps turn. ``D(R) Y(v) = Y(R v)`` for the real spherical harmonics of this room."""

from __future__ import annotations

import math
from functools import cache

import torch
from jaxtyping import Float
from torch import Tensor

from tenfold._arguments import whole_number
from tenfold.errors import DataError
from tenfold.so3._given import check_floating
from tenfold.so3._tables import real_3j_tensor
from tenfold.so3.rotations import check_rotations, quaternion_to_matrix


def wigner_d(degree: int, matrices: Float[Tensor, "*batch 3 3"]) -> Float[Tensor, "*batch component component"]:
    """The matrices of rotations in the irrep of a degree.

    They are polynomials in the entries of the rotations, so derivatives exist everywhere; no angle occurs. An improper
    matrix is taken as the harmonics take it: times ``(-1)^l`` for the inversion, the parity of `Irreps.harmonics`.

    Raises:
        DataError: the matrices are not 3 x 3, or not orthogonal.
        TenfoldError: the degree is negative.

    Cost: ``O(l^4)`` operations for each rotation, in matrix products that all rotations share; `wigner_d_all` returns
    the degrees on the way.
    Paper: "Rotation matrices for real spherical harmonics. Direct determination by recursion", 1996.
    """
    return wigner_d_all(degree, matrices)[-1]


def wigner_d_all(
    largest: int, matrices: Float[Tensor, "*batch 3 3"]
) -> list[Float[Tensor, "*batch component component"]]:
    """`wigner_d` of the degrees 0, 1, ..., largest, at the cost of the last. Raises as it does."""
    largest = whole_number("degree", largest, 0)
    check_rotations(matrices)
    # Degree 0 is a constant with a derivative: zero.
    found = [1 + 0 * matrices[..., :1, :1], matrices]
    for degree in range(2, largest + 1):
        found.append(_next(degree, found[-1], matrices))
    return found[: largest + 1]


def wigner_d_from_angles(
    degree: int, alpha: Float[Tensor, "*batch"], beta: Float[Tensor, "*batch"], gamma: Float[Tensor, "*batch"]
) -> Float[Tensor, "*batch component component"]:
    """The same for ``R_y(alpha) R_x(beta) R_y(gamma)``, e3nn's Euler angles; their batches broadcast.

    Rotations around y only mix ``m`` with ``-m``, and the one around x is such a rotation between two swaps of axes.

    Raises:
        DataError: the angles are not floating or do not broadcast.
        TenfoldError: the degree is negative.

    Cost: ``O(l^3)`` operations for each rotation, in one matrix product.
    Paper: "Rotation matrices for real spherical harmonics: general rotations of atomic orbitals in space-fixed axes",
    2007.
    """
    degree = whole_number("degree", degree, 0)
    for name, angle in (("alpha", alpha), ("beta", beta), ("gamma", gamma)):
        check_floating(name, angle)
    if not (alpha.dtype == beta.dtype == gamma.dtype):
        raise DataError(f"angles must be of one floating dtype, not {alpha.dtype}, {beta.dtype} and {gamma.dtype}")
    try:
        alpha, beta, gamma = torch.broadcast_tensors(alpha, beta, gamma)
    except RuntimeError as error:
        shapes = f"{tuple(alpha.shape)}, {tuple(beta.shape)} and {tuple(gamma.shape)}"
        raise DataError(f"angles of shapes {shapes} do not broadcast") from error
    swap = _swap(degree).to(alpha)
    middle = swap @ _turn_rows(swap.expand(*beta.shape, -1, -1), beta)
    turned = _turn_rows(middle, alpha)
    # Columns are turned as rows of the transpose, the other way around.
    return _turn_rows(turned.mT, -gamma).mT


def wigner_d_from_quaternion(
    degree: int, quaternions: Float[Tensor, "*batch 4"]
) -> Float[Tensor, "*batch component component"]:
    """`wigner_d` of the rotations of quaternions ``w, x, y, z`` of any length but zero.

    Raises:
        DataError: the last axis is not 4, or a quaternion is zero or not finite.
        TenfoldError: the degree is negative.
    """
    return wigner_d(degree, quaternion_to_matrix(quaternions))


def _next(degree: int, below: Tensor, matrices: Tensor) -> Tensor:
    """Degree l from l - 1: what the product of degrees 1 and l - 1 does to the vectors of degree l in it."""
    couple = _coupling(degree).to(below)
    lower, upper = 2 * degree - 1, 2 * degree + 1
    right = below @ couple.permute(1, 0, 2).reshape(lower, 3 * upper)
    right = right.unflatten(-1, (3, upper))  # [.., l - 1, xyz', l']
    mixed = torch.einsum("...ac,...bcj->...abj", matrices, right)
    return couple.reshape(3 * lower, upper).T @ mixed.flatten(-3, -2)


def _coupling(degree: int) -> Tensor:
    return real_3j_tensor(math.sqrt(2 * degree + 1), 1, degree - 1, degree)


# An operator, so that compilers take the table as it is instead of following how it is made.
@torch.library.custom_op("tenfold::so3_swap", mutates_args=())
def _swap(degree: int) -> Tensor:
    """D of half a turn around the line between x and y, which swaps these axes: symmetric, and its own inverse."""
    return _made_swap(degree).clone()


@_swap.register_fake
def _(degree: int) -> Tensor:
    return torch.empty(2 * degree + 1, 2 * degree + 1, dtype=torch.float64)


@cache
def _made_swap(degree: int) -> Tensor:
    half_turn = torch.tensor([[0, 1, 0], [1, 0, 0], [0, 0, -1]], dtype=torch.float64)
    return wigner_d(degree, half_turn)


def _turn_rows(blocks: Tensor, angle: Tensor) -> Tensor:
    """D of rotations around y, times matrices: row m with cosine, less row -m with sine of ``m`` times the angle."""
    degree = blocks.shape[-2] // 2
    phase = angle[..., None, None] * torch.arange(-degree, degree + 1, dtype=angle.dtype, device=angle.device)[:, None]
    return torch.cos(phase) * blocks - torch.sin(phase) * blocks.flip(-2)
