"""Work shared among the threads that torch has already.

Threads of OpenMP spin for a while when their work is done, in wait of more. Threads of our own would have to wait for
their cores, and to be woken besides: so kernels run on OpenMP's, as the operators of torch do between which they stand.
Where torch has another OpenMP than GCC's, and in forked processes, which lack their parent's threads, they are ours.
"""

from __future__ import annotations

import ctypes
import os
import threading
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor, wait
from functools import cache
from itertools import count
from pathlib import Path
from typing import Any, TypeVar

import torch

T = TypeVar("T")

_forked = threading.Event()


def shared(tasks: Iterable[T], work: Callable[[int, T], object], threads: int) -> None:
    """``work(number, task)`` for all tasks, by so many threads at most, each of which has a number below ``threads``.

    Whoever has done a task takes the next one. What a task raises is raised here when all threads are done.
    """
    left, numbers = deque(tasks), count()
    raised: list[BaseException] = []

    def take() -> None:
        # Nothing may leave this function: who calls it from OpenMP's threads has nowhere to raise it.
        try:
            number = next(numbers)
            while not raised:
                try:
                    task = left.popleft()
                except IndexError:
                    return
                work(number, task)
        except BaseException as error:
            raised.append(error)

    if threads < 2:
        take()
    elif _forked.is_set() or (team := _openmp()) is None:
        others = [_own().submit(take) for _ in range(threads - 1)]
        take()
        # Who has not begun has nothing to do any more.
        wait([other for other in others if not other.cancel()])
    else:
        team(threads, take)
    if raised:
        raise raised[0]
    if left:  # an interrupt that came before a thread could keep it
        raise KeyboardInterrupt


@cache
def _openmp() -> Callable[[int, Callable[[], None]], None] | None:
    """What runs a function on each of so many threads of torch's OpenMP; None where that is not the one of GCC."""
    found = list(Path(torch.__file__).with_name("lib").glob("libgomp*.so*"))
    if len(found) != 1 or "parallel backend: OpenMP" not in torch.__config__.parallel_info():
        return None
    try:
        parallel = ctypes.CDLL(str(found[0])).GOMP_parallel
    except (OSError, AttributeError):
        return None
    body = ctypes.CFUNCTYPE(None, ctypes.c_void_p)
    parallel.argtypes, parallel.restype = [body, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint], None

    def run(threads: int, function: Callable[[], None]) -> None:
        called: Any = body(lambda _: function())
        parallel(called, None, threads, 0)

    return run


@cache
def _own() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(thread_name_prefix="tenfold")


def _after_fork() -> None:
    _own.cache_clear()
    _forked.set()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
