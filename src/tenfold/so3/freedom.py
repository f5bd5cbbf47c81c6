"""What a product can express: how many dimensions of bilinear maps, and between which irreps."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from tenfold.so3._wigner3j import real_3j
from tenfold.so3.irreps import Irrep, Irreps
from tenfold.so3.layouts import Layout, split
from tenfold.so3.products import Product

# Singular values below this, relative to the largest, are zero; so are blocks.
_RANK, _ZERO = 1e-8, 1e-10


@dataclass(frozen=True, order=True)
class Interaction:
    """Irreps of the left and the right that make one of the result."""

    left: Irrep
    right: Irrep
    out: Irrep

    def __str__(self) -> str:
        return f"{self.left} x {self.right} -> {self.out}"


def degrees_of_freedom(product: Product, seed: int = 0) -> int:
    """How many dimensions of bilinear maps weights reach: the rank of the map's derivative at random weights.

    Of a Clebsch-Gordan product it is the number of paths; where weights are factors of degrees, two less than the
    number of factors; of a product without weights, zero. The paper calls it expressivity.

    Cost: one backward pass through all coefficients for each weight, and a few more.
    Paper: "The Price of Freedom: Exploring Expressivity and Runtime Tradeoffs in Equivariant Tensor Products", 2025.
    """
    if not product.weight_numel:
        return 0
    generator = torch.Generator().manual_seed(seed)
    weight = product.random_weight(seed=seed, dtype=torch.float64).requires_grad_()
    coefficients = product.coefficients(weight)
    # Random combinations of the rows of the Jacobian, a few more than its rank can be, have that rank.
    rows = []
    for _ in range(min(product.weight_numel, coefficients.numel()) + 4):
        combination = torch.randn(coefficients.shape, generator=generator, dtype=torch.float64)
        rows.append(torch.autograd.grad(coefficients, weight, combination, retain_graph=True)[0])
    values = torch.linalg.svdvals(torch.stack(rows))
    return int((values > _RANK * values[0]).sum()) if float(values[0]) else 0


def interactability(product: Product, seed: int = 0) -> tuple[Interaction, ...]:
    """Which irreps make which: where the coefficients do not vanish, at random weights. Sorted.

    Cost: all coefficients once.
    Paper: "The Price of Freedom: Exploring Expressivity and Runtime Tradeoffs in Equivariant Tensor Products", 2025.
    """
    weight = product.random_weight(seed=seed, dtype=torch.float64) if product.weight_numel else None
    whole = product.coefficients(weight)
    largest = float(whole.abs().max()) if whole.numel() else 0.0
    found = set()
    for a, left in _blocks(whole, product.irreps_in1, product.layout, 0):
        for b, right in _blocks(left, product.irreps_in2, product.layout, 1):
            for c, block in _blocks(right, product.irreps_out, product.layout, 2):
                couple = torch.from_numpy(real_3j(a.l, b.l, c.l).copy())
                size = float(torch.einsum("abc,abc...->...", couple, block).abs().max())
                if size > _ZERO * largest:
                    found.add(Interaction(a, b, c))
    return tuple(sorted(found))


def _blocks(table: Tensor, irreps: Irreps, layout: Layout, axis: int) -> list[tuple[Irrep, Tensor]]:
    """The table cut along an axis, which becomes two: components where it was, multiplicities at the end."""
    parts = split(table.movedim(axis, -1), irreps, layout)
    found = []
    for block, part in zip(irreps, parts, strict=True):
        if block.mul:
            found.append((block.ir, part.movedim(-1, axis)))
    return found
