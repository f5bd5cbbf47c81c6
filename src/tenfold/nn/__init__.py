"""Layers of PyTorch that are made of structures and symmetries.

so3: layers that turn with space.
"""

from __future__ import annotations

from tenfold.nn import so3

__all__ = ["so3"]
