"""Message passing whose convolution can be exchanged: what networks of `tetris` and `molecule` are made of."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import silu

from tenfold.nn.so3 import Convolution, Gate, Linear
from tenfold.so3 import ClebschGordanConvolution, GauntConvolution, Irreps, SO2Convolution, SO2MixingConvolution
from tenfold.so3.products import Convolution as Along
from tenfold.so3.products import Unsuited

CONVOLUTIONS = ("ClebschGordanConvolution", "SO2Convolution", "SO2MixingConvolution", "GauntConvolution")


def lengths_known(vectors: Tensor, centres: Tensor) -> Tensor:
    """What networks are told of each edge: bells of its length, as far apart as they are wide."""
    width = centres[1] - centres[0]
    return 2 * torch.exp(-(((vectors.norm(dim=-1, keepdim=True) - centres) / width) ** 2))


class Layer(nn.Module):
    """Messages of neighbours, mixed with what the node had itself, and gated."""

    def __init__(
        self, convolution: str, irreps_in: Irreps, irreps_out: Irreps, edge_numel: int, neighbours: float
    ) -> None:
        super().__init__()
        if convolution == "ClebschGordanConvolution":
            along = ClebschGordanConvolution(irreps_in, 2, irreps_out)
            self.messages: nn.Module = Convolution(along, edge_numel, hidden=(32,))
        else:
            self.messages = _Aligned(convolution, irreps_in, irreps_out, edge_numel)
        self.gate = gated(irreps_out)
        self.linear = Linear(self.messages.irreps_out + irreps_in, self.gate.irreps_in, bias=True)
        self.irreps_out = self.gate.irreps_out
        self.scale = neighbours**-0.5

    def forward(self, features: Tensor, vectors: Tensor, known: Tensor, source: Tensor, target: Tensor) -> Tensor:
        found = self.scale * self.messages(features, vectors, known, source=source, target=target)
        return self.gate(self.linear(torch.cat([found, features], dim=-1)))


def gated(irreps: Irreps) -> Gate:
    """SiLU of true scalars, tanh of the others, and a sigmoid for each other irrep."""
    scalars = Irreps([block for block in irreps if block.ir.l == 0])
    others = Irreps([block for block in irreps if block.ir.l])
    functions = [silu if block.ir.p == 1 else torch.tanh for block in scalars]
    return Gate(scalars, functions, Irreps([(others.num_irreps, "0e")]), torch.sigmoid, others)


class _Aligned(nn.Module):
    """Convolutions of functions on the sphere, for features that may be two: a true one and one that a mirror negates.

    Each function that comes in goes to each that comes out, so that no path is missing.
    """

    def __init__(self, convolution: str, irreps_in: Irreps, irreps_out: Irreps, edge_numel: int) -> None:
        super().__init__()
        self.dims = [block.dim for block in irreps_in]
        self.taken: list[list[int]] = []
        self.convolutions = nn.ModuleList()
        self.irreps_out = Irreps("")
        for taken in _functions(irreps_in):
            for made in _functions(irreps_out):
                inner, outer = (Irreps([i[n] for n in ns]) for i, ns in ((irreps_in, taken), (irreps_out, made)))
                try:
                    if convolution == "SO2Convolution":
                        along: Along = SO2Convolution(inner, outer, layout="mul_ir")
                    elif convolution == "GauntConvolution":
                        along = GauntConvolution(inner, 2, outer, layout="mul_ir")
                    else:
                        along = SO2MixingConvolution(inner, outer, layout="mul_ir")
                except Unsuited:  # as from scalars to pseudovectors
                    continue
                self.taken.append(taken)
                self.convolutions.append(Convolution(along, edge_numel, hidden=(32,)))
                self.irreps_out += outer

    def forward(self, features: Tensor, vectors: Tensor, known: Tensor, *, source: Tensor, target: Tensor) -> Tensor:
        blocks = features.split(self.dims, dim=-1)
        found = []
        for taken, layer in zip(self.taken, self.convolutions, strict=True):
            function = torch.cat([blocks[block] for block in taken], dim=-1)
            found.append(layer(function, vectors, known, source=source, target=target))
        return torch.cat(found, dim=-1)


def _functions(irreps: Irreps) -> list[list[int]]:
    """The blocks of each function, by degree."""
    order = sorted(range(len(irreps)), key=lambda number: irreps[number].ir.l)
    functions = ([n for n in order if irreps[n].ir.p * (-1) ** irreps[n].ir.l == parity] for parity in (1, -1))
    return [function for function in functions if function]
