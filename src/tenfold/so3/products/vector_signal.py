"""Products of vector fields on the sphere: cross products have the paths that products of scalars have not."""

from __future__ import annotations

import math
from functools import cache

import numpy as np
from jaxtyping import Float
from torch import Tensor

from tenfold.so3._wigner3j import gaunt_factor, real_3j
from tenfold.so3.irreps import Irreps
from tenfold.so3.layouts import Layout
from tenfold.so3.products._registry import product_method
from tenfold.so3.products._signal_product import SignalProduct
from tenfold.so3.products._sphere_grid import on_sphere
from tenfold.so3.products._sum import Sum
from tenfold.so3.products.gaunt_grid import GauntGrid


class VectorCross(SignalProduct):
    """The cross product of two vector fields, each the sum of vector harmonics of its degrees.

    Degree ``j`` is carried by the field whose components are harmonics of degree ``j - 1``: the gradient of a solid
    harmonic. Its cross products have all paths of an odd sum of degrees, and no others.

    Degree ``j`` could be carried by harmonics of degree ``j`` and ``j + 1`` too. Of odd sums they add no path, and of
    even ones they have all but that of three scalars, which `GauntGrid` has. With weights for each of the three they
    raise the dimension that weights reach, for degrees up to 6 from 16 to 50 of 69, where ``rank=3`` reaches 48 with
    fields of two degrees less.

    Args: as of `SignalProduct`. Raises: as it does.

    Cost: six transforms to a grid, exact to three degrees less than that of `Poisson`, and three back.
    Paper: "The Price of Freedom: Exploring Expressivity and Runtime Tradeoffs in Equivariant Tensor Products", 2025.
    """

    kind = "cross"
    turns = -1
    lowest = 1

    @staticmethod
    def factor(l1: int, l2: int, l3: int) -> float:
        return cross_factor((l1, l1 - 1), (l2, l2 - 1), (l3, l3 - 1))

    def _scaled(
        self, left: Float[Tensor, "batch dim1 mul"], right: Float[Tensor, "batch dim2 mul"]
    ) -> Float[Tensor, "batch out mul"]:
        return on_sphere(left, right, self.kind, self._degrees, self.scale)


@cache
def cross_factor(left: tuple[int, int], right: tuple[int, int], out: tuple[int, int]) -> float:
    """What the integral of ``out . (left x right)`` is in units of the 3j coefficients of the total degrees.

    Args:
        left: the total degree ``j`` of a vector harmonic, and the degree of its components; likewise the others.
    """
    triples = (left, right, out)
    (j1, l1), (j2, l2), (j3, l3) = triples
    if min(l1, l2, l3) < 0 or (l1 + l2 + l3) % 2 or not abs(j1 - j2) <= j3 <= j1 + j2:
        return 0.0
    # All coefficients are in one proportion: the largest one of them is enough.
    couple = real_3j(j1, j2, j3)
    place = np.unravel_index(np.abs(couple).argmax(), couple.shape)
    one, two, three = (
        math.sqrt(2 * j + 1) * real_3j(1, n, j)[:, :, m] for (j, n), m in zip(triples, place, strict=True)
    )
    # Components of the left times those of the right, then crossed, at a cost of the fourth power of the degree.
    product = np.einsum("ai,ijk->ajk", one, gaunt_factor(l1, l2, l3) * real_3j(l1, l2, l3))
    product = np.einsum("bj,ajk->abk", two, product)
    crossed = math.sqrt(6) * np.einsum("abc,abk,ck->", real_3j(1, 1, 1), product, three)
    return float(crossed / couple[place])


class VectorSignal(Sum):
    """`GauntGrid` where the sum of degrees is even, `VectorCross` where it is odd: all paths.

    Args, raises: as of `Sum`; features are one or two functions, as in `GauntPoisson`.

    Cost: that of `GauntGrid` and `VectorCross`, for each pair of functions.
    Paper: "The Price of Freedom: Exploring Expressivity and Runtime Tradeoffs in Equivariant Tensor Products", 2025.
    """

    kinds = (GauntGrid, VectorCross)


@product_method("vector_signal", complete=True, summary="products of functions, and cross products of vector fields")
def vector_signal(irreps_in1: Irreps, irreps_in2: Irreps, irreps_out: Irreps, *, layout: Layout) -> VectorSignal:
    """`VectorSignal` with a weight for each degree and channel of each product in it."""
    return VectorSignal(irreps_in1, irreps_in2, irreps_out, layout=layout, weights="degree")
