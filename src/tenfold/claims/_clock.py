"""How long things take, side by side, and how that grows."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from statistics import median


def medians(work: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Seconds of the processor for each, the median of some rounds in which they take turns, after one that compiles.

    Other programs on the machine then hit all of them alike.
    """
    return {name: median(found) for name, found in _times(work, rounds).items()}


def fastest(work: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """The same, but the least: what other programs add by taking caches away is left out."""
    return {name: min(found) for name, found in _times(work, rounds).items()}


def _times(work: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    for each in work.values():
        each()
    times: dict[str, list[float]] = {name: [] for name in work}
    for _ in range(rounds):
        for name, each in work.items():
            started = time.process_time()
            each()
            times[name].append(time.process_time() - started)
    return times


def exponent(sizes: Sequence[float], seconds: Sequence[float]) -> float:
    """The power p of ``seconds = c size^p`` that fits best, in logarithms."""
    points = [(math.log(size), math.log(time)) for size, time in zip(sizes, seconds, strict=True)]
    x, y = (sum(axis) / len(points) for axis in zip(*points, strict=True))
    return sum((a - x) * (b - y) for a, b in points) / sum((a - x) ** 2 for a, _ in points)
