"""Orthonormal bases of Cartesian tensors with symmetries, in which rotations act as irreps."""

from __future__ import annotations

import math
from functools import cache

import numpy as np
from numpy.typing import NDArray

from tenfold.so3._wigner3j import real_3j

# A way of its own through the couplings keeps at least so much of its length; what others span is left with roundoff.
_NEW = 1e-6

Symmetry = tuple[tuple[int, ...], int]


@cache
def cartesian_basis(rank: int, symmetries: tuple[Symmetry, ...]) -> tuple[tuple[int, ...], NDArray[np.float64]]:
    """The degrees that occur, in ascending order, and their components ``[component, 3, ..., 3]``, for reading only.

    Vectors are coupled one after the other by Clebsch-Gordan coefficients. Each way through the degrees in between, in
    ascending order, is made symmetric and orthogonal to those before it, and kept if something is left: so bases are
    the same on every machine.

    Args:
        rank: the number of indices.
        symmetries: a group: permutations of the axes, and the signs that tensors take under them.
    """
    degrees: list[int] = []
    rows: list[NDArray[np.float64]] = [np.zeros((0,) + (3,) * rank)]
    ways = _coupled(rank)
    for degree in range(rank + 1):
        mine = np.array([way for found, way in ways if found == degree]).reshape(-1, 2 * degree + 1, *(3,) * rank)
        even = np.zeros_like(mine)
        for axes, sign in symmetries:
            even += sign / len(symmetries) * mine.transpose(0, 1, *(2 + axis for axis in axes))
        # How much of each way is in each symmetric one: the same for all components.
        shares = np.tensordot(mine, even, (range(1, mine.ndim), range(1, mine.ndim))) / (2 * degree + 1)
        kept: list[NDArray[np.float64]] = []
        for share in shares.T:
            # Twice is enough for orthogonality to rounding.
            left = share.copy()
            for _ in range(2):
                for other in kept:
                    left -= (other @ left) * other
            length = np.linalg.norm(left)
            if length > _NEW:
                kept.append(left / length)
                degrees.append(degree)
                row = np.tensordot(kept[-1], mine, 1)
                rows.append(np.where(np.abs(row) < 1e-14, 0.0, row))
    basis = np.concatenate(rows)
    basis.flags.writeable = False
    return tuple(degrees), basis


def _coupled(rank: int) -> list[tuple[int, NDArray[np.float64]]]:
    """All tensors of a rank: degrees and components ``[2 l + 1, 3, ..., 3]``, in the order of the ways to them."""
    found = [(0, np.ones(1))]
    for _ in range(rank):
        longer = []
        for degree, way in found:
            for further in range(abs(degree - 1), degree + 2):
                couple = math.sqrt(2 * further + 1) * real_3j(degree, 1, further)
                longer.append((further, np.moveaxis(np.tensordot(way, couple, (0, 0)), -1, 0)))
        found = longer
    return found
