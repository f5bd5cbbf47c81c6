"""Features that are functions on the sphere: each degree once, in equally many channels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from tenfold.so3._relayout import turned
from tenfold.so3.irreps import Irreps
from tenfold.so3.layouts import Layout
from tenfold.so3.products._registry import Unsuited


@dataclass(frozen=True)
class Signal:
    """What irreps like ``"64x0e+64x1o+64x2e"`` are: ``channels`` functions on the sphere with these degrees.

    Attributes:
        channels: how many functions.
        degrees: which degrees occur, increasing.
        parity: 1 where the functions are true scalars; -1 where they change sign under the inversion.
    """

    channels: int
    degrees: tuple[int, ...]
    parity: int

    @property
    def lmax(self) -> int:
        """The largest degree."""
        return self.degrees[-1]

    @classmethod
    def of(cls, name: str, irreps: Irreps) -> Signal:
        """Raises `Unsuited` where irreps are no such thing."""
        muls = {block.mul for block in irreps}
        parities = {block.ir.p * (-1) ** block.ir.l for block in irreps}
        degrees = tuple(block.ir.l for block in irreps)
        if len(muls) != 1 or 0 in muls or len(parities) != 1 or list(degrees) != sorted(set(degrees)):
            raise Unsuited(
                f"{name} '{irreps}' are no function on the sphere: that is each degree once, in increasing order, "
                "equally often, all of the parity of harmonics or all of the other, like '64x0e+64x1o+64x2e'"
            )
        return cls(muls.pop(), degrees, parities.pop())

    def components(self, features: Float[Tensor, "batch dim"], layout: Layout) -> Float[Tensor, "batch component mul"]:
        """Channels last, components of all degrees that occur before; a view where the layout is ``"ir_mul"``."""
        if layout == "mul_ir":
            features = turned(features, *self._blocks, "ir_mul")
        return features.unflatten(-1, (-1, self.channels))

    def features(self, components: Float[Tensor, "batch component mul"], layout: Layout) -> Float[Tensor, "batch dim"]:
        """The inverse of `components`."""
        features = components.flatten(-2)
        return features if layout == "ir_mul" else turned(features, *self._blocks, "mul_ir")

    @property
    def _blocks(self) -> tuple[list[int], list[int]]:
        """Channels and components of each degree."""
        return [self.channels] * len(self.degrees), [2 * degree + 1 for degree in self.degrees]


def spread(numbers: Sequence[float], degrees: Sequence[int], like: Tensor) -> Float[Tensor, "component 1"]:
    """One number for each degree, for each of its components."""
    each = [number for number, degree in zip(numbers, degrees, strict=True) for _ in range(2 * degree + 1)]
    return like.new_tensor(each)[:, None]


def filled(signal: Float[Tensor, "batch some mul"], degrees: Sequence[int]) -> Float[Tensor, "batch all mul"]:
    """All degrees up to the largest, zero where they are missing."""
    if len(degrees) == degrees[-1] + 1:
        return signal
    parts = iter(signal.split([2 * degree + 1 for degree in degrees], dim=-2))
    batch, _, mul = signal.shape
    return torch.cat(
        [
            next(parts) if degree in degrees else signal.new_zeros(batch, 2 * degree + 1, mul)
            for degree in range(degrees[-1] + 1)
        ],
        dim=-2,
    )


def chosen(signal: Float[Tensor, "batch all mul"], degrees: Sequence[int]) -> Float[Tensor, "batch some mul"]:
    """The inverse of `filled`."""
    if len(degrees) == degrees[-1] + 1:
        return signal
    return torch.cat([signal[:, degree**2 : (degree + 1) ** 2] for degree in degrees], dim=-2)
