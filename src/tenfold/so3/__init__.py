"""Rotations of space: irreps, spherical harmonics, Wigner D matrices, and the coefficients that couple them.

irreps = tn.so3.Irreps("8x0e+4x1o+2x2e")                # e3nn's notation
harmonics = tn.so3.spherical_harmonics("0e+1o+2e", vectors)
matrices = tn.so3.wigner_d(2, rotations)                # D(R) Y(v) = Y(R v)
coupling = tn.so3.wigner_3j(1, 1, 2)
turned = tn.so3.rotate(features, irreps, rotations)
stress = tn.so3.CartesianTensor("ij=ji").to_irreps(matrices)
"""

from __future__ import annotations

from tenfold.so3 import expressivity
from tenfold.so3.advise import advise
from tenfold.so3.cartesian import CartesianTensor
from tenfold.so3.coupling import clebsch_gordan, gaunt, wigner_3j
from tenfold.so3.equivariance import assert_equivariant, equivariance_error
from tenfold.so3.freedom import degrees_of_freedom, interactability
from tenfold.so3.irreps import Block, Irrep, Irreps, Path
from tenfold.so3.layouts import Layout, join, relayout, split
from tenfold.so3.pointwise import check_pointwise
from tenfold.so3.products import (
    CartesianMatrix,
    ClebschGordan,
    ClebschGordanConvolution,
    GauntConvolution,
    GauntFourier,
    GauntGrid,
    GridPower,
    MatrixProduct,
    SO2Convolution,
    SO2MixingConvolution,
    SymmetricContraction,
    VectorSignal,
)
from tenfold.so3.rotate import rotate
from tenfold.so3.rotations import angles_to_matrix, matrix_to_angles, quaternion_to_matrix, random_rotations
from tenfold.so3.spherical_harmonics import spherical_harmonics
from tenfold.so3.tensor_product import tensor_product
from tenfold.so3.voigt import from_mandel, from_voigt, to_mandel, to_voigt
from tenfold.so3.wigner_d import wigner_d, wigner_d_all, wigner_d_from_angles, wigner_d_from_quaternion

__all__ = [
    "Block",
    "CartesianMatrix",
    "CartesianTensor",
    "ClebschGordan",
    "ClebschGordanConvolution",
    "GauntConvolution",
    "GauntFourier",
    "GauntGrid",
    "GridPower",
    "Irrep",
    "Irreps",
    "Layout",
    "MatrixProduct",
    "Path",
    "SO2Convolution",
    "SO2MixingConvolution",
    "SymmetricContraction",
    "VectorSignal",
    "advise",
    "angles_to_matrix",
    "assert_equivariant",
    "check_pointwise",
    "clebsch_gordan",
    "degrees_of_freedom",
    "equivariance_error",
    "expressivity",
    "from_mandel",
    "from_voigt",
    "gaunt",
    "interactability",
    "join",
    "matrix_to_angles",
    "quaternion_to_matrix",
    "random_rotations",
    "relayout",
    "rotate",
    "spherical_harmonics",
    "split",
    "tensor_product",
    "to_mandel",
    "to_voigt",
    "wigner_3j",
    "wigner_d",
    "wigner_d_all",
    "wigner_d_from_angles",
    "wigner_d_from_quaternion",
]
