"""What a solver found."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tenfold.pde.process import GridProcess


@dataclass(frozen=True)
class Step:
    """One line of what a solver tells while it works.

    Attributes:
        number, total: which step of how many.
        objective: what is minimised.
        residual: how far the equation is from being met on the grid, relative to the right side.
        error: relative error against the known solution, where one was asked for and is known. No solver looks at it.
    """

    number: int
    total: int
    objective: float
    residual: float
    error: float | None = None


Callback = Callable[[Step], object]


@dataclass(frozen=True)
class Outcome:
    """A function, and how it was found.

    Attributes:
        process: the function.
        residual: how far the equation is from being met on the grid, relative to the right side.
        steps: what was told on the way.
        stopped: ``"converged"``, ``"steps"`` or ``"interrupted"``.
    """

    process: GridProcess
    residual: float
    steps: tuple[Step, ...]
    stopped: str
