"""How many threads the matrix products of a piece of work get."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from threadpoolctl import threadpool_limits

# Below this many entries of data, threads wait for each other longer than they work: on two cores a ladder on 0.8
# million entries took 1.9 s of one thread's time, and 7 to 12 s of two threads' that share the cores with others.
_WORTH_THREADS = 2**22


@contextmanager
def threads_for(entries: int) -> Iterator[None]:
    """One thread for the block if it works on few entries, else as many as there were; restored at its end.

    Both pools are meant, torch's and that of NumPy's BLAS, which would else compete for the same cores.
    """
    if entries >= _WORTH_THREADS:
        yield
        return
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with threadpool_limits(1, user_api="blas"):
            yield
    finally:
        torch.set_num_threads(before)
