"""How long modules really take, side by side."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence

import torch

# Each is run for about this long in all, and at least so often.
_SECONDS = 0.05
_LEAST = 5
_MOST = 200


def seconds(calls: Sequence[Callable[[], object]], *, budget: float = _SECONDS) -> list[float]:
    """Seconds of each call: the lower quartile of turns taken one after the other, without gradients.

    The calls take turns, so that a machine that slows down slows all of them; what comes first is warm-up and does not
    count. On a CUDA device each turn waits until the device has done its work.

    Args:
        calls: what is timed.
        budget: seconds that each is given, about.
    """
    wait = torch.cuda.synchronize if torch.cuda.is_available() else (lambda: None)
    times: list[list[float]] = [[] for _ in calls]
    with torch.no_grad():
        for call in calls:
            call()
            call()
        wait()
        turn = 0
        while True:
            for call, mine in zip(calls, times, strict=True):
                began = time.perf_counter()
                call()
                wait()
                mine.append(time.perf_counter() - began)
            turn += 1
            spent = sum(map(sum, times)) / max(len(calls), 1)
            if turn >= _MOST or (turn >= _LEAST and spent > budget):
                break
    return [statistics.quantiles(mine, n=4)[0] for mine in times]
