"""Products of features that turn with space: of two features, along edges, and of one feature with itself."""

from __future__ import annotations

from tenfold.so3.products._convolution import Convolution
from tenfold.so3.products._many_body import ManyBodyProduct
from tenfold.so3.products._product import Product
from tenfold.so3.products._registry import Method, Unsuited, product_methods
from tenfold.so3.products._signals import Signal
from tenfold.so3.products.gaunt_convolution import GauntConvolution
from tenfold.so3.products.so2_convolution import SO2Convolution
from tenfold.so3.products.so2_mixing_convolution import SO2MixingConvolution

__all__ = ["Convolution", "ManyBodyProduct", "Method", "Product", "Signal", "Unsuited", "product_methods"]
__all__ = [
    "Convolution",
    "GauntConvolution",
    "Method",
    "Product",
    "SO2Convolution",
    "SO2MixingConvolution",
from tenfold.so3.products.clebsch_gordan import ClebschGordan, Instruction
    "ClebschGordan",
    "Instruction",
    "Signal",
    "Unsuited",
    "product_methods",
]
