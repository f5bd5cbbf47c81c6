"""Products of several functions added up, so that together they have all paths."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product

import torch
from jaxtyping import Float
from torch import Tensor

from tenfold.so3.irreps import Given, Irrep, Irreps
from tenfold.so3.layouts import Layout
from tenfold.so3.products._product import Product
from tenfold.so3.products._registry import Unsuited
from tenfold.so3.products._signal_product import SignalNormalization, SignalProduct, Weights


@dataclass(frozen=True)
class Part:
    """One product of the sum, and which blocks it takes and makes."""

    product: SignalProduct
    left: tuple[int, ...]
    right: tuple[int, ...]
    out: tuple[int, ...]


class Sum(Product):
    """Features that are two functions, say a true scalar and one that changes sign, multiplied each with each.

    Args:
        irreps_in1, irreps_in2, irreps_out: each irrep once, all equally often; the right may have one channel.
        layout: of all three.
        weights, rank, normalization: as of `SignalProduct`. Weights are of one product after the other. With enough
            rank every path has a weight of its own.

    Raises:
        Unsuited: an irrep occurs twice, multiplicities differ, or no path leads to an irrep.
        TenfoldError: there is no such option.
    """

    def __init__(
        self,
        irreps_in1: Given,
        irreps_in2: Given,
        irreps_out: Given,
        *,
        layout: Layout = "mul_ir",
        weights: Weights = "none",
        rank: int = 1,
        normalization: SignalNormalization = "component",
    ) -> None:
        one, two, three = Irreps(irreps_in1), Irreps(irreps_in2), Irreps(irreps_out)
        grade = self.kinds[0].grade
        lefts, rights, outs = (
            _functions(name, irreps, grade)
            for name, irreps in (("irreps_in1", one), ("irreps_in2", two), ("irreps_out", three))
        )
        parts, leading = [], [0] * len(three)
        for kind, (first, left), (second, right), (third, out) in product(
            self.kinds, lefts.items(), rights.items(), outs.items()
        ):
            pairs = [(one[a].ir.l, two[b].ir.l) for a in left for b in right]
            reached = tuple(k for k in out if any(kind.factor(a, b, three[k].ir.l) for a, b in pairs))
            if third != kind.turns * first * second or not reached:
                continue
            blocks = (Irreps([one[a] for a in left]), Irreps([two[b] for b in right]))
            made = kind(
                *blocks,
                Irreps([three[k] for k in reached]),
                layout=layout,
                weights=weights,
                rank=rank,
                normalization=normalization,
            )
            parts.append(Part(made, left, right, reached))
            for k in reached:
                leading[k] += 1
        if not all(leading):
            raise Unsuited(f"irreps_out '{three}': no path leads from '{one}' x '{two}' to {three[leading.index(0)]}")
        if normalization == "component":
            # Each part alone has variance one, and they are independent.
            for part in parts:
                counts = [leading[k] for k in part.out]
                part.product.scale = [s / math.sqrt(n) for s, n in zip(part.product.scale, counts, strict=True)]
        self.parts = tuple(parts)
        numel = sum(part.product.weight_numel for part in parts)
        super().__init__(one, two, three, layout=layout, weight_numel=numel)

    @property
    @abstractmethod
    def kinds(self) -> tuple[type[SignalProduct], ...]:
        """The products that are added up wherever they have a path; they agree in what makes one function."""

    def _product(
        self,
        left: Float[Tensor, "batch dim1"],
        right: Float[Tensor, "batch dim2"],
        weight: Float[Tensor, "batch weight_numel"] | Float[Tensor, " weight_numel"] | None,
    ) -> Float[Tensor, "batch out"]:
        lefts = left.split([block.dim for block in self.irreps_in1], dim=-1)
        rights = right.split([block.dim for block in self.irreps_in2], dim=-1)
        found: list[Tensor | None] = [None] * len(self.irreps_out)
        begin = 0
        for part in self.parts:
            own = None if weight is None else weight[..., begin : begin + part.product.weight_numel]
            begin += part.product.weight_numel
            made = part.product(_joined(left, lefts, part.left), _joined(right, rights, part.right), own)
            if len(self.parts) == 1 and part.out == tuple(range(len(found))):
                return made
            pieces = made.split([block.dim for block in part.product.irreps_out], dim=-1)
            for block, piece in zip(part.out, pieces, strict=True):
                before = found[block]
                found[block] = piece if before is None else before + piece
        return torch.cat([piece for piece in found if piece is not None], dim=-1)


def _joined(whole: Tensor, blocks: Sequence[Tensor], chosen: tuple[int, ...]) -> Tensor:
    if chosen == tuple(range(len(blocks))):
        return whole
    return torch.cat([blocks[block] for block in chosen], dim=-1)


def _functions(name: str, irreps: Irreps, grade: Callable[[Irrep], int]) -> dict[int, tuple[int, ...]]:
    """The blocks of each function, by degree."""
    irs = {block.ir for block in irreps}
    if not irreps.num_irreps or len(irs) < len(irreps) or len({block.mul for block in irreps}) != 1:
        raise Unsuited(f"{name} '{irreps}' must have each irrep once, and all equally often, like '8x0e+8x1o+8x1e'")
    found: dict[int, tuple[int, ...]] = {}
    for block in sorted(range(len(irreps)), key=lambda block: irreps[block].ir):
        kind = grade(irreps[block].ir)
        found[kind] = (*found.get(kind, ()), block)
    return found
