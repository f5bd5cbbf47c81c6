"""The whole feature vector to mean square one, every degree counting alike."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from tenfold.nn.so3._features import check_features, copies, positive
from tenfold.so3.irreps import Given, Irreps
from tenfold.so3.layouts import Layout, join, known, split


class EquivariantRMSNorm(nn.Module):
    """Features divided by the root of their mean square: over copies and components in each block, then over blocks.

    Unlike `EquivariantLayerNorm` it keeps the sizes of the blocks in relation to each other, and no block counts more
    for having more numbers.

    Args:
        irreps: irreps of input and output.
        eps: added to the mean square, so that zero stays zero with finite derivatives.
        affine: whether a factor is learned for each copy.
        layout: of input and output.
        dtype, device: of the factors, as in ``torch.nn``.

    Raises:
        TenfoldError: irreps cannot be read, eps is not positive, or there is no such layout.

    Cost: about four operations for each number.
    Paper: "EquiformerV2: Improved Equivariant Transformer for Scaling to Higher-Degree Representations", 2024.
    """

    def __init__(
        self,
        irreps: Given,
        *,
        eps: float = 1e-5,
        affine: bool = True,
        layout: Layout = "mul_ir",
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ) -> None:
        super().__init__()
        known(layout)
        self.irreps_in = self.irreps_out = Irreps(irreps)
        self.layout, self.eps = layout, positive("eps", eps)
        ones = torch.ones(self.irreps_in.num_irreps, dtype=dtype, device=device) if affine else None
        self.weight = None if ones is None else nn.Parameter(ones)

    def forward(self, features: Float[Tensor, "*batch dim"]) -> Float[Tensor, "*batch dim"]:
        """Raises `DataError` where features have not these irreps or another dtype than the factors."""
        check_features(features, self.irreps_in, self.layout, self.weight)
        blocks = split(features, self.irreps_in, self.layout)
        squares = [block.square().mean(dim=(-2, -1)) for block in blocks if block.shape[-2]]
        if not squares:
            return features
        scale = torch.rsqrt(torch.stack(squares).mean(dim=0) + self.eps)[..., None, None]
        if self.weight is None:
            return join([block * scale for block in blocks], self.layout)
        weights = copies(self.weight, self.irreps_in)
        return join([b * (scale * w) for b, w in zip(blocks, weights, strict=True)], self.layout)

    def extra_repr(self) -> str:
        """Of which irreps."""
        return f"{self.irreps_in}, eps={self.eps}, affine={self.weight is not None}, layout={self.layout!r}"
