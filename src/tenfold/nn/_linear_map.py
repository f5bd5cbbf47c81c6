"""What every linear layer of this room is: a matrix that need not be held, and a bias."""

from __future__ import annotations

import math
from abc import abstractmethod

import torch
from jaxtyping import Float
from torch import Tensor, nn

from tenfold.errors import DataError


class LinearMap(nn.Module):
    """``y = x W^T + b`` with a matrix ``W [out_features, in_features]`` of some structure.

    A subclass holds the numbers of the matrix and says how it acts (`_times`); bias, checks and the dense matrix are
    here.

    Attributes:
        in_features: length of the vectors that come in.
        out_features: length of the vectors that go out.
        bias: added to each vector that goes out, or None.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        bias: bool,
        dtype: torch.dtype | None,
        device: torch.device | str | None,
    ) -> None:
        super().__init__()
        self.in_features, self.out_features = in_features, out_features
        self.bias = nn.Parameter(torch.zeros(out_features, dtype=dtype, device=device)) if bias else None

    @abstractmethod
    def _times(self, rows: Float[Tensor, "batch in_features"]) -> Float[Tensor, "batch out_features"]:
        """``x W^T`` for each row."""

    @abstractmethod
    def to_dense(self) -> Float[Tensor, "out_features in_features"]:
        """The matrix, in full; gradients flow to its parameters."""

    @abstractmethod
    def flops(self, batch: int = 1) -> int:
        """Multiplications and additions that one call on ``batch`` vectors takes, the bias not counted."""

    @property
    def parameters_of_matrix(self) -> int:
        """The number of entries that make the matrix, without the bias."""
        return sum(p.numel() for p in self.parameters()) - (0 if self.bias is None else self.bias.numel())

    def forward(self, x: Float[Tensor, "*batch in_features"]) -> Float[Tensor, "*batch out_features"]:
        """Raises `DataError` where the last axis is not of ``in_features``."""
        shape = x.shape
        if not shape or shape[-1] != self.in_features:
            given = " x ".join(map(str, shape)) or "a single number"
            raise DataError(f"the layer takes vectors of {self.in_features} numbers along the last axis, not {given}")
        if len(shape) == 2:
            return self._mapped(x)
        rows = x.reshape(math.prod(shape[:-1]), self.in_features)
        return self._mapped(rows).view(*shape[:-1], self.out_features)

    def _mapped(self, rows: Float[Tensor, "batch in_features"]) -> Float[Tensor, "batch out_features"]:
        """``x W^T + b`` for each row, contiguous."""
        made = self._times(rows)
        return (made if self.bias is None else made + self.bias.to(made.dtype)).contiguous()

    def extra_repr(self) -> str:
        """What ``print`` shows between the brackets."""
        dense = self.in_features * self.out_features
        share = f", {self.parameters_of_matrix / dense:.3g} of a dense one" if dense else ""
        return (
            f"in_features={self.in_features}, out_features={self.out_features}, bias={self.bias is not None}, "
            f"{self.parameters_of_matrix:,} numbers{share}"
        )
