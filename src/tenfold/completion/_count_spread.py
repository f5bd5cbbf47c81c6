"""How well the rates of counted cells are known: a normal approximation of the posterior of all logarithms together.

The unknowns are the logarithms of the entries of the stacked factors and, where detection is fitted, the weights of its
network, or of the last layer where that is large. In them the information of a cell is its mean times ``v v^T``, v
being the slope of the logarithm of the mean: of a factor's entry the share that its component has in the rate.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy.optimize import minimize_scalar
from torch import Tensor

from tenfold.completion._counts import Cells

# Above this many unknowns their covariance is kept in blocks: one for each row, one for the network.
DENSE = 2000
# Cells whose covariances are gathered at once.
_CHUNK = 4096
_NETWORK_PRECISION = 1.0


@dataclass(frozen=True, eq=False)
class Spread:
    """The covariance of the unknowns.

    Attributes:
        covariance: of all of them, or of each row's: (rows, rank, rank).
        network: where the rows are kept in blocks, the covariance of the network's weights; else of their number.
        dispersion: the variance of a count is ``mean + dispersion * mean^2``.
    """

    covariance: Tensor
    network: Float[Tensor, "h h"]
    dispersion: float

    def of_logarithms(
        self, rows: Int[Tensor, "m N"], shares: Float[Tensor, "m rank"], network: Float[Tensor, "m h"] | None = None
    ) -> Float[Tensor, " m"]:
        """The variance of the logarithm of the rate at cells, or of the mean count if ``network`` is given."""
        if self.covariance.ndim == 3:
            blocks = torch.einsum("mf,mkfg,mg->m", shares, self.covariance[rows], shares)
            return blocks if network is None else blocks + ((network @ self.network) * network).sum(1)
        entries = len(self.covariance) - len(self.network)
        parts = []
        for begin in range(0, len(rows), _CHUNK):
            some = slice(begin, begin + _CHUNK)
            places, slopes = _slopes(rows[some], shares[some])
            among = self.covariance[places[:, :, None], places[:, None, :]]
            parts.append(torch.einsum("ma,mab,mb->m", slopes, among, slopes))
            if network is not None:
                across = network[some] @ self.covariance[entries:, :entries]
                parts[-1] += 2 * (across.gather(1, places) * slopes).sum(1)
                parts[-1] += ((network[some] @ self.covariance[entries:, entries:]) * network[some]).sum(1)
        return torch.cat(parts) if parts else torch.zeros(0, dtype=torch.float64)


def shares(rows: Int[Tensor, "m N"], factors: Float[Tensor, "rows rank"]) -> Float[Tensor, "m rank"]:
    """The share of each component in the rates of cells."""
    parts = factors[rows].prod(1)
    total = parts.sum(1, keepdim=True)
    return torch.where(total > 0, parts / total.clamp(min=1e-300), 1 / factors.shape[1])


def spread(
    cells: Cells,
    factors: Float[Tensor, "rows rank"],
    means: Float[Tensor, " n"],
    prior: float,
    network: Float[Tensor, "n h"] | None = None,
) -> Spread:
    """Of fitted factors; ``network`` are the slopes of the logarithms of the means along the network's weights.

    The covariance is that of Poisson estimates from counts that may vary more than Poisson's, as `dispersion` finds.

    Costs n (N rank)^2 for the information and the cube of the number of unknowns; above `DENSE` of those, correlations
    between rows are left out, and it costs the cube of the rank for each row.
    """
    part = shares(cells.rows, factors)
    rank = factors.shape[1]
    extra = 0 if network is None else network.shape[1]
    unknowns = factors.numel() + extra
    weights = cells.weights * means
    ends = torch.zeros(2, extra, extra, dtype=torch.float64)
    if network is not None:
        ends[0], ends[1] = network.T @ (weights[:, None] * network), network.T @ ((weights * means)[:, None] * network)
    if unknowns <= DENSE:
        once, twice = _information(cells, part, weights, means, network, ends)
        inverse = torch.cholesky_inverse(_damped(once, prior, extra))
        fitted = float((inverse * once).sum())
        alpha = dispersion(cells, means, fitted)
        return Spread(inverse + alpha * inverse @ twice @ inverse, ends[0], alpha)
    blocks = torch.zeros(2, len(factors), rank, rank, dtype=torch.float64)
    for begin in range(0, len(cells), _CHUNK):
        some = slice(begin, begin + _CHUNK)
        outer = part[some, :, None] * part[some, None, :] * weights[some, None, None]
        inner = outer * means[some, None, None]
        for mode in range(len(cells.sizes)):
            blocks[0].index_add_(0, cells.rows[some, mode], outer)
            blocks[1].index_add_(0, cells.rows[some, mode], inner)
    inverse = torch.cholesky_inverse(_damped(blocks[0], prior, 0))
    fitted = float((inverse * blocks[0]).sum())
    net = torch.cholesky_inverse(_damped(ends[0], prior, extra)) if extra else ends[0]
    alpha = dispersion(cells, means, fitted + float((net * ends[0]).sum()))
    return Spread(inverse + alpha * inverse @ blocks[1] @ inverse, net + alpha * net @ ends[1] @ net, alpha)


def dispersion(cells: Cells, means: Float[Tensor, " n"], fitted: float) -> float:
    """The likeliest of negative binomial counts with these means; 0 where Poisson's are likelier.

    Residuals are made larger by what was fitted to them. Where nearly as much was fitted as was observed they say
    nothing; a tenth of the observations is taken to be free at least.
    """
    free = max(len(cells) - fitted, 0.1 * len(cells))
    means = means.clamp(min=1e-12 * max(float(means.max()), 1e-280))
    counts = (means + (cells.told - means) * math.sqrt(len(cells) / free)).clamp(min=0)
    largest = max(float(means.max()), float(counts.max()))

    def unlikely(logarithm: float) -> float:
        """Less what Poisson's counts have, so that nothing large cancels where both are nearly the same."""
        alpha = math.exp(logarithm)
        r = 1 / alpha
        gained = (
            torch.lgamma(counts + r) - math.lgamma(r) + torch.special.xlogy(counts, alpha * torch.ones_like(counts))
        )
        return -float((cells.weights * (gained - (counts + r) * torch.log1p(alpha * means) + means)).sum())

    # Beyond these a tenth of the variance of no count is moved, and nothing but zeros is expected.
    ends = math.log(1e-3 / largest), math.log(1e3)
    if ends[0] >= ends[1]:
        return 0.0
    found = minimize_scalar(unlikely, bounds=ends, method="bounded", options={"xatol": 1e-3})
    return math.exp(found.x) if found.fun < 0 else 0.0


def _slopes(
    rows: Int[Tensor, "m N"], part: Float[Tensor, "m rank"]
) -> tuple[Int[Tensor, "m entries"], Float[Tensor, "m entries"]]:
    """Where the entries of the rows of cells are among the unknowns, and the slopes along them."""
    rank = part.shape[1]
    return (rows[:, :, None] * rank + torch.arange(rank)).flatten(1), part.repeat(1, rows.shape[1])


def _information(
    cells: Cells, part: Tensor, weights: Tensor, means: Tensor, network: Tensor | None, ends: Float[Tensor, "2 h h"]
) -> tuple[Float[Tensor, "u u"], Float[Tensor, "u u"]]:
    """Of all unknowns together, and the same with each cell weighted by its mean once more."""
    from tenfold.completion import _count_kernels

    places, slopes = _slopes(cells.rows, part)
    entries = cells.begins[-1] * part.shape[1]
    among = np.zeros((2, entries, entries))
    _count_kernels.information(places.numpy(), slopes.numpy(), weights.numpy(), means.numpy(), among)
    both = []
    for layer, weighted in enumerate((weights, weights * means)):
        lower = torch.from_numpy(among[layer])
        across = torch.zeros(entries, ends.shape[1], dtype=torch.float64)
        if network is not None:
            for place, slope in zip(places.T, slopes.T, strict=True):
                across.index_add_(0, place, (weighted * slope)[:, None] * network)
        top = torch.cat((lower + lower.tril(-1).T, across), 1)
        both.append(torch.cat((top, torch.cat((across.T, ends[layer]), 1))))
    return both[0], both[1]


def _damped(information: Tensor, prior: float, extra: int) -> Tensor:
    """The Cholesky factor of the information with that of the prior."""
    size = information.shape[-1]
    largest = float(information.diagonal(dim1=-2, dim2=-1).max()) if information.numel() else 0.0
    # Scales may move from one mode to another: without a prior that direction is held by rounding only.
    held = torch.full((size,), max(prior, 1e-9 * largest, 1e-300), dtype=torch.float64)
    held[size - extra :] = max(_NETWORK_PRECISION, 1e-9 * largest)
    return torch.linalg.cholesky(information + held.diag())
