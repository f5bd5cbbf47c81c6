"""A Gaussian process whose covariance is a product of one covariance for each mode, on the grid of all levels."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from tenfold.completion._grid.dense import Dense
from tenfold.completion._grid.observed import Likelihood, Observed, Repeats
from tenfold.completion._grid.posterior import DENSE, GridPosterior, posterior
from tenfold.completion._grid.prior import GridPrior
from tenfold.completion._grid.process import HIGHEST, LOWEST, GridGP, Objective
from tenfold.completion._quasi_newton import Point, improve, start
from tenfold.completion._registry import Callback, Step, method
from tenfold.completion.model import Prediction, State
from tenfold.completion.task import Task
from tenfold.errors import DataError, TenfoldError
from tenfold.linalg.covariances import Covariance, Levels, Matern52, covariance

__all__ = ["GridGP", "GridPosterior", "GridPrior", "grid_gp"]

# Cells of the largest grid (tens of tensors of that size are held at once: about 2 GB), and levels of its longest axis
# (whose covariance is a dense matrix).
_CELLS, _LEVELS = 2**23, 4096
# Points are predicted on the grid of their positions where it has at most this many cells for each, else one by one,
# so many at once.
_PER_POINT, _TOGETHER = 8, 4096
# Of the range of its mode, what a length is at first.
_LENGTH = 0.3


@dataclass(frozen=True, eq=False)
class _Cells:
    """The observations of a task, gathered in the cells of the grid of its levels.

    Attributes:
        axes: the levels of each mode; where no grid is needed only those that were observed.
        columns: for each cell that was observed, its level in each mode.
        values: the weighted mean in each cell; weights: the sum of the weights.
        repeats: what this leaves out.
        total: the sum of all weights.
    """

    axes: tuple[Float[Tensor, " n"], ...]
    columns: tuple[Int[Tensor, " c"], ...]
    values: Float[Tensor, " c"]
    weights: Float[Tensor, " c"]
    repeats: Repeats

    @classmethod
    def of(cls, task: Task) -> _Cells:
        axes, index = zip(*(task.levels(mode) for mode in range(task.order)), strict=True)
        columns, cell = torch.unique(torch.stack(index, dim=1), dim=0, return_inverse=True)
        each = torch.ones_like(task.values) if task.weights is None else task.weights
        if bool((each <= 0).any()):
            raise DataError("weights must be positive: leave out observations that count for nothing")
        weights = each.new_zeros(len(columns)).index_add(0, cell, each)
        values = each.new_zeros(len(columns)).index_add(0, cell, each * task.values) / weights
        repeats = Repeats()
        if len(columns) < len(task):
            within = float((each * (task.values - values[cell]).square()).sum())
            repeats = Repeats(len(task) - len(columns), within, float(each.log().sum() - weights.log().sum()))
        places = columns.unbind(1)
        if len(columns) <= DENSE:
            # Levels of which nothing was observed would only make matrices larger.
            used, places = zip(*(torch.unique(column, return_inverse=True) for column in places), strict=True)
            axes = tuple(axis[levels] for axis, levels in zip(axes, used, strict=True))
        return cls(axes, places, values, weights, repeats)

    @property
    def scattered(self) -> bool:
        """Whether there are so few that no grid is needed."""
        return len(self.values) <= DENSE

    def seen(self) -> Observed:
        """On the whole grid."""
        shape = tuple(len(axis) for axis in self.axes)
        values, weights = (torch.zeros(shape, dtype=torch.float64) for _ in range(2))
        values[self.columns] = self.values
        weights[self.columns] = self.weights
        if len(self.values) == values.numel() and bool((weights == 1).all()):
            return Observed(values, None, None, self.repeats)
        return Observed(values, weights, (weights > 0).flatten().nonzero()[:, 0], self.repeats)

    def check(self) -> None:
        """Refuse what would not fit into memory."""
        if self.scattered:
            return
        sizes = [len(axis) for axis in self.axes]
        longest = max(range(len(sizes)), key=sizes.__getitem__)
        many, limit = max(sizes), f"round the positions of mode {longest} to fewer levels, or take another model"
        if many > _LEVELS:
            raise DataError(f"mode {longest} has {many} levels and grid_gp takes {_LEVELS}: {limit}")
        if math.prod(sizes) > _CELLS:
            shape = " x ".join(map(str, sizes))
            raise DataError(f"the grid of all levels is {shape}, more than the {_CELLS} cells of grid_gp: {limit}")


@dataclass(eq=False)
class _Model:
    """A fitted `GridGP`; see `tenfold.completion.Model`."""

    process: GridGP
    cells: _Cells
    point: Point
    rank: int
    errors: tuple[float, ...]
    stopped: str
    posterior: GridPosterior | Dense
    parameters: int
    evidence: float | None

    @classmethod
    def of(
        cls, process: GridGP, cells: _Cells, point: Point, rank: int, errors: Sequence[float], stopped: str
    ) -> _Model:
        fitted = process.with_logs(point.place)
        known: GridPosterior | Dense
        if cells.scattered:
            known = Dense(fitted, cells.columns, cells.values, cells.weights)
        else:
            known = posterior(fitted, cells.seen(), tol=1e-5, rank=rank, max_iterations=1000)
        return cls(fitted, cells, point, rank, tuple(errors), stopped, known, len(point.place), -point.value)

    def predict(self, coordinates: Float[Tensor, "m N"], attributes: Tensor | None = None) -> Prediction:
        points = coordinates.to(torch.float64)
        parts = []
        if isinstance(self.posterior, GridPosterior) and len(points):
            axes, index = zip(*(torch.unique(c, return_inverse=True) for c in points.unbind(1)), strict=True)
            cells = math.prod(len(axis) for axis in axes)
            if cells <= min(_CELLS, _PER_POINT * len(points)):
                parts.append((self.posterior.mean(axes)[index], self.posterior.variance(axes)[index]))
        if not parts:
            parts = [self._at(points[first : first + _TOGETHER]) for first in range(0, len(points), _TOGETHER)]
        mean, variance = (torch.cat([part[k] for part in parts]) if parts else points.new_zeros(0) for k in range(2))
        return Prediction(mean, variance, torch.tensor(self.process.noise, dtype=torch.float64))

    def _at(self, points: Tensor) -> tuple[Tensor, Tensor]:
        if isinstance(self.posterior, GridPosterior):
            return self.posterior.at(points.unbind(1))
        crosses = self.process.cross(points.unbind(1))
        return self.posterior.mean_at(crosses), self.posterior.variance_at(crosses)

    def state(self) -> State:
        return _state(self.process, self.cells, self.point, self.rank, self.errors, self.stopped)


def _state(
    process: GridGP, cells: _Cells, point: Point, rank: int, errors: Sequence[float], stopped: str | None
) -> State:
    tensors = {
        "columns": torch.stack(cells.columns),
        "values": cells.values,
        "weights": cells.weights,
        "place": point.place,
        "gradient": point.gradient,
        "steps": point.steps,
        "turns": point.turns,
        "errors": torch.tensor(errors, dtype=torch.float64),
        **{f"axis{mode}": axis for mode, axis in enumerate(cells.axes)},
    }
    repeats = cells.repeats
    facts = {
        "process": process.facts(),
        "rank": rank,
        "stopped": stopped,
        "value": point.value,
        "repeats": [repeats.count, repeats.within, repeats.log_weights],
    }
    return State(tensors, facts)


def _read(state: State) -> tuple[_Cells, Point, list[float]]:
    kept, facts = state.tensors, state.facts
    count, within, log_weights = facts["repeats"]
    columns = kept["columns"].unbind(0)
    axes = tuple(kept[f"axis{mode}"] for mode in range(len(columns)))
    cells = _Cells(axes, columns, kept["values"], kept["weights"], Repeats(int(count), within, log_weights))
    point = Point(kept["place"], facts["value"], kept["gradient"], kept["steps"], kept["turns"])
    return cells, point, kept["errors"].tolist()


def _restore(state: State) -> _Model:
    cells, point, errors = _read(state)
    said: Mapping[str, Any] = state.facts["process"]
    kernels = [covariance(kernel) for kernel in said["kernels"]]
    process = GridGP(cells.axes, kernels, variance=said["variance"], noise=said["noise"], tied=said["tied"])
    return _Model.of(process, cells, point, state.facts["rank"], errors, state.facts["stopped"] or "epochs")


def _kernel(given: str | Covariance | None, axis: Tensor, *, levels: bool) -> Covariance:
    """What a mode starts from: of a name, with lengths that fit the range of its positions."""
    if isinstance(given, Covariance):
        return given
    if given is None:
        return Levels() if levels else Matern52(_LENGTH)
    kernel = covariance(given)
    span = float(axis.max() - axis.min()) or 1.0
    lengths = {name: _LENGTH * span for name in ("lengthscale", "period") if name in kernel.hyperparameters()}
    return replace(kernel, **lengths)


@method("grid_gp", restore=_restore, continuous=True, ranks=False, automatic=2000)
def grid_gp(
    task: Task,
    *,
    rank: int | None = None,
    seed: int = 0,
    epochs: int = 50,
    tol: float = 1e-6,
    callback: Callback | None = None,
    resume: State | None = None,
    kernels: str | Sequence[str | Covariance | None] | None = None,
    eigenpairs: int = 1000,
) -> _Model:
    """One Gaussian process over all modes at once; its covariance is a product of one for each mode.

    The levels of the modes make a grid: of a continuous mode the positions that occur. Variances, lengths and noise are
    those that make the observations most likely, found by a quasi-Newton method with exact gradients where the grid is
    full or at most 1000 of its cells were observed; else with the leading eigenpairs of the prior (see `GridGP`), where
    the evidence is a lower bound. Nothing is drawn, so ``seed`` changes nothing. ``tol`` is what an epoch must gain in
    log likelihood for each cell that was observed.

    Args:
        kernels: one for each mode, as a name (``"rbf"``), a `Covariance`, or None for the default: `Matern52` for
            continuous modes, `Levels` for discrete ones. A single name is for all continuous modes.
        eigenpairs: how many are eigenpairs at most.

    Raises:
        DataError: the grid has more than 8,388,608 cells or an axis more than 4096 levels, and more than 1000 cells
            were observed.

    Cost of an epoch: see `GridGP.nll_and_gradient`.
    Paper: "Scalable inference for structured Gaussian process models", 2011.
    """
    if rank is not None:
        raise TenfoldError(f"rank is {rank}, but grid_gp has none: leave it out (eigenpairs is what limits its size)")
    if eigenpairs < 1:
        raise TenfoldError(f"eigenpairs is {eigenpairs}: give at least 1")
    if isinstance(kernels, str) or kernels is None:
        kernels = [kernels if size is None else None for size in task.sizes]
    if len(kernels) != task.order:
        raise TenfoldError(f"kernels has {len(kernels)} entries for {task.order} modes: give one for each")
    cells = _Cells.of(task)
    cells.check()
    if not math.isfinite(float(cells.values.square().sum())):
        raise DataError("values are too large for their squares: divide them by their standard deviation")
    starts = [
        _kernel(given, axis, levels=size is not None)
        for given, axis, size in zip(kernels, cells.axes, task.sizes, strict=True)
    ]
    process = GridGP(cells.axes, starts)
    seen = None if cells.scattered else cells.seen()

    def likelihood(given: GridGP) -> Likelihood:
        if seen is not None:
            return given.likelihood(seen, eigenpairs)
        dense = Dense(given, cells.columns, cells.values, cells.weights)
        return dense.likelihood().with_repeats(cells.repeats, given.noise)

    function, stopped = Objective(process, likelihood), "epochs"
    errors: list[float] = []
    total = float(cells.weights.sum())
    if resume is None:
        point = start(function, process.logs())
    else:
        _, point, errors = _read(resume)
        stopped = resume.facts["stopped"] or "epochs"
    while len(errors) < epochs and stopped != "tol":
        before = function.squares
        following = improve(function, point, LOWEST, HIGHEST)
        gained = 0.0 if following is None else point.value - following.value
        if following is not None:
            point = following
            errors.append(math.sqrt(max(0.0, function.squares) / total))
        elif not errors:
            errors.append(math.sqrt(max(0.0, before) / total))
        stopped = "tol" if gained <= tol * len(cells.values) else "epochs"
        if callback is not None:
            reached = process.with_logs(point.place)
            callback(
                Step(
                    len(errors),
                    epochs,
                    errors[-1],
                    partial(_state, reached, cells, point, eigenpairs, tuple(errors), stopped),
                )
            )
    return _Model.of(process, cells, point, eigenpairs, errors, stopped)
