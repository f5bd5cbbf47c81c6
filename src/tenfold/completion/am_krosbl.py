"""Kronecker-structured sparse Bayesian learning by alternating minimisation."""

from __future__ import annotations

from collections.abc import Sequence

from jaxtyping import Inexact
from torch import Tensor

from tenfold.completion._krosbl import SparseRecovery, balanced, expected, product, recover

_INNER, _INNER_TOL = 200, 1e-5
# From small variances those of the entries that are there grow quickly; from large ones the others shrink slowly.
_FIRST = 1e-2


def am_krosbl(
    measured: Inexact[Tensor, "..."],
    dictionaries: Sequence[Inexact[Tensor, "rows columns"]],
    *,
    noise: float | None = None,
    prune: float | Sequence[float] | None = None,
    start: float | None = None,
    iterations: int = 150,
    tol: float = 1e-4,
) -> SparseRecovery:
    """A tensor whose nonzeros are a grid of rows, columns and so on, from linear measurements along each mode.

    ``measured`` is ``(H_1 ⊗ ... ⊗ H_K) vec(x)`` plus noise. The prior variances of the entries of x are a product of
    one vector a mode, which are updated in turn until they settle; without pruning the cost never rises.

    Args:
        dictionaries: a matrix for each mode, real or complex.
        noise: its variance; without it, fitted too.
        prune: entries of a mode whose variance is below this part of its largest are left out, one number or one for
            each mode; 0.01 without it, 0.005 where the noise is fitted.
        start: the variance that every entry begins with; without it, a hundredth of what would explain the power of
            the measurements.
        tol: stop where the variances move by less than this part of them.

    Raises:
        DataError: sizes that do not agree, NaN or inf.
        TenfoldError: noise or prune out of their ranges.

    Cost: an iteration, for each mode, an eigendecomposition of rows × rows, and products along one mode at a time.
    Paper: "Bayesian Algorithms for Kronecker-structured Sparse Vector Recovery With Application to IRS-MIMO Channel
    Estimation", 2023.
    """
    if prune is None:
        prune = 5e-3 if noise is None else 1e-2
    return recover(measured, dictionaries, noise, _update, prune, start, _FIRST, iterations, tol)


def _update(squares: Tensor, scales: list[Tensor], kept: list[Tensor]) -> list[Tensor]:
    scales = list(scales)
    for _ in range(_INNER):
        before = product(scales)
        for mode in range(len(scales)):
            new = expected(squares, scales, mode)
            scales[mode] = new.clamp(min=1e-30 * float(new.max()))
        scales = balanced(scales)
        if float((product(scales) - before).norm()) < _INNER_TOL * float(before.norm()):
            break
    return scales
