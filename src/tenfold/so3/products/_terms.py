"""The nonzero coefficients of a product, as arrays that kernels run through."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float64, Int64

from tenfold.so3._wigner3j import real_3j

# Below this a coefficient of norm one is a rounded zero.
_ZERO = 1e-13


@dataclass(frozen=True)
class Terms:
    """``out[k] += value * weight[path] * left[i] * right[j]``, one entry of each array for every term.

    Sorted by path, then ``k``, ``i``, ``j``.

    Attributes:
        sizes: how many components left, right and out have, and how many paths there are.
    """

    path: Int64[np.ndarray, " n"]
    left: Int64[np.ndarray, " n"]
    right: Int64[np.ndarray, " n"]
    out: Int64[np.ndarray, " n"]
    value: Float64[np.ndarray, " n"]
    sizes: tuple[int, int, int, int]

    def __len__(self) -> int:
        return len(self.value)

    def dense(self, weight: Float64[torch.Tensor, " path"] | None = None) -> torch.Tensor:
        """``[left, right, out]``, the weights included if there are any."""
        result = torch.zeros(self.sizes[:3], dtype=torch.float64)
        factors = torch.from_numpy(self.value)
        if weight is not None:
            factors = factors * weight[torch.from_numpy(self.path)]
        places = tuple(torch.from_numpy(index) for index in (self.left, self.right, self.out))
        return result.index_put(places, factors, accumulate=True)


@dataclass(frozen=True)
class Coupling:
    """One path: degrees, the factor of its 3j coefficients of norm one, and where its components begin."""

    degrees: tuple[int, int, int]
    factor: float
    left: int
    right: int
    out: int


def terms(couplings: Iterable[Coupling], sizes: tuple[int, int, int]) -> Terms:
    """The terms of all paths, numbered in their order, between features of so many components."""
    columns: list[list[np.ndarray]] = [[], [], [], [], []]
    number = 0
    for number, one in enumerate(couplings, start=1):
        table = real_3j(*one.degrees)
        # By the output first, so that a kernel can add up in registers.
        k, i, j = np.nonzero(np.abs(table).transpose(2, 0, 1) > _ZERO)
        found = (np.full(len(k), number - 1), one.left + i, one.right + j, one.out + k, one.factor * table[i, j, k])
        for column, part in zip(columns, found, strict=True):
            column.append(part)
    path, left, right, out = (np.concatenate([*c, np.empty(0)]).astype(np.int64) for c in columns[:4])
    return Terms(path, left, right, out, np.concatenate([*columns[4], np.empty(0)]), (*sizes, number))
