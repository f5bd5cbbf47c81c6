"""Normal equations of one core, solved in double precision."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from jaxtyping import Shaped
from torch import Tensor

# Pivots of the Cholesky factor further apart than this, and eigenvalues smaller than that part of the largest.
_PIVOTS = 1e-6
_EIGENVALUES = 1e-12


def solve_normal(gram: Shaped[Tensor, "p p"], right: Shaped[Tensor, "p n"]) -> Shaped[Tensor, "p n"]:
    """``gram^-1 right`` for a Hermitian positive semidefinite matrix, scaled to a unit diagonal first.

    Where the matrix is singular to rounding this is the solution of least norm, never something that blows up.
    """
    wide = torch.complex128 if gram.is_complex() else torch.float64
    gram = gram.to(wide)
    scale = gram.diagonal().real
    scale = torch.where(scale > 0, scale, torch.ones_like(scale)).rsqrt()
    scaled = gram * scale[:, None] * scale
    lower, failed = torch.linalg.cholesky_ex(scaled)
    pivots = lower.diagonal().real
    moved = scale[:, None] * right.to(wide)
    if int(failed) or float(pivots.min()) < _PIVOTS * float(pivots.max()):
        values, vectors = torch.linalg.eigh(scaled)
        keep = values > _EIGENVALUES * values[-1]
        solved = vectors[:, keep] @ ((vectors[:, keep].mH @ moved) / values[keep, None])
    else:
        solved = torch.cholesky_solve(moved, lower)
    return (scale[:, None] * solved).to(right.dtype)


def solve_normal_array(gram: np.ndarray[Any, Any], right: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """The same for arrays of NumPy: a small system takes a third of the time, and torch's threads keep out of it."""
    from scipy.linalg.lapack import dposv, zposv

    diagonal = gram.diagonal().real
    scale = (np.where(diagonal > 0, diagonal, 1.0) ** -0.5)[:, None]
    scaled = gram * (scale * scale.T)
    moved = scale * right
    factor, solved, failed = (zposv if gram.dtype.kind == "c" else dposv)(scaled, moved)
    pivots = factor.diagonal().real.tolist()
    if failed or min(pivots) < _PIVOTS * max(pivots):
        values, vectors = np.linalg.eigh(scaled)
        keep = values > _EIGENVALUES * values[-1]
        solved = vectors[:, keep] @ ((vectors[:, keep].conj().T @ moved) / values[keep, None])
    return np.ascontiguousarray(scale * solved, dtype=right.dtype)
