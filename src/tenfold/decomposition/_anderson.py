"""Fixed-point iteration with Anderson acceleration that never makes the error worse."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

# Steps whose differences are combined unless told otherwise, and plain steps before the first combination.
_MEMORY = 6
_PLAIN = 3

State = list[Tensor]


class Iterated(NamedTuple):
    """The best state, the lowest error after each sweep, and why the iteration ended (as in `Decomposition`)."""

    state: State
    errors: tuple[float, ...]
    stopped: str


def iterate(
    sweep: Callable[[State], tuple[State, float]],
    start: State,
    *,
    error: float | None,
    tol: float,
    max_sweeps: int,
    accelerate: bool = True,
    memory: int = _MEMORY,
    report: Callable[[State, float, int], None] | None = None,
) -> Iterated:
    """Repeat ``sweep`` from ``start``, each time from a combination of the last states that should be nearer the limit.

    Type II of Anderson's method. A sweep from a combination that does not lower the error is thrown away and the next
    one starts from the best state, so the errors never rise and plain sweeps are what is left when the combinations
    fail.

    Args:
        sweep: from a state to the next and its relative error; plain sweeps must not raise the error.
        error: stop (``"error"``) once the error is as small as this.
        tol: stop (``"tol"``) when two sweeps running change the error by less than this part of it.
        max_sweeps: at most so many, those thrown away included.
        accelerate: False for plain sweeps only.
        memory: steps whose differences are combined; more where states are small and progress is slow.
        report: called with the best state, its error and the number of sweeps done.

    Paper: "Iterative procedures for nonlinear integral equations", 1965.
    """
    best, errors = list(start), []
    lowest = float("inf")
    history: list[tuple[Tensor, Tensor]] = []
    point, combined, calm = list(start), False, 0
    stopped = "max_sweeps"
    for number in range(1, max_sweeps + 1):
        found, reached = sweep(point)
        better = reached <= lowest
        if better:
            calm = calm + 1 if lowest - reached <= tol * reached else 0
            if accelerate:
                history = [*history, (_flat(point), _flat(found))][-memory - 1 :]
            best, lowest = found, reached
        else:
            # A combination that failed says nothing about convergence; a plain sweep does, up to rounding.
            calm = calm if combined else calm + 1
            history = []
        errors.append(lowest)
        if report is not None:
            report(best, lowest, number)
        if error is not None and lowest <= error:
            stopped = "error"
            break
        if calm >= 2 or lowest <= 4 * torch.finfo(start[0].dtype).eps:
            stopped = "tol"
            break
        combined = better and number >= _PLAIN and len(history) > 1
        point = _combine(history, best) if combined else best
    return Iterated(best, tuple(errors), stopped)


def _flat(state: Sequence[Tensor]) -> Tensor:
    parts = [torch.view_as_real(part).reshape(-1) if part.is_complex() else part.reshape(-1) for part in state]
    return torch.cat(parts).double()


def _combine(history: Sequence[tuple[Tensor, Tensor]], like: Sequence[Tensor]) -> State:
    points = torch.stack([point for point, _ in history])
    images = torch.stack([image for _, image in history])
    residuals = images - points
    change, moved = residuals.diff(dim=0), images.diff(dim=0)
    gram = change @ change.T
    gram.diagonal().add_(1e-10 * gram.trace() + torch.finfo(gram.dtype).tiny)
    weights = torch.linalg.solve(gram, change @ residuals[-1])
    flat = images[-1] - weights @ moved
    state, place = [], 0
    for part in like:
        width = part.numel() * (2 if part.is_complex() else 1)
        piece = flat[place : place + width]
        place += width
        if part.is_complex():
            piece = torch.view_as_complex(piece.reshape(*part.shape, 2))
        state.append(piece.reshape(part.shape).to(part.dtype))
    return state
