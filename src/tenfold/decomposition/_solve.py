"""Positive semidefinite systems: batched and small by Cholesky, large by conjugate gradients."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from jaxtyping import Shaped
from torch import Tensor


def solve(gram: Shaped[Tensor, "b k k"], right: Shaped[Tensor, "b k f"], ridge: float) -> Shaped[Tensor, "b k f"]:
    """``(G + ridge diag G)^-1 R`` for each of a batch of Hermitian positive semidefinite G.

    G is scaled to unit diagonal first, so ``ridge`` is relative and the sizes of the unknowns do not matter. Where
    Cholesky fails, G is inverted on the eigenvectors whose eigenvalues are above ``ridge`` times the largest. Unknowns
    with a zero row in G are zero where R is. Cost ``O(b k^2 (k + f))``.
    """
    diagonal = gram.diagonal(dim1=1, dim2=2).real
    scale = torch.where(diagonal > 0, diagonal, 1).rsqrt()[:, :, None]
    scaled = gram * scale * scale.mT
    scaled.diagonal(dim1=1, dim2=2).add_(ridge)
    factor, info = torch.linalg.cholesky_ex(scaled)
    found = torch.cholesky_solve(right * scale, factor)
    # One sum tells, nearly always, that nothing has failed.
    if not info.any() and math.isfinite(float(found.abs().sum())):
        return found * scale
    failed = (info > 0) | ~torch.isfinite(torch.view_as_real(found) if found.is_complex() else found).flatten(1).all(1)
    # What has overflowed is beyond help, and stays what it is without an effect on the others.
    failed &= torch.isfinite(torch.view_as_real(scaled) if scaled.is_complex() else scaled).flatten(1).all(1)
    if failed.any():
        values, vectors = torch.linalg.eigh(scaled[failed])
        kept = values > ridge * values[:, -1:]
        inverse = torch.where(kept, 1 / values.where(kept, torch.ones_like(values)), 0)
        found[failed] = vectors @ (inverse[:, :, None] * (vectors.mH @ (right * scale)[failed]))
    return found * scale


def conjugate_gradient(
    apply: Callable[[Tensor], Tensor],
    right: Tensor,
    *,
    precondition: Tensor | None = None,
    tolerance: float,
    iterations: int,
) -> Tensor:
    """An approximate solution of ``apply(x) = right``, from zero, for a Hermitian positive semidefinite map.

    ``precondition`` is multiplied elementwise. Every iterate lowers ``<x, apply(x)>/2 - Re <x, right>``, so stopping
    early is always safe. Ends at ``tolerance`` relative to ``right``.
    """
    found = torch.zeros_like(right)
    residual = right.clone()
    moved = residual if precondition is None else precondition * residual
    direction = moved
    power = float(_dot(residual, moved))
    goal = tolerance * float(torch.linalg.vector_norm(right))
    for _ in range(iterations):
        if float(torch.linalg.vector_norm(residual)) <= goal:
            break
        image = apply(direction)
        curvature = float(_dot(direction, image))
        if not curvature > 0:
            break
        step = power / curvature
        found = found + step * direction
        residual = residual - step * image
        moved = residual if precondition is None else precondition * residual
        previous, power = power, float(_dot(residual, moved))
        direction = moved + (power / previous) * direction
    return found


def _dot(left: Tensor, right: Tensor) -> Tensor:
    return torch.sum(left.conj() * right).real
