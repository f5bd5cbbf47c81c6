"""Whole arrays as methods take them: split into output indices, finite, of a range that can be squared safely."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from tenfold.decomposition._error import split_axes, squared_norm
from tenfold.decomposition._registry import Data
from tenfold.errors import DataError
from tenfold.observations import Observations
from tenfold.structure import Structure


class Whole(NamedTuple):
    """A dense tensor to decompose.

    Attributes:
        tensor: the data divided by ``scale``, one axis for each output index, in a dtype that BLAS multiplies.
        scale: a power of two, 1 unless the squares of the data would leave the range of its dtype.
        norm2: ``sum |x|^2`` of ``tensor``.
        dtype: the dtype of the data.
    """

    tensor: Tensor
    scale: float
    norm2: float
    dtype: torch.dtype

    def finish(self, cores: list[Tensor], scaled: int = 0) -> list[Tensor]:
        """Cores that fit ``tensor`` made to fit the data, in its dtype; core ``scaled`` takes the scale."""
        if self.scale != 1:
            cores[scaled] = cores[scaled] * self.scale
        return [core.to(self.dtype).resolve_conj().contiguous() for core in cores]


def whole_array(data: Data, structure: Structure, method: str) -> Whole:
    """Check the data of a method that needs every entry, and bring it into the axes of ``structure``.

    Raises:
        DataError: observations instead of an array, another shape than the structure's, no floating or complex
            numbers, or a NaN or infinity among them.
    """
    if isinstance(data, Observations):
        raise DataError(
            f"method '{method}' needs a whole array, not observations; use one that takes them, such as 'als'"
        )
    tensor = split_axes(data, structure)
    assert isinstance(tensor, Tensor)
    tensor = tensor.detach().resolve_conj().resolve_neg()
    dtype = tensor.dtype
    if dtype in (torch.float16, torch.bfloat16):
        tensor = tensor.float()
    # In the order of memory there is nothing to copy.
    strides = tensor.stride()
    norm2 = squared_norm(tensor.permute(sorted(range(tensor.ndim), key=lambda axis: -strides[axis])))
    # Gram matrices and their eigensolvers square the data again, so stay far from both ends of the range.
    safe = 1e12 if tensor.dtype in (torch.float32, torch.complex64) else 1e100
    scale = 1.0
    if not safe**-2 < norm2 < safe**2:
        if not bool(torch.isfinite(tensor).all()):
            bad = int((~torch.isfinite(tensor)).sum())
            raise DataError(f"data has {bad:,} entries that are NaN or infinite; mask them with Observations.from_nan")
        peak = float(tensor.abs().max()) if tensor.numel() else 0.0
        if peak > 0:
            power = math.frexp(peak)[1] - 1
            scale = 2.0**power
            # In two steps, because the reciprocal of a subnormal number is out of range.
            tensor = tensor / 2.0 ** (power // 2) / 2.0 ** (power - power // 2)
            norm2 = squared_norm(tensor)
    return Whole(tensor, scale, norm2, dtype)
