"""Powers of two that keep numbers, and the squares and products of numbers, within the range of their dtype."""

from __future__ import annotations

import math

import torch
from jaxtyping import Shaped
from torch import Tensor


def power_of(values: Tensor) -> int:
    """The least p with every ``|x| < 2**p``; 0 where all are zero, or one is NaN or infinite."""
    if not values.numel():
        return 0
    return math.frexp(float(torch.linalg.vector_norm(values.detach(), math.inf)))[1]


def times_power(values: Shaped[Tensor, ...], power: float) -> Shaped[Tensor, ...]:
    """``values * 2**power``, also where ``2**power`` is itself out of range."""
    half = power // 2
    return values * 2.0**half * 2.0 ** (power - half)
