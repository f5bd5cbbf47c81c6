"""Whole irreps set to zero at random while a network is trained."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor, nn

from tenfold._arguments import real_number
from tenfold.errors import TenfoldError
from tenfold.nn.so3._features import check_features, copies
from tenfold.so3.irreps import Given, Irreps
from tenfold.so3.layouts import Layout, join, known, split


class Dropout(nn.Module):
    """Each copy of an irrep is dropped with all its components, or kept and divided by the probability to be kept.

    Dropping components one by one would break equivariance. Every feature vector of a batch draws for itself, from
    torch's generator, as ``torch.nn.Dropout`` does; in evaluation mode nothing happens.

    Args:
        irreps: irreps of input and output.
        p: the probability to be dropped.
        layout: of input and output.

    Raises:
        TenfoldError: irreps cannot be read, p is not between 0 and 1, or there is no such layout.

    Cost: one random number for each copy, one multiplication for each number.
    Paper: "e3nn: Euclidean neural networks", 2022.
    """

    def __init__(self, irreps: Given, p: float = 0.5, *, layout: Layout = "mul_ir") -> None:
        super().__init__()
        known(layout)
        self.irreps_in = self.irreps_out = Irreps(irreps)
        self.layout, self.p = layout, real_number("p", p, "a probability")
        if not 0 <= self.p <= 1:
            raise TenfoldError(f"p must be between 0 and 1, not {self.p:g}")

    def forward(self, features: Float[Tensor, "*batch dim"]) -> Float[Tensor, "*batch dim"]:
        """Raises `DataError` where features have not these irreps."""
        check_features(features, self.irreps_in, self.layout)
        if not self.training or not self.p or not len(self.irreps_in):
            return features
        kept = features.new_ones((*features.shape[:-1], self.irreps_in.num_irreps))
        kept = nn.functional.dropout(kept, self.p)
        blocks = split(features, self.irreps_in, self.layout)
        return join([b * k for b, k in zip(blocks, copies(kept, self.irreps_in), strict=True)], self.layout)

    def extra_repr(self) -> str:
        """Of which irreps."""
        return f"{self.irreps_in}, p={self.p:g}, layout={self.layout!r}"
