"""Memory for large results."""

from __future__ import annotations

import ctypes
import mmap
from collections.abc import Sequence
from functools import cache
from typing import Any

from torch import Tensor

# Smaller tensors are mostly in memory that was used before.
_LARGE = 2**22


def empty(like: Tensor, shape: Sequence[int]) -> Tensor:
    """A tensor of numbers that are not set, in large pages where the system has them.

    A system hands out new memory page by page, at the first touch; for pages of 4 KiB that takes longer than it takes
    to compute what is written to them.
    """
    found = like.new_empty(shape)
    size = found.numel() * found.element_size()
    advise = _advise() if size >= _LARGE and found.device.type == "cpu" else None
    if advise is not None:
        begin = -(-found.data_ptr() // mmap.PAGESIZE) * mmap.PAGESIZE
        # Advice: what comes of it is nothing that results depend on.
        advise(begin, found.data_ptr() + size - begin, mmap.MADV_HUGEPAGE)
    return found


@cache
def _advise() -> Any:
    """The system's function; None where it has no large pages to ask for."""
    if not hasattr(mmap, "MADV_HUGEPAGE"):
        return None
    try:
        function = ctypes.CDLL(None).madvise
    except (OSError, AttributeError):
        return None
    function.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    return function
