"""A grid with holes: leading eigenpairs, and conjugate gradients for what they leave."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import torch
from torch import Tensor

from tenfold.completion._grid.engine import CHUNK, Engine
from tenfold.completion._grid.observed import LOG_2PI, Likelihood, Observed
from tenfold.completion._grid.prior import Axes, GridPrior
from tenfold.linalg.conjugate_gradients import conjugate_gradients
from tenfold.linalg.kronecker import kron_apply
from tenfold.linalg.masked_gram import MaskedGram

# Eigenvalues of the prior below this part of the variance of the noise are left to conjugate gradients.
_NEGLIGIBLE = 1e-3


class Features(Engine):
    """Many observations and holes: leading eigenpairs, and conjugate gradients for what they leave."""

    def __init__(self, gp: GridPrior, seen: Observed, rank: int, tol: float = 1e-5, max_iterations: int = 1000) -> None:
        self.gp, self.seen, self.tol, self.max_iterations = gp, seen, tol, max_iterations
        assert seen.weights is not None
        self.precisions = seen.weights / gp.noise
        self.mask = (seen.weights > 0).to(torch.float64)
        self.deviations = torch.where(seen.weights > 0, gp.noise / seen.weights, 0.0)
        self.values, self.vectors = gp.eigenpairs()
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
            solution, self.residual, iterations = found.solution.reshape(rows.shape), *found[1:]
            self.name = f"{self.gram.rank} eigenpairs and {iterations} conjugate gradients"
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
        step = max(1, CHUNK // max(1, gram.rank))
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
        nll = 0.5 * (float((y * solved).sum()) + gram.log_determinant() + self.seen.count * LOG_2PI + left)
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
