"""The Gaunt product on a grid: functions on the sphere multiplied at points, exactly."""

from __future__ import annotations

from typing import Literal

from jaxtyping import Float
from torch import Tensor

from tenfold.so3._wigner3j import gaunt_factor
from tenfold.so3.irreps import Given, Irreps
from tenfold.so3.layouts import Layout
from tenfold.so3.products._registry import product_method
from tenfold.so3.products._signal_product import SignalNormalization, SignalProduct, Weights, choice
from tenfold.so3.products._sphere_grid import on_sphere, operations

GridMethod = Literal["auto", "dense", "separable"]


class GauntGrid(SignalProduct):
    """Functions multiplied point by point, by way of their values on a grid, the smallest exact one.

    Paths of an odd sum of degrees are zero, whatever the weights.

    Args:
        irreps_in1, irreps_in2, irreps_out, layout, weights, rank, normalization: as of `SignalProduct`.
        method: ``"dense"`` goes to the grid by one matrix. ``"separable"`` sums over degrees, then over orders; on the
            CPU a compiled kernel does this for an eighth of the grid, in one pass over the numbers. ``"auto"`` takes
            this kernel where there is one, elsewhere what was faster in a trial of a few milliseconds, once for each
            kind of numbers.

    Raises: as `SignalProduct`.

    Cost: for all degrees up to L, ``O(L^3)`` operations for each channel, or ``O(L^4)`` in matrix products. Values on
    the grid are not kept for derivatives: these are sums of such products, in which each signal goes there once.
    Papers: "Enabling Efficient Equivariant Operations in the Fourier Basis via Gaunt Tensor Products", 2024; "The Price
    of Freedom: Exploring Expressivity and Runtime Tradeoffs in Equivariant Tensor Products", 2025.
    """

    kind = "multiply"

    def __init__(
        self,
        irreps_in1: Given,
        irreps_in2: Given,
        irreps_out: Given = None,
        *,
        layout: Layout = "mul_ir",
        weights: Weights = "none",
        rank: int = 1,
        normalization: SignalNormalization = "component",
        method: GridMethod = "auto",
    ) -> None:
        choice("method", method, ("auto", "dense", "separable"))
        self.method = method
        super().__init__(
            irreps_in1,
            irreps_in2,
            irreps_out,
            layout=layout,
            weights=weights,
            rank=rank,
            normalization=normalization,
        )

    factor = staticmethod(gaunt_factor)

    @property
    def operations(self) -> int:
        """Multiplications for one channel, transforms and products at points, as the kernel for the CPU takes them."""
        return operations("multiply", self._degrees)

    def _scaled(
        self, left: Float[Tensor, "batch dim1 mul"], right: Float[Tensor, "batch dim2 mul"]
    ) -> Float[Tensor, "batch out mul"]:
        return on_sphere(left, right, self.kind, self._degrees, self.scale, self.method)


@product_method("gaunt_grid", complete=False, summary="functions on the sphere multiplied on a grid")
def gaunt_grid(irreps_in1: Irreps, irreps_in2: Irreps, irreps_out: Irreps, *, layout: Layout) -> GauntGrid:
    """`GauntGrid` with a weight for each degree and channel."""
    return GauntGrid(irreps_in1, irreps_in2, irreps_out, layout=layout, weights="degree")
