"""How long modules really take, side by side."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence

import torch
from torch import nn

# Each is run for about this long in all, and at least so often.
_SECONDS = 0.05
_LEAST = 5
_MOST = 200


def seconds_inside(call: Callable[[], object], modules: Sequence[nn.Module]) -> list[float]:
    """Seconds that the call spends in each of the modules, all runs together, with what they call: of one turn."""
    device = torch.cuda.is_available()
    wait = torch.cuda.synchronize if device else (lambda: None)
    spent, began = [0.0] * len(modules), [0.0] * len(modules)
    handles = []
    for place, module in enumerate(modules):

        def start(*_: object, place: int = place) -> None:
            wait()
            began[place] = time.perf_counter()

        def stop(*_: object, place: int = place) -> None:
            wait()
            spent[place] += time.perf_counter() - began[place]

        handles += [module.register_forward_pre_hook(start), module.register_forward_hook(stop)]
    try:
        with torch.no_grad():
            call()
    finally:
        for handle in handles:
            handle.remove()
    return spent


def seconds(calls: Sequence[Callable[[], object]], *, budget: float = _SECONDS) -> list[float]:
    """Seconds of each call: the lower quartile of turns taken one after the other, without gradients.

    The calls take turns, so that a machine that slows down slows all of them; what comes first is warm-up and does not
    count. Where torch has one thread and no CUDA device, the time is that which the thread had the processor, so that
    other work on the machine does not count; else it is that on the wall, and each turn waits until a device is done.

    Args:
        calls: what is timed.
        budget: seconds that each is given, about.
    """
    device = torch.cuda.is_available()
    wait = torch.cuda.synchronize if device else (lambda: None)
    clock = time.thread_time if torch.get_num_threads() == 1 and not device else time.perf_counter
    times: list[list[float]] = [[] for _ in calls]
    with torch.no_grad():
        for call in calls:
            call()
            call()
        wait()
        turn = 0
        while True:
            for call, mine in zip(calls, times, strict=True):
                began = clock()
                call()
                wait()
                mine.append(clock() - began)
            turn += 1
            spent = sum(map(sum, times)) / max(len(calls), 1)
            if turn >= _MOST or (turn >= _LEAST and spent > budget):
                break
    return [statistics.quantiles(mine, n=4)[0] for mine in times]
