"""Features as operators on one irrep, multiplied as matrices."""

from __future__ import annotations

from functools import cache
from typing import Any, ClassVar, Literal

from jaxtyping import Float
from torch import Tensor

from tenfold._arguments import whole_number
from tenfold.so3.irreps import Given, Irreps
from tenfold.so3.layouts import Layout
from tenfold.so3.products._matrices import Matrices, OneParity, matrix_factor
from tenfold.so3.products._product import Product
from tenfold.so3.products._registry import Unsuited, product_method
from tenfold.so3.products._signal_product import SignalProduct, Weights, choice
from tenfold.so3.products._sum import Sum

MatrixNormalization = Literal["none", "component"]


class MatrixProduct(Sum):
    """Degrees up to ``2 s`` as matrices of ``2 s + 1`` rows, multiplied, and cut into degrees again.

    Even and odd sums of degrees both occur, in fixed proportions: up to signs the coefficients are 6j symbols times
    `tenfold.so3.wigner_3j`. Even and odd irreps are matrices each.

    Args:
        irreps_in1, irreps_in2, irreps_out: each irrep once, all equally often; the right may have one channel.
        layout: of all three.
        spin: the degree ``s``; by default the smallest that has all degrees.
        weights: as of `SignalProduct`.
        normalization: ``"none"``: as the matrices multiply. ``"component"``: as of `SignalProduct`.

    Raises:
        Unsuited: an irrep occurs twice, multiplicities differ, a degree is above ``2 spin``, or no path leads to one.
        TenfoldError: there is no such option.

    Cost: ``O(L^3)`` for the products of matrices, ``O(L^4)`` in matrix products to make them.
    Paper: "The Price of Freedom: Exploring Expressivity and Runtime Tradeoffs in Equivariant Tensor Products", 2025.
    """

    def __init__(
        self,
        irreps_in1: Given,
        irreps_in2: Given,
        irreps_out: Given,
        *,
        layout: Layout = "mul_ir",
        spin: int | None = None,
        weights: Weights = "none",
        normalization: MatrixNormalization = "component",
    ) -> None:
        choice("normalization", normalization, ("none", "component"))
        largest = max(
            (block.ir.l for given in (irreps_in1, irreps_in2, irreps_out) for block in Irreps(given)), default=0
        )
        self.spin = (largest + 1) // 2 if spin is None else whole_number("spin", spin, 0)
        if largest > 2 * self.spin:
            raise Unsuited(f"spin {self.spin} has no matrices of degree {largest}: take {(largest + 1) // 2}")
        super().__init__(
            irreps_in1,
            irreps_in2,
            irreps_out,
            layout=layout,
            weights=weights,
            normalization="component" if normalization == "component" else "integral",
        )

    @property
    def kinds(self) -> tuple[type[SignalProduct], ...]:
        return (_of_spin(self.spin),)


class _OfSpin(OneParity):
    number: ClassVar[int]
    matrices: ClassVar[Matrices]

    def __reduce__(self) -> tuple[Any, ...]:
        # Classes that are made when asked for are not found by their name.
        return _empty, (self.number,), self.__dict__

    def _multiply(
        self,
        left: Float[Tensor, "batch dim1 mul"],
        right: Float[Tensor, "batch dim2 mul"],
        degrees: tuple[int, int, int],
    ) -> Float[Tensor, "batch out mul"]:
        return self.matrices.signal(self.matrices.of(left) @ self.matrices.of(right), degrees[2])


def _empty(number: int) -> _OfSpin:
    return object.__new__(_of_spin(number))


@cache
def _of_spin(spin: int) -> type[_OfSpin]:
    class OfSpin(_OfSpin):
        number = spin
        matrices = Matrices(spin, False)

        @staticmethod
        def factor(l1: int, l2: int, l3: int) -> float:
            return matrix_factor(spin, False, l1, l2, l3)

    return OfSpin


@product_method("matrix", complete=True, summary="features as matrices on one irrep, multiplied")
def matrix(irreps_in1: Irreps, irreps_in2: Irreps, irreps_out: Irreps, *, layout: Layout) -> Product:
    """`MatrixProduct` with a weight for each degree and channel."""
    return MatrixProduct(irreps_in1, irreps_in2, irreps_out, layout=layout, weights="degree")
