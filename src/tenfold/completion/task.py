"""`Task`: what is to be completed, as the methods of this room see it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from tenfold.errors import DataError


@dataclass(frozen=True, eq=False)
class Task:
    """Values at coordinates; each mode is a set of levels or an interval.

    Args:
        coordinates: a row for each observation, in float64. In a discrete mode they are whole numbers from 0 to its
            size; in a continuous one positions, with 0 and 1 the ends of what was observed (predictions may be asked
            for beyond).
        values: what was observed, in float64; of mean zero and variance one but for methods of counts.
        sizes: the number of levels of each discrete mode, None for a continuous one.
        weights: precisions of the observations, relative to one another; None for equal ones.
        attributes: what is known besides of each observation, a row each.

    Raises:
        DataError: shapes that do not agree, no observation, numbers that are not finite, a level outside its mode.
    """

    coordinates: Float[Tensor, "n N"]
    values: Float[Tensor, " n"]
    sizes: tuple[int | None, ...]
    weights: Float[Tensor, " n"] | None = None
    attributes: Float[Tensor, "n D"] | None = None

    def __post_init__(self) -> None:
        rows = len(self.values)
        if not rows:
            raise DataError("values is empty: give at least one observation")
        if self.coordinates.shape != (rows, len(self.sizes)):
            raise DataError(
                f"coordinates has shape {tuple(self.coordinates.shape)}: give a row for each of {rows} values and a "
                f"column for each of {len(self.sizes)} modes"
            )
        for name, given in (("weights", self.weights), ("attributes", self.attributes)):
            if given is not None and len(given) != rows:
                raise DataError(f"{name} has {len(given)} rows for {rows} values: give one for each")
        for name in ("coordinates", "values", "weights", "attributes"):
            given = getattr(self, name)
            if given is not None and not torch.isfinite(given).all():
                raise DataError(f"{name} holds NaN or inf: leave such observations out")
        for mode, size in enumerate(self.sizes):
            column = self.coordinates[:, mode]
            if size is not None and bool(((column < 0) | (column >= size) | (column != column.round())).any()):
                raise DataError(f"coordinates of mode {mode} must be whole numbers from 0 to {size - 1}")

    def __len__(self) -> int:
        return len(self.values)

    @property
    def order(self) -> int:
        """Number of modes N."""
        return len(self.sizes)

    @property
    def discrete(self) -> bool:
        """Whether every mode is a set of levels."""
        return None not in self.sizes

    def levels(self, mode: int) -> tuple[Float[Tensor, " levels"], Int[Tensor, " n"]]:
        """The levels of a mode in ascending order, and which of them each observation is at.

        Of a discrete mode all levels, also those of which nothing was observed; of a continuous one the positions that
        occur. Costs a sort of n numbers for continuous modes.
        """
        size = self.sizes[mode]
        if size is None:
            positions, index = torch.unique(self.coordinates[:, mode], return_inverse=True)
            return positions, index
        return torch.arange(size, dtype=torch.float64), self.coordinates[:, mode].long()

    def rows(self, chosen: Int[Tensor, " m"]) -> Task:
        """The same with some observations only."""
        return Task(
            self.coordinates[chosen],
            self.values[chosen],
            self.sizes,
            None if self.weights is None else self.weights[chosen],
            None if self.attributes is None else self.attributes[chosen],
        )
