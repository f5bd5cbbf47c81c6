"""The bracket of two functions on the sphere: the antisymmetric paths that a product of values has not."""

from __future__ import annotations

import math

from jaxtyping import Float
from torch import Tensor

from tenfold.so3._wigner3j import complex_3j
from tenfold.so3.irreps import Irreps
from tenfold.so3.layouts import Layout
from tenfold.so3.products._registry import product_method
from tenfold.so3.products._signal_product import SignalProduct
from tenfold.so3.products._sphere_grid import on_sphere


class Poisson(SignalProduct):
    """``r . (grad A x grad B)``: how far the gradients of two functions are from being parallel.

    Exactly the paths of an odd sum of degrees are not zero. True scalars make what changes sign under the inversion:
    ``1o x 1o -> 1e`` is a cross product.

    Args: as of `SignalProduct`. Raises: as it does.

    Cost: four transforms to the smallest exact grid, two products there, one transform back.
    Papers: "The Price of Freedom: Exploring Expressivity and Runtime Tradeoffs in Equivariant Tensor Products", 2025.
    """

    kind = "bracket"
    turns = -1
    lowest = 1

    @staticmethod
    def factor(l1: int, l2: int, l3: int) -> float:
        if (l1 + l2 + l3) % 2 == 0:
            return 0.0
        sizes = (2 * l1 + 1) * (2 * l2 + 1) * (2 * l3 + 1) / (4 * math.pi)
        slopes = l1 * (l1 + 1) * l2 * (l2 + 1)
        return math.sqrt(sizes * slopes) * abs(complex_3j((l1, l2, l3), (1, -1, 0)))

    def _scaled(
        self, left: Float[Tensor, "batch dim1 mul"], right: Float[Tensor, "batch dim2 mul"]
    ) -> Float[Tensor, "batch out mul"]:
        return on_sphere(left, right, self.kind, self._degrees, self.scale)


@product_method("poisson", complete=False, summary="the bracket of functions on the sphere: odd sums of degrees alone")
def poisson(irreps_in1: Irreps, irreps_in2: Irreps, irreps_out: Irreps, *, layout: Layout) -> Poisson:
    """`Poisson` with a weight for each degree and channel."""
    return Poisson(irreps_in1, irreps_in2, irreps_out, layout=layout, weights="degree")
