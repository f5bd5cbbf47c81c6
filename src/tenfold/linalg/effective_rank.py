"""How many directions a matrix uses, as a number that need not be whole and changes little when the matrix does."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from tenfold._arguments import real_number
from tenfold.errors import DataError, TenfoldError


def effective_rank(matrix: Float[Tensor, "*batch rows columns"]) -> Float[Tensor, "*batch"]:
    """The exponential of the entropy of the singular values, as parts of their sum.

    It is r for r equal singular values, at most the rank, and the same for any multiple of the matrix; 0 for zero.

    Raises:
        DataError: not a matrix, or numbers that are not finite.

    Cost: singular values, O(rows * columns * min(rows, columns)).
    Paper: "The effective rank: a measure of effective dimensionality", 2007.
    """
    values = _values(matrix)
    total = values.sum(-1)
    parts = values / torch.where(total > 0, total, 1)[..., None]
    return torch.where(total > 0, torch.exp(-torch.special.xlogy(parts, parts).sum(-1)), 0)


def stable_rank(matrix: Float[Tensor, "*batch rows columns"]) -> Float[Tensor, "*batch"]:
    """The squared Frobenius norm over the squared spectral norm; between 1 and the rank, 0 for zero.

    Raises:
        DataError: not a matrix, or numbers that are not finite.

    Cost: singular values, O(rows * columns * min(rows, columns)).
    Paper: "Sampling from large matrices: an approach through geometric functional analysis", 2007.
    """
    # In units of the largest, so that no square is too large or too small for the dtype.
    return _scaled(_values(matrix)).square().sum(-1)


def energy_rank(matrix: Float[Tensor, "*batch rows columns"], tolerance: float) -> Int[Tensor, "*batch"]:
    """The smallest rank whose best approximation has a relative error of at most ``tolerance``, by Frobenius norms.

    Raises:
        DataError: not a matrix, or numbers that are not finite.
        TenfoldError: tolerance is not from 0 to 1.

    Cost: singular values, O(rows * columns * min(rows, columns)).
    """
    number = real_number("tolerance", tolerance, "a number from 0 to 1")
    if not 0 <= number <= 1:
        raise TenfoldError(f"tolerance must be a number from 0 to 1, not {number:g}")
    tails = _scaled(_values(matrix)).square().flip(-1).cumsum(-1).flip(-1).sqrt()
    return (tails > number * tails[..., :1]).sum(-1)


def _values(matrix: Tensor) -> Tensor:
    if matrix.ndim < 2 or not (matrix.is_floating_point() or matrix.is_complex()):
        raise DataError(f"matrix must have rows and columns of real or complex numbers, not {matrix.ndim} axes")
    if not bool(matrix.isfinite().all()):
        raise DataError("matrix has entries that are not finite")
    if matrix.dtype in (torch.float16, torch.bfloat16):
        matrix = matrix.float()
    return torch.linalg.svdvals(matrix)


def _scaled(values: Tensor) -> Tensor:
    largest = values.amax(-1, keepdim=True) if values.shape[-1] else values.new_zeros(*values.shape[:-1], 1)
    return values / torch.where(largest > 0, largest, 1)
