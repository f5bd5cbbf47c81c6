"""How well the rates of counted cells are known: a normal approximation of the posterior of all logarithms together.

The unknowns are the logarithms of the entries of the stacked factors. In them the information of a cell is its mean
times ``v v^T``, v being the slope of the logarithm of the mean: of an entry the share that its component has in the
rate.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy.optimize import minimize, minimize_scalar
from torch import Tensor

from tenfold.completion._counts import Cells

# Above this many unknowns their covariance is kept in blocks, one for each row.
_DENSE = 2000
# Cells whose covariances are gathered at once.
_CHUNK = 4096


@dataclass(frozen=True, eq=False)
class Spread:
    """The covariance of the unknowns: of all of them, or of each row's, (rows, rank, rank)."""

    covariance: Tensor

    def of_logarithms(self, rows: Int[Tensor, "m N"], shares: Float[Tensor, "m rank"]) -> Float[Tensor, " m"]:
        """The variance of the logarithm of the rate at cells."""
        if self.covariance.ndim == 3:
            return torch.einsum("mf,mkfg,mg->m", shares, self.covariance[rows], shares)
        parts = []
        for begin in range(0, len(rows), _CHUNK):
            some = slice(begin, begin + _CHUNK)
            places, slopes = _slopes(rows[some], shares[some])
            among = self.covariance[places[:, :, None], places[:, None, :]]
            parts.append(torch.einsum("ma,mab,mb->m", slopes, among, slopes))
        return torch.cat(parts) if parts else torch.zeros(0, dtype=torch.float64)


def shares(rows: Int[Tensor, "m N"], factors: Float[Tensor, "rows rank"]) -> Float[Tensor, "m rank"]:
    """The share of each component in the rates of cells."""
    parts = factors[rows].prod(1)
    total = parts.sum(1, keepdim=True)
    return torch.where(total > 0, parts / total.clamp(min=1e-300), 1 / factors.shape[1])


class Information:
    """What cells with these means say of the unknowns, and what the prior adds.

    Costs n (N rank)^2 and the cube of the number of unknowns; above 2,000 of those, correlations between rows are left
    out, and it costs the cube of the rank for each row.

    Attributes:
        fitted: how many numbers the cells determine; no more than there are unknowns.
    """

    def __init__(
        self, cells: Cells, factors: Float[Tensor, "rows rank"], means: Float[Tensor, " n"], prior: float
    ) -> None:
        self.cells, self.part, self.means = cells, shares(cells.rows, factors), means
        self.rows, self.dense = len(factors), factors.numel() <= _DENSE
        once = self._of(cells.weights * means)
        self.inverse = torch.cholesky_inverse(_damped(once, prior))
        self.fitted = float((self.inverse * once).sum())

    def spread(self, beyond: float | Float[Tensor, " n"]) -> Spread:
        """Where the variance of a count is its mean plus ``beyond`` times the square of its mean."""
        more = self._of(self.cells.weights * self.means * (beyond * self.means))
        return Spread(self.inverse + self.inverse @ more @ self.inverse)

    def _of(self, weights: Float[Tensor, " n"]) -> Tensor:
        """The sum of ``weights`` times ``v v^T``."""
        from tenfold.completion import _count_kernels

        rank = self.part.shape[1]
        if self.dense:
            places, slopes = _slopes(self.cells.rows, self.part)
            lower = np.zeros((self.rows * rank, self.rows * rank))
            _count_kernels.information(places.numpy(), slopes.numpy(), weights.numpy(), lower)
            return torch.from_numpy(lower + np.tril(lower, -1).T)
        blocks = torch.zeros(self.rows, rank, rank, dtype=torch.float64)
        for begin in range(0, len(self.cells), _CHUNK):
            some = slice(begin, begin + _CHUNK)
            outer = self.part[some, :, None] * self.part[some, None, :] * weights[some, None, None]
            for mode in range(len(self.cells.sizes)):
                blocks.index_add_(0, self.cells.rows[some, mode], outer)
        return blocks


class Excess:
    """How likely counts are with more variance than Poisson's, given their means and how much was fitted to them.

    Residuals are made larger by what was fitted to them. Where nearly as much was fitted as was observed they say
    nothing; a tenth of the observations is taken to be free at least.
    """

    def __init__(self, cells: Cells, means: Float[Tensor, " n"], fitted: float) -> None:
        free = max(len(cells) - fitted, 0.1 * len(cells))
        self.weights = cells.weights
        self.means = means.clamp(min=1e-12 * max(float(means.max()), 1e-280))
        self.counts = (self.means + (cells.told - self.means) * math.sqrt(len(cells) / free)).clamp(min=0)
        # Beyond these a thousandth of the variance of no count is moved, and nothing but zeros is expected.
        self.least, self.most = 1e-3 / max(float(self.means.max()), float(self.counts.max())), 1e3

    def unlikely(self, beyond: Float[Tensor, " n"]) -> float:
        """Negative binomial counts of variance ``mean + beyond mean^2``, in nats.

        Less what Poisson's counts have, so that nothing large cancels where both are nearly the same.
        """
        counts, means = self.counts, self.means
        r = 1 / beyond
        gained = torch.lgamma(counts + r) - torch.lgamma(r) + torch.special.xlogy(counts, beyond)
        return -float((self.weights * (gained - (counts + r) * torch.log1p(beyond * means) + means)).sum())

    def dispersion(self) -> float:
        """The likeliest, the same for all counts; 0 where Poisson's are likelier."""
        if self.least >= self.most:
            return 0.0
        found = minimize_scalar(
            lambda logarithm: self.unlikely(torch.full_like(self.means, math.exp(logarithm))),
            bounds=(math.log(self.least), math.log(self.most)),
            method="bounded",
            options={"xatol": 1e-3},
        )
        return math.exp(found.x) if found.fun < 0 else 0.0

    def dispersion_beside(self, doubt: Float[Tensor, " n"]) -> tuple[float, float]:
        """The likeliest where counts have ``times doubt`` besides, and the times.

        A prior keeps the logarithm of the times around zero, within two or so, where counts are too few to tell.
        """
        if self.least >= self.most:
            return 0.0, 1.0

        def unlikely(logarithms: np.ndarray) -> float:
            alpha, times = np.exp(np.clip(logarithms, math.log(self.least), math.log(self.most)))
            beyond = (alpha + times * doubt).clamp(self.least, self.most)
            return self.unlikely(beyond) + float(logarithms[1] ** 2) / 8

        first = max(math.log(self.least), -5.0)
        found = minimize(unlikely, [first, 0.0], method="Nelder-Mead", options={"xatol": 1e-2, "fatol": 1e-3})
        alpha, times = np.exp(np.clip(found.x, math.log(self.least), math.log(self.most))).tolist()
        none = unlikely(np.array([math.log(self.least), found.x[1]]))
        return (0.0 if none <= found.fun + 1e-3 else alpha), times


def _slopes(
    rows: Int[Tensor, "m N"], part: Float[Tensor, "m rank"]
) -> tuple[Int[Tensor, "m entries"], Float[Tensor, "m entries"]]:
    """Where the entries of the rows of cells are among the unknowns, and the slopes along them."""
    rank = part.shape[1]
    return (rows[:, :, None] * rank + torch.arange(rank)).flatten(1), part.repeat(1, rows.shape[1])


def _damped(information: Tensor, prior: float) -> Tensor:
    """The Cholesky factor of the information with that of the prior."""
    largest = float(information.diagonal(dim1=-2, dim2=-1).max()) if information.numel() else 0.0
    # Scales may move from one mode to another: without a prior that direction is held by rounding only.
    held = max(prior, 1e-9 * largest, 1e-300)
    return torch.linalg.cholesky(information + held * torch.eye(information.shape[-1], dtype=torch.float64))
