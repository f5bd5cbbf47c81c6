"""Convolutions of filters along one axis at a time, chosen before training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tenfold import formats
from tenfold.errors import StructureError
from tenfold.nn.conv import StructuredConv
from tenfold.nn.recipes import dtype_of


class OneWayConv(StructuredConv):
    """A convolution whose kernel is ``K[o,i,x,y] = sum_r A[o,r] B[i,r] c[x,r] d[y,r]``, as `StructuredConv` runs it.

    In, then along each axis of space alone, and out: ``rank (in + out + kx + ky)`` numbers in place of
    ``in out kx ky``. The Laplacian of five points has rank 2.

    Args:
        in_channels, out_channels: as of ``nn.Conv2d``.
        kernel_size: one number for each of the 1 to 3 axes of space.
        rank: of the kernel.
        settings: as of `StructuredConv`.

    Raises:
        StructureError: the channels are not divisible by the groups, or a rank below one.

    Paper: "A priori compression of convolutional neural networks for wave simulators", 2023.
    """

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: Sequence[int], rank: int, **settings: Any
    ) -> None:
        groups = settings.get("groups", 1)
        if groups < 1 or in_channels % groups:
            raise StructureError(f"{groups} groups do not divide {in_channels} channels that come in")
        shape = (out_channels, in_channels // groups, *kernel_size)
        super().__init__(formats.cp(shape, rank), **settings)
        self.rank = rank

    def recipe(self) -> dict[str, Any]:
        """See `tenfold.nn.recipes`."""
        return {
            "in_channels": self.in_channels,
            "out_channels": self.out_channels,
            "kernel_size": list(self.kernel_size),
            "rank": self.rank,
            **self._settings(),
        }

    @classmethod
    def from_recipe(cls, recipe: Mapping[str, Any]) -> OneWayConv:
        """See `tenfold.nn.recipes`."""
        return cls(**{**recipe, "dtype": dtype_of(recipe["dtype"])})
