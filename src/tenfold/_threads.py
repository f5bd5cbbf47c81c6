"""How many threads the matrix products of a piece of work get."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import torch
from threadpoolctl import threadpool_limits

# Below this many entries of data, threads wait for each other longer than they work: on two cores a ladder on 0.8
# million entries took 1.9 s of one thread's time, and 7 to 12 s of two threads' that share the cores with others.
_WORTH_THREADS = 2**23


# Blocks that run at the same time share the limit: the first sets it, the last one lifts it.
_lock = threading.Lock()
_inside = 0
_limit = ExitStack()


@contextmanager
def threads_for(entries: int) -> Iterator[None]:
    """One thread for the block if it works on few entries, else as many as there were; restored at its end.

    Both pools are meant, torch's and that of NumPy's BLAS, which would else compete for the same cores. Blocks in
    several threads of Python may overlap.
    """
    if entries >= _WORTH_THREADS:
        yield
        return
    _enter()
    try:
        yield
    finally:
        _leave()


def _enter() -> None:
    global _inside
    with _lock:
        _inside += 1
        before = torch.get_num_threads()
        torch.set_num_threads(1)  # of this thread; others may be inside already
        if _inside == 1:
            _limit.callback(torch.set_num_threads, before)
            _limit.enter_context(threadpool_limits(1, user_api="blas"))


def _leave() -> None:
    global _inside
    with _lock:
        _inside -= 1
        if _inside == 0:
            _limit.close()
