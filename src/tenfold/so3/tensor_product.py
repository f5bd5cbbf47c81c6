"""A product of two features, chosen by name or by what it has to express."""

from __future__ import annotations

from typing import Literal

from tenfold._arguments import closest, quoted
from tenfold.errors import TenfoldError
from tenfold.so3.irreps import Given, Irreps
from tenfold.so3.layouts import Layout
from tenfold.so3.products import Product, Unsuited
from tenfold.so3.products._registry import find_product_method

Paths = Literal["all", "even"]

# Up to which largest degree a product is taken, the last one above. With gradients by features and weights, channels
# last, 1000 rows of 64 channels of one function, in milliseconds of two threads of an AMD EPYC, degrees 2 to 8. Even
# paths: Clebsch-Gordan products 4.9, 6.9, 7.7, 24, 34, 60 and 90, Gaunt products 9.2, 8.0, 13, 16, 22, 33 and 44. All
# paths: Clebsch-Gordan products 3.9, 11, 13, 32, 59, 92 and 263, Gaunt and bracket 15, 23, 42, 46, 62, 97 and 159. It
# is written down, and not measured anew, so that a model that is loaded elsewhere has the products it was trained with.
_CHOICES: dict[Paths, tuple[tuple[int, str], ...]] = {
    "all": ((7, "clebsch_gordan"), (10**6, "gaunt_poisson")),
    "even": ((4, "clebsch_gordan"), (10**6, "gaunt_grid")),
}


def tensor_product(
    irreps_in1: Given,
    irreps_in2: Given,
    irreps_out: Given,
    *,
    method: str = "auto",
    paths: Paths = "all",
    layout: Layout = "mul_ir",
) -> Product:
    """A product of channels: channel c of the left with channel c of the right, added up over what leads to one irrep.

    Products differ in what they can express and in what weights they take; `advise` shows both beside the time. What
    ``"auto"`` chooses depends on the irreps only, not on the machine.

    Args:
        irreps_in1: of the left feature, like ``"64x0e+64x1o+64x2e"``.
        irreps_in2: of the right one, with as many channels, or one.
        irreps_out: of what comes out, with as many channels as the left.
        method: a name that `tenfold.so3.products.product_methods` knows, or ``"auto"``.
        paths: for ``"auto"``: whether paths of an odd sum of degrees, such as the cross product, have to be among them.
        layout: of all three.

    Raises:
        TenfoldError: there is no such method, or ``paths`` are neither ``"all"`` nor ``"even"``.
        Unsuited: the method cannot multiply these irreps.

    Cost: that of making tables of coefficients.
    Paper: "The Price of Freedom: Exploring Expressivity and Runtime Tradeoffs in Equivariant Tensor Products", 2025.
    """
    if paths not in _CHOICES:
        hint = closest(paths, _CHOICES) if isinstance(paths, str) else ""
        raise TenfoldError(f"paths must be 'all' or 'even', not {quoted(paths)}{hint}")
    sides = Irreps(irreps_in1), Irreps(irreps_in2), Irreps(irreps_out)
    if method != "auto":
        return find_product_method(method).make(*sides, layout=layout)
    largest = max((block.ir.l for side in sides for block in side), default=0)
    name = next(name for most, name in _CHOICES[paths] if largest <= most)
    try:
        return find_product_method(name).make(*sides, layout=layout)
    except Unsuited:
        # Functions on the sphere need each degree once; Clebsch-Gordan products take anything.
        return find_product_method("clebsch_gordan").make(*sides, layout=layout)
