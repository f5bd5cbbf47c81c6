"""Kronecker-structured sparse Bayesian learning by singular vectors."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Inexact
from torch import Tensor

from tenfold.completion._krosbl import SparseRecovery, recover

# From smaller variances the largest entry alone is found more often.
_FIRST = 1.0


def svd_krosbl(
    measured: Inexact[Tensor, "..."],
    dictionaries: Sequence[Inexact[Tensor, "rows columns"]],
    *,
    noise: float | None = None,
    prune: float | Sequence[float] | None = None,
    start: float | None = None,
    iterations: int = 150,
    tol: float = 1e-4,
) -> SparseRecovery:
    """As `am_krosbl`; the variances are the leading singular vectors of the mean squares, one mode after another.

    That is no descent: the cost may rise. It takes less time, and large entries weigh more in it.

    Args:
        dictionaries: a matrix for each mode, real or complex.
        noise: its variance; without it, fitted too.
        prune: entries of a mode whose variance is below this part of its largest are left out, one number or one for
            each mode; 0.001 without it, 0.005 where the noise is fitted.
        start: the variance that every entry begins with; without it, what would explain the power of the
            measurements.
        tol: stop where the variances move by less than this part of them.

    Raises:
        DataError: sizes that do not agree, NaN or inf.
        TenfoldError: noise or prune out of their ranges.

    Cost: an iteration, for each mode, an eigendecomposition of rows × rows, products along one mode at a time, and a
    singular value decomposition of the kept entries.
    Paper: "Bayesian Algorithms for Kronecker-structured Sparse Vector Recovery With Application to IRS-MIMO Channel
    Estimation", 2023.
    """
    if prune is None:
        prune = 5e-3 if noise is None else 1e-3
    return recover(measured, dictionaries, noise, _update, prune, start, _FIRST, iterations, tol)


def _update(squares: Tensor, scales: list[Tensor], kept: list[Tensor]) -> list[Tensor]:
    found, rest = [], squares
    for scale in scales[:-1]:
        left, values, right = torch.linalg.svd(rest.reshape(len(scale), -1), full_matrices=False)
        found.append(left[:, 0].abs())
        rest = values[0] * right[0].abs()
    return [*found, rest.reshape(-1)]
