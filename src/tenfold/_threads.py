"""How many threads the matrix products of a piece of work get."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

import torch
from threadpoolctl import LibController, ThreadpoolController

# Below this many entries of data, threads wait for each other longer than they work: on two cores a ladder on 0.8
# million entries took 1.9 s of one thread's time, and 7 to 12 s of two threads' that share the cores with others.
_WORTH_THREADS = 2**23


# Blocks that run at the same time share the limits: the first one notes what there was, the last one restores it.
_lock = threading.Lock()
_inside = _limited = 0
_found: dict[str, int] = {}
_torch = 1


@contextmanager
def threads_for(entries: int) -> Iterator[None]:
    """One thread for the block if it works on few entries, else as many as there were; restored at its end.

    Both pools are meant, torch's and that of NumPy's BLAS, which would else compete for the same cores. Blocks in
    several threads of Python may overlap.
    """
    global _limited, _torch
    if entries >= _WORTH_THREADS:
        yield
        return
    with _lock:
        before = torch.get_num_threads()
        if _limited == 0:
            _torch = before
        _limited += 1
        torch.set_num_threads(1)  # of this thread; others may be inside already
    try:
        with blas_threads(1):
            yield
    finally:
        with _lock:
            _limited -= 1
            if _limited == 0:
                torch.set_num_threads(_torch)


@contextmanager
def blas_threads(count: int) -> Iterator[None]:
    """So many threads for NumPy's BLAS within the block, and in it again after a block inside that wants others."""
    global _inside
    pools = _pools()
    with _lock:
        before = {pool.filepath: pool.get_num_threads() for pool in pools}
        if _inside == 0:
            _found.clear()
        for path, threads in before.items():
            _found.setdefault(path, threads)
        _inside += 1
        _set(pools, dict.fromkeys(before, count))
    try:
        yield
    finally:
        with _lock:
            _inside -= 1
            _set(pools, before if _inside else _found)


def _pools() -> list[LibController]:
    """The pools of BLAS that are loaded: NumPy's, and SciPy's once somebody needs it."""
    return _looked_for("scipy.linalg" in sys.modules)


@cache
def _looked_for(scipy: bool) -> list[LibController]:
    """To look for pools takes a millisecond, to set them some microseconds."""
    return ThreadpoolController().select(user_api="blas").lib_controllers


def _set(pools: list[LibController], wanted: dict[str, int]) -> None:
    for pool in pools:
        if pool.get_num_threads() != wanted[pool.filepath]:
            pool.set_num_threads(wanted[pool.filepath])
