"""`GridGP`: a Gaussian process on the cells of a grid with a covariance that is a Kronecker product; holes or none."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from tenfold.completion._grid.observed import Likelihood, Observed
from tenfold.completion._grid.posterior import GridPosterior, engine, posterior
from tenfold.completion._grid.prior import GridPrior
from tenfold.completion._quasi_newton import Point, improve, start
from tenfold.errors import DataError
from tenfold.linalg.covariances import equally_spaced

# Logarithms of variances and of the other hyper-parameters stay between these.
LOWEST, HIGHEST = math.log(1e-8), math.log(1e8)


class GridGP(GridPrior):
    """A Gaussian process of mean zero on a grid: ``variance · K1 ⊗ … ⊗ KK``, observed with independent noise.

    Frozen: `fit` returns another one. Values are tensors with an axis for each of the grid; NaN marks a hole, and the
    noise of a cell with weight w has variance ``noise / w`` (so a cell that is the mean of w observations has weight
    w). Everything is computed in float64.

    Args:
        axes: the positions of the levels of each axis, in any order and at any distances: numbers, or points (rows).
        kernels: a covariance or its name (``"rbf"``, ``"matern52"``, …) for all axes, or one for each.
        variance: prior variance of a cell.
        noise: variance of the noise of an observation of weight 1.
        tied: whether all axes have the same hyper-parameters, those of the first kernel.
        noise_factors: a matrix, or a diagonal, for each axis: the noise is then ``noise`` times their Kronecker
            product. For grids without holes.

    Raises:
        TenfoldError: there is not one kernel for each axis, or a variance is not positive.
        DataError: an axis is empty, of a wrong shape or not finite.

    Papers: "Scalable inference for structured Gaussian process models", 2011 (grids); "Kernel interpolation for
    scalable structured Gaussian processes (KISS-GP)", 2015 (Toeplitz factors); "Fast kernel learning for
    multidimensional pattern extrapolation", 2014 (holes).
    """

    def nll(self, values: Any, weights: Any = None, **options: Any) -> float:
        """The negative log marginal likelihood; see `nll_and_gradient`."""
        return self.nll_and_gradient(values, weights, **options)[0]

    def nll_and_gradient(
        self, values: Any, weights: Any = None, *, rank: int = 2000
    ) -> tuple[float, Float[Tensor, " p"]]:
        """The negative log marginal likelihood of the observations, and its gradient by `logs`.

        Exact on grids without holes (eigenvectors are not differentiated: the gradient is a trace with the derivative
        of each factor) and for at most ``DENSE`` observations. Otherwise the leading ``rank`` eigenpairs of the prior
        are kept whose eigenvalues count beside the noise, and what is returned is an upper bound: the evidence of that
        prior, with half the prior variance that was left out, divided by the noise, added. Its gradient leaves out how
        the kept eigenvectors mix with the others.

        Cost: grids without holes N Σ n for N cells; else see `MaskedGram`.
        """
        found = self.likelihood(Observed.of(self, values, weights), rank)
        return found.nll, self.gradient(found)

    def likelihood(self, seen: Observed, rank: int) -> Likelihood:
        """The negative log likelihood and its derivatives by the factors, of what was checked already."""
        return engine(self, seen, rank=rank).likelihood().with_repeats(seen.repeats, self.noise)

    def gradient(self, found: Likelihood) -> Float[Tensor, " p"]:
        """The gradient by `logs`."""
        own = torch.tensor([found.by_variance, found.by_noise], dtype=torch.float64)
        return torch.cat([own, self._chain(found.by_factors)])

    def _chain(self, inside: Sequence[Tensor]) -> Tensor:
        """From the derivative by each factor to that by the hyper-parameters of the kernels."""
        kernels = self.kernels[:1] if self.tied else self.kernels
        logs = [kernel.logs().requires_grad_() for kernel in kernels]
        total = torch.zeros((), dtype=torch.float64)
        groups: list[tuple[int, Tensor]] = []
        for place, outer_derivative in enumerate(inside):
            same = next((k for k, (j, _) in enumerate(groups) if self.tied and self._alike(j, place)), None)
            if same is None:
                groups.append((place, outer_derivative))
            else:
                groups[same] = (groups[same][0], groups[same][1] + outer_derivative)
        for place, derivative in groups:
            axis, kernel, own = self.axes[place], self.kernels[place], logs[0 if self.tied else place]
            if not len(own):
                continue
            if equally_spaced(axis):
                total = total + (kernel.at((axis - axis[0]).abs(), own) * _by_lag(derivative)).sum()
            else:
                total = total + (kernel.matrix(axis, None, own) * derivative).sum()
        wanted = [own for own in logs if len(own)]
        if not wanted:
            return torch.zeros(0, dtype=torch.float64)
        return torch.cat(torch.autograd.grad(total, wanted))

    def fit(
        self,
        values: Any,
        weights: Any = None,
        *,
        epochs: int = 100,
        tol: float = 1e-6,
        rank: int = 2000,
        callback: Callable[[Point], None] | None = None,
    ) -> GridGP:
        """The same with the hyper-parameters that make the observations most likely, by a quasi-Newton method.

        Stops where an epoch lowers the negative log likelihood by less than ``tol`` for each observation.

        Raises:
            DataError: nothing was observed, or the values are so large that their squares overflow.
        """
        seen = Observed.of(self, values, weights)
        if not seen.count:
            raise DataError("values holds no observation: give at least one to fit to")
        if not math.isfinite(float(seen.values.square().sum())):
            raise DataError("values are too large for their squares: divide them by their standard deviation")
        function = Objective(self, lambda process: process.likelihood(seen, rank))
        point = start(function, self.logs())
        for _ in range(epochs):
            following = improve(function, point, LOWEST, HIGHEST)
            if following is None:
                break
            gained, point = point.value - following.value, following
            if callback is not None:
                callback(point)
            if gained <= tol * seen.count:
                break
        return self.with_logs(point.place)

    def condition(
        self,
        values: Any,
        weights: Any = None,
        *,
        tol: float = 1e-5,
        rank: int = 2000,
        max_iterations: int = 1000,
    ) -> GridPosterior:
        """The posterior given observations.

        Without holes exact, by eigenvectors; of few observations exact, by a Cholesky factor of their covariance; else
        by the ``rank`` leading eigenpairs that count beside the noise, and where these leave a relative residual above
        ``tol``, by conjugate gradients with them as a preconditioner. For rough kernels this can be slow.

        Warns:
            ConvergenceWarning: ``tol`` was not reached.
        """
        seen = Observed.of(self, values, weights)
        return posterior(self, seen, tol=tol, rank=rank, max_iterations=max_iterations)


class Objective:
    """A negative log likelihood as a function of `GridGP.logs`; infinite where it cannot be had.

    ``squares`` are those of the `Likelihood` that was computed last.
    """

    def __init__(self, process: GridGP, likelihood: Callable[[GridGP], Likelihood]) -> None:
        self.process, self.likelihood, self.squares = process, likelihood, math.nan

    def __call__(self, logs: Float[Tensor, " p"]) -> tuple[float, Float[Tensor, " p"]]:
        process = self.process.with_logs(logs)
        try:
            found = self.likelihood(process)
        except torch.linalg.LinAlgError:  # not positive definite in floating point: no place to go
            return math.inf, torch.zeros_like(logs)
        self.squares = found.squares
        return found.nll, process.gradient(found)


def _by_lag(matrix: Tensor) -> Tensor:
    """The sums of a matrix over entries of equal ``|i - j|``."""
    n = len(matrix)
    place = torch.arange(n)
    lag = (place[:, None] - place[None, :]).abs().flatten()
    return matrix.new_zeros(n).index_add(0, lag, matrix.flatten())
