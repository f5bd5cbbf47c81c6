"""Few observations of a grid: exact, by the Cholesky factor of their covariance."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cached_property

import torch
from torch import Tensor

from tenfold.completion._grid.engine import CHUNK, Engine
from tenfold.completion._grid.observed import LOG_2PI, Likelihood, Observed
from tenfold.completion._grid.prior import Axes, GridPrior


class Dense(Engine):
    """Few observations: exact, by the Cholesky factor of their covariance."""

    name = "Cholesky"

    def __init__(self, gp: GridPrior, columns: Sequence[Tensor], values: Tensor, weights: Tensor | None) -> None:
        self.gp, self.columns, self.values = gp, columns, values
        self.parts = [factor[column][:, column] for factor, column in zip(gp.factors, columns, strict=True)]
        covariance = gp.variance * math.prod(self.parts[1:], start=self.parts[0])
        self.precision = (torch.ones_like(values) if weights is None else weights) / gp.noise
        covariance.diagonal().add_(self.precision.reciprocal())
        self.root = torch.linalg.cholesky(covariance)

    @classmethod
    def of(cls, gp: GridPrior, seen: Observed) -> Dense:
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
        step = max(1, CHUNK // max(1, len(self.values)))
        parts = []
        for start_at in range(0, len(cells), step):
            where = torch.unravel_index(cells[start_at : start_at + step], shape)
            parts.append(self.variance_at([cross[row] for cross, row in zip(crosses, where, strict=True)]))
        return torch.cat(parts).reshape(shape)

    def variance_at(self, crosses: Sequence[Tensor]) -> Tensor:
        step = max(1, CHUNK // max(1, len(self.values)))
        parts = []
        for first in range(0, len(crosses[0]), step):
            rows = [c[first : first + step][:, column] for c, column in zip(crosses, self.columns, strict=True)]
            cross = self.gp.variance * math.prod(rows[1:], start=rows[0])
            half = torch.linalg.solve_triangular(self.root, cross.T, upper=False)
            parts.append((self.gp.variance - half.square().sum(0)).clamp(min=0))
        return torch.cat(parts) if parts else torch.zeros(0, dtype=torch.float64)

    def likelihood(self) -> Likelihood:
        y, solved = self.values, self.solution
        nll = 0.5 * float(y @ solved) + float(self.root.diagonal().log().sum()) + 0.5 * len(y) * LOG_2PI
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
