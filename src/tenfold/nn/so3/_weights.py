"""Weights of products, as a parameter where there are any."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Weights(nn.Module):
    """Normal numbers of a shape, what products begin with; nothing where the shape is empty."""

    def __init__(
        self, shape: tuple[int, ...], *, dtype: torch.dtype | None = None, device: torch.device | str | None = None
    ) -> None:
        super().__init__()
        numbers = torch.empty(shape, dtype=dtype, device=device)
        self.numbers = nn.Parameter(numbers) if numbers.numel() else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Anew from torch's generator of random numbers, as ``torch.nn`` does."""
        if self.numbers is not None:
            nn.init.normal_(self.numbers)

    def forward(self) -> Tensor | None:
        """The numbers, or None."""
        return self.numbers
