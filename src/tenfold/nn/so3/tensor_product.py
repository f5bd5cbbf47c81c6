"""A product of two features, with its weights."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from tenfold.nn.so3._weights import Weights
from tenfold.so3.products import Product


class TensorProduct(nn.Module):
    """Any product of `tenfold.so3` as a layer: it holds the weights, which all features share.

    Args:
        product: which one, like ``tn.so3.ClebschGordan.fully_connected("8x0e+8x1o", "0e+1o", "8x0e+8x1o")``.
        dtype, device: of the weights, as in ``torch.nn``.

    Cost: that of the product.
    Paper: that of the product.
    """

    def __init__(
        self,
        product: Product,
        *,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ) -> None:
        super().__init__()
        self.product = product
        self.irreps_in1, self.irreps_in2, self.irreps_out = product.irreps_in1, product.irreps_in2, product.irreps_out
        self.weights = Weights((product.weight_numel,), dtype=dtype, device=device)

    def forward(
        self, left: Float[Tensor, "*batch dim1"], right: Float[Tensor, "*batch dim2"]
    ) -> Float[Tensor, "*batch out"]:
        """Raises `DataError` where features have not the product's irreps or another dtype than the weights."""
        return self.product(left, right, self.weights())

    def extra_repr(self) -> str:
        """Which product."""
        return repr(self.product)
