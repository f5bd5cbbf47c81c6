"""Symmetric Toeplitz matrices, the covariances of equally spaced points: products, eigenvectors, determinant."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from tenfold.errors import DataError

# Up to this size a product with the matrix itself takes less time than one by Fourier transforms (one thread).
SHORT = 512


def toeplitz(column: Float[Tensor, " n"], *, odd: bool = False) -> Float[Tensor, "n n"]:
    """The matrix whose entry (i, j) is ``column[|i - j|]``, with the other sign above the diagonal if ``odd``.

    Cost: a copy of n² numbers. Differentiable: its derivative sums along diagonals.
    """
    above = column[1:].flip(0)
    both = torch.cat([-above if odd else above, column])
    return both.flip(0).unfold(0, len(column), 1).flip(0)


def toeplitz_product(
    column: Float[Tensor, " n"], right: Float[Tensor, "... n"], *, dense: bool | None = None
) -> Float[Tensor, "... n"]:
    """The product of ``toeplitz(column)`` with vectors along the last axis.

    Cost: n² a vector with the matrix itself (``dense``), n log n by Fourier transforms in a circulant matrix of twice
    the size; which of them is chosen by n where ``dense`` is None.
    """
    n = len(column)
    if n <= SHORT if dense is None else dense:
        return right @ toeplitz(column)
    circulant = torch.cat([column, column.new_zeros(1), column[1:].flip(0)])
    product = torch.fft.rfft(circulant) * torch.fft.rfft(right, 2 * n)
    return torch.fft.irfft(product, 2 * n)[..., :n]


def toeplitz_eigh(column: Float[Tensor, "*batch n"]) -> tuple[Float[Tensor, "*batch n"], Float[Tensor, "*batch n n"]]:
    """Eigenvalues and eigenvectors of symmetric Toeplitz matrices; in no order.

    Such a matrix stays the same when turned by half a circle, so its eigenvectors are even or odd, and two problems of
    half the size give them: a quarter of the work.

    Returns:
        values (…, n), the even ones first, and vectors (…, n, n) in columns.
    """
    n = column.shape[-1]
    half = n // 2
    place = torch.arange(half, device=column.device)
    near = column[..., (place[:, None] - place[None, :]).abs()]
    across = column[..., n - 1 - place[:, None] - place[None, :]]
    if n % 2 == 0:
        values, inside = torch.linalg.eigh(torch.stack([near + across, near - across], dim=-3))
        inside = inside / math.sqrt(2)
        even, odd = inside.unbind(-3)
        vectors = torch.cat([torch.cat([even, odd], -1), torch.cat([even.flip(-2), -odd.flip(-2)], -1)], -2)
        return values.flatten(-2), vectors
    beside = math.sqrt(2) * column[..., half - place]
    whole = torch.cat(
        [
            torch.cat([near + across, beside[..., :, None]], -1),
            torch.cat([beside[..., None, :], column[..., :1, None]], -1),
        ],
        -2,
    )
    even_values, even = torch.linalg.eigh(whole)
    odd_values, odd = torch.linalg.eigh(near - across)
    top, middle, odd = even[..., :half, :] / math.sqrt(2), even[..., half:, :], odd / math.sqrt(2)
    nothing = column.new_zeros((*column.shape[:-1], 1, half))
    vectors = torch.cat(
        [
            torch.cat([top, odd], -1),
            torch.cat([middle, nothing], -1),
            torch.cat([top.flip(-2), -odd.flip(-2)], -1),
        ],
        -2,
    )
    return torch.cat([even_values, odd_values], -1), vectors


def toeplitz_log_determinant(column: Float[Tensor, " n"]) -> float:
    """The logarithm of the determinant of a positive definite one, by Levinson's recursion: n² steps, no matrix.

    Raises:
        DataError: the matrix is not positive definite.
    """
    variance = float(column[0])
    total = 0.0
    predictor = column.new_zeros(0)
    for order in range(1, len(column) + 1):
        if not variance > 0:
            raise DataError(f"the Toeplitz matrix is not positive definite: its leading {order} rows are not")
        total += math.log(variance)
        if order == len(column):
            break
        reflection = float(column[order] - predictor @ column[1:order].flip(0)) / variance
        predictor = torch.cat([predictor - reflection * predictor.flip(0), predictor.new_full((1,), reflection)])
        variance *= 1 - reflection**2
    return total
