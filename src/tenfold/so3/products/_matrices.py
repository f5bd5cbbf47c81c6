"""Features as matrices: all degrees up to ``2 s`` are what operators on an irrep of degree ``s`` consist of."""

from __future__ import annotations

import math
from functools import cache

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from tenfold.so3._wigner3j import real_3j
from tenfold.so3.irreps import Irrep, Irreps
from tenfold.so3.products._registry import Unsuited
from tenfold.so3.products._signal_product import SignalProduct, WholeSignalProduct
from tenfold.so3.products._signals import Signal


@cache
def basis(spin: int, orthonormal: bool) -> NDArray[np.float64]:
    """``[row, column, component]`` of all degrees up to ``2 spin``; not to be written to."""
    parts = [
        real_3j(spin, spin, degree) * (math.sqrt(2 * degree + 1) if orthonormal else 1)
        for degree in range(2 * spin + 1)
    ]
    return np.concatenate(parts, axis=2)


@cache
def matrix_factor(spin: int, orthonormal: bool, l1: int, l2: int, l3: int) -> float:
    """What the product of two of these matrices is, in units of the 3j coefficients: up to its sign a 6j symbol."""
    if max(l1, l2, l3) > 2 * spin or not abs(l1 - l2) <= l3 <= l1 + l2:
        return 0.0
    couple = real_3j(l1, l2, l3)
    m1, m2, m3 = np.unravel_index(np.abs(couple).argmax(), couple.shape)
    table = basis(spin, orthonormal)
    one, two, three = (table[:, :, n * n + m] for n, m in ((l1, m1), (l2, m2), (l3, m3)))
    found = float(np.sum((one @ two) * three) / couple[m1, m2, m3])
    return 0.0 if abs(found) < 1e-14 else found


class Matrices:
    """Features with all degrees up to ``2 spin`` as matrices, and back."""

    def __init__(self, spin: int, orthonormal: bool) -> None:
        self.spin = spin
        self._basis = torch.tensor(basis(spin, orthonormal)).flatten(0, 1)

    def of(self, signal: Float[Tensor, "batch component mul"]) -> Float[Tensor, "batch mul n n"]:
        """Matrices of signals; degrees above theirs are zero."""
        size = 2 * self.spin + 1
        table = self._basis[:, : signal.shape[1]].to(signal)
        return (signal.transpose(1, 2) @ table.T).unflatten(-1, (size, size))

    def signal(self, matrices: Float[Tensor, "batch mul n n"], degree: int) -> Float[Tensor, "batch component mul"]:
        """Scalar products with the basis, of the degrees up to one."""
        table = self._basis[:, : (degree + 1) ** 2].to(matrices)
        return (matrices.flatten(-2) @ table).transpose(1, 2)


class OneParity(WholeSignalProduct):
    """Products for irreps that are all even or all odd, such as those that matrices consist of."""

    @staticmethod
    def grade(ir: Irrep) -> int:
        return ir.p

    @classmethod
    def signal(cls, name: str, irreps: Irreps) -> Signal:
        degrees = tuple(block.ir.l for block in irreps)
        muls, parities = {block.mul for block in irreps}, {block.ir.p for block in irreps}
        if len(muls) != 1 or 0 in muls or len(parities) != 1 or list(degrees) != sorted(set(degrees)):
            raise Unsuited(
                f"{name} '{irreps}' are no matrices: that is each degree once, in increasing order, equally often, all "
                "of one parity, like '64x0e+64x1e+64x2e'"
            )
        return Signal(muls.pop(), degrees, parities.pop())


def checked(product: SignalProduct, most: int) -> None:
    """Raises `Unsuited` where degrees are above those that matrices have."""
    for name, signal in (("irreps_in1", product.left), ("irreps_in2", product.right), ("irreps_out", product.out)):
        if signal.lmax > most:
            raise Unsuited(f"{name} have degree {signal.lmax}, and these matrices none above {most}")
