"""The leading left singular vectors of a large matrix from a few of its products with thin ones."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from jaxtyping import Shaped
from torch import Tensor

from tenfold.decomposition._blas import product
from tenfold.decomposition._error import squared_norm

# Columns beyond the rank that is wanted, and how many there are at first where it is not known.
_MORE, _FIRST = 10, 32
# Rounds of two products each that the vectors get to settle, and what of the squared error they may still lack then.
_ROUNDS, _SETTLED = 6, 1e-4
# Products with every column until the first check of a rank.
_PRODUCTS = 4
# Below this part of the whole, what is left out is rounding in the difference of norms.
_ROUNDING = 1e-11
_BLOCK = 2**20


class Dominant(NamedTuple):
    """Orthonormal columns, their squared singular values, and the squares that they leave out, as checked."""

    vectors: Tensor
    squares: Tensor
    lost: float


def columns(rank: int | None) -> int:
    """How many columns finding a rank begins with."""
    return _FIRST if rank is None else rank + _MORE


def work(shape: tuple[int, int], count: int) -> float:
    """About how many flops finding a basis with ``count`` columns takes."""
    rows, across = shape
    return 2.0 * _PRODUCTS * count * rows * across + 4.0 * count * count * (rows + across)


def dominant(
    matrix: Shaped[Tensor, "rows columns"],
    square: float,
    *,
    rank: int | None,
    allowed: float,
    most: int,
    precise: bool,
    generator: torch.Generator,
) -> Dominant | None:
    """Range finder with power iterations: the range of ``(A A^H)^q A A^H`` times a random matrix, then ``Q^H A``.

    What ``Q Q^H A`` leaves out is measured, not estimated. The residual of the singular vectors says what another
    round could gain; rounds end when that is a small part of what is left out.

    Args:
        square: ``|A|^2``.
        rank: how many vectors; None for as many as leave out at most ``allowed`` squares.
        most: try no more columns than this.
        precise: keep small singular values apart from rounding: orthogonalise after every product, subtract entries and
            not norms.

    Returns:
        None if the vectors do not settle, or would be more than ``most`` columns hold.

    Paper: "Finding structure with randomness: probabilistic algorithms for constructing approximate matrix
    decompositions", 2011.
    """
    count = min(columns(rank), matrix.shape[0])
    basis = matrix.new_zeros(matrix.shape[0], 0)
    while count <= most:
        fresh = torch.randn(matrix.shape[0], count - basis.shape[1], generator=generator, dtype=matrix.dtype)
        basis = _orthonormal(_through(matrix, torch.cat([basis, fresh.to(matrix.device)], 1), precise))
        needed = 0
        for _ in range(_ROUNDS):
            inside = product(basis.mH, matrix)
            lost = _left_out(matrix, basis, inside) if precise else max(square - squared_norm(inside), 0.0)
            turned, squares = _spectrum(inside, precise)
            tails = squares.flip(0).cumsum(0).flip(0) + lost
            if rank is None and lost > allowed:
                # Each column more holds at most what the last one does.
                needed = basis.shape[1] + math.ceil((lost - allowed) / max(float(squares[-1]), 1e-300))
                break
            kept = rank or max(1, int((tails > allowed).sum()))
            left = float(tails[kept]) if kept < len(tails) else lost
            found = Dominant(basis @ turned[:, :kept], squares[:kept], left)
            image = _through_rows(matrix, inside, basis, precise)
            if (
                precise
                or left <= _ROUNDING * square
                or _gain(image, basis, turned, squares, kept, lost) <= (_SETTLED * left)
            ):
                return found
            basis = _orthonormal(image)
        if not needed or needed > most:
            return None
        count = max(2 * count, min(needed, most))
    return None


def _through(matrix: Tensor, vectors: Tensor, precise: bool) -> Tensor:
    """``A A^H V``."""
    across = product(matrix.mH, vectors)
    return product(matrix, _orthonormal(across) if precise else across)


def _through_rows(matrix: Tensor, inside: Tensor, basis: Tensor, precise: bool) -> Tensor:
    """``A A^H Q``, whose right part is known."""
    return basis if precise else product(matrix, inside.mH.resolve_conj())


def _orthonormal(matrix: Tensor) -> Tensor:
    return torch.linalg.qr(matrix).Q


def _spectrum(inside: Tensor, precise: bool) -> tuple[Tensor, Tensor]:
    """Left singular vectors of ``Q^H A`` and its squared singular values, largest first."""
    if precise:
        triangle = torch.linalg.qr(inside.mH, mode="r").R
        vectors, values, _ = torch.linalg.svd(triangle.mH, full_matrices=False)
        return vectors, values.double() ** 2
    values, vectors = torch.linalg.eigh(product(inside, inside.mH))
    return vectors.flip(1), values.flip(0).double().clamp(min=0)


def _left_out(matrix: Tensor, basis: Tensor, inside: Tensor) -> float:
    """``|A - Q Q^H A|^2``, some rows at a time."""
    step = max(1, _BLOCK // matrix.shape[1])
    pieces = zip(matrix.split(step), basis.split(step), strict=True)
    return math.fsum(squared_norm(part - own @ inside) for part, own in pieces)


def _gain(image: Tensor, basis: Tensor, turned: Tensor, squares: Tensor, kept: int, lost: float) -> float:
    """About how many more squares the leading ``kept`` vectors would hold after more rounds.

    To second order it is ``|r|^2 / (t - m)`` for a vector with residual ``r`` in ``A A^H`` and eigenvalue ``t``, where
    ``m`` is the largest one outside: at most the last one inside.
    """
    residual = (image - basis @ (basis.mH @ image)) @ turned[:, :kept]
    outside = min(float(squares[-1]), lost)
    gaps = (squares[:kept] - outside).clamp(min=0.1 * float(squares[kept - 1]) + 1e-300)
    return float((residual.abs().double().square().sum(0) / gaps).sum())
