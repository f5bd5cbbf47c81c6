"""Convolutions along edges that multiply functions on the sphere: Gaunt products with an edge-aligned filter."""

from __future__ import annotations

from tenfold.so3.irreps import Given
from tenfold.so3.layouts import Layout
from tenfold.so3.products._aligned_convolution import AlignedConvolution
from tenfold.so3.products._aligned_form import Form
from tenfold.so3.products._registry import Unsuited


class GauntConvolution(AlignedConvolution):
    """Features, as functions on the sphere, times a function that is symmetric around the edge.

    That function is ``f(u) = sum(w_l Y_l(u) . Y_l(edge))``, one weight for each degree. The message of degree l is what
    the product has of it, times a factor that gives messages the variance of features when weights are independent,
    normal and of variance one. Seen from the edge the filter keeps orders apart, so nothing of a product in three
    dimensions is left. Degrees of an odd sum do not meet: what is made like a cross product is missing.

    Args:
        irreps_in: each degree once, in equally many channels, like ``"64x0e+64x1o+64x2e"``.
        degree: the largest of the filter.
        irreps_out: the same degrees or others, in as many channels, with the parity that the product has.
        channelwise: whether each channel has weights of its own.
        layout: of features and messages.

    Raises:
        Unsuited: the irreps are no functions on the sphere, differ in channels or parity, or the filter leads from none
            of the degrees to another.

    Cost: ``O(L^3)`` for each edge and channel to turn features, and at most ``O(L^4)``, with a factor far below one,
    to make the filter of each channel; without ``channelwise`` that is done once for an edge.
    Paper: "Enabling Efficient Equivariant Operations in the Fourier Basis via Gaunt Tensor Products", 2024.
    """

    def __init__(
        self, irreps_in: Given, degree: int, irreps_out: Given, *, channelwise: bool = True, layout: Layout = "mul_ir"
    ) -> None:
        super().__init__(irreps_in, degree, irreps_out, layout=layout)
        if self._signals(True, channelwise) < 0:
            raise Unsuited(
                f"irreps_out '{self.irreps_out}' must have the parity of irreps_in '{self.irreps_in}': a product with "
                "harmonics does not change it"
            )
        inner, outer = self._inner.degrees, self._outer.degrees
        self._form = Form("degrees", inner, outer, self.degree, max(*inner, *outer), True, False)
        if not self._form.paths():
            raise Unsuited(f"no path leads from '{self.irreps_in}' to '{self.irreps_out}' with this filter")
        self.weight_numel = (self.degree + 1) * self._copies
