"""What was observed of a grid, and how likely it is."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from tenfold.completion._grid.prior import GridPrior
from tenfold.errors import DataError

LOG_2PI = math.log(2 * math.pi)


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
        nll = 0.5 * (repeats.count * (LOG_2PI + math.log(noise)) + repeats.within / noise - repeats.log_weights)
        return self._replace(
            nll=self.nll + nll,
            by_noise=self.by_noise + 0.5 * (repeats.count - repeats.within / noise),
            squares=self.squares + repeats.within,
        )


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
    def of(cls, gp: GridPrior, values: Any, weights: Any = None) -> Observed:
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
