"""Layers of PyTorch that are made of structures and symmetries.

adapters: small trainable changes of the frozen layers of a trained model.
low_rank: schemes that train any model's layers in low rank.
projection: the best approximation of a matrix in a structure.
so3: layers that turn with space.
Multilinear: attention to pairs of tokens, polynomials, the star operation. EvoNorm, and geometric parametrisation.
"""

from __future__ import annotations

from tenfold.nn import adapters, conv_formats, low_rank, projection, so3
from tenfold.nn._linear_map import LinearMap
from tenfold.nn.algebras import algebra, algebras
from tenfold.nn.block_diagonal import BlockDiagonalLinear
from tenfold.nn.conv import StructuredConv
from tenfold.nn.embedding import StructuredEmbedding
from tenfold.nn.evonorm import EvoNormB0, EvoNormB1, EvoNormB2, EvoNormS0, EvoNormS1, EvoNormS2
from tenfold.nn.geometric import GeometricConv2d, GeometricLinear
from tenfold.nn.hypercomplex import (
    HypercomplexConv1d,
    HypercomplexConv2d,
    HypercomplexConv3d,
    hypercomplex_linear,
)
from tenfold.nn.learning_rates import Fan, param_groups
from tenfold.nn.linear import StructuredLinear
from tenfold.nn.one_way import OneWayConv
from tenfold.nn.polynomial import CCP, NCP
from tenfold.nn.polynomial_attention import (
    PolynomialError,
    polynomial_degree,
    polynomial_error,
    polynomial_tensor_attention,
    score_bound,
)
from tenfold.nn.quantized import QuantizedConv, QuantizedEmbedding, QuantizedLinear, QuantizedWeight
from tenfold.nn.star import StarBlock, StarLinear, StarNet
from tenfold.nn.stored import load
from tenfold.nn.tensor_attention import TensorAttention, tensor_attention
from tenfold.nn.toeplitz import ToeplitzLinear
from tenfold.nn.w8a8 import W8A8Conv, W8A8Linear

__all__ = [
    "CCP",
    "NCP",
    "BlockDiagonalLinear",
    "EvoNormB0",
    "EvoNormB1",
    "EvoNormB2",
    "EvoNormS0",
    "EvoNormS1",
    "EvoNormS2",
    "Fan",
    "GeometricConv2d",
    "GeometricLinear",
    "HypercomplexConv1d",
    "HypercomplexConv2d",
    "HypercomplexConv3d",
    "LinearMap",
    "OneWayConv",
    "PolynomialError",
    "QuantizedConv",
    "QuantizedEmbedding",
    "QuantizedLinear",
    "QuantizedWeight",
    "StarBlock",
    "StarLinear",
    "StarNet",
    "StructuredConv",
    "StructuredEmbedding",
    "StructuredLinear",
    "TensorAttention",
    "ToeplitzLinear",
    "W8A8Conv",
    "W8A8Linear",
    "adapters",
    "algebra",
    "algebras",
    "conv_formats",
    "hypercomplex_linear",
    "load",
    "low_rank",
    "param_groups",
    "polynomial_degree",
    "polynomial_error",
    "polynomial_tensor_attention",
    "projection",
    "score_bound",
    "so3",
    "tensor_attention",
]
