"""The best approximation of a dense matrix in a structure, a file for each family.

`project` looks for a registered method that takes the structure.
"""

from __future__ import annotations

from tenfold.nn.projection._registry import Projection, project, projection, projections

__all__ = ["Projection", "project", "projection", "projections"]
