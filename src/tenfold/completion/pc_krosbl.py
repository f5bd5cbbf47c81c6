"""Kronecker-structured sparse Bayesian learning of nonzeros that come in blocks."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Inexact
from scipy.optimize import nnls
from torch import Tensor

from tenfold.completion._krosbl import SparseRecovery, balanced, expected, product, recover
from tenfold.errors import TenfoldError

_INNER, _INNER_TOL = 10, 1e-4
# From small variances those of the entries that are there grow quickly; from large ones the others shrink slowly.
_FIRST = 1e-2
_FLOOR = 1e-5


def pc_krosbl(
    measured: Inexact[Tensor, "..."],
    dictionaries: Sequence[Inexact[Tensor, "rows columns"]],
    *,
    coupling: float | Sequence[float] = 0.8,
    noise: float | None = None,
    prune: float | Sequence[float] = 1e-2,
    start: float | None = None,
    iterations: int = 150,
    tol: float = 1e-4,
) -> SparseRecovery:
    """As `am_krosbl`, with the variances of neighbours coupled, so that nonzeros side by side are likelier.

    The variances of a mode are ``C g + 1e-5``, C having ones on its diagonal and ``coupling`` beside it, g being what
    fits best without negative entries.

    Args:
        dictionaries: a matrix for each mode, real or complex.
        coupling: from 0 to 1, one number or one for each mode; 0 leaves the entries of a mode by themselves.
        noise: its variance; without it, fitted too.
        prune: entries of a mode whose variance is below this part of its largest are left out, one number or one for
            each mode.
        start: the variance that every entry begins with; without it, a hundredth of what would explain the power of
            the measurements.
        tol: stop where the variances move by less than this part of them.

    Raises:
        DataError: sizes that do not agree, NaN or inf.
        TenfoldError: coupling, noise or prune out of their ranges.

    Cost: an iteration, for each mode, an eigendecomposition of rows × rows, products along one mode at a time, and up
    to 10 nonnegative least squares in as many unknowns as the mode has entries.
    Paper: "Structure-Aware Sparse Bayesian Learning-Based Channel Estimation for Intelligent Reflecting Surface-Aided
    MIMO", 2023.
    """
    order = len(dictionaries)
    strengths = [float(coupling)] * order if isinstance(coupling, (int, float)) else [float(b) for b in coupling]
    if len(strengths) != order or not all(0 <= strength <= 1 for strength in strengths):
        raise TenfoldError(f"coupling {coupling} must be from 0 to 1, one number or one for each of {order} modes")

    def update(squares: Tensor, scales: list[Tensor], kept: list[Tensor]) -> list[Tensor]:
        scales = list(scales)
        coupled = [_coupling(places, strength) for places, strength in zip(kept, strengths, strict=True)]
        for _ in range(_INNER):
            before = product(scales)
            for mode, matrix in enumerate(coupled):
                new = expected(squares, scales, mode)
                if strengths[mode] > 0:
                    # Relative to the largest, so that the floor means the same for every scale of the data.
                    top = new.max().clamp(min=1e-300)
                    fitted = torch.from_numpy(nnls(matrix.numpy(), (new / top).numpy(), maxiter=100 * len(new))[0])
                    new = top * (matrix @ fitted + _FLOOR)
                scales[mode] = new.clamp(min=1e-30 * float(new.max()))
            scales = balanced(scales)
            if float((product(scales) - before).norm()) < _INNER_TOL * float(before.norm()):
                break
        return scales

    return recover(measured, dictionaries, noise, update, prune, start, _FIRST, iterations, tol)


def _coupling(places: Tensor, strength: float) -> Tensor:
    """Ones on the diagonal, and the strength between places that are neighbours."""
    apart = (places[:, None] - places).abs()
    return (apart == 0).double() + strength * (apart == 1).double()
