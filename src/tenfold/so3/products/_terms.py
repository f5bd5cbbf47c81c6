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
class Coupling:
    """One path: degrees, the factor of its 3j coefficients of norm one, and where its components begin.

    Attributes:
        steps: how far components lie from each other in left, right and out: 1 where they are neighbours.
    """

    degrees: tuple[int, int, int]
    factor: float
    left: int
    right: int
    out: int
    steps: tuple[int, int, int] = (1, 1, 1)


@dataclass(frozen=True)
class Terms:
    """``out[k] += value * weight[path] * left[i] * right[j]``, one entry of each array for every term.

    Sorted by path, then ``k``, ``i``, ``j``.

    Attributes:
        sizes: how many components left, right and out have, and how many paths there are.
        paths: what they were made of.
        key: the same as text, which `read` makes terms of again. Operators of torch take it, so that programs that
            were exported know their coefficients.
    """

    path: Int64[np.ndarray, " n"]
    left: Int64[np.ndarray, " n"]
    right: Int64[np.ndarray, " n"]
    out: Int64[np.ndarray, " n"]
    value: Float64[np.ndarray, " n"]
    sizes: tuple[int, int, int, int]
    paths: tuple[Coupling, ...]
    key: str

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


def terms(couplings: Iterable[Coupling], sizes: tuple[int, int, int]) -> Terms:
    """The terms of all paths, numbered in their order, between features of so many components."""
    paths = tuple(couplings)
    columns: list[list[np.ndarray]] = [[], [], [], [], []]
    for number, one in enumerate(paths):
        table = real_3j(*one.degrees)
        # By the output first, so that a kernel can add up in registers.
        k, i, j = np.nonzero(np.abs(table).transpose(2, 0, 1) > _ZERO)
        left, right, out = (
            start + step * component
            for start, step, component in zip((one.left, one.right, one.out), one.steps, (i, j, k), strict=True)
        )
        found = (np.full(len(k), number), left, right, out, one.factor * table[i, j, k])
        for column, part in zip(columns, found, strict=True):
            column.append(part)
    path, left, right, out = (np.concatenate([*c, np.empty(0)]).astype(np.int64) for c in columns[:4])
    value = np.concatenate([*columns[4], np.empty(0)])
    return Terms(path, left, right, out, value, (*sizes, len(paths)), paths, _written(paths, sizes))


def _written(paths: tuple[Coupling, ...], sizes: tuple[int, int, int]) -> str:
    lines = [" ".join(map(str, sizes))]
    for one in paths:
        numbers = (*one.degrees, one.left, one.right, one.out, *one.steps)
        lines.append(f"{float(one.factor).hex()} {' '.join(map(str, numbers))}")
    return ";".join(lines)


def read(key: str) -> Terms:
    """The terms whose key this is."""
    first, *lines = key.split(";")
    found = []
    for line in lines:
        factor, *words = line.split()
        l1, l2, l3, left, right, out, *steps = map(int, words)
        found.append(Coupling((l1, l2, l3), float.fromhex(factor), left, right, out, (steps[0], steps[1], steps[2])))
    left_size, right_size, out_size = map(int, first.split())
    return terms(found, (left_size, right_size, out_size))
