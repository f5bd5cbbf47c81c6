"""A grid without holes, all cells with the same noise: exact, by eigenvectors."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from tenfold.completion._grid.engine import Engine, rows_times
from tenfold.completion._grid.observed import LOG_2PI, Likelihood, Observed
from tenfold.completion._grid.prior import Axes, GridPrior
from tenfold.linalg.kronecker import kron_apply, outer


class Whole(Engine):
    """All cells, with the same noise: exact, by eigenvectors."""

    name = "eigenvectors"

    def __init__(self, gp: GridPrior, seen: Observed) -> None:
        self.gp, self.seen, self.pair = gp, seen, gp.pair

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
        known = self.gp.variance**2 * rows_times(rows, (self.pair.spectrum() + self.gp.noise).reciprocal())
        return (self.gp.variance - known).clamp(min=0)

    def likelihood(self) -> Likelihood:
        pair, values, noise = self.pair, self.seen.values, self.gp.noise
        inside = kron_apply(pair.inverses, values)
        spectrum = pair.spectrum()
        inverse = (spectrum + noise).reciprocal()
        solved = inside * inverse
        nll = 0.5 * (
            float(torch.dot(inside.flatten(), solved.flatten()))
            - float(inverse.log().sum())
            + pair.log_noise
            + self.gp.cells * LOG_2PI
        )
        difference = inverse - solved.square()
        by_noise = 0.5 * noise * float(difference.sum())
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
            factors.append(0.5 * self.gp.variance * back.T @ gram @ back)
        squares = noise**2 * float(torch.dot(solved.flatten(), solved.flatten()))
        return Likelihood(nll, factors, by_variance, by_noise, squares)
