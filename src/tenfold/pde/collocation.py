"""The optimum of GP-HM at once: values that meet the equation at every point, under a spectrum that suits them."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from tenfold._arguments import quoted, whole_number
from tenfold.errors import DataError, TenfoldError
from tenfold.linalg.spectral_mixture import Spectrum
from tenfold.pde._spectrum import Tones, check_grid, tones
from tenfold.pde.outcome import Callback, Outcome, Step
from tenfold.pde.problem import Axis, Problem
from tenfold.pde.process import GridProcess, Line, Peaks, norm

# Part of the variance that is added to the diagonal, for rounding.
_JITTER = 1e-12
# Power of a tone beside the strongest below which a peak gets no less weight.
_LEAST = 1e-4
# Residuals, by the right side: at which Newton's method stops, and which is a solution although rounding stopped it.
_MET, _SOLVED = 1e-12, 1e-6
_NEWTON = 30
_GMRES = {"restart": 40, "maxiter": 5}


def collocation(
    problem: Problem,
    *,
    spectrum: Spectrum = "student",
    peaks: int = 12,
    cosine: bool = True,
    widths: Sequence[float] = (1.0, 3.0, 10.0, 30.0),
    callback: Callback | None = None,
) -> Outcome:
    """Solve for the values on the grid exactly, for a spectrum read off the right side and the boundary values.

    GP-HM's objective falls without bound as both noise variances go to 0, which they can where the equation holds at
    every point inside and the boundary values on the sides; what is left of it then is the prior's misfit. So the
    values follow from the spectrum, by Newton's method. Its linear equations are solved directly along one axis; along
    two by GMRES, with the operator of mean coefficients as a preconditioner: a Sylvester equation in Schur form, which
    is the exact solution where the coefficients are constant. The peaks stand where the periodogram has them, weighted
    by its amplitudes; of some widths that are common to all peaks, the one with the least misfit is taken. The known
    solution is never looked at.

    Args:
        problem: what is to be solved.
        spectrum: the form of the peaks.
        peaks: how many along an axis at most, one at 0 among them.
        cosine: False leaves the frequencies out, for comparison.
        widths: the reciprocals of correlation lengths that are tried, as parts of the domain.
        callback: called after every width.

    Returns:
        The best; of those until then when interrupted. Steps count widths.

    Raises:
        DataError: the grid is too coarse, or no width leads to a solution.
        TenfoldError: an option that cannot be used.

    Cost: O(n³) for each axis and Newton step and O(n1 n2 (n1 + n2)) for each step of GMRES, times the widths.
    Paper: "Solving High Frequency and Multi-Scale PDEs with Gaussian Processes", 2024, for model and objective.
    """
    most = whole_number("peaks", peaks, 1)
    rates = _widths(widths)
    check_grid(problem)
    found = tones(problem, most)
    best: tuple[float, GridProcess, float] | None = None
    steps: list[Step] = []
    failed = "its equations are singular"
    try:
        for number, rate in enumerate(rates, start=1):
            spectra = tuple(
                _peaks(axis, tone, rate, spectrum, cosine) for axis, tone in zip(problem.axes, found, strict=True)
            )
            try:
                process, residual = _solve(problem, spectra)
                misfit = process.misfit()
            except DataError as error:
                failed = str(error)
                continue
            except torch.linalg.LinAlgError:
                continue
            if not math.isfinite(misfit):
                continue
            steps.append(Step(number, len(rates), misfit, residual))
            if best is None or misfit < best[0]:
                best = misfit, process, residual
            if callback is not None:
                callback(steps[-1])
    except KeyboardInterrupt:
        if best is None:
            raise
        return Outcome(best[1], best[2], tuple(steps), "interrupted")
    if best is None:
        raise DataError(f"no width led to a solution: {failed}; try other widths, or method 'adam'")
    return Outcome(best[1], best[2], tuple(steps), "converged")


def _widths(given: Sequence[float]) -> list[float]:
    try:
        rates = [float(rate) for rate in given]
    except (TypeError, ValueError):
        rates = []
    if not rates or not all(0 < rate < math.inf for rate in rates):
        raise TenfoldError(f"widths must be positive numbers, as (1, 3, 10), not {quoted(given)}")
    return rates


def _peaks(axis: Axis, tone: Tones, rate: float, spectrum: Spectrum, cosine: bool) -> Peaks:
    """All peaks as wide as ``rate`` by the length of the axis, weighted by the amplitude there."""
    if not cosine:
        tone = Tones(np.zeros(1), np.ones(1))
    weights = torch.from_numpy(np.sqrt(np.maximum(tone.powers / (tone.powers.max() or 1.0), _LEAST)))
    decay = rate / axis.length
    # Scales such that both kinds of peak correlate as far.
    scale = decay / 5**0.5 if spectrum == "student" else decay * decay / 2
    frequencies = torch.from_numpy(tone.frequencies) if cosine else None
    return Peaks(weights / weights.sum(), torch.full_like(weights, scale), frequencies, spectrum, _JITTER)


class _Inside:
    """The equation at the points where no value is given, which are a block of the grid."""

    def __init__(self, problem: Problem, lines: Sequence[Line]) -> None:
        self.problem = problem
        ends = {(side.axis, side.end) for side in problem.sides}
        self.block = tuple(
            slice(int((place, 0) in ends), axis.points - int((place, 1) in ends))
            for place, axis in enumerate(problem.axes)
        )
        mesh = problem.mesh()
        self.mesh = tuple(
            grid[tuple(part if other == place else slice(None) for other, part in enumerate(self.block))]
            for place, grid in enumerate(mesh)
        )
        self.right = problem.right_side(mesh)[self.block]
        # For each derivative its axis and its matrix.
        self.matrices: dict[str, tuple[int, Tensor]] = {}
        for name, orders in problem.terms.items():
            for place, order in enumerate(orders):
                if order:
                    self.matrices[name] = place, lines[place].derivative(order)

    def terms(self, values: Tensor) -> dict[str, Tensor]:
        """``u`` and its derivatives there, from all values."""
        found = {"u": values[self.block]}
        for name, (place, matrix) in self.matrices.items():
            whole = tuple(slice(None) if other == place else part for other, part in enumerate(self.block))
            found[name] = _times(matrix[self.block[place]], values[whole], place)
        return found

    def step(self, slopes: dict[str, Tensor], residual: Tensor) -> Tensor:
        """The change of the values there that takes the residual to 0, to first order."""
        inner = {
            name: (place, matrix[self.block[place], self.block[place]])
            for name, (place, matrix) in self.matrices.items()
        }
        if residual.ndim == 1:
            jacobian = torch.diag(slopes["u"])
            for name, (_, matrix) in inner.items():
                jacobian = jacobian + slopes[name].unsqueeze(1) * matrix
            return torch.linalg.solve(jacobian, -residual)
        return _gmres(inner, slopes, residual)


def _times(matrix: Tensor, values: Tensor, place: int) -> Tensor:
    return matrix @ values if place == 0 else values @ matrix.T


def _gmres(inner: dict[str, tuple[int, Tensor]], slopes: dict[str, Tensor], residual: Tensor) -> Tensor:
    from scipy.linalg import schur
    from scipy.linalg.lapack import dtrsyl
    from scipy.sparse.linalg import LinearOperator, gmres

    shape = residual.shape
    sums = [torch.zeros(size, size, dtype=residual.dtype) for size in shape]
    for name, (place, matrix) in inner.items():
        sums[place] += slopes[name].mean() * matrix
    sums[0].diagonal().add_(slopes["u"].mean())
    (first, left), (second, right) = (schur(matrix.numpy()) for matrix in sums)

    def precondition(flat: np.ndarray) -> np.ndarray:
        turned = left.T @ flat.reshape(shape) @ right
        solved, scale, _ = dtrsyl(first, second, turned, tranb="T")
        return (left @ (solved / scale) @ right.T).ravel()

    def multiply(flat: np.ndarray) -> np.ndarray:
        change = torch.from_numpy(np.ascontiguousarray(flat).reshape(shape))
        product = slopes["u"] * change
        for name, (place, matrix) in inner.items():
            product += slopes[name] * _times(matrix, change, place)
        return product.numpy().ravel()

    size = residual.numel()
    top = float(residual.abs().max()) or 1.0
    wanted = -(residual / top).numpy().ravel()
    operator = LinearOperator((size, size), matvec=lambda flat: multiply(precondition(flat)), dtype=np.float64)
    start = precondition(wanted)
    if np.linalg.norm(multiply(start) - wanted) <= 1e-9 * np.linalg.norm(wanted):
        return top * torch.from_numpy(start.reshape(shape))
    solved, failed = gmres(operator, wanted, rtol=1e-8, **_GMRES)
    if failed:
        raise DataError("the equations along two axes did not converge")
    return top * torch.from_numpy(precondition(solved).reshape(shape))


def _solve(problem: Problem, spectra: tuple[Peaks, ...]) -> tuple[GridProcess, float]:
    """Newton's method from 0 inside, its steps halved until the residual falls."""
    values, _ = problem.given(problem.mesh())
    process = GridProcess(problem.axes, spectra, values)
    inside = _Inside(problem, process.lines)
    terms = inside.terms(values)
    residual = problem.residual(terms, inside.mesh) - inside.right
    size = norm(residual)
    scale = norm(inside.right) or size or 1.0
    for _ in range(_NEWTON):
        if size <= _MET * scale:
            break
        change = inside.step(problem.slopes(terms, inside.mesh), residual)
        if not bool(torch.isfinite(change).all()):
            raise DataError("the equation is singular where Newton's method leads")
        for part in (1.0, 0.5, 0.25, 0.1, 0.01):
            trial = values.clone()
            trial[inside.block] += part * change
            trial_terms = inside.terms(trial)
            trial_residual = problem.residual(trial_terms, inside.mesh) - inside.right
            if norm(trial_residual) < size:
                break
        else:
            break  # as near as rounding lets it come, or stuck
        values, terms, residual = trial, trial_terms, trial_residual
        size = norm(residual)
    if not size <= _SOLVED * scale:
        raise DataError("Newton's method does not come to a solution")
    return GridProcess(problem.axes, spectra, values), size / scale
