"""Ranks as scripts give them: a number, one for each bond, ``"same"``, or a part of the entries.

A fraction f asks for about f times as many parameters as the tensor has entries; ``"same"`` is 1.0.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from numbers import Integral
from typing import Any

from scipy.optimize import brentq


def _fraction(rank: Any) -> float | None:
    if isinstance(rank, str):
        if rank != "same":
            raise ValueError(f"rank is {rank!r}; it can be an integer, a list, a fraction or 'same'")
        return 1.0
    return float(rank) if isinstance(rank, float) else None


def _whole(rank: Any, name: str = "rank") -> int:
    if isinstance(rank, Integral) and int(rank) >= 1:
        return int(rank)
    raise ValueError(f"{name} is {rank!r}; it must be a positive integer")


def cp(shape: Sequence[int], rank: Any) -> int:
    """``R sum(n) = f prod(n)``."""
    part = _fraction(rank)
    return _whole(rank) if part is None else max(round(part * math.prod(shape) / sum(shape)), 1)


def tucker(shape: Sequence[int], rank: Any) -> list[int]:
    """Ranks ``c n`` with ``c^N prod(n) + c sum(n^2) = f prod(n)``; None for the sizes of the modes."""
    if rank is None:
        return list(shape)
    part = _fraction(rank)
    if part is None:
        return _each(rank, len(shape), "modes")
    entries, squares = math.prod(shape), sum(n * n for n in shape)
    scale = brentq(lambda c: entries * c ** len(shape) + squares * c - part * entries, 0.0, max(part, 1.0))
    return [max(round(n * scale), 1) for n in shape]


def train(shape: Sequence[int], rank: Any) -> list[int]:
    """One more rank than modes, 1 at both ends; a fraction makes each rank proportional to the modes beside it."""
    part = _fraction(rank)
    order = len(shape)
    if part is None:
        if isinstance(rank, Integral):
            return [1, *[_whole(rank)] * (order - 1), 1]
        ranks = _each(rank, order + 1, "bonds, both ends included,")
        if ranks[0] != 1 or ranks[-1] != 1:
            raise ValueError(f"rank {ranks} must begin and end with 1")
        return ranks
    beside = [(a + b) / 2 for a, b in pairwise(shape)]
    if order == 1:
        return [1, 1]
    inside = [beside[k - 1] * shape[k] * beside[k] for k in range(1, order - 1)]
    square = sum(inside) if inside else beside[0] ** 2 * shape[0]
    linear = shape[0] * beside[0] + shape[-1] * beside[-1]
    scale = (math.sqrt(linear**2 + 4 * square * part * math.prod(shape)) - linear) / (2 * square)
    return [1, *[max(round(mean * scale), 1) for mean in beside], 1]


def ring(shape: Sequence[int], rank: Any) -> list[int]:
    """One more rank than modes, the first and the last equal; a fraction makes all equal."""
    part = _fraction(rank)
    if part is not None:
        return [max(round(math.sqrt(part * math.prod(shape) / sum(shape))), 1)] * (len(shape) + 1)
    if isinstance(rank, Integral):
        return [_whole(rank)] * (len(shape) + 1)
    ranks = _each(rank, len(shape) + 1, "bonds, the first one twice,")
    if ranks[0] != ranks[-1]:
        raise ValueError(f"rank {ranks} must begin and end with the same number: a ring is closed")
    return ranks


def _each(rank: Any, count: int, what: str) -> list[int]:
    if isinstance(rank, Integral):
        return [_whole(rank)] * count
    ranks = [_whole(each, f"rank[{place}]") for place, each in enumerate(rank)]
    if len(ranks) != count:
        raise ValueError(f"rank has {len(ranks)} numbers, but there are {count} {what} to give one for")
    return ranks
