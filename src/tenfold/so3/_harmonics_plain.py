"""Real spherical harmonics as polynomials of x, y and z in plain torch: any device, any dtype, any derivative."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor


def plain_harmonics(
    vectors: Float[Tensor, "*batch 3"], degrees: Sequence[int], normalize: bool, normalization: str
) -> Float[Tensor, "*batch component"]:
    """The harmonics of at least one degree, side by side; the same degree may come again."""
    # Components first: then everything runs along the batch, and sums of squares need no reduction.
    first = vectors.movedim(-1, 0).contiguous()
    scales = [scale(degree, normalization) for degree in range(max(degrees) + 1)]
    by_degree = _harmonics(_directions(first) if normalize else first, scales)
    return torch.cat([by_degree[degree] for degree in degrees]).movedim(0, -1).contiguous()


def scale(degree: int, normalization: str) -> float:
    """What harmonics, whose squares add up to ``2 l + 1``, are multiplied by."""
    if normalization == "integral":
        return math.sqrt(1 / (4 * math.pi))
    return math.sqrt(1 / (2 * degree + 1)) if normalization == "norm" else 1.0


def recurrence(degree: int) -> tuple[list[float], list[float]]:
    """What the two degrees below are multiplied by, for orders 0 to ``degree - 2``."""
    lead, less = [], []
    for order in range(degree - 1):
        ratio = (4 * degree**2 - 1) / (degree**2 - order**2)
        lead.append(math.sqrt(ratio))
        less.append(math.sqrt(ratio * ((degree - 1) ** 2 - order**2) / (4 * (degree - 1) ** 2 - 1)))
    return lead, less


def _harmonics(vectors: Float[Tensor, "3 *batch"], scales: Sequence[float]) -> list[Float[Tensor, "component *batch"]]:
    """The harmonics of each degree times ``|x|^l`` and its scale; at scale 1 their squares add up to ``2 l + 1``.

    Associated Legendre functions, divided by the power of the sine that they contain, follow from the two degrees
    below, for all orders at once; the powers go to sine and cosine of ``m`` times the angle around y.
    """
    x, y, z = vectors[0:1], vectors[1:2], vectors[2:3]
    square = x * x + y * y + z * z
    one, largest = torch.ones_like(y), len(scales) - 1
    if not largest:
        return [scales[0] * one + 0 * y]  # a constant with a derivative: zero
    # Real and imaginary parts of (z + ix)^m, m = 1, 2, ...
    cosines, sines = [z], [x]
    for _ in range(largest - 1):
        cosine, sine = cosines[-1], sines[-1]
        cosines.append(z * cosine - x * sine)
        sines.append(x * cosine + z * sine)
    # Sines are wanted from the largest order down.
    cosine, sine = torch.cat(cosines), torch.cat(sines[::-1])
    below, before, diagonal = one, one, 1.0
    found = [scales[0] * one]
    for degree in range(1, largest + 1):
        diagonal *= math.sqrt((2 * degree + 1) / (2 * degree))
        parts = [math.sqrt(2 * degree + 1) * y * before[degree - 1 :], diagonal * one]
        if degree > 1:
            lead, less = (_column(factors, y) for factors in recurrence(degree))
            parts.insert(0, lead * y * before[: degree - 1] - less * square * below)
        below, before = before, torch.cat(parts)
        tail = math.sqrt(2) * scales[degree] * before[1:]
        negative = tail.flip(0) * sine[len(sines) - degree :]
        found.append(torch.cat([negative, scales[degree] * before[:1], tail * cosine[:degree]]))
    return found


def _column(numbers: list[float], like: Tensor) -> Tensor:
    return like.new_tensor(numbers).reshape((-1,) + (1,) * (like.ndim - 1))


def _directions(vectors: Float[Tensor, "3 *batch"]) -> Float[Tensor, "3 *batch"]:
    """Vectors of length one; zero stays zero, with derivatives of zero instead of infinite ones."""
    # A direction does not depend on this scale, so its derivatives do not either; squares would underflow without it.
    scale = vectors.detach().abs().amax(dim=0)
    zero = scale == 0
    scaled = torch.where(zero, torch.ones_like(vectors), vectors / torch.where(zero, 1.0, scale))
    x, y, z = scaled
    return torch.where(zero, torch.zeros_like(vectors), scaled * torch.rsqrt(x * x + y * y + z * z))
