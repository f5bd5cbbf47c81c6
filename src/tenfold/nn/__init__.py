"""Layers of PyTorch that are made of structures and symmetries.

so3: layers that turn with space.
"""

from __future__ import annotations

from tenfold.nn import so3
from tenfold.nn._linear_map import LinearMap
from tenfold.nn.linear import StructuredLinear

__all__ = ["LinearMap", "StructuredLinear", "so3"]
