"""Memory for results that are larger than the caches.

The system gives such memory in pages of zeros, and takes it back when a tensor dies. Getting it takes several times as
long as a kernel that fills it: here a part of it is kept for the next result of that size, in pages as large as the
system has.
"""

from __future__ import annotations

import threading
import weakref
from math import prod

import numpy as np
import psutil
import torch
from torch import Tensor

# Below this the allocator of the C library keeps memory itself.
_LARGE = 1 << 20
_ALIGNMENT = 64
_KEPT = min(1 << 30, psutil.virtual_memory().total // 8)

_free: list[np.ndarray] = []
# A tensor may die while the lock is held, in the same thread.
_lock = threading.RLock()


def empty(shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """A tensor on the CPU with any content, which begins at a multiple of 64 bytes."""
    needed = prod(shape) * dtype.itemsize
    if needed < _LARGE:
        return torch.empty(shape, dtype=dtype)
    owner = _taken(needed)
    if owner is None:
        owner = np.empty(needed + _ALIGNMENT, dtype=np.uint8)  # NumPy asks for large pages
    start = -owner.ctypes.data % _ALIGNMENT
    part = owner[start : start + needed]
    weakref.finalize(part, _put, owner).atexit = False
    return torch.from_numpy(part).view(dtype).view(shape)


def _taken(needed: int) -> np.ndarray | None:
    """The smallest kept piece that is large enough, but not by much."""
    with _lock:
        fitting = [piece for piece in _free if needed + _ALIGNMENT <= len(piece) <= needed + needed // 4 + _ALIGNMENT]
        if not fitting:
            return None
        found = min(fitting, key=len)
        _free[:] = [piece for piece in _free if piece is not found]
        return found


def _put(owner: np.ndarray) -> None:
    """Keeps a piece, and lets go of those that lay there longest if that is too much."""
    with _lock:
        _free.append(owner)
        while sum(map(len, _free)) > _KEPT:
            _free.pop(0)
