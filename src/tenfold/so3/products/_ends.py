"""The ends of edges: which nodes they may be."""

from __future__ import annotations

import torch
from torch import Tensor

from tenfold.errors import DataError


def check_ends(name: str, index: Tensor | None, nodes: int) -> None:
    """Raises `DataError` where an edge ends at a node that there is not."""
    if index is None or not index.numel():
        return
    low, high = (int(number) for number in torch.aminmax(index))
    if low < 0 or high >= nodes:
        wrong = low if low < 0 else high
        allowed = f"from 0 to {nodes - 1}" if nodes else "none, as there are none"
        raise DataError(f"{name} must be nodes {allowed}, not {wrong}")
