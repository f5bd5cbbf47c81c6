"""Conjugate gradients for many right-hand sides at once, which never pass off what has not converged."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor


class ConvergenceWarning(RuntimeWarning):
    """An iteration ended before it came as near as was asked; the message says how near."""


class Solved(NamedTuple):
    """What `conjugate_gradients` returns.

    Attributes:
        solution: one row for each right-hand side.
        residual: the largest ``|b - A x| / |b|`` over the rows, computed anew from the solution.
        iterations: products with A that the iteration made.
    """

    solution: Float[Tensor, "b n"]
    residual: float
    iterations: int


def conjugate_gradients(
    product: Callable[[Float[Tensor, "b n"]], Float[Tensor, "b n"]],
    right: Float[Tensor, "b n"],
    *,
    precondition: Callable[[Float[Tensor, "b n"]], Float[Tensor, "b n"]] | None = None,
    start: Float[Tensor, "b n"] | None = None,
    tol: float = 1e-6,
    max_iterations: int = 1000,
) -> Solved:
    """Solve ``A x = b`` for symmetric positive definite A, given by its products with rows.

    Where the residual that the recursion carries says that ``tol`` is reached, the true one is computed; if that is
    larger, the iteration starts anew from there, so round-off is no reason to stop early.

    Warns:
        ConvergenceWarning: ``tol`` was not reached, with the residual that was.
    """
    norms = right.norm(dim=1).clamp(min=torch.finfo(right.dtype).tiny)
    solution = torch.zeros_like(right) if start is None else start.clone()
    apply = (lambda rows: rows) if precondition is None else precondition
    residual = right - product(solution) if start is not None else right.clone()
    true = float((residual.norm(dim=1) / norms).max()) if len(right) else 0.0
    best, iterations = true, 0
    while true > tol and iterations < max_iterations:
        step = apply(residual)
        direction, energy = step, (residual * step).sum(1)
        while iterations < max_iterations:
            image = product(direction)
            curvature = (direction * image).sum(1)
            # A row that is solved has nothing left to divide.
            length = torch.where(curvature > 0, energy / curvature, torch.zeros_like(energy))
            solution = solution + length[:, None] * direction
            residual = residual - length[:, None] * image
            iterations += 1
            if bool((residual.norm(dim=1) <= tol * norms).all()):
                break
            step = apply(residual)
            fresh = (residual * step).sum(1)
            ratio = torch.where(energy > 0, fresh / energy, torch.zeros_like(energy))
            direction, energy = step + ratio[:, None] * direction, fresh
        residual = right - product(solution)
        true = float((residual.norm(dim=1) / norms).max())
        if true > tol and true > 0.5 * best:
            break  # a fresh start that gains nothing: this is as near as the arithmetic comes
        best = min(best, true)
    if true > tol:
        warnings.warn(
            f"conjugate gradients ended at a relative residual of {true:.1e} after {iterations} iterations, tol is "
            f"{tol:.1e}: raise max_iterations or rank, or ask for less",
            ConvergenceWarning,
            stacklevel=2,
        )
    return Solved(solution, true, iterations)
