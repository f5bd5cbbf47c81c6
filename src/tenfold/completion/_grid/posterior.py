"""What a Gaussian process on a grid says after observations: means, variances, samples."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from tenfold.completion._grid.dense import Dense
from tenfold.completion._grid.engine import Engine, Nothing, rows_times
from tenfold.completion._grid.features import Features
from tenfold.completion._grid.observed import Observed
from tenfold.completion._grid.prior import Axes, GridPrior, positions
from tenfold.completion._grid.whole import Whole
from tenfold.errors import DataError
from tenfold.linalg.kronecker import kron_apply

# Observations of a grid with holes up to which the dense covariance of them is factored.
DENSE = 1000


def engine(gp: GridPrior, seen: Observed, *, rank: int, tol: float = 1e-5, max_iterations: int = 1000) -> Engine:
    """The way of solving that fits what was observed."""
    if not seen.count:
        return Nothing(gp)
    if seen.whole:
        return Whole(gp, seen)
    if seen.count <= DENSE:
        return Dense.of(gp, seen)
    return Features(gp, seen, rank, tol, max_iterations)


@dataclass(frozen=True, eq=False)
class GridPosterior:
    """What a `GridGP` says after observations. Make one with `GridGP.condition`.

    Attributes:
        process: the prior.
        solution: the inverse covariance of the observations applied to their values; zero in the holes.
        solver: how it was found.
        residual: the relative residual of the solution, where it was iterated for or truncated.
    """

    process: GridPrior
    seen: Observed
    solution: Float[Tensor, "..."]
    engine: Engine
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
        mean = self.process.variance * rows_times(crosses, self.solution)
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
                both = own if given is None else torch.cat([own, positions(given, place)])
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
        return -self.engine.likelihood().with_repeats(self.seen.repeats, self.process.noise).nll


def posterior(gp: GridPrior, seen: Observed, *, tol: float, rank: int, max_iterations: int) -> GridPosterior:
    """`GridGP.condition` of what was checked already."""
    found = engine(gp, seen, rank=rank, tol=tol, max_iterations=max_iterations)
    solution = found.solve(seen.values)
    return GridPosterior(gp, seen, solution, found, found.name, found.residual)
