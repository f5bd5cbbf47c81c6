"""Irreps made longer or shorter by a function of their own length."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from tenfold.nn.so3._features import check_features, copies
from tenfold.so3.irreps import Given, Irreps
from tenfold.so3.layouts import Layout, join, known, split
from tenfold.so3.pointwise import Pointwise


class NormActivation(nn.Module):
    """Each copy of an irrep times a function of the mean square of its components: ``x f(|x|^2 / (2 l + 1) + b)``.

    The square makes it as smooth as the function everywhere, zero included; ``x f(|x|)`` or ``x f(|x|) / |x|``, which
    are also found under this name, have a kink or a jump there.

    Args:
        irreps: irreps of input and output.
        function: of a number; a module is a submodule.
        bias: whether a number is learned for each copy, which is added before the function.
        layout: of input and output.
        dtype, device: of the biases, as in ``torch.nn``.

    Raises:
        TenfoldError: irreps cannot be read, or there is no such layout.

    Cost: four operations for each number, and one call of the function for each copy.
    Paper: "Tensor field networks: Rotation- and translation-equivariant neural networks for 3D point clouds", 2018.
    """

    def __init__(
        self,
        irreps: Given,
        function: Pointwise = torch.sigmoid,
        *,
        bias: bool = False,
        layout: Layout = "mul_ir",
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ) -> None:
        super().__init__()
        known(layout)
        self.irreps_in = self.irreps_out = Irreps(irreps)
        self.layout, self.function = layout, function
        biases = torch.zeros(self.irreps_in.num_irreps, dtype=dtype, device=device) if bias else None
        self.bias = None if biases is None else nn.Parameter(biases)

    def forward(self, features: Float[Tensor, "*batch dim"]) -> Float[Tensor, "*batch dim"]:
        """Raises `DataError` where features have not these irreps or another dtype than the biases."""
        check_features(features, self.irreps_in, self.layout, next(self.parameters(), None))
        blocks = split(features, self.irreps_in, self.layout)
        if not blocks:
            return features
        squares = torch.cat([block.square().mean(dim=-1) for block in blocks], dim=-1)
        factors = self.function(squares if self.bias is None else squares + self.bias)
        return join([b * f for b, f in zip(blocks, copies(factors, self.irreps_in), strict=True)], self.layout)

    def extra_repr(self) -> str:
        """Of which irreps."""
        return f"{self.irreps_in}, bias={self.bias is not None}, layout={self.layout!r}"
