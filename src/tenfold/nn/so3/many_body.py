"""Products of a feature with itself, with weights, for each chemical element if wanted."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from tenfold._arguments import whole_number
from tenfold.errors import DataError
from tenfold.nn.so3._weights import Weights
from tenfold.so3.products import ManyBodyProduct


class ManyBody(nn.Module):
    """Any product of one feature with itself of `tenfold.so3` as a layer.

    Args:
        product: which one, like ``tn.so3.SymmetricContraction("8x0e+8x1o+8x2e", "8x0e+8x1o", 3)``.
        species: how many kinds of nodes have weights of their own; None: all nodes share them.
        dtype, device: of the weights, as in ``torch.nn``.

    Raises:
        TenfoldError: species is not positive.

    Cost: that of the product.
    Paper: that of the product.
    """

    def __init__(
        self,
        product: ManyBodyProduct,
        species: int | None = None,
        *,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ) -> None:
        super().__init__()
        self.product = product
        self.irreps_in, self.irreps_out = product.irreps_in, product.irreps_out
        self.species = None if species is None else whole_number("species", species, 1)
        rows = () if self.species is None else (self.species,)
        self.weights = Weights((*rows, product.weight_numel), dtype=dtype, device=device)

    def forward(
        self, features: Float[Tensor, "*batch dim"], species: Int[Tensor, "*batch"] | None = None
    ) -> Float[Tensor, "*batch out"]:
        """The product; ``species`` numbers the kind of each node, from 0.

        Raises:
            DataError: shapes or dtypes do not fit, or species are missing or not wanted.
        """
        if (species is None) != (self.species is None):
            wanted = "None" if self.species is None else f"one of {self.species} numbers from 0 for each feature"
            raise DataError(f"species must be {wanted}")
        return self.product(features, self.weights(), species)

    def extra_repr(self) -> str:
        """Which product."""
        return repr(self.product)
