"""What a dense matrix and a covariance must be to be approximated."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from tenfold.errors import DataError


def checked_weight(weight: Float[Tensor, "rows columns"]) -> Float[Tensor, "rows columns"]:
    """The matrix in double precision.

    Raises `DataError` for a module, another number of axes, numbers that are not real, floating or finite.
    """
    if not isinstance(weight, Tensor):
        raise DataError(f"weight must be a matrix, not a {type(weight).__name__}: give its .weight")
    if weight.ndim != 2:
        raise DataError(f"weight must be a matrix, not of {weight.ndim} axes")
    check_real(weight)
    matrix = weight.detach().to(torch.float64)
    if not matrix.isfinite().all():
        raise DataError("the matrix has entries that are not finite; there is no best approximation of it")
    return matrix


def checked_covariance(covariance: Tensor, columns: int) -> Float[Tensor, "columns columns"]:
    """The covariance in double precision. Raises `DataError` for another shape or numbers that are not finite."""
    if tuple(covariance.shape) != (columns, columns):
        raise DataError(
            f"covariance must be {columns} x {columns}, as the matrix has columns, not {tuple(covariance.shape)}"
        )
    made = covariance.detach().to(torch.float64)
    if not made.isfinite().all():
        raise DataError("covariance has entries that are not finite")
    return made


def check_real(weight: Tensor) -> None:
    """Raises `DataError` for numbers that are not real and in floating point."""
    if not weight.is_floating_point():
        kind = str(weight.dtype).removeprefix("torch.")
        raise DataError(f"weight must be of real numbers in floating point, not {kind}")
