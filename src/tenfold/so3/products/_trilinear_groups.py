"""The groups of a plan, brought to the form in which they take the fewest multiplications.

Two products of components that lead to the same ends with the same coefficients but for signs (cosine with cosine and
sine with sine, of the same frequencies) are replaced by their sum and their difference: each of these leads to half as
many ends. Then a group falls apart into parts that have no end in common.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int64

from tenfold.so3.products._trilinear_plan import Plan

# Relative to the largest coefficient: a rounding error.
_ZERO = 1e-12
_DIGITS = 9


@dataclass(frozen=True)
class Part:
    """Sums of products and the ends they lead to.

    Attributes:
        sums: the products of each: a component of left, one of right, and the sign; the first one is positive.
        ends: which ends these are.
        values: how much of each sum there is in each end, ``[sum][end]``.
    """

    sums: tuple[tuple[tuple[int, int, int], ...], ...]
    ends: tuple[int, ...]
    values: tuple[tuple[float, ...], ...]


@dataclass(frozen=True, eq=False)
class Shape:
    """A group but for where its components lie: they are counted within it.

    Attributes:
        paths: the path of each end.
        terms: how many coefficients there are.
    """

    paths: tuple[int, ...]
    parts: tuple[Part, ...]
    terms: int


@dataclass(frozen=True)
class Group:
    """A shape and the components of left, right and out and the paths that are meant by its numbers."""

    shape: Shape
    lefts: Int64[np.ndarray, " left"]
    rights: Int64[np.ndarray, " right"]
    outs: Int64[np.ndarray, " end"]
    paths: Int64[np.ndarray, " path"]


def groups_of(plan: Plan) -> tuple[Group, ...]:
    """The groups of a plan; equal ones have the same shape."""
    shapes: dict[tuple[bytes, ...], Shape] = {}
    found = []
    for number in range(len(plan.group_pairs) - 1):
        pairs = slice(plan.group_pairs[number], plan.group_pairs[number + 1])
        ends = slice(plan.group_ends[number], plan.group_ends[number + 1])
        terms = slice(plan.end_terms[ends.start], plan.end_terms[ends.stop])
        lefts, left = np.unique(plan.pair_left[pairs], return_inverse=True)
        rights, right = np.unique(plan.pair_right[pairs], return_inverse=True)
        paths, path = np.unique(plan.end_path[ends], return_inverse=True)
        end = np.repeat(np.arange(ends.stop - ends.start), np.diff(plan.end_terms[ends.start : ends.stop + 1]))
        pair, value = plan.end_pairs[terms], plan.end_values[terms]
        key = tuple(part.tobytes() for part in (left, right, path, end, pair, value))
        if key not in shapes:
            table = np.zeros((len(left), len(path)))
            np.add.at(table, (pair, end), value)
            shapes[key] = _shape(table, left.reshape(-1), right.reshape(-1), path.reshape(-1))
        found.append(Group(shapes[key], lefts, rights, plan.end_out[ends], paths))
    return tuple(found)


def first_uses(blocks: Sequence[Int64[np.ndarray, " component"]], size: int) -> list[bool]:
    """Whether each of these is the first use of its components; nowhere where that cannot be said of whole blocks.

    Args:
        blocks: components in the order of their use.
        size: how many there are; if some are not used at all, nothing is a first use either.
    """
    seen = np.zeros(size, dtype=bool)
    found = []
    for block in blocks:
        if seen[block].any() != seen[block].all():
            return [False] * len(blocks)
        found.append(not seen[block].any())
        seen[block] = True
    return found if seen.all() else [False] * len(blocks)


def first_ends(groups: Sequence[Group], size: int) -> list[tuple[bool, ...]]:
    """Whether each end of these groups is the first one at its component of out, of which there are so many.

    Within a group the order is that of its parts; ends that no part leads to come last.
    """
    seen = np.zeros(size, dtype=bool)
    found = []
    for group in groups:
        first = [False] * len(group.outs)
        led = [end for part in group.shape.parts for end in part.ends]
        for end in (*led, *sorted(set(range(len(group.outs))) - set(led))):
            first[end] = not seen[group.outs[end]]
            seen[group.outs[end]] = True
        found.append(tuple(first))
    return found


def _shape(
    table: Float64[np.ndarray, "pair end"],
    left: Int64[np.ndarray, " pair"],
    right: Int64[np.ndarray, " pair"],
    path: Int64[np.ndarray, " end"],
) -> Shape:
    products, rows = _summed(table)
    sums = [tuple((int(left[p]), int(right[p]), sign) for p, sign in one) for one in products]
    parts = []
    for chosen, ends in _parts(rows != 0):
        values = rows[np.ix_(chosen, ends)].tolist()
        parts.append(Part(tuple(sums[n] for n in chosen), tuple(ends), tuple(map(tuple, values))))
    return Shape(tuple(path.tolist()), tuple(parts), int(np.count_nonzero(rows)))


def _summed(
    table: Float64[np.ndarray, "pair end"],
) -> tuple[list[tuple[tuple[int, int], ...]], Float64[np.ndarray, "sum end"]]:
    """Sums of products with their signs, and the coefficients of these sums."""
    scale = np.abs(table).max(initial=0) or 1.0  # all of them are zero if a path counts nothing
    waiting: dict[tuple[float, ...], int] = {}
    products: list[tuple[tuple[int, int], ...]] = []
    rows = []
    for second, row in enumerate(table):
        alike = tuple((np.round(np.abs(row) / scale, _DIGITS) + 0.0).tolist())
        first = waiting.pop(alike, None)
        if first is None:
            waiting[alike] = second
            continue
        for sign in (1, -1):
            products.append(((first, 1), (second, sign)))
            rows.append((table[first] + sign * row) / 2)
    for alone in waiting.values():
        products.append(((alone, 1),))
        rows.append(table[alone])
    found = np.array(rows).reshape(-1, table.shape[1])
    found[np.abs(found) <= _ZERO * scale] = 0
    used = np.any(found != 0, axis=1)
    return [products[number] for number in np.flatnonzero(used)], found[used]


def _parts(leads: np.ndarray) -> list[tuple[list[int], list[int]]]:
    """Sums and ends that are connected."""
    left = list(range(len(leads)))
    found = []
    while left:
        chosen = np.zeros(len(leads), dtype=bool)
        chosen[left[0]] = True
        while True:
            ends = np.logical_or.reduce(leads[chosen], axis=0)
            grown = np.logical_or.reduce(leads[:, ends], axis=1)
            if np.array_equal(grown, chosen):
                break
            chosen = grown
        found.append((np.flatnonzero(chosen).tolist(), np.flatnonzero(ends).tolist()))
        left = [number for number in left if not chosen[number]]
    return found
