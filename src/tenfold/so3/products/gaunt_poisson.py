"""The Gaunt product and the bracket together: all paths at the cost of grids."""

from __future__ import annotations

from tenfold.so3.irreps import Irreps
from tenfold.so3.layouts import Layout
from tenfold.so3.products._registry import product_method
from tenfold.so3.products._sum import Sum
from tenfold.so3.products.gaunt_grid import GauntGrid
from tenfold.so3.products.poisson import Poisson


class GauntPoisson(Sum):
    """`GauntGrid` where the sum of degrees is even, `Poisson` where it is odd.

    Features are one or two functions: true scalars like ``"8x0e+8x1o+8x2e"``, those that change sign under the
    inversion like ``"8x0o+8x1e"``, or both at once. Each path that the irreps have is there.

    Args, raises: as of `Sum`.

    Cost: that of `GauntGrid` and `Poisson`, for each pair of functions.
    Papers: those of `GauntGrid` and `Poisson`.
    """

    kinds = (GauntGrid, Poisson)


@product_method("gaunt_poisson", complete=True, summary="products and brackets of functions on the sphere: all paths")
def gaunt_poisson(irreps_in1: Irreps, irreps_in2: Irreps, irreps_out: Irreps, *, layout: Layout) -> GauntPoisson:
    """`GauntPoisson` with a weight for each degree and channel of each product in it."""
    return GauntPoisson(irreps_in1, irreps_in2, irreps_out, layout=layout, weights="degree")
