"""`GridGP`: a Gaussian process on the cells of a grid with a covariance that is a Kronecker product; holes or none."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from tenfold import formats
from tenfold.completion._quasi_newton import Point, improve, start
from tenfold.errors import DataError, TenfoldError
from tenfold.linalg.conjugate_gradients import conjugate_gradients
from tenfold.linalg.covariances import Covariance, each_axis, equally_spaced
from tenfold.linalg.kronecker import KroneckerPair, kron_apply, outer
from tenfold.linalg.masked_gram import MaskedGram
from tenfold.linalg.toeplitz import toeplitz, toeplitz_eigh, toeplitz_product
from tenfold.network import Network

# Observations of a grid with holes up to which the dense covariance of them is factored.
DENSE = 1000
# Eigenvalues of the prior below this part of the variance of the noise are left to conjugate gradients.
_NEGLIGIBLE = 1e-3
# From this size on products with a Toeplitz factor are made by Fourier transforms.
_TOEPLITZ = 512
# Numbers that a part of the covariance between new points and cells may hold at once.
_CHUNK = 2**24
_LOG_2PI = math.log(2 * math.pi)
# Logarithms of variances and of the other hyper-parameters stay between these.
LOWEST, HIGHEST = math.log(1e-8), math.log(1e8)

Axes = Sequence[Any]


@dataclass(frozen=True, eq=False)
class GridGP:
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

    axes: tuple[Float[Tensor, "n ..."], ...]
    kernels: tuple[Covariance, ...]
    variance: float = 1.0
    noise: float = 0.1
    tied: bool = False
    noise_factors: tuple[Float[Tensor, "n n"], ...] | None = None

    def __init__(
        self,
        axes: Axes,
        kernels: Covariance | str | Sequence[Covariance | str] = "matern52",
        *,
        variance: float = 1.0,
        noise: float = 0.1,
        tied: bool = False,
        noise_factors: Sequence[Any] | None = None,
    ) -> None:
        put = object.__setattr__
        put(self, "axes", tuple(_positions(axis, place) for place, axis in enumerate(axes)))
        if not self.axes:
            raise DataError("axes is empty: give the positions of at least one axis")
        put(self, "kernels", each_axis(kernels, len(self.axes)))
        for name, given in (("variance", variance), ("noise", noise)):
            if not (math.isfinite(given) and given > 0):
                raise TenfoldError(f"{name} is {given}: give a positive finite number")
            put(self, name, float(given))
        put(self, "tied", tied)
        if tied and any(kernel != self.kernels[0] for kernel in self.kernels):
            raise TenfoldError("tied axes have one kernel: give one for all of them")
        factors = None
        if noise_factors is not None:
            factors = tuple(torch.as_tensor(factor, dtype=torch.float64) for factor in noise_factors)
            factors = tuple(torch.diag(factor) if factor.ndim == 1 else factor for factor in factors)
            if [tuple(factor.shape) for factor in factors] != [(n, n) for n in self.shape]:
                raise DataError(f"noise_factors must be square, of the sizes {self.shape} of the axes")
        put(self, "noise_factors", factors)

    # --- what it is ---------------------------------------------------------------------------------------------------

    @property
    def shape(self) -> tuple[int, ...]:
        """The sizes of the axes."""
        return tuple(len(axis) for axis in self.axes)

    @property
    def cells(self) -> int:
        """The number of cells of the grid."""
        return math.prod(self.shape)

    @cached_property
    def factors(self) -> tuple[Float[Tensor, "n n"], ...]:
        """The covariance of each axis."""
        return tuple(self._factor(place, kernel.logs()) for place, kernel in enumerate(self.kernels))

    def _factor(self, place: int, logs: Tensor) -> Tensor:
        axis, kernel = self.axes[place], self.kernels[place]
        if equally_spaced(axis):
            return toeplitz(kernel.at((axis - axis[0]).abs(), logs))
        return kernel.matrix(axis, None, logs)

    @property
    def prior(self) -> Network:
        """The covariance of all cells, as a Kronecker product of the covariances of the axes."""
        return self._network([self.factors], [self.variance])

    @property
    def marginal(self) -> Network:
        """The covariance of observations of all cells, as a sum of two Kronecker products: the prior and the noise."""
        if self.noise_factors is None:
            background: Sequence[Tensor] = [torch.eye(n, dtype=torch.float64) for n in self.shape]
        else:
            background = self.noise_factors
        if len(self.shape) == 1:
            return self._network([[self.variance * self.factors[0] + self.noise * background[0]]], [1.0])
        return self._network([self.factors, background], [self.variance, self.noise])

    def _network(self, terms: Sequence[Sequence[Tensor]], scales: Sequence[float]) -> Network:
        structure = formats.kronecker(self.shape, self.shape, len(terms))
        cores = [torch.stack(list(factors)) for factors in zip(*terms, strict=True)]
        cores[0] = cores[0] * torch.tensor(scales, dtype=torch.float64)[:, None, None]
        return Network(structure, [core.reshape(c.shape) for core, c in zip(cores, structure.cores, strict=True)])

    @cached_property
    def pair(self) -> KroneckerPair:
        """The covariance of observations of all cells, diagonalised."""
        if self.noise_factors is not None:
            return KroneckerPair.of(self.factors, self.noise_factors, scale=self.variance, noise=self.noise)
        values, vectors = self._eigenpairs()
        return KroneckerPair.diagonal(values, vectors, scale=self.variance, noise=self.noise)

    def _eigenpairs(self) -> tuple[list[Tensor], list[Tensor]]:
        """Of the covariance of each axis; equal axes share them, and equally spaced ones take a quarter of the work."""
        found: list[tuple[Tensor, Tensor]] = []
        for place, axis in enumerate(self.axes):
            same = next((j for j in range(place) if self._alike(j, place)), None)
            if same is not None:
                found.append(found[same])
            elif equally_spaced(axis):
                found.append(toeplitz_eigh(self.factors[place][0]))
            else:
                values, vectors = torch.linalg.eigh(self.factors[place])
                found.append((values, vectors))
        return [values.clamp(min=0) for values, _ in found], [vectors for _, vectors in found]

    def _alike(self, one: int, other: int) -> bool:
        return self.kernels[one] == self.kernels[other] and torch.equal(self.axes[one], self.axes[other])

    # --- hyper-parameters ---------------------------------------------------------------------------------------------

    def logs(self) -> Float[Tensor, " p"]:
        """Logarithms of the variance, of the noise and of the hyper-parameters of the kernels, which `fit` changes."""
        kernels = self.kernels[:1] if self.tied else self.kernels
        own = torch.tensor([self.variance, self.noise], dtype=torch.float64).log()
        return torch.cat([own, *(kernel.logs() for kernel in kernels)])

    def names(self) -> tuple[str, ...]:
        """The names of `logs`."""
        kernels = self.kernels[:1] if self.tied else self.kernels
        inside = [f"axis {k}: {name}" for k, kernel in enumerate(kernels) for name in kernel.hyperparameters()]
        return ("variance", "noise", *(name.replace("axis 0: ", "") if self.tied else name for name in inside))

    def with_logs(self, logs: Float[Tensor, " p"]) -> GridGP:
        """The same with other hyper-parameters."""
        variance, noise = logs[:2].exp().tolist()
        kernels, place = [], 2
        for kernel in self.kernels[:1] if self.tied else self.kernels:
            end = place + len(kernel.hyperparameters())
            kernels.append(kernel.with_logs(logs[place:end]))
            place = end
        kernels = kernels * len(self.axes) if self.tied else kernels
        return GridGP(
            self.axes, kernels, variance=variance, noise=noise, tied=self.tied, noise_factors=self.noise_factors
        )

    def facts(self) -> dict[str, Any]:
        """Kernels and variances, plain enough for JSON; the axes are not among them."""
        kernels = [kernel.facts() for kernel in self.kernels]
        return {"kernels": kernels, "variance": self.variance, "noise": self.noise, "tied": self.tied}

    def __repr__(self) -> str:
        shape = " x ".join(map(str, self.shape))
        kernels = f"{self.kernels[0]} on every axis" if self.tied else ", ".join(map(repr, self.kernels))
        return f"GridGP({shape}; {kernels}; variance={self.variance:.4g}, noise={self.noise:.4g})"

    # --- likelihood ---------------------------------------------------------------------------------------------------

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
        if seen.whole:
            found = self._whole(seen)
        elif seen.count <= DENSE:
            found = Dense.of(self, seen).likelihood()
        else:
            found = _Features(self, seen, rank).likelihood()
        return found.with_repeats(seen.repeats, self.noise)

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

    def _whole(self, seen: Observed) -> Likelihood:
        pair = self.pair
        inside = kron_apply(pair.inverses, seen.values)
        spectrum = pair.spectrum()
        inverse = (spectrum + self.noise).reciprocal()
        solved = inside * inverse
        nll = 0.5 * (
            float(torch.dot(inside.flatten(), solved.flatten()))
            - float(inverse.log().sum())
            + pair.log_noise
            + self.cells * _LOG_2PI
        )
        difference = inverse - solved.square()
        by_noise = 0.5 * self.noise * float(difference.sum())
        by_variance = 0.5 * float((difference * spectrum).sum())
        factors = []
        for place, (value, back) in enumerate(zip(pair.values, pair.inverses, strict=True)):
            before = outer(pair.values[:place]).flatten() if place else inverse.new_ones(1)
            after = outer(pair.values[place + 1 :]).flatten() if place + 1 < len(pair.values) else inverse.new_ones(1)
            n = len(value)
            trace = before @ (inverse.reshape(-1, len(after)) @ after).reshape(len(before), n)
            cube = solved.reshape(len(before), n, -1) * (before.sqrt()[:, None, None] * after.sqrt())
            if len(after) == 1:
                gram = cube.reshape(-1, n).T @ cube.reshape(-1, n)
            else:
                flat = cube.transpose(0, 1).reshape(n, -1)
                gram = flat @ flat.T
            gram = torch.diag(trace) - gram
            factors.append(0.5 * self.variance * back.T @ gram @ back)
        squares = self.noise**2 * float(torch.dot(solved.flatten(), solved.flatten()))
        return Likelihood(nll, factors, by_variance, by_noise, squares)

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

    # --- posterior ----------------------------------------------------------------------------------------------------

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

    def product(self, tensor: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """The prior covariance of all cells applied to a tensor of them, or to a batch of such."""
        if max(self.shape) <= _TOEPLITZ or not all(map(equally_spaced, self.axes)):
            return self.variance * kron_apply(self.factors, tensor)
        for place, factor in enumerate(self.factors):
            axis = place - len(self.shape)
            tensor = toeplitz_product(factor[0], tensor.movedim(axis, -1)).movedim(-1, axis)
        return self.variance * tensor

    def cross(self, axes: Axes) -> list[Float[Tensor, "m n"]]:
        """The covariances of new positions with those of each axis; None in place of an axis stands for its own."""
        if len(axes) != len(self.axes):
            raise DataError(f"axes has {len(axes)} entries for {len(self.axes)} axes: give None for one that stays")
        made = []
        for place, given in enumerate(axes):
            if given is None:
                made.append(self.factors[place])
                continue
            positions = _positions(given, place)
            if positions.shape[1:] != self.axes[place].shape[1:]:
                raise DataError(f"axis {place} has positions of another shape than those of the grid")
            made.append(self.kernels[place].matrix(positions, self.axes[place]))
        return made


@dataclass(frozen=True)
class Repeats:
    """What single observations say beyond the weighted means of those of one cell.

    Attributes:
        count: how many there are beyond the first of each cell.
        within: the weighted sum of squares around the means.
        log_weights: the logarithms of the weights of all observations, less those of the cells.
    """

    count: int = 0
    within: float = 0.0
    log_weights: float = 0.0


class Likelihood(NamedTuple):
    """A negative log marginal likelihood with its derivatives.

    Attributes:
        nll: itself.
        by_factors: its derivative by the covariance of each axis.
        by_variance, by_noise: its derivatives by the logarithms of the two.
        squares: the weighted sum of squares of what the posterior mean leaves of the observations.
    """

    nll: float
    by_factors: list[Float[Tensor, "n n"]]
    by_variance: float
    by_noise: float
    squares: float

    def with_repeats(self, repeats: Repeats, noise: float) -> Likelihood:
        """The same of the single observations."""
        nll = 0.5 * (repeats.count * (_LOG_2PI + math.log(noise)) + repeats.within / noise - repeats.log_weights)
        return self._replace(
            nll=self.nll + nll,
            by_noise=self.by_noise + 0.5 * (repeats.count - repeats.within / noise),
            squares=self.squares + repeats.within,
        )


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


@dataclass(frozen=True, eq=False)
class Observed:
    """What is known of a grid.

    Attributes:
        values: zero in the holes.
        weights: zero in the holes; None where all are 1.
        places: the cells that were observed, None where all were.
        repeats: what single observations say beyond the means of cells.
    """

    values: Float[Tensor, "..."]
    weights: Float[Tensor, "..."] | None
    places: Int[Tensor, " n"] | None
    repeats: Repeats = Repeats()

    @classmethod
    def of(cls, gp: GridGP, values: Any, weights: Any = None) -> Observed:
        """Check and convert what a person gave."""
        given = torch.as_tensor(np.asarray(values) if not isinstance(values, Tensor) else values).to(torch.float64)
        if tuple(given.shape) != gp.shape:
            raise DataError(f"values has shape {tuple(given.shape)}: the grid is {' x '.join(map(str, gp.shape))}")
        precision = None
        if weights is None and bool(torch.isfinite(given.sum())):
            return cls(given, None, None)  # a sum that is finite has no NaN and no inf in it
        if torch.isinf(given).any():
            raise DataError("values holds inf: mark holes by NaN")
        hole = given.isnan()
        if weights is not None:
            precision = torch.as_tensor(weights, dtype=torch.float64).expand(gp.shape).clone()
            if not bool((torch.isfinite(precision) & (precision >= 0)).all()):
                raise DataError("weights must be finite and not negative")
            hole = hole | (precision == 0)
        if not bool(hole.any()):
            if precision is not None and bool((precision == 1).all()):
                precision = None
            if gp.noise_factors is not None and precision is not None:
                raise DataError("weights go with independent noise: leave out noise_factors")
            return cls(given, precision, None)
        if gp.noise_factors is not None:
            raise DataError("noise_factors needs every cell: give a grid without holes")
        precision = torch.ones_like(given) if precision is None else precision
        precision[hole] = 0
        return cls(given.masked_fill(hole, 0.0), precision, (~hole).flatten().nonzero()[:, 0])

    @property
    def whole(self) -> bool:
        """Whether every cell was observed, and with the same noise."""
        return self.weights is None

    @property
    def count(self) -> int:
        """The number of cells that were observed."""
        return self.values.numel() if self.places is None else len(self.places)

    @property
    def cells(self) -> Int[Tensor, " n"]:
        """The observed cells, as places in the grid laid out row by row."""
        return torch.arange(self.values.numel()) if self.places is None else self.places


class _Engine:
    """What solves with the covariance of the observations."""

    name: str
    residual: float = 0.0
    iterations: int = 0
    rank: int = 0

    def solve(self, right: Tensor) -> Tensor:
        """Of a batch of tensors of cells that are zero in the holes."""
        raise NotImplementedError

    def variance(self, axes: Axes | None) -> Tensor:
        raise NotImplementedError

    def variance_at(self, crosses: Sequence[Tensor]) -> Tensor:
        """At points, given by the covariances of each with the positions of each axis."""
        raise NotImplementedError

    def likelihood(self) -> Likelihood:
        raise NotImplementedError


class _Whole(_Engine):
    """All cells, with the same noise: exact, by eigenvectors."""

    name = "eigenvectors"

    def __init__(self, gp: GridGP) -> None:
        self.gp, self.pair = gp, gp.pair

    def solve(self, right: Tensor) -> Tensor:
        return self.pair.solve(right)

    def variance(self, axes: Axes | None) -> Tensor:
        spectrum = self.pair.spectrum()
        if axes is None:
            left = spectrum * self.gp.noise / (spectrum + self.gp.noise)
            return kron_apply([vector.square() for vector in self.pair.vectors], left)
        rows = [(cross @ back.T).square() for cross, back in zip(self.gp.cross(axes), self.pair.inverses, strict=True)]
        known = self.gp.variance**2 * kron_apply(rows, (spectrum + self.gp.noise).reciprocal())
        return (self.gp.variance - known).clamp(min=0)

    def variance_at(self, crosses: Sequence[Tensor]) -> Tensor:
        rows = [(cross @ back.T).square() for cross, back in zip(crosses, self.pair.inverses, strict=True)]
        known = self.gp.variance**2 * _rows_times(rows, (self.pair.spectrum() + self.gp.noise).reciprocal())
        return (self.gp.variance - known).clamp(min=0)


class Dense(_Engine):
    """Few observations: exact, by the Cholesky factor of their covariance."""

    name = "Cholesky"

    def __init__(self, gp: GridGP, columns: Sequence[Tensor], values: Tensor, weights: Tensor | None) -> None:
        self.gp, self.columns, self.values = gp, columns, values
        self.parts = [factor[column][:, column] for factor, column in zip(gp.factors, columns, strict=True)]
        covariance = gp.variance * math.prod(self.parts[1:], start=self.parts[0])
        self.precision = (torch.ones_like(values) if weights is None else weights) / gp.noise
        covariance.diagonal().add_(self.precision.reciprocal())
        self.root = torch.linalg.cholesky(covariance)

    @classmethod
    def of(cls, gp: GridGP, seen: Observed) -> Dense:
        weights = None if seen.weights is None else seen.weights.flatten()[seen.cells]
        return cls(gp, torch.unravel_index(seen.cells, gp.shape), seen.values.flatten()[seen.cells], weights)

    @cached_property
    def solution(self) -> Tensor:
        """The inverse covariance of the observations applied to their values."""
        return torch.cholesky_solve(self.values[:, None], self.root)[:, 0]

    def solve(self, right: Tensor) -> Tensor:
        batch = right.shape[: right.ndim - len(self.gp.shape)]
        flat = right.reshape(-1, self.gp.cells)
        cells = self.columns[0]
        for column, size in zip(self.columns[1:], self.gp.shape[1:], strict=True):
            cells = cells * size + column
        result = torch.zeros_like(flat)
        result[:, cells] = torch.cholesky_solve(flat[:, cells].T, self.root).T
        return result.reshape(*batch, *self.gp.shape)

    def mean_at(self, crosses: Sequence[Tensor]) -> Tensor:
        """At points, as `variance_at`."""
        rows = [cross[:, column] for cross, column in zip(crosses, self.columns, strict=True)]
        return self.gp.variance * (math.prod(rows[1:], start=rows[0]) @ self.solution)

    def variance(self, axes: Axes | None) -> Tensor:
        crosses = list(self.gp.factors) if axes is None else self.gp.cross(axes)
        shape = [len(cross) for cross in crosses]
        cells = torch.arange(math.prod(shape))
        step = max(1, _CHUNK // max(1, len(self.values)))
        parts = []
        for start_at in range(0, len(cells), step):
            where = torch.unravel_index(cells[start_at : start_at + step], shape)
            parts.append(self.variance_at([cross[row] for cross, row in zip(crosses, where, strict=True)]))
        return torch.cat(parts).reshape(shape)

    def variance_at(self, crosses: Sequence[Tensor]) -> Tensor:
        step = max(1, _CHUNK // max(1, len(self.values)))
        parts = []
        for first in range(0, len(crosses[0]), step):
            rows = [c[first : first + step][:, column] for c, column in zip(crosses, self.columns, strict=True)]
            cross = self.gp.variance * math.prod(rows[1:], start=rows[0])
            half = torch.linalg.solve_triangular(self.root, cross.T, upper=False)
            parts.append((self.gp.variance - half.square().sum(0)).clamp(min=0))
        return torch.cat(parts) if parts else torch.zeros(0, dtype=torch.float64)

    def likelihood(self) -> Likelihood:
        y, solved = self.values, self.solution
        nll = 0.5 * float(y @ solved) + float(self.root.diagonal().log().sum()) + 0.5 * len(y) * _LOG_2PI
        inner = 0.5 * (torch.cholesky_inverse(self.root) - torch.outer(solved, solved))
        factors = []
        for place, column in enumerate(self.columns):
            others = [part for k, part in enumerate(self.parts) if k != place]
            weighted = self.gp.variance * math.prod(others, start=inner)
            n = self.gp.shape[place]
            rows = inner.new_zeros(n, len(y)).index_add(0, column, weighted)
            factors.append(inner.new_zeros(n, n).index_add(1, column, rows))
        by_noise = float((inner.diagonal() / self.precision).sum())
        by_variance = self.gp.variance * float((inner * math.prod(self.parts[1:], start=self.parts[0])).sum())
        squares = self.gp.noise * float((solved.square() / self.precision).sum())
        return Likelihood(nll, factors, by_variance, by_noise, squares)


class _Features(_Engine):
    """Many observations and holes: leading eigenpairs, and conjugate gradients for what they leave."""

    def __init__(self, gp: GridGP, seen: Observed, rank: int, tol: float = 1e-5, max_iterations: int = 1000) -> None:
        self.gp, self.seen, self.tol, self.max_iterations = gp, seen, tol, max_iterations
        assert seen.weights is not None
        self.precisions = seen.weights / gp.noise
        self.mask = (seen.weights > 0).to(torch.float64)
        self.deviations = torch.where(seen.weights > 0, gp.noise / seen.weights, 0.0)
        self.values, self.vectors = gp._eigenpairs()
        self.rank = rank
        self.gram = self._gram(self.precisions)
        self.name = f"{self.gram.rank} eigenpairs"

    def _gram(self, precisions: Tensor) -> MaskedGram:
        above = _NEGLIGIBLE * self.gp.noise
        return MaskedGram(tuple(self.values), tuple(self.vectors), precisions, self.gp.variance, above, self.rank)

    @cached_property
    def rest(self) -> Tensor:
        """The prior variance of each cell that the features do not have."""
        return (self.gp.variance - self.gram.spread()).clamp(min=0)

    @cached_property
    def preconditioner(self) -> MaskedGram:
        """The features, with the variance that they lack taken for noise."""
        left = float((self.rest * self.mask).sum() / self.mask.sum())
        if left <= 0.1 * self.gp.noise:
            return self.gram
        return self._gram(torch.where(self.mask > 0, 1 / (self.deviations + left), 0.0))

    def solve(self, right: Tensor) -> Tensor:
        batch = right.shape[: right.ndim - len(self.gp.shape)]
        rows = right.reshape(-1, *self.gp.shape)
        scale = rows.flatten(1).norm(dim=1).clamp(min=torch.finfo(torch.float64).tiny)
        solution = self.gram.solve(rows)
        off = (rows - self._product(solution)).flatten(1).norm(dim=1) / scale
        self.residual = float(off.max())
        if self.residual > self.tol:
            flat = (len(rows), self.gp.cells)
            found = conjugate_gradients(
                lambda given: self._product(given.reshape(rows.shape)).reshape(flat),
                rows.reshape(flat),
                precondition=lambda given: self.preconditioner.solve(given.reshape(rows.shape)).reshape(flat),
                start=solution.reshape(flat),
                tol=self.tol,
                max_iterations=self.max_iterations,
            )
            solution, self.residual, self.iterations = found.solution.reshape(rows.shape), *found[1:]
            self.name = f"{self.gram.rank} eigenpairs and {self.iterations} conjugate gradients"
        return solution.reshape(*batch, *self.gp.shape)

    def _product(self, given: Tensor) -> Tensor:
        return self.mask * self.gp.product(given) + self.deviations * given

    def variance(self, axes: Axes | None) -> Tensor:
        if axes is None:
            return self.gram.variance() + self.rest
        bases = [self.gram.continued(place, cross) for place, cross in enumerate(self.gp.cross(axes))]
        rest = (self.gp.variance - self.gram.spread(bases)).clamp(min=0)
        return self.gram.variance(bases) + rest

    def variance_at(self, crosses: Sequence[Tensor]) -> Tensor:
        gram, parts = self.gram, []
        step = max(1, _CHUNK // max(1, gram.rank))
        for first in range(0, len(crosses[0]), step):
            features = gram.roots.expand(len(crosses[0][first : first + step]), -1)
            for place, cross in enumerate(crosses):
                features = features * gram.continued(place, cross[first : first + step])[:, gram.places[:, place]]
            rest = (self.gp.variance - features.square().sum(1)).clamp(min=0)
            half = torch.linalg.solve_triangular(gram.cholesky, features.T, upper=False)
            parts.append(half.square().sum(0) + rest)
        return torch.cat(parts) if parts else torch.zeros(0, dtype=torch.float64)

    def likelihood(self) -> Likelihood:
        gp, gram, y = self.gp, self.gram, self.seen.values
        solved = gram.solve(y)
        trace = float(gram.inverse.trace())
        left = gp.variance * float(self.precisions.sum()) - float(gram.gram.trace())
        nll = 0.5 * (float((y * solved).sum()) + gram.log_determinant() + self.seen.count * _LOG_2PI + left)
        projected = gram.project(solved)
        by_variance = 0.5 * (gram.rank - trace - float(projected.square().sum()) + left)
        by_noise = 0.5 * (self.seen.count - gram.rank + trace - float((self.deviations * solved.square()).sum()) - left)
        # With B = 1 + G for the features' Gram matrix G: G B⁻¹ G = B - 2 + B⁻¹.
        inside = gram.gram + gram.inverse
        inside.diagonal().sub_(1)
        inside = inside / gram.roots / gram.roots[:, None]
        kept = gram.expand(projected / gram.roots.square())
        doubled = 2 * solved - kept
        factors = []
        for place in range(len(gp.shape)):
            others = [
                torch.eye(n, dtype=torch.float64) if k == place else f
                for k, (n, f) in enumerate(zip(gp.shape, gp.factors, strict=True))
            ]
            spread = kron_apply(others, doubled).movedim(place, 0).flatten(1)
            quadratic = gp.variance * kept.movedim(place, 0).flatten(1) @ spread.T
            factors.append(-0.5 * (gram.derivatives(inside, place) + (quadratic + quadratic.T) / 2))
        squares = gp.noise * float((self.deviations * solved.square()).sum())
        return Likelihood(nll, factors, by_variance, by_noise, squares)


class _Nothing(_Engine):
    """No observation: the posterior is the prior."""

    name = "nothing observed"

    def __init__(self, gp: GridGP) -> None:
        self.gp = gp

    def solve(self, right: Tensor) -> Tensor:
        return torch.zeros_like(right)

    def variance(self, axes: Axes | None) -> Tensor:
        shape = self.gp.shape if axes is None else tuple(len(cross) for cross in self.gp.cross(axes))
        return torch.full(shape, self.gp.variance, dtype=torch.float64)

    def variance_at(self, crosses: Sequence[Tensor]) -> Tensor:
        return torch.full((len(crosses[0]),), self.gp.variance, dtype=torch.float64)


def posterior(gp: GridGP, seen: Observed, *, tol: float, rank: int, max_iterations: int) -> GridPosterior:
    """`GridGP.condition` of what was checked already."""
    engine: _Engine
    if not seen.count:
        engine = _Nothing(gp)
    elif seen.whole:
        engine = _Whole(gp)
    elif seen.count <= DENSE:
        engine = Dense.of(gp, seen)
    else:
        engine = _Features(gp, seen, rank, tol, max_iterations)
    solution = engine.solve(seen.values)
    return GridPosterior(gp, seen, solution, engine, engine.name, engine.residual)


@dataclass(frozen=True, eq=False)
class GridPosterior:
    """What a `GridGP` says after observations. Make one with `GridGP.condition`.

    Attributes:
        process: the prior.
        solution: the inverse covariance of the observations applied to their values; zero in the holes.
        solver: how it was found.
        residual: the relative residual of the solution, where it was iterated for or truncated.
    """

    process: GridGP
    seen: Observed
    solution: Float[Tensor, "..."]
    engine: _Engine
    solver: str
    residual: float

    def __repr__(self) -> str:
        return f"GridPosterior({self.seen.count} of {self.process.cells} cells; {self.solver}; {self.process!r})"

    def mean(self, axes: Axes | None = None) -> Float[Tensor, "..."]:
        """The posterior mean on the whole grid, or on the grid of new positions (None for an axis that stays)."""
        if axes is None:
            return self.process.product(self.solution)
        return self.process.variance * kron_apply(self.process.cross(axes), self.solution)

    def variance(self, axes: Axes | None = None) -> Float[Tensor, "..."]:
        """The posterior variance of the function, without noise, on the whole grid or on one of new positions.

        Exact but for eigenpairs that were left out, whose prior variance counts as if nothing were known of it.
        """
        return self.engine.variance(axes)

    def at(self, points: Sequence[Any]) -> tuple[Float[Tensor, " m"], Float[Tensor, " m"]]:
        """Mean and variance at points, given by their positions on each axis (m of them each).

        Cost: N for each point on a grid of N cells, r² for r features.
        """
        crosses = self.process.cross(points)
        if len({len(cross) for cross in crosses}) > 1:
            raise DataError("points must have one position on each axis for every point")
        mean = self.process.variance * _rows_times(crosses, self.solution)
        return mean, self.engine.variance_at(crosses)

    def sample(self, count: int = 1, *, seed: int = 0, axes: Axes | None = None) -> Float[Tensor, "count ..."]:
        """Functions drawn from the posterior, on the whole grid or on one of new positions.

        A function drawn from the prior, corrected by what it says wrongly of the observations: one solution for each.
        Paper: "Efficiently sampling functions from Gaussian process posteriors", 2020.
        """
        gp, generator = self.process, torch.Generator().manual_seed(seed)
        if axes is None:
            vectors, values = list(gp.pair.vectors), list(gp.pair.values)
            roots = [vector * value.sqrt() for vector, value in zip(vectors, values, strict=True)]
            crosses = list(gp.factors)
        else:
            crosses, roots = gp.cross(axes), []
            for place, given in enumerate(axes):
                own = gp.axes[place]
                both = own if given is None else torch.cat([own, _positions(given, place)])
                value, vector = torch.linalg.eigh(gp.kernels[place].matrix(both))
                roots.append(vector * value.clamp(min=0).sqrt())
        sizes = [len(cross) for cross in crosses]
        old = [root[: len(own)] for root, own in zip(roots, gp.axes, strict=True)]
        new = [root[len(root) - size :] for root, size in zip(roots, sizes, strict=True)]
        white = torch.randn((count, *(root.shape[1] for root in roots)), generator=generator, dtype=torch.float64)
        deviation = math.sqrt(gp.variance)
        observed = deviation * kron_apply(old, white)
        drawn = observed if axes is None else deviation * kron_apply(new, white)
        noise = math.sqrt(gp.noise) * torch.randn(observed.shape, generator=generator, dtype=torch.float64)
        weights = self.seen.weights
        if gp.noise_factors is not None:
            noise = kron_apply([torch.linalg.cholesky(factor) for factor in gp.noise_factors], noise)
        if weights is not None:
            noise = torch.where(weights > 0, noise / weights.clamp(min=torch.finfo(torch.float64).tiny).sqrt(), 0.0)
            observed = observed * (weights > 0)
        wrong = self.engine.solve(self.seen.values - observed - noise)
        return drawn + gp.variance * kron_apply(crosses, wrong)

    @cached_property
    def evidence(self) -> float:
        """The log marginal likelihood, as `GridGP.nll_and_gradient` has it."""
        if not self.seen.count:
            return 0.0
        return -self.process.likelihood(self.seen, self.engine.rank).nll


def _positions(given: Any, place: int) -> Tensor:
    try:
        axis = torch.as_tensor(given if isinstance(given, Tensor) else np.asarray(given)).to(torch.float64)
    except (TypeError, ValueError):
        raise DataError(f"axis {place} is no list of numbers: give the positions of its levels") from None
    if axis.ndim not in (1, 2) or not axis.numel():
        raise DataError(f"axis {place} has shape {tuple(axis.shape)}: give a list of positions, or of points")
    if not torch.isfinite(axis).all():
        raise DataError(f"axis {place} holds NaN or inf: give finite positions")
    return axis


def _by_lag(matrix: Tensor) -> Tensor:
    """The sums of a matrix over entries of equal ``|i - j|``."""
    n = len(matrix)
    place = torch.arange(n)
    lag = (place[:, None] - place[None, :]).abs().flatten()
    return matrix.new_zeros(n).index_add(0, lag, matrix.flatten())


def _rows_times(rows: Sequence[Tensor], tensor: Tensor) -> Tensor:
    """For each row number m: the tensor contracted with row m of every matrix."""
    count, rest = len(rows[0]), tensor.numel() // len(tensor)
    step = max(1, _CHUNK // max(1, rest))
    parts = []
    for first in range(0, count, step):
        part = rows[0][first : first + step] @ tensor.reshape(len(tensor), -1)
        for row in rows[1:]:
            part = torch.einsum("mn,mnq->mq", row[first : first + step], part.reshape(len(part), row.shape[1], -1))
        parts.append(part[:, 0])
    return torch.cat(parts) if parts else torch.zeros(0, dtype=torch.float64)
