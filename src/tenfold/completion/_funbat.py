"""What both forms of functional Bayesian Tucker share: modes, messages, noise, hyper-parameters, the bound."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from tenfold.completion._funbat_sums import Sorted
from tenfold.completion._registry import Callback, Step
from tenfold.completion.model import Prediction, State
from tenfold.completion.task import Task
from tenfold.errors import DataError, TenfoldError
from tenfold.linalg.state_space import Chain, Smoothed, independent, matern, matern_slopes, smooth

# Gamma prior on the precision of the noise: as if one value had been seen with a square of a thousandth of the variance
# of all of them.
SHAPE, RATE = 0.5, 5e-4
# Logarithms of length scales, of which the range of a mode is one, and of variances stay within these.
_LENGTHS = math.log(1e-4), math.log(30.0)
_VARIANCES = math.log(1e-12), math.log(1e6)
# Steps of the logarithms of hyper-parameters: the first, the smallest, the largest, and how they change while the
# slope keeps its sign and when it does not.
_FIRST_STEP, _STEPS, _LONGER, _SHORTER = 0.1, (1e-4, 1.0), 1.3, 0.4
# At most so many query levels are inserted at a time, and so many rows are predicted at a time.
_QUERIES, _ROWS = 20_000, 65_536


def pairs(rank: int) -> tuple[Tensor, Tensor, Tensor]:
    """The places ``a <= c`` of a symmetric matrix, and how often each stands in it."""
    a, c = torch.triu_indices(rank, rank)
    return a, c, torch.where(a == c, 1.0, 2.0).to(torch.float64)


def folded(matrices: Tensor) -> Tensor:
    """The upper triangles of symmetric matrices."""
    a, c, _ = pairs(matrices.shape[-1])
    return matrices[..., a, c]


def unfolded(upper: Tensor, rank: int) -> Tensor:
    """The inverse of `folded`."""
    a, c, _ = pairs(rank)
    full = upper.new_empty(*upper.shape[:-1], rank, rank)
    full[..., a, c] = upper
    full[..., c, a] = upper
    return full


@dataclass
class Mode:
    """One mode: its levels, its prior and its posterior.

    Attributes:
        positions: ascending; for a discrete mode 0, 1, ...
        smoothness: of the Matern prior, None for a discrete mode.
        mean: of the components at each level.
        second: the upper triangles of ``E[u u^T]``.
        precision: the upper triangles of what the observations say.
        shift: the same, times where.
        log_length: of each component.
        log_variance: of each component.
        steps: of the last two, how far to try.
        slopes: their signs last time.
        inner: ``E[log of the factor]`` less the evidence: the divergence of the posterior from the prior.
    """

    positions: Tensor
    smoothness: float | None
    mean: Tensor
    second: Tensor
    precision: Tensor
    shift: Tensor
    log_length: Tensor
    log_variance: Tensor
    steps: Tensor
    slopes: Tensor
    divergence: float = 0.0

    @property
    def rank(self) -> int:
        return self.mean.shape[1]

    def chain(self, positions: Tensor, log_length: Tensor, log_variance: Tensor) -> Chain:
        if self.smoothness is None:
            return independent(len(positions), log_variance.exp())
        return matern(positions, log_length.exp(), log_variance.exp(), self.smoothness)

    def smoothed(self, log_length: Tensor, log_variance: Tensor, slopes: bool) -> tuple[Smoothed, Tensor | None]:
        chain = self.chain(self.positions, log_length, log_variance)
        found = smooth(chain, unfolded(self.precision, self.rank), self.shift, slopes=slopes)
        if not slopes:
            return found, None
        if self.smoothness is None:
            assert found.by_stationary is not None
            by_variance = (found.by_stationary * chain.stationary).sum((1, 2))
            return found, torch.stack([torch.zeros_like(by_variance), by_variance])
        return found, torch.stack(matern_slopes(chain, self.positions, log_length.exp(), found, self.smoothness))

    def update(self, learn: bool, shared: bool) -> None:
        """The posterior for the present messages, and a step of the hyper-parameters if the evidence rises by it."""
        found, slopes = self.smoothed(self.log_length, self.log_variance, learn)
        if slopes is not None:
            if shared:
                slopes = torch.stack([slopes[0].mean().expand_as(slopes[0]), slopes[1]])
            signs = slopes.sign()
            same = signs * self.slopes
            self.steps = (self.steps * torch.where(same > 0, _LONGER, torch.where(same < 0, _SHORTER, 1.0))).clamp(*_STEPS)
            self.slopes = signs
            log_length = (self.log_length + signs[0] * self.steps[0]).clamp(*_LENGTHS)
            log_variance = (self.log_variance + signs[1] * self.steps[1]).clamp(*_VARIANCES)
            tried, _ = self.smoothed(log_length, log_variance, False)
            if tried.evidence >= found.evidence:
                found, self.log_length, self.log_variance = tried, log_length, log_variance
            else:
                self.steps = (self.steps * _SHORTER).clamp(*_STEPS)
        self.mean = found.mean
        self.second = folded(found.covariance + found.mean[:, :, None] * found.mean[:, None, :])
        *_, times = pairs(self.rank)
        inside = float((self.shift * self.mean).sum() - 0.5 * (self.precision * self.second * times).sum())
        self.divergence = inside - found.evidence

    def at(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        """``E[u]`` and the upper triangles of ``E[u u^T]`` anywhere: levels of which nothing is seen are inserted."""
        if self.smoothness is None:
            index = positions.long()
            return self.mean[index], self.second[index]
        wanted, index = torch.unique(positions, return_inverse=True)
        means, seconds = [], []
        for part in wanted.split(_QUERIES):
            every, place = torch.unique(torch.cat([self.positions, part]), return_inverse=True)
            own, asked = place[: len(self.positions)], place[len(self.positions) :]
            precision = self.precision.new_zeros(len(every), self.rank, self.rank)
            precision[own] = unfolded(self.precision, self.rank)
            shift = self.shift.new_zeros(len(every), self.rank)
            shift[own] = self.shift
            found = smooth(self.chain(every, self.log_length, self.log_variance), precision, shift)
            means.append(found.mean[asked])
            seconds.append(folded(found.covariance + found.mean[:, :, None] * found.mean[:, None, :])[asked])
        return torch.cat(means)[index], torch.cat(seconds)[index]
