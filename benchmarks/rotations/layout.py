"""Between channels last, as numbers are handed out here, and the layout of e3nn."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def to_mul_ir(array: np.ndarray, degrees: Sequence[int]) -> np.ndarray:
    """``[rows, components, channels]`` of blocks of these degrees, flat, channels of a block first."""
    parts = np.split(array, np.cumsum([2 * degree + 1 for degree in degrees])[:-1], axis=1)
    return np.concatenate([part.swapaxes(1, 2).reshape(len(array), -1) for part in parts], axis=1)


def from_mul_ir(array: np.ndarray, degrees: Sequence[int], channels: int) -> np.ndarray:
    """The inverse of `to_mul_ir`."""
    parts = np.split(array, np.cumsum([channels * (2 * degree + 1) for degree in degrees])[:-1], axis=1)
    blocks = [part.reshape(len(array), channels, -1).swapaxes(1, 2) for part in parts]
    return np.concatenate(blocks, axis=1)
