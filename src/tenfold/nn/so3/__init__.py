"""Layers that turn with space: features in, features out, each in irreps as ``tenfold.so3`` writes them.

layer = tn.nn.so3.Linear("32x0e+16x1o", "16x0e+8x1o")
"""

from __future__ import annotations

from tenfold.nn.so3.linear import Linear

__all__ = ["Linear"]
