"""Layers that turn with space: features in, features out, each in irreps as ``tenfold.so3`` writes them.

layer = tn.nn.so3.Linear("32x0e+16x1o", "16x0e+8x1o")
"""

from __future__ import annotations

from tenfold.nn.so3.activation import Activation
from tenfold.nn.so3.convolution import Convolution
from tenfold.nn.so3.dropout import Dropout
from tenfold.nn.so3.gate import Gate
from tenfold.nn.so3.layer_norm import EquivariantLayerNorm
from tenfold.nn.so3.linear import Linear
from tenfold.nn.so3.many_body import ManyBody
from tenfold.nn.so3.norm_activation import NormActivation
from tenfold.nn.so3.rms_norm import EquivariantRMSNorm
from tenfold.nn.so3.tensor_product import TensorProduct

__all__ = [
    "Activation",
    "Convolution",
    "Dropout",
    "EquivariantLayerNorm",
    "EquivariantRMSNorm",
    "Gate",
    "Linear",
    "ManyBody",
    "NormActivation",
    "TensorProduct",
]
