"""Iterating where what falls from sweep to sweep is another number than the relative error."""

from __future__ import annotations

from collections.abc import Callable

from tenfold.decomposition._anderson import Iterated, State, iterate

# From a state to the next, what is minimised (at least zero), and the relative error.
Sweep = Callable[[State], tuple[State, float, float]]


def descend(
    sweep: Sweep,
    start: State,
    *,
    error: float | None,
    tol: float,
    max_sweeps: int,
    report: Callable[[State, float, int], None] | None = None,
) -> Iterated:
    """Anderson's accelerated iteration on an objective.

    ``tol`` is for the objective, ``error`` for the relative error; ``report`` is called with the best state, its
    relative error and the number of sweeps done. The `Iterated` has the objective after each sweep.
    """
    latest: tuple[State, float] = (start, float("inf"))
    best_error = float("inf")

    def step(state: State) -> tuple[State, float]:
        nonlocal latest
        found, objective, reached = sweep(state)
        latest = found, reached
        # Below all objectives, so that it ends where the error is small enough.
        return found, (-1.0 if error is not None and reached <= error else objective)

    def note(best: State, objective: float, number: int) -> None:
        nonlocal best_error
        if best is latest[0]:
            best_error = latest[1]
        if report is not None:
            report(best, best_error, number)

    goal = None if error is None else -0.5
    return iterate(step, start, error=goal, tol=tol, max_sweeps=max_sweeps, report=note)
