"""Layers of PyTorch that are made of structures and symmetries.

projection: the best approximation of a matrix in a structure.
so3: layers that turn with space.
"""

from __future__ import annotations

from tenfold.nn import projection, so3
from tenfold.nn._linear_map import LinearMap
from tenfold.nn.algebras import algebra, algebras
from tenfold.nn.block_diagonal import BlockDiagonalLinear
from tenfold.nn.hypercomplex import (
    HypercomplexConv1d,
    HypercomplexConv2d,
    HypercomplexConv3d,
    hypercomplex_linear,
)
from tenfold.nn.learning_rates import Fan, param_groups
from tenfold.nn.linear import StructuredLinear
from tenfold.nn.quantized import QuantizedConv, QuantizedEmbedding, QuantizedLinear, QuantizedWeight
from tenfold.nn.stored import load
from tenfold.nn.toeplitz import ToeplitzLinear

__all__ = [
    "BlockDiagonalLinear",
    "Fan",
    "HypercomplexConv1d",
    "HypercomplexConv2d",
    "HypercomplexConv3d",
    "LinearMap",
    "QuantizedConv",
    "QuantizedEmbedding",
    "QuantizedLinear",
    "QuantizedWeight",
    "StructuredLinear",
    "ToeplitzLinear",
    "algebra",
    "algebras",
    "hypercomplex_linear",
    "load",
    "param_groups",
    "projection",
    "so3",
]
