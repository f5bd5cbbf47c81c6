"""Rows of a kernel's work, shared between threads."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from itertools import pairwise
from typing import Any

import torch


def shared(rows: int, run: Callable[[int, int], Any], threads: int | None = None) -> None:
    """``run(first, last)`` over all rows, shared between as many threads as torch has, or fewer.

    Threads of our own: those of Numba would change how many torch has. What a row becomes must not depend on where the
    shares begin.
    """
    number = min(rows, torch.get_num_threads() if threads is None else threads)
    if number <= 1:
        run(0, rows)
        return
    bounds = [rows * k // number for k in range(number + 1)]
    workers = _workers(os.getpid(), number - 1)
    others = [workers.submit(run, first, last) for first, last in pairwise(bounds[1:])]
    try:
        run(bounds[0], bounds[1])
    finally:
        for other in others:
            other.result()


@cache
def _workers(process: int, number: int) -> ThreadPoolExecutor:
    """Threads that stay: starting them takes as long as a small product. A fork has to start its own."""
    return ThreadPoolExecutor(number, thread_name_prefix="tenfold-so3")
