"""`Solution`: what the verb `solve` returns."""

from __future__ import annotations

import json
import os
import zipfile
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from tenfold._files import atomic
from tenfold._tables import facts
from tenfold.errors import FileError, TenfoldError
from tenfold.pde import GridProcess, Outcome, Problem, Step, read
from tenfold.pde.process import norm

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Points along each coordinate at which a solution is compared with the known one, as in the paper.
_TEST = 300
# Residual between the points of the grid above which a solution is not to be trusted.
_DOUBTFUL = 0.1
_VERSION = 1


@dataclass(frozen=True, eq=False)
class Solution:
    """A function that solves an equation, as far as a grid can tell.

    Attributes:
        problem: what was to be solved.
        process: the function: values on the grid and the spectrum along each coordinate.
        method: by which it was found.
        steps: what was told on the way; those with an ``error`` are the checkpoints.
        stopped: ``"converged"``, ``"steps"`` or ``"interrupted"``.
        seconds: the time it took.
        residual: of the equation on the grid, relative to the right side.
        residual_between: halfway between its points, where no solver looked: this tells whether the grid is fine
            enough, also where nobody knows the solution.
        error: relative L2 error against the known solution at 300 points along each coordinate; None where nobody knows
            it.
    """

    problem: Problem
    process: GridProcess
    method: str
    steps: tuple[Step, ...]
    stopped: str
    seconds: float
    residual: float
    residual_between: float
    error: float | None

    @classmethod
    def of(cls, problem: Problem, outcome: Outcome, method: str, seconds: float) -> Solution:
        """The solution that a solver found, judged."""
        error = None
        if problem.solution is not None:
            grids = [axis.grid(_TEST) for axis in problem.axes]
            truth = problem.truth(problem.mesh(grids))
            error = norm(outcome.process.on(grids) - truth) / (norm(truth) or 1.0)
        between = outcome.process.residual_between(problem)
        return cls(
            problem, outcome.process, method, outcome.steps, outcome.stopped, seconds, outcome.residual, between, error
        )

    def __call__(self, *coordinates: Any) -> Tensor:
        """Values where the coordinates meet: on the grid of theirs, one axis each.

        >>> solution([0.1, 0.2])                    # one coordinate
        >>> solution([0.1, 0.2], [0.0, 0.5, 1.0])   # two: 2 by 3 values

        Raises:
            TenfoldError: another number of coordinates, or a point outside of the domain.
        """
        axes = self.problem.axes
        if len(coordinates) != len(axes):
            raise TenfoldError(f"{len(coordinates)} coordinates were given; the solution has {len(axes)}")
        grids = []
        for axis, given in zip(axes, coordinates, strict=True):
            try:
                grid = torch.as_tensor(np.asarray(given, dtype=np.float64)).reshape(-1)
            except (TypeError, ValueError):
                raise TenfoldError(f"coordinate '{axis.name}' must be numbers") from None
            slack = 1e-9 * axis.length
            if not bool(((grid >= axis.low - slack) & (grid <= axis.high + slack)).all()):
                raise TenfoldError(f"coordinate '{axis.name}' must be from {axis.low:g} to {axis.high:g}")
            grids.append(grid)
        return self.process.on(grids)

    @property
    def best(self) -> Step | None:
        """The checkpoint nearest to the known solution, which papers report. Nothing was chosen by it."""
        checked = [step for step in self.steps if step.error is not None]
        return min(checked, key=lambda step: step.error or 0.0) if checked else None

    @property
    def interrupted(self) -> bool:
        return self.stopped == "interrupted"

    @property
    def doubtful(self) -> bool:
        """Whether the equation is not met between the points of the grid."""
        return not self.residual_between <= _DOUBTFUL

    @property
    def remedy(self) -> str:
        """What would make it less doubtful."""
        return "more steps" if self.residual > _DOUBTFUL else "a finer grid"

    @property
    def why_stopped(self) -> str:
        """``stopped`` in words."""
        return {
            "converged": "the equation is met at every point of the grid",
            "steps": "all steps were taken",
            "interrupted": "interrupted; this is what there was until then",
        }[self.stopped]

    def summary(self) -> dict[str, Any]:
        """The result as plain numbers and text, for JSON."""
        best = self.best
        return {
            "title": self.problem.title,
            "equation": self.problem.equation,
            "grid": list(self.problem.shape),
            "method": self.method,
            "error": self.error,
            "best_error": None if best is None else best.error,
            "best_step": None if best is None else best.number,
            "residual": self.residual,
            "residual_between": self.residual_between,
            "seconds": self.seconds,
            "stopped": self.stopped,
        }

    def plot(self) -> Figure:
        """A matplotlib figure: the solution, a part of it from near, and its error or its spectrum."""
        from tenfold import report

        return report.plot_solution(self)

    def report(self, path: str | os.PathLike[str], *, saved: str | None = None) -> None:
        """Write one HTML page that opens offline.

        Args:
            path: where.
            saved: the file that the solution was saved to, for the page to name it.
        """
        from tenfold.report.solved import write

        write(self, path, saved=saved)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write everything to one NumPy archive; `load` reads it, and so does ``numpy.load``: ``values`` are those on
        the grid, and the coordinates stand under their names.
        """
        told = {
            "version": _VERSION,
            "problem": self.problem.mapping(),
            "spectrum": self.process.peaks[0].spectrum,
            "steps": [[s.number, s.total, s.objective, s.residual, s.error] for s in self.steps],
            **{name: getattr(self, name) for name in _TOLD},
        }
        arrays: dict[str, Any] = {axis.name: axis.grid().numpy() for axis in self.problem.axes}
        arrays |= {name: value.numpy() for name, value in self.process.state().items()}
        with atomic(path) as beside, beside.open("wb") as file:
            np.savez(file, **arrays, solution=np.array(json.dumps(told)))

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Solution:
        """The solution in a file that `save` wrote. Nothing in a file is ever executed.

        Raises:
            FileError: no such file, or it holds no solution.
        """
        try:
            with np.load(path, allow_pickle=False) as archive:
                told = json.loads(str(archive["solution"]))
                numbers = {name: torch.from_numpy(archive[name]) for name in archive.files if name != "solution"}
            problem = read(told["problem"])
            process = GridProcess.of_state(problem.axes, told["spectrum"], numbers)
            if tuple(process.values.shape) != problem.shape:
                raise ValueError("the values are of another grid")
            steps = tuple(Step(*line) for line in told["steps"])
            return cls(problem=problem, process=process, steps=steps, **{name: told[name] for name in _TOLD})
        except OSError as error:
            raise FileError(f"cannot read '{path}': {error.strerror or error}") from error
        except (KeyError, ValueError, TypeError, AttributeError, EOFError, zipfile.BadZipFile) as error:
            raise FileError(f"'{path}' holds no solution ({type(error).__name__}: {error})") from error

    def __str__(self) -> str:
        best = self.best
        grid = " x ".join(map(str, self.problem.shape))
        spans = ", ".join(f"{axis.name} from {axis.low:g} to {axis.high:g}" for axis in self.problem.axes)
        rows = [
            ("problem", self.problem.title),
            ("equation", self.problem.equation),
            ("grid", f"{grid} points, {spans}"),
            ("method", self.method),
            ("residual", f"{self.residual:.3g} on the grid, {self.residual_between:.3g} between its points"),
        ]
        if self.doubtful:
            rows.append(("doubtful", f"the equation is not met between the points; take {self.remedy}"))
        if self.error is not None:
            rows.append(("relative L2 error", f"{self.error:.4g}"))
        if best is not None:
            rows.append(("least on the way", f"{best.error:.4g} after step {best.number:,}; nothing was chosen by it"))
        rows += [("seconds", f"{self.seconds:.2f}"), ("stopped", self.why_stopped)]
        return facts(rows)

    __repr__ = __str__


_TOLD = ("method", "stopped", "seconds", "residual", "residual_between", "error")
