"""Products of features that turn with space: of two features, along edges, and of one feature with itself."""

from __future__ import annotations

from tenfold.so3.products._convolution import Convolution
from tenfold.so3.products._many_body import ManyBodyProduct
from tenfold.so3.products._product import Product
from tenfold.so3.products._registry import Method, Unsuited, product_methods
from tenfold.so3.products._signals import Signal
from tenfold.so3.products.cartesian_matrix import CartesianMatrix
from tenfold.so3.products.clebsch_gordan import ClebschGordan, Instruction
from tenfold.so3.products.clebsch_gordan_convolution import ClebschGordanConvolution
from tenfold.so3.products.gaunt_convolution import GauntConvolution
from tenfold.so3.products.gaunt_fourier import GauntFourier
from tenfold.so3.products.gaunt_grid import GauntGrid
from tenfold.so3.products.grid_power import GridPower
from tenfold.so3.products.matrix import MatrixProduct
from tenfold.so3.products.so2_convolution import SO2Convolution
from tenfold.so3.products.so2_mixing_convolution import SO2MixingConvolution
from tenfold.so3.products.symmetric_contraction import SymmetricContraction
from tenfold.so3.products.vector_signal import VectorSignal

__all__ = [
    "CartesianMatrix",
    "ClebschGordan",
    "ClebschGordanConvolution",
    "Convolution",
    "GauntConvolution",
    "GauntFourier",
    "GauntGrid",
    "GridPower",
    "Instruction",
    "ManyBodyProduct",
    "MatrixProduct",
    "Method",
    "Product",
    "SO2Convolution",
    "SO2MixingConvolution",
    "Signal",
    "SymmetricContraction",
    "Unsuited",
    "VectorSignal",
    "product_methods",
]
