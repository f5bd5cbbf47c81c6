"""Products of 3 x 3 matrices: a scalar, a vector and a symmetric matrix without trace in each channel."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from tenfold.so3.irreps import Given, Irreps
from tenfold.so3.layouts import Layout
from tenfold.so3.products._matrices import Matrices, OneParity, checked, matrix_factor
from tenfold.so3.products._registry import product_method
from tenfold.so3.products._signal_product import SignalNormalization, Weights, WholeSignalProduct


class CartesianMatrix(OneParity):
    """``2 X Y`` for matrices like ``"64x0e+64x1e+64x2e"``: trace, antisymmetric and symmetric part of each.

    Degrees are coordinates in an orthonormal basis of matrices, so that lengths are Frobenius norms. An axial vector is
    an antisymmetric matrix; this is the product for networks that need not tell a structure from its mirror image.

    Args: as of `SignalProduct`, degrees up to 2; ``normalization="integral"`` is ``2 X Y`` as it is.
    Raises: as it does.

    Cost: 27 multiplications for each channel, and three changes of basis.
    Paper: "TensorNet: Cartesian Tensor Representations for Efficient Learning of Molecular Potentials", 2023.
    """

    def __init__(
        self,
        irreps_in1: Given,
        irreps_in2: Given,
        irreps_out: Given = None,
        *,
        layout: Layout = "mul_ir",
        weights: Weights = "none",
        normalization: SignalNormalization = "component",
    ) -> None:
        super().__init__(
            irreps_in1, irreps_in2, irreps_out, layout=layout, weights=weights, normalization=normalization
        )
        checked(self, 2)
        self._matrices = Matrices(1, True)

    @staticmethod
    def factor(l1: int, l2: int, l3: int) -> float:
        return 2 * matrix_factor(1, True, l1, l2, l3)

    def _multiply(
        self,
        left: Float[Tensor, "batch dim1 mul"],
        right: Float[Tensor, "batch dim2 mul"],
        degrees: tuple[int, int, int],
    ) -> Float[Tensor, "batch out mul"]:
        return self._matrices.signal(2 * (self._matrices.of(left) @ self._matrices.of(right)), degrees[2])


class CartesianAnticommutator(WholeSignalProduct):
    """``X Y + Y X`` for matrices like ``"64x0e+64x1o+64x2e"``, whose vector changes sign under the inversion.

    The inversion transposes such matrices, and this is the product that follows it: of `CartesianMatrix` it has the
    paths of an even sum of degrees.

    Args: as of `SignalProduct`, degrees up to 2; ``normalization="integral"`` is ``X Y + Y X`` as it is.
    Raises: as it does.

    Cost: 54 multiplications for each channel, and three changes of basis.
    Paper: "TensorNet: Cartesian Tensor Representations for Efficient Learning of Molecular Potentials", 2023.
    """

    def __init__(
        self,
        irreps_in1: Given,
        irreps_in2: Given,
        irreps_out: Given = None,
        *,
        layout: Layout = "mul_ir",
        weights: Weights = "none",
        normalization: SignalNormalization = "component",
    ) -> None:
        super().__init__(
            irreps_in1, irreps_in2, irreps_out, layout=layout, weights=weights, normalization=normalization
        )
        checked(self, 2)
        self._matrices = Matrices(1, True)

    @staticmethod
    def factor(l1: int, l2: int, l3: int) -> float:
        return 0.0 if (l1 + l2 + l3) % 2 else 2 * matrix_factor(1, True, l1, l2, l3)

    def _multiply(
        self,
        left: Float[Tensor, "batch dim1 mul"],
        right: Float[Tensor, "batch dim2 mul"],
        degrees: tuple[int, int, int],
    ) -> Float[Tensor, "batch out mul"]:
        first, second = self._matrices.of(left), self._matrices.of(right)
        return self._matrices.signal(first @ second + second @ first, degrees[2])


@product_method("cartesian_matrix", complete=True, summary="3 x 3 matrices multiplied, irreps of one parity")
def cartesian_matrix(irreps_in1: Irreps, irreps_in2: Irreps, irreps_out: Irreps, *, layout: Layout) -> CartesianMatrix:
    """`CartesianMatrix` with a weight for each degree and channel."""
    return CartesianMatrix(irreps_in1, irreps_in2, irreps_out, layout=layout, weights="degree")


@product_method(
    "cartesian_anticommutator",
    complete=False,
    summary="X Y + Y X of 3 x 3 matrices, parities of harmonics",
)
def cartesian_anticommutator(
    irreps_in1: Irreps, irreps_in2: Irreps, irreps_out: Irreps, *, layout: Layout
) -> CartesianAnticommutator:
    """`CartesianAnticommutator` with a weight for each degree and channel."""
    return CartesianAnticommutator(irreps_in1, irreps_in2, irreps_out, layout=layout, weights="degree")
