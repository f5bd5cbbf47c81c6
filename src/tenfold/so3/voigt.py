"""Symmetric tensors of rank 2 and 4 as vectors of 6 and matrices of 6 x 6, the way engineers write them.

The order of the pairs of axes is 11, 22, 33, 23, 13, 12.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from tenfold.errors import DataError
from tenfold.so3._given import check_tensor

_PAIRS = ((0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1))


def to_mandel(tensor: Float[Tensor, "*batch_and_axes"], rank: int) -> Float[Tensor, "*batch_and_pairs"]:
    """``[*batch, 6]`` of symmetric matrices (rank 2), ``[*batch, 6, 6]`` of tensors ``ijkl=jikl=ijlk`` (rank 4).

    Pairs of different axes are multiplied by the root of two, so that products, lengths and eigenvalues are those of
    the tensors, and rotations act by orthogonal 6 x 6 matrices. Where a pair is not symmetric, its mean is taken.

    Raises:
        DataError: the rank is neither 2 nor 4, so many last axes are not 3, or the numbers are not floating.
    """
    return _to(tensor, rank, math.sqrt(2))


def from_mandel(pairs: Float[Tensor, "*batch_and_pairs"], rank: int) -> Float[Tensor, "*batch_and_axes"]:
    """The inverse of `to_mandel`. Raises as it does, of axes of 6."""
    return _from(pairs, rank, math.sqrt(2))


def to_voigt(
    tensor: Float[Tensor, "*batch_and_axes"], rank: int, *, engineering: bool = False
) -> Float[Tensor, "*batch_and_pairs"]:
    """The same in Voigt's notation: stresses and stiffnesses as they are, without factors.

    With ``engineering`` strains and compliances: every pair of different axes counts twice, so that stress is stiffness
    times strain. These matrices do not turn by orthogonal ones, so equivariant maps want `to_mandel`.

    Raises: as `to_mandel`.
    """
    return _to(tensor, rank, 2.0 if engineering else 1.0)


def from_voigt(
    pairs: Float[Tensor, "*batch_and_pairs"], rank: int, *, engineering: bool = False
) -> Float[Tensor, "*batch_and_axes"]:
    """The inverse of `to_voigt`. Raises as it does, of axes of 6."""
    return _from(pairs, rank, 2.0 if engineering else 1.0)


def _to(tensor: Tensor, rank: int, weight: float) -> Tensor:
    _check("tensor", tensor, rank, (3,) * rank)
    mean = _mean(tensor, weight)
    if rank == 2:
        return tensor.flatten(-2) @ mean.T
    return mean @ tensor.flatten(-4, -3).flatten(-2) @ mean.T


def _from(pairs: Tensor, rank: int, weight: float) -> Tensor:
    _check("pairs", pairs, rank, (6,) * (rank // 2))
    # Rows are orthogonal, and as long as the pairs are counted.
    rows = _mean(pairs, weight)
    back = rows / rows.square().sum(1, keepdim=True)
    if rank == 2:
        return (pairs @ back).unflatten(-1, (3, 3))
    return (back.T @ pairs @ back).unflatten(-1, (3, 3)).unflatten(-3, (3, 3))


def _mean(like: Tensor, weight: float) -> Tensor:
    """Row for each pair: the mean of its two entries, times the weight where they are two."""
    rows = torch.zeros(6, 3, 3, dtype=like.dtype)
    for row, (i, j) in enumerate(_PAIRS):
        rows[row, i, j] += 0.5 * (1 if i == j else weight)
        rows[row, j, i] += 0.5 * (1 if i == j else weight)
    return rows.flatten(1).to(like.device)


def _check(name: str, tensor: Tensor, rank: int, axes: tuple[int, ...]) -> None:
    if rank not in (2, 4):
        raise DataError(f"rank must be 2 or 4, not {rank!r}")
    check_tensor(name, tensor)
    if tensor.ndim < len(axes) or tuple(tensor.shape[-len(axes) :]) != axes or not tensor.is_floating_point():
        raise DataError(
            f"{name} of shape {tuple(tensor.shape)} and {tensor.dtype} must be floating and end with {axes}"
        )
