"""Normal equations of one core, solved in double precision."""

from __future__ import annotations

import torch
from jaxtyping import Shaped
from torch import Tensor


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
    if int(failed) or float(pivots.min()) < 1e-6 * float(pivots.max()):
        values, vectors = torch.linalg.eigh(scaled)
        keep = values > 1e-12 * values[-1]
        solved = vectors[:, keep] @ ((vectors[:, keep].mH @ moved) / values[keep, None])
    else:
        solved = torch.cholesky_solve(moved, lower)
    return (scale[:, None] * solved).to(right.dtype)
