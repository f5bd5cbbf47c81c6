"""What solves with the covariance of the observations of a grid: what each of the ways can do."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from tenfold.completion._grid.observed import Likelihood
from tenfold.completion._grid.prior import Axes, GridPrior

# Numbers that a part of the covariance between new points and cells may hold at once.
CHUNK = 2**24


class Engine:
    """What solves with the covariance of the observations."""

    name: str
    residual: float = 0.0

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


class Nothing(Engine):
    """No observation: the posterior is the prior."""

    name = "nothing observed"

    def __init__(self, gp: GridPrior) -> None:
        self.gp = gp

    def solve(self, right: Tensor) -> Tensor:
        return torch.zeros_like(right)

    def variance(self, axes: Axes | None) -> Tensor:
        shape = self.gp.shape if axes is None else tuple(len(cross) for cross in self.gp.cross(axes))
        return torch.full(shape, self.gp.variance, dtype=torch.float64)

    def variance_at(self, crosses: Sequence[Tensor]) -> Tensor:
        return torch.full((len(crosses[0]),), self.gp.variance, dtype=torch.float64)


def rows_times(rows: Sequence[Tensor], tensor: Tensor) -> Tensor:
    """For each row number m: the tensor contracted with row m of every matrix."""
    count, rest = len(rows[0]), tensor.numel() // len(tensor)
    step = max(1, CHUNK // max(1, rest))
    parts = []
    for first in range(0, count, step):
        part = rows[0][first : first + step] @ tensor.reshape(len(tensor), -1)
        for row in rows[1:]:
            part = torch.einsum("mn,mnq->mq", row[first : first + step], part.reshape(len(part), row.shape[1], -1))
        parts.append(part[:, 0])
    return torch.cat(parts) if parts else torch.zeros(0, dtype=torch.float64)
