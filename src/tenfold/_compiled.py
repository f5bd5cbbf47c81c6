"""How loops are compiled by Numba. Importing this takes long: only kernels do it, and these only when one runs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from numba import njit


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compiled on its first use, kept on disk where there is a place, and without the interpreter's lock.

    Sums may be reordered and multiply-adds fused; NaN and infinity keep their meaning.
    """
    return _kept(function, {"reassoc", "contract"})


def compiled_as_written(function: Callable[..., Any]) -> Callable[..., Any]:
    """As `compiled`, with every operation in its place."""
    return _kept(function, False)


def _kept(function: Callable[..., Any], fastmath: set[str] | bool) -> Callable[..., Any]:
    try:
        return njit(function, cache=True, nogil=True, fastmath=fastmath)
    except RuntimeError:  # there is no place to keep what was compiled
        return njit(function, nogil=True, fastmath=fastmath)
