"""Scalars that say how much of each other irrep passes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from tenfold.errors import TenfoldError
from tenfold.nn.so3._features import check_features
from tenfold.nn.so3.activation import Activation
from tenfold.so3.irreps import Block, Given, Irrep, Irreps
from tenfold.so3.layouts import Layout, join, known, split
from tenfold.so3.pointwise import Pointwise


class Gate(nn.Module):
    """Scalars through a function, and every other irrep times a function of a scalar of its own.

    The same as e3nn's ``nn.Gate``: the input has all three kinds in one feature vector, sorted and simplified, which
    `Linear` makes best; `irreps_in` says it. The output has the scalars first, then what was gated.

    Args:
        scalars: irreps of the scalars that stay.
        scalar_functions: one for each block of them, or a single one; see `Activation`.
        gates: irreps of the scalars that gate, as many as there are irreps to be gated.
        gate_functions: the same for them.
        gated: irreps that are gated. An odd gate changes their parity.
        normalize: as in `Activation`.
        layout: of input and output.

    Attributes:
        irreps_in: irreps of the input.
        irreps_out: irreps of the output.

    Raises:
        EquivarianceError: a function is not allowed.
        TenfoldError: scalars or gates are none, or gates are not as many as what they gate.

    Cost: that of the functions, and one multiplication for each number.
    Paper: "3D Steerable CNNs: Learning Rotationally Equivariant Features in Volumetric Data", 2018.
    """

    def __init__(
        self,
        scalars: Given,
        scalar_functions: Pointwise | Sequence[Pointwise | None],
        gates: Given,
        gate_functions: Pointwise | Sequence[Pointwise | None],
        gated: Given,
        *,
        normalize: bool = True,
        layout: Layout = "mul_ir",
    ) -> None:
        super().__init__()
        known(layout)
        scalars, gates, gated = Irreps(scalars), Irreps(gates), Irreps(gated)
        for name, irreps in (("scalars", scalars), ("gates", gates)):
            if any(block.ir.l for block in irreps):
                raise TenfoldError(f"{name} must be of degree 0, not '{irreps}'")
        if gates.num_irreps != gated.num_irreps:
            raise TenfoldError(f"gates must be as many as the {gated.num_irreps} of '{gated}', not {gates.num_irreps}")
        self.layout = layout
        self.scalar_activation = Activation(scalars, scalar_functions, normalize=normalize)
        self.gate_activation = Activation(gates, gate_functions, normalize=normalize)
        together = scalars + gates + gated
        self.irreps_in = together.sort().simplify()
        places = _places(together)
        self._scalars = [place for place in places[: len(scalars)] if place.mul]
        self._gates = [place for place in places[len(scalars) : len(scalars) + len(gates)] if place.mul]
        pieces = _cut(self.gate_activation.irreps_out, gated, places[len(scalars) + len(gates) :])
        self._gated = [place for place, _ in pieces]
        self.irreps_out = self.scalar_activation.irreps_out + Irreps([block for _, block in pieces])

    def forward(self, features: Float[Tensor, "*batch dim_in"]) -> Float[Tensor, "*batch dim_out"]:
        """Raises `DataError` where features have not the irreps of `irreps_in`."""
        check_features(features, self.irreps_in, self.layout, next(self.parameters(), None))
        blocks = split(features, self.irreps_in, self.layout)
        found = self.scalar_activation(_numbers(blocks, self._scalars, features))
        if not self._gated:
            return found
        gates = self.gate_activation(_numbers(blocks, self._gates, features))
        factors = gates.unsqueeze(-1).split([place.mul for place in self._gated], dim=-2)
        gated = [place.of(blocks) * factor for place, factor in zip(self._gated, factors, strict=True)]
        return torch.cat([found, join(gated, self.layout)], dim=-1)

    def extra_repr(self) -> str:
        """What the layer maps to what."""
        return f"{self.irreps_in} -> {self.irreps_out}, layout={self.layout!r}"


class _Place(NamedTuple):
    """Some copies of an irrep in a feature vector."""

    block: int
    start: int
    mul: int

    def of(self, blocks: Sequence[Tensor]) -> Tensor:
        return blocks[self.block].narrow(-2, self.start, self.mul)


def _places(irreps: Irreps) -> list[_Place]:
    """Where each block goes when all are sorted and simplified."""
    found = [_Place(0, 0, 0)] * len(irreps)
    block, start = -1, 0
    last: Irrep | None = None
    for position in irreps.order():
        mul, ir = irreps[position]
        if not mul:
            continue
        if ir != last:
            block, start, last = block + 1, 0, ir
        found[position] = _Place(block, start, mul)
        start += mul
    return found


def _cut(gates: Irreps, gated: Irreps, places: Sequence[_Place]) -> list[tuple[_Place, Block]]:
    """What is gated in pieces, each of one block and with gates of one block, and the irreps that come out."""
    found: list[tuple[_Place, Block]] = []
    left = [(block.mul, block.ir.p) for block in gates if block.mul][::-1]
    for (mul, ir), (block, start, _) in zip(gated, places, strict=True):
        while mul:
            some, parity = left.pop()
            if some > mul:
                left.append((some - mul, parity))
                some = mul
            found.append((_Place(block, start, some), Block(some, Irrep(ir.l, ir.p * parity))))
            start, mul = start + some, mul - some
    return found


def _numbers(blocks: Sequence[Tensor], places: Sequence[_Place], like: Tensor) -> Tensor:
    """The scalars at some places, side by side."""
    parts = [place.of(blocks).squeeze(-1) for place in places]
    return torch.cat(parts, dim=-1) if parts else like.new_zeros((*like.shape[:-1], 0))
