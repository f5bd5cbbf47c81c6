"""Layers of PyTorch that are made of structures and symmetries.

so3: layers that turn with space.
"""

from __future__ import annotations

from tenfold.nn import conv_formats, so3
from tenfold.nn._linear_map import LinearMap
from tenfold.nn.conv import StructuredConv
from tenfold.nn.embedding import StructuredEmbedding
from tenfold.nn.linear import StructuredLinear
from tenfold.nn.one_way import OneWayConv
from tenfold.nn.quantized import QuantizedConv, QuantizedEmbedding, QuantizedLinear, QuantizedWeight
from tenfold.nn.stored import load

__all__ = [
    "LinearMap",
    "OneWayConv",
    "QuantizedConv",
    "QuantizedEmbedding",
    "QuantizedLinear",
    "QuantizedWeight",
    "StructuredConv",
    "StructuredEmbedding",
    "StructuredLinear",
    "conv_formats",
    "load",
    "so3",
]
