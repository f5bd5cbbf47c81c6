"""What nothing else beats in every respect: fronts, how much they cover, and where they bend."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, TypeVar

from tenfold.errors import TenfoldError

if TYPE_CHECKING:
    from tenfold.structure_search.session import Evaluation, Found

_Item = TypeVar("_Item")


def front(history: Iterable[Found], *, flops: bool = False) -> list[Evaluation]:
    """What was fitted and is neither larger nor worse than anything else, smallest first.

    Args:
        flops: whether what takes fewer flops to contract is kept too, although it is both larger and worse.
    """

    def measures(one: Evaluation) -> tuple[float, ...]:
        return (one.parameters, one.error, one.structure.cost().flops) if flops else (one.parameters, one.error)

    return non_dominated((found.evaluation for found in history), measures)


def non_dominated(items: Iterable[_Item], measures: Callable[[_Item], Sequence[float]]) -> list[_Item]:
    """The items that no other one is at least as good as in everything, sorted by their measures.

    Smaller is better. Of items that are alike the first is kept; what has a NaN is not. Cost: for n items O(n log n),
    and n times the size of the front.
    """
    kept: list[tuple[Sequence[float], _Item]] = []
    pairs = [(tuple(measures(item)), item) for item in items]
    # In this order an item is beaten by earlier ones only.
    for measure, item in sorted((p for p in pairs if not any(map(math.isnan, p[0]))), key=lambda pair: pair[0]):
        if not any(all(a <= b for a, b in zip(better, measure, strict=True)) for better, _ in kept):
            kept.append((measure, item))
    return [item for _, item in kept]


def hypervolume(points: Iterable[Sequence[float]], reference: Sequence[float]) -> float:
    """The volume of what is beaten by some of the points and beats the reference, in any number of dimensions.

    Sizes and errors span magnitudes: give logarithms of both, and as reference those of the size of the data and of 1.
    Points that do not beat the reference add nothing. Cost: for n points in d dimensions O(n^(d - 1) log n).

    Raises:
        TenfoldError: a point has another number of dimensions than the reference.
    """
    corner = tuple(float(x) for x in reference)
    inside = []
    for point in points:
        if len(point) != len(corner):
            raise TenfoldError(f"point {tuple(point)} has {len(point)} dimensions, the reference {len(corner)}")
        if all(a < b for a, b in zip(point, corner, strict=True)):
            inside.append(tuple(float(x) for x in point))
    return _volume(inside, corner)


def _volume(points: list[tuple[float, ...]], corner: tuple[float, ...]) -> float:
    """In slices along the last dimension."""
    if not points:
        return 0.0
    if len(corner) == 1:
        return corner[0] - min(point[0] for point in points)
    total = 0.0
    points = sorted(points, key=lambda point: point[-1])
    ends = [*(point[-1] for point in points[1:]), corner[-1]]
    for count, (point, end) in enumerate(zip(points, ends, strict=True), start=1):
        if end > point[-1]:
            below = non_dominated((other[:-1] for other in points[:count]), lambda other: other)
            total += _volume(below, corner[:-1]) * (end - point[-1])
    return total


def knee(points: Sequence[Sequence[float]]) -> int:
    """Which point of a front in two dimensions lies farthest below the straight line between its two ends.

    Both dimensions are stretched to the same length first. Beyond this point an improvement of one costs more than
    usual of the other. Give logarithms of sizes and errors.

    Raises:
        TenfoldError: there is no point, or one that has not two dimensions.
    """
    if not points or any(len(point) != 2 for point in points):
        raise TenfoldError(f"a knee needs points of two dimensions, not {[tuple(point) for point in points]}")
    order = sorted(range(len(points)), key=lambda k: tuple(points[k]))
    (left, top), (right, bottom) = points[order[0]], points[order[-1]]
    wide, high = right - left or 1.0, top - bottom or 1.0
    return max(order, key=lambda k: 1 - (points[k][0] - left) / wide - (points[k][1] - bottom) / high)
