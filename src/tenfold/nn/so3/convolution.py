"""Messages along edges, with weights that a small network makes of what is known of each edge."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from tenfold._arguments import whole_number
from tenfold.errors import DataError
from tenfold.nn.so3._weights import Weights
from tenfold.so3._given import check_tensor
from tenfold.so3.products import Convolution as Along
from tenfold.so3.products import SO2MixingConvolution

# The mean square of SiLU of a standard normal number, to the power -1/2.
_SILU = 1.6765


class Convolution(nn.Module):
    """Any convolution of `tenfold.so3` as a layer.

    Its weights are those of a network with SiLU between its layers, of numbers that do not turn, such as functions of
    the length of each edge; without such numbers, one parameter for all edges. The weights of `SO2MixingConvolution`
    are always a parameter: there the network makes its ``radial`` factors.

    Args:
        convolution: which one, like ``tn.so3.ClebschGordanConvolution("8x0e+8x1o", 2, "0e+1o")``.
        edge_numel: how many numbers are known of each edge; 0: none, and edges share the weights.
        hidden: the widths of the network's layers in between.
        dtype, device: of the parameters, as in ``torch.nn``.

    Raises:
        TenfoldError: a width is not positive.

    Cost: that of the convolution, and of the network for each edge.
    Paper: that of the convolution.
    """

    def __init__(
        self,
        convolution: Along,
        edge_numel: int = 0,
        *,
        hidden: Sequence[int] = (64,),
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ) -> None:
        super().__init__()
        self.convolution = convolution
        self.irreps_in, self.irreps_out = convolution.irreps_in, convolution.irreps_out
        self.edge_numel = whole_number("edge_numel", edge_numel, 0)
        widths = [self.edge_numel, *(whole_number("each of hidden", width, 1) for width in hidden)]
        made, kept = convolution.weight_numel, 0 if self.edge_numel else convolution.weight_numel
        if isinstance(convolution, SO2MixingConvolution):
            made, kept = convolution.radial_numel, convolution.weight_numel
        self.weights = Weights((kept,), dtype=dtype, device=device)
        self.network = nn.Sequential()
        if self.edge_numel:
            for before, after in pairwise(widths):
                self.network.append(nn.Linear(before, after, dtype=dtype, device=device)).append(nn.SiLU())
            self.network.append(nn.Linear(widths[-1], made, dtype=dtype, device=device))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Such that numbers of variance one lead to weights of variance one, which convolutions are normalised for."""
        self.weights.reset_parameters()
        gain = 1.0
        for layer in self.network:
            if isinstance(layer, nn.Linear):
                nn.init.normal_(layer.weight, std=gain * layer.in_features**-0.5)
                nn.init.zeros_(layer.bias)
                gain = _SILU

    def forward(
        self,
        features: Float[Tensor, "nodes dim"],
        vectors: Float[Tensor, "edges 3"],
        known: Float[Tensor, "edges edge_numel"] | None = None,
        *,
        source: Int[Tensor, " edges"] | None = None,
        target: Int[Tensor, " edges"] | None = None,
        nodes: int | None = None,
    ) -> Float[Tensor, "nodes out"]:
        """The messages, as of the convolution; ``known`` goes to the network.

        Raises:
            DataError: shapes or dtypes do not fit, or ``known`` is missing or not wanted.
        """
        if self.edge_numel:
            if known is not None:
                check_tensor("known", known)
            if known is None or known.shape != (vectors.shape[0], self.edge_numel):
                shape = "missing" if known is None else f"of shape {tuple(known.shape)}"
                raise DataError(f"known must be of shape ({vectors.shape[0]}, {self.edge_numel}), not {shape}")
            weight = self.network(known)
            if isinstance(self.convolution, SO2MixingConvolution):
                return self.convolution(
                    features, vectors, self.weights(), source=source, target=target, nodes=nodes, radial=weight
                )
        elif known is not None:
            raise DataError("known must be None: this layer has edge_numel=0")
        else:
            weight = self.weights()
        return self.convolution(features, vectors, weight, source=source, target=target, nodes=nodes)

    def extra_repr(self) -> str:
        """Which convolution."""
        return repr(self.convolution)
