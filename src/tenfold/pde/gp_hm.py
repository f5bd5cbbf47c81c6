"""GP-HM as its paper fits it: grid values, spectrum and noise together, by Adam."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from tenfold._arguments import quoted, real_number, whole_number
from tenfold.errors import DataError, TenfoldError
from tenfold.linalg.spectral_mixture import Spectrum, spectral_mixture
from tenfold.linalg.toeplitz import toeplitz
from tenfold.pde._spectrum import tones
from tenfold.pde.outcome import Callback, Outcome, Step
from tenfold.pde.problem import Problem
from tenfold.pde.process import GridProcess, Peaks, norm

Init = Literal["spread", "periodogram"]

_JITTER = 1e-6
# Amplitude beside the strongest tone below which a peak starts with no less weight.
_LEAST = 1e-2


def gp_hm(
    problem: Problem,
    *,
    steps: int = 10_000,
    spectrum: Spectrum = "student",
    peaks: int = 30,
    cosine: bool = True,
    init: Init = "spread",
    emphasis: float = 200.0,
    rate: float = 1e-2,
    checkpoints: int = 20,
    resume: Mapping[str, Tensor] | None = None,
    callback: Callback | None = None,
    keep: Any = None,
) -> Outcome:
    """Descend from zero on values, weights, scales, frequencies and both noise variances, as the paper does.

    Args:
        problem: what is to be solved.
        steps: of Adam.
        spectrum: the form of the peaks.
        peaks: how many along each axis.
        cosine: False leaves the frequencies out: a Matern 5/2 or squared-exponential process, for comparison.
        init: where the frequencies start: ``"spread"`` evenly from 0 to the highest that the problem names, as in the
            paper, or at the peaks of the ``"periodogram"`` of right side and boundary values, weighted by them.
        emphasis: how much more equation and boundary values count than the prior.
        rate: of learning.
        checkpoints: how often on the way the relative error is told where the solution is known.
        resume: what ``keep`` was given; the rest is as if there had been no break.
        callback: called after every step.
        keep: called with the state at every checkpoint.

    Returns:
        Where the last step led.

    Raises:
        DataError: the covariance becomes singular.
        TenfoldError: an option that cannot be used, or a state of another run.

    Cost: a step is a Cholesky factor and four triangular solves for each axis, O(n1³ + n2³ + n1 n2 (n1 + n2)); the
    covariance takes O(n peaks).
    Paper: "Solving High Frequency and Multi-Scale PDEs with Gaussian Processes", 2024.
    """
    total = whole_number("steps", steps, 1)
    every = max(1, total // whole_number("checkpoints", checkpoints, 1))
    model = _Model(problem, whole_number("peaks", peaks, 1), spectrum, cosine, init, _positive("emphasis", emphasis))
    adam = torch.optim.Adam(model.parameters.values(), lr=_positive("rate", rate))
    done, told = 0, list[Step]()
    if resume is not None:
        done, told = _restore(resume, model, adam, total)
    truth = _Truth.of(problem)
    stopped = "steps"
    number = done
    try:
        for number in range(done + 1, total + 1):
            adam.zero_grad(set_to_none=True)
            objective, residual = model.objective()
            if not math.isfinite(value := float(objective.detach())):
                raise DataError(f"the objective is {value} after {number - 1} steps; take a smaller rate")
            objective.backward()
            adam.step()
            last = number in (1, total) or number % every == 0
            error = truth.error(model.process()) if truth is not None and last else None
            step = Step(number, total, value, residual, error)
            if last:
                told.append(step)
                if keep is not None:
                    keep(_state(number, told, model, adam))
            if callback is not None:
                callback(step)
    except KeyboardInterrupt:
        if not told:
            raise
        stopped = "interrupted"
    return Outcome(model.process(), told[-1].residual, tuple(told), stopped)


def _positive(name: str, given: Any) -> float:
    number = real_number(name, given, "a number above 0")
    if not 0 < number < math.inf:
        raise TenfoldError(f"{name} must be a number above 0, not {quoted(given)}")
    return number


@dataclass(frozen=True)
class _Truth:
    grids: list[Tensor]
    values: Tensor

    @classmethod
    def of(cls, problem: Problem) -> _Truth | None:
        if problem.solution is None:
            return None
        grids = [axis.grid(300) for axis in problem.axes]
        return cls(grids, problem.truth(problem.mesh(grids)))

    def error(self, process: GridProcess) -> float:
        return norm(process.on(self.grids) - self.values) / (norm(self.values) or 1.0)


class _Model:
    """What is fitted, and what is minimised."""

    def __init__(
        self, problem: Problem, peaks: int, spectrum: Spectrum, cosine: bool, init: Init, emphasis: float
    ) -> None:
        if spectrum not in get_args(Spectrum):
            raise TenfoldError(f"spectrum must be {' or '.join(get_args(Spectrum))}, not {quoted(spectrum)}")
        if init not in get_args(Init):
            raise TenfoldError(f"init must be {' or '.join(get_args(Init))}, not {quoted(init)}")
        self.problem, self.spectrum, self.emphasis = problem, spectrum, emphasis
        self.mesh = problem.mesh()
        self.right = problem.right_side(self.mesh)
        given, self.known = problem.given(self.mesh)
        self.given = given[self.known]
        self.scale = float(self.right.norm()) or 1.0
        self.parameters: dict[str, Tensor] = {"values": torch.zeros(problem.shape, dtype=torch.float64)}
        found = tones(problem, peaks) if init == "periodogram" else None
        for place, axis in enumerate(problem.axes):
            if found is None:
                frequencies = torch.linspace(0, 1, peaks, dtype=torch.float64) * axis.frequencies
                weights = torch.full((peaks,), 1 / peaks, dtype=torch.float64)
            else:
                frequencies = torch.from_numpy(found[place].frequencies.copy())
                weights = torch.from_numpy(found[place].powers).sqrt().clamp_min(_LEAST)
                weights = weights / weights.sum()
            self.parameters[f"{axis.name}.weights"] = weights.log()
            self.parameters[f"{axis.name}.scales"] = torch.zeros_like(weights)
            if cosine:
                self.parameters[f"{axis.name}.frequencies"] = frequencies
        for name in ("boundary", "equation"):  # logarithms of both precisions
            self.parameters[name] = torch.zeros((), dtype=torch.float64)
        for value in self.parameters.values():
            value.requires_grad_()

    def peaks(self, name: str) -> tuple[Tensor, Tensor, Tensor | None]:
        """Weights, scales and frequencies along an axis."""
        return (
            self.parameters[f"{name}.weights"].exp(),
            self.parameters[f"{name}.scales"].exp(),
            self.parameters.get(f"{name}.frequencies"),
        )

    def objective(self) -> tuple[Tensor, float]:
        """The paper's, and the residual relative to the right side."""
        values = self.parameters["values"]
        size = values.numel()
        terms = {"u": values}
        prior = torch.zeros((), dtype=torch.float64)
        solved = []
        for place, axis in enumerate(self.problem.axes):
            grid = axis.grid()
            k, *slopes = spectral_mixture(grid - grid[0], *self.peaks(axis.name), self.spectrum)
            turned = values if place == 0 else values.T
            weights, determinant = _Solved.apply(toeplitz(k), turned.reshape(len(turned), -1))
            prior = prior + determinant * (size / len(turned) / 2)
            solved.append(weights.reshape(turned.shape))
            for name, orders in self.problem.terms.items():
                if order := orders[place]:
                    there = toeplitz(slopes[order - 1], odd=order == 1) @ solved[-1]
                    terms[name] = there if place == 0 else there.T
        # Along two axes <K1⁻¹ U, U K2⁻¹> is the square of U under the Kronecker product.
        prior = prior + (solved[0] * (values if len(solved) == 1 else solved[1].T)).sum() / 2
        residual = self.problem.residual(terms, self.mesh) - self.right
        boundary, equation = self.parameters["boundary"], self.parameters["equation"]
        missed = (values[self.known] - self.given).square().sum()
        left = residual.square().sum()
        fits = len(self.given) * boundary - boundary.exp() * missed + size * equation - equation.exp() * left
        return prior - self.emphasis / 2 * fits, float(left.detach().sqrt()) / self.scale

    def process(self) -> GridProcess:
        """What is known now."""
        every = []
        for axis in self.problem.axes:
            weights, scales, frequencies = (
                None if part is None else part.detach().clone() for part in self.peaks(axis.name)
            )
            assert weights is not None
            assert scales is not None
            every.append(Peaks(weights, scales, frequencies, self.spectrum, _JITTER))
        return GridProcess(self.problem.axes, tuple(every), self.parameters["values"].detach().clone())


class _Solved(torch.autograd.Function):
    """A covariance's inverse times values and its log-determinant: one factor serves both and their slopes."""

    @staticmethod
    def forward(ctx: Any, covariance: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        factor, failed = torch.linalg.cholesky_ex(covariance + _JITTER * torch.eye(len(covariance), dtype=values.dtype))
        if int(failed):
            raise DataError("the covariance of the grid became singular; take a smaller rate or a coarser grid")
        weights = torch.cholesky_solve(values, factor)
        ctx.save_for_backward(factor, weights)
        return weights, 2 * factor.diagonal().log().sum()

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> tuple[Tensor, Tensor]:
        factor, weights = ctx.saved_tensors
        by_weights, by_determinant = slopes
        by_values = torch.cholesky_solve(by_weights, factor)
        by_covariance = by_determinant * torch.cholesky_inverse(factor)
        return by_covariance.addmm_(by_values, weights.T, alpha=-1), by_values


def _state(number: int, told: list[Step], model: _Model, adam: torch.optim.Adam) -> dict[str, Tensor]:
    """All that the next step depends on, and what was told."""
    state = {name: value.detach().clone() for name, value in model.parameters.items()}
    for name, value in model.parameters.items():
        for part in ("exp_avg", "exp_avg_sq"):
            state[f"{part}:{name}"] = adam.state[value][part].clone()
    lines = [
        [one.number, one.total, one.objective, one.residual, math.nan if one.error is None else one.error]
        for one in told
    ]
    return state | {"told": torch.tensor(lines, dtype=torch.float64), "number": torch.tensor(number)}


def _restore(state: Mapping[str, Tensor], model: _Model, adam: torch.optim.Adam, total: int) -> tuple[int, list[Step]]:
    """Put a state of `_state` in place; returns the step and what was told until then."""
    names = list(model.parameters)
    shapes = {name: state[name].shape for name in names if name in state}
    if shapes != {name: value.shape for name, value in model.parameters.items()}:
        raise TenfoldError("the checkpoint is of another problem or other options; give another file")
    number = int(state["number"])
    if number > total:
        raise TenfoldError(f"the checkpoint is after {number} steps, more than steps={total}; ask for more")
    with torch.no_grad():
        for value, name in zip(model.parameters.values(), names, strict=True):
            value.copy_(state[name])
            adam.state[value] = {
                "step": torch.tensor(float(number)),
                "exp_avg": state[f"exp_avg:{name}"].clone(),
                "exp_avg_sq": state[f"exp_avg_sq:{name}"].clone(),
            }
    lines = state["told"].tolist()
    told = [
        Step(int(line[0]), int(line[1]), line[2], line[3], None if math.isnan(line[4]) else line[4]) for line in lines
    ]
    return number, told
