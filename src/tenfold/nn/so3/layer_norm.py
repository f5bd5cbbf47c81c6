"""Each block of irreps to mean square one."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from tenfold.nn.so3._features import check_features, copies, positive
from tenfold.so3.irreps import Given, Irrep, Irreps
from tenfold.so3.layouts import Layout, join, known, split

_SCALAR = Irrep(0, 1)


class EquivariantLayerNorm(nn.Module):
    """Each block divided by the root of its mean square over copies and components; even scalars lose their mean first.

    On ``0e`` alone this is ``torch.nn.LayerNorm``.

    Args:
        irreps: irreps of input and output.
        eps: added to the mean square, so that zero stays zero with finite derivatives.
        affine: whether a factor is learned for each copy, and a number that is added for each ``0e``.
        layout: of input and output.
        dtype, device: of the parameters, as in ``torch.nn``.

    Raises:
        TenfoldError: irreps cannot be read, eps is not positive, or there is no such layout.

    Cost: about six operations for each number.
    Paper: "Equiformer: Equivariant Graph Attention Transformer for 3D Atomistic Graphs", 2023.
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
        self.weight = self.bias = None
        if affine:
            self.weight = nn.Parameter(torch.ones(self.irreps_in.num_irreps, dtype=dtype, device=device))
            self.bias = nn.Parameter(torch.zeros(self.irreps_in.count(_SCALAR), dtype=dtype, device=device))

    def forward(self, features: Float[Tensor, "*batch dim"]) -> Float[Tensor, "*batch dim"]:
        """Raises `DataError` where features have not these irreps or another dtype than the parameters."""
        check_features(features, self.irreps_in, self.layout, self.weight)
        found, used = [], 0
        weights = None if self.weight is None else copies(self.weight, self.irreps_in)
        for position, (block, part) in enumerate(
            zip(self.irreps_in, split(features, self.irreps_in, self.layout), strict=True)
        ):
            if block.mul:
                if block.ir == _SCALAR:
                    part = part - part.mean(dim=-2, keepdim=True)
                part = part * torch.rsqrt(part.square().mean(dim=(-2, -1), keepdim=True) + self.eps)
                if weights is not None:
                    part = part * weights[position]
                if self.bias is not None and block.ir == _SCALAR:
                    part = part + self.bias[used : used + block.mul, None]
                    used += block.mul
            found.append(part)
        return join(found, self.layout) if found else features

    def extra_repr(self) -> str:
        """Of which irreps."""
        return f"{self.irreps_in}, eps={self.eps}, affine={self.weight is not None}, layout={self.layout!r}"
