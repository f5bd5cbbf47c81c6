"""Products of features that turn with space: of two features, along edges, and of one feature with itself."""

from __future__ import annotations

from tenfold.so3.products._convolution import Convolution
from tenfold.so3.products._product import Product
from tenfold.so3.products._registry import Method, Unsuited, product_methods
from tenfold.so3.products._signals import Signal
from tenfold.so3.products.clebsch_gordan_convolution import ClebschGordanConvolution

__all__ = ["ClebschGordanConvolution", "Convolution", "Method", "Product", "Signal", "Unsuited", "product_methods"]
