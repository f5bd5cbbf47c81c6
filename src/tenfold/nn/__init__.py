"""Layers of PyTorch that are made of structures and symmetries.

low_rank: schemes that train any model's layers in low rank.
so3: layers that turn with space.
"""

from __future__ import annotations

from tenfold.nn import low_rank, so3
from tenfold.nn._linear_map import LinearMap
from tenfold.nn.block_diagonal import BlockDiagonalLinear
from tenfold.nn.linear import StructuredLinear
from tenfold.nn.quantized import QuantizedConv, QuantizedEmbedding, QuantizedLinear, QuantizedWeight
from tenfold.nn.stored import load
from tenfold.nn.toeplitz import ToeplitzLinear

__all__ = [
    "BlockDiagonalLinear",
    "LinearMap",
    "QuantizedConv",
    "QuantizedEmbedding",
    "QuantizedLinear",
    "QuantizedWeight",
    "StructuredLinear",
    "ToeplitzLinear",
    "load",
    "low_rank",
    "so3",
]
