"""How channels come to vectors: those that fill none lie side by side with those of other rows of the batch."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


class Packed:
    """Rows of few channels, side by side: ``lanes`` channels each, as many rows as are needed.

    Attributes:
        rows: how many rows there are then.
    """

    def __init__(self, batch: int, channels: int, lanes: int) -> None:
        self.batch, self.channels, self.lanes = batch, channels, lanes
        self.rows = -(-batch * channels // lanes)

    def pack(self, *tensors: Tensor | None) -> list[Any]:
        return [None if tensor is None else self._pack(tensor) for tensor in tensors]

    def _pack(self, tensor: Tensor) -> Tensor:
        spread = tensor.expand(self.batch, -1, self.channels).transpose(0, 1).flatten(1)
        filled = torch.nn.functional.pad(spread, (0, -spread.shape[1] % self.lanes))
        return filled.unflatten(1, (-1, self.lanes)).transpose(0, 1).contiguous()

    def unpack(self, tensor: Tensor) -> Tensor:
        spread = tensor.transpose(0, 1).flatten(1)[:, : self.batch * self.channels]
        return spread.unflatten(1, (self.batch, self.channels)).transpose(0, 1).contiguous()


def cut(tensor: Tensor | None, begin: int, end: int, channels: int) -> Any:
    """Some of its channels; all of it where it has one for all, or where that is what is asked for."""
    if tensor is None or tensor.shape[2] != channels or (begin, end) == (0, channels):
        return tensor
    return tensor[:, :, begin:end]
