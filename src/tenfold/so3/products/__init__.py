"""Products of features that turn with space: of two features, along edges, and of one feature with itself."""

from __future__ import annotations

from tenfold.so3.products._convolution import Convolution
from tenfold.so3.products._many_body import ManyBodyProduct
from tenfold.so3.products._product import Product
from tenfold.so3.products._registry import Method, Unsuited, product_methods
from tenfold.so3.products._signals import Signal

__all__ = ["Convolution", "ManyBodyProduct", "Method", "Product", "Signal", "Unsuited", "product_methods"]
