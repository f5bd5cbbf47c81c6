"""Loops compiled by Numba.

Loading Numba takes longer than loading the rest of tenfold: this is imported where a kernel runs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from numba import njit

# Sums may be reordered and multiply-adds fused; NaN and infinity keep their meaning.
_LOOSE = {"reassoc", "contract", "nsz"}


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function of plain arrays, compiled on its first call; it lets go of the interpreter's lock."""
    try:
        return njit(function, cache=True, nogil=True, fastmath=_LOOSE)
    except RuntimeError:  # there is no place to keep what was compiled
        return njit(function, nogil=True, fastmath=_LOOSE)
