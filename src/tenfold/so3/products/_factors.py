"""Weights of products of functions: one number for each degree and channel of the left, the right and the result."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor


class Factors:
    """How a flat weight is cut into factors of left, right and out, ``rank`` times over.

    Args:
        signals: degrees and channels of left, right and out.
        rank: how many products are added up.
    """

    def __init__(self, signals: Sequence[tuple[tuple[int, ...], int]], rank: int) -> None:
        self.signals = tuple(signals)
        self.rank = rank
        self.numel = rank * sum(len(degrees) * channels for degrees, channels in self.signals)

    def __call__(self, weight: Float[Tensor, "*batch numel"]) -> list[Float[Tensor, "*batch component rank mul"]]:
        """For each signal, a factor for each component, with ranks beside channels."""
        return [
            torch.cat(
                [
                    one[..., n : n + 1, :, :].expand(*weight.shape[:-1], 2 * degree + 1, -1, -1)
                    for n, degree in enumerate(degrees)
                ],
                dim=-3,
            )
            for one, (degrees, _) in zip(self.by_degree(weight), self.signals, strict=True)
        ]

    def by_degree(self, weight: Float[Tensor, "*batch numel"]) -> list[Float[Tensor, "*batch degree rank mul"]]:
        """For each signal, a factor for each degree."""
        sizes = [self.rank * len(degrees) * channels for degrees, channels in self.signals]
        return [
            part.unflatten(-1, (len(degrees), self.rank, channels))
            for part, (degrees, channels) in zip(weight.split(sizes, dim=-1), self.signals, strict=True)
        ]
