"""Fixed-point iteration with Anderson acceleration that never makes the error worse."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

# Steps whose differences are combined unless told otherwise, and plain steps before the first combination.
_MEMORY = 6
_PLAIN = 3

# Combinations that fail, none of them succeeding between, before steps are stretched, and how far at first: by how many
# times their length. On CP tensors of collinearity 0.97 the sweeps to 1e-6 fell from 526 to 295, the median of 8 seeds.
_FAILURES = 2
_STRIDE = 2.0

# NumPy arrays or torch tensors, whichever the sweeps return.
State = list[Any]


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

    Type II of Anderson's method. A sweep from a combination that does not lower the error is thrown away, and a plain
    one from the best state follows, so the errors never rise. If that happens again and again the last step is
    stretched instead, twice as far each time that this lowers the error.

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
    history = _History(memory)
    point, kind, calm = list(start), "plain", 0
    failures, stride = 0, _STRIDE
    stopped = "max_sweeps"
    for number in range(1, max_sweeps + 1):
        found, reached = sweep(point)
        better = reached <= lowest
        if better:
            calm = calm + 1 if lowest - reached <= tol * reached else 0
            if accelerate:
                history.add(point, found)
            best, lowest = found, reached
            failures = 0 if kind == "combined" else failures
            stride = 2 * stride if kind == "stretched" else stride
        else:
            # A try that failed says nothing about convergence; a plain sweep does, up to rounding.
            calm = calm + 1 if kind == "plain" else calm
            history.clear()
            failures += kind == "combined"
            stride = max(stride / 4, _STRIDE) if kind == "stretched" else stride
        errors.append(lowest)
        if report is not None:
            report(best, lowest, number)
        if error is not None and lowest <= error:
            stopped = "error"
            break
        if calm >= 2 or lowest <= 4 * _eps(best[0]):
            stopped = "tol"
            break
        if better and kind != "stretched" and number >= _PLAIN and history.steps > 0:
            point, kind = history.combine(best), "combined"
        elif kind == ("stretched" if better else "combined") and failures >= _FAILURES:
            # Combinations lead to fixed points, and so back to a saddle; there the way on is along the last step.
            point, kind = history.stretch(stride, best), "stretched"
        else:
            point, kind = best, "plain"
    return Iterated(best, tuple(errors), stopped)


_Flat = np.ndarray[Any, np.dtype[np.float64]]


def _eps(part: Any) -> float:
    return float(torch.finfo(part.dtype).eps if isinstance(part, Tensor) else np.finfo(part.dtype).eps)


def _flat(state: Sequence[Any]) -> _Flat:
    """All numbers of a state in a row; they are few beside the data, and NumPy is quick with few numbers."""
    parts = [part.detach().cpu().numpy() if isinstance(part, Tensor) else part for part in state]
    rows = [np.ascontiguousarray(part).reshape(-1) for part in parts]
    return np.concatenate([row.view(row.real.dtype) for row in rows]).astype(np.float64, copy=False)


class _History:
    """The differences of the last residuals ``g(x) - x`` and of the last images ``g(x)``, in rows that are used again.

    Their order does not matter, only which of them are the last.
    """

    def __init__(self, memory: int) -> None:
        self.memory, self.added, self.steps = memory, 0, 0
        self.change: _Flat = np.empty((memory, 0))
        self.moved: _Flat = self.change
        self.residual: _Flat = np.empty(0)
        self.image: _Flat = self.residual

    def clear(self) -> None:
        self.added = self.steps = 0

    def add(self, point: State, found: State) -> None:
        image = _flat(found)
        residual = image - _flat(point)
        if self.added:
            if self.change.shape[1] != image.size:
                self.change, self.moved = np.empty((2, self.memory, image.size))
            place = (self.added - 1) % self.memory
            np.subtract(residual, self.residual, out=self.change[place])
            np.subtract(image, self.image, out=self.moved[place])
            self.steps = min(self.steps + 1, self.memory)
        self.added += 1
        self.residual, self.image = residual, image

    def combine(self, like: State) -> State:
        """The combination of the images whose residuals, to first order, are the least; in the kind of ``like``."""
        change, moved = self.change[: self.steps], self.moved[: self.steps]
        gram = change @ change.T
        gram.flat[:: self.steps + 1] += 1e-10 * gram.trace() + np.finfo(np.float64).tiny
        weights = np.linalg.solve(gram, change @ self.residual)
        return _unflat(self.image - weights @ moved, like)

    def stretch(self, stride: float, like: State) -> State:
        """The last image, moved on by a multiple of the last residual."""
        return _unflat(self.image + stride * self.residual, like)


def _unflat(flat: _Flat, like: State) -> State:
    state, place = [], 0
    for part in like:
        count = part.numel() if isinstance(part, Tensor) else part.size
        width = count * (2 if _complex(part) else 1)
        piece = flat[place : place + width]
        place += width
        piece = (piece.view(np.complex128) if width > count else piece).reshape(tuple(part.shape))
        state.append(torch.from_numpy(piece).to(part) if isinstance(part, Tensor) else piece.astype(part.dtype))
    return state


def _complex(part: Any) -> bool:
    return part.is_complex() if isinstance(part, Tensor) else np.iscomplexobj(part)
