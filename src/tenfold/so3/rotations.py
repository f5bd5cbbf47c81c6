"""Rotations of space as matrices, and what else people write them as."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from tenfold._arguments import whole_number
from tenfold.errors import DataError
from tenfold.so3._given import check_floating, check_tensor, value_of

# Matrices further than this from orthogonal are a mistake, not roundoff.
_ORTHOGONAL = 1e-3


def angles_to_matrix(
    alpha: Float[Tensor, "*batch"], beta: Float[Tensor, "*batch"], gamma: Float[Tensor, "*batch"]
) -> Float[Tensor, "*batch 3 3"]:
    """``R_y(alpha) R_x(beta) R_y(gamma)``, e3nn's Euler angles; their batches broadcast.

    Raises `DataError` where angles are no floating tensors.
    """
    for name, angle in (("alpha", alpha), ("beta", beta), ("gamma", gamma)):
        check_floating(name, angle)
    return _around(alpha, 1) @ _around(beta, 0) @ _around(gamma, 1)


def matrix_to_angles(
    matrices: Float[Tensor, "*batch 3 3"],
) -> tuple[Float[Tensor, "*batch"], Float[Tensor, "*batch"], Float[Tensor, "*batch"]]:
    """Angles with ``angles_to_matrix(alpha, beta, gamma)`` equal to the matrices; beta is between 0 and pi.

    Where it is 0 or pi only the sum or the difference of the others is determined, and derivatives do not exist.

    Raises:
        DataError: they are not 3 x 3, not orthogonal, or contain a reflection.
    """
    check_rotations(matrices)
    if value_of(is_improper(matrices).any()) == 1:
        raise DataError("matrices must be rotations: one has determinant -1")
    x, y, z = matrices[..., 0, 1], matrices[..., 1, 1], matrices[..., 2, 1]
    alpha = torch.atan2(x, z)
    # More digits near the poles than the arc cosine of y, which is flat there.
    beta = torch.atan2(torch.hypot(x, z), y)
    # What is left is the turn around y; right even where alpha is made of roundoff.
    left = angles_to_matrix(alpha, beta, torch.zeros_like(beta)).mT @ matrices
    return alpha, beta, torch.atan2(left[..., 0, 2], left[..., 0, 0])


def quaternion_to_matrix(quaternions: Float[Tensor, "*batch 4"]) -> Float[Tensor, "*batch 3 3"]:
    """The rotations of quaternions ``w, x, y, z`` of any length but zero.

    Raises:
        DataError: the last axis is not 4, or a quaternion is zero or not finite.
    """
    check_tensor("quaternions", quaternions)
    if quaternions.ndim == 0 or quaternions.shape[-1] != 4 or not quaternions.is_floating_point():
        raise DataError(
            f"quaternions of shape {tuple(quaternions.shape)} and {quaternions.dtype} must be floating with w, x, y, z "
            "on the last axis"
        )
    length = torch.linalg.vector_norm(quaternions, dim=-1, keepdim=True)
    if value_of((torch.isfinite(length) & (length > 0)).all()) == 0:
        raise DataError("quaternions must be finite and not zero")
    w, x, y, z = (quaternions / length).unbind(-1)
    rows = (
        (1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)),
        (2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)),
        (2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)),
    )
    return torch.stack([torch.stack(row, dim=-1) for row in rows], dim=-2)


def random_rotations(
    count: int, *, seed: int = 0, dtype: torch.dtype = torch.float64, device: torch.device | str | None = None
) -> Float[Tensor, "count 3 3"]:
    """Rotations drawn from the uniform distribution over all of them."""
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randn(whole_number("count", count, 0), 4, generator=generator, dtype=torch.float64)
    return quaternion_to_matrix(drawn).to(dtype=dtype, device=device)


def check_rotations(matrices: Tensor) -> None:
    """Raises `DataError` unless these are orthogonal 3 x 3 matrices up to roundoff, where `value_of` can tell."""
    check_tensor("matrices", matrices)
    if matrices.shape[-2:] != (3, 3) or not matrices.is_floating_point():
        raise DataError(
            f"matrices of shape {tuple(matrices.shape)} and {matrices.dtype} must be floating and end with 3 x 3"
        )
    if not matrices.numel():
        return
    given = matrices.detach()
    off = value_of((given @ given.mT - torch.eye(3, dtype=given.dtype, device=given.device)).abs().max())
    if off is not None and not off <= max(_ORTHOGONAL, 16 * torch.finfo(given.dtype).eps):
        raise DataError(f"matrices must be orthogonal: R R^T differs from the identity by {off:.2g}")


def is_improper(matrices: Tensor) -> Tensor:
    """Which orthogonal matrices contain a reflection."""
    # There are no determinants of half precision.
    return torch.linalg.det(matrices.detach().float()) < 0


def _around(angle: Tensor, axis: int) -> Tensor:
    """Right-handed rotations around a coordinate axis."""
    cosine, sine = torch.cos(angle), torch.sin(angle)
    one, zero = torch.ones_like(angle), torch.zeros_like(angle)
    if axis == 0:
        rows = ((one, zero, zero), (zero, cosine, -sine), (zero, sine, cosine))
    else:
        rows = ((cosine, zero, sine), (zero, one, zero), (-sine, zero, cosine))
    return torch.stack([torch.stack(row, dim=-1) for row in rows], dim=-2)
