"""Compiled coordinate descent on the rows of a factor under the Kullback-Leibler divergence.

Row i of a factor b minimises ``sum_r s_r b_r - sum_j x_j log(sum_r b_r p_rj)``: one convex problem for each row, with
the row's own entries x and the products p of the other factors there. Imports numba: import this module where it is
used.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

# Models below this are taken for it: the squares of their reciprocals must be numbers.
_TINY = 1e-120
# Fractions may be added up in any order, so that these loops use the vector registers.
_FAST = {"reassoc", "contract", "nsz"}


@njit(cache=True, nogil=True, fastmath=_FAST)
def _slopes(at: float, b: float, x: Any, p: Any, m: Any, length: int) -> tuple[float, float]:
    """Slope and curvature of ``sum x log m`` along one coordinate, were that at ``at`` instead of ``b``."""
    first, second, shift = 0.0, 0.0, at - b
    for j in range(length):
        # Nothing is owed where nothing was counted, however small the model is.
        ratio = p[j] / max(m[j] + shift * p[j], _TINY) if x[j] > 0 else 0.0
        first += x[j] * ratio
        second += x[j] * ratio * ratio
    return first, second


@njit(cache=True, nogil=True, fastmath=_FAST)
def _row(b: Any, s: Any, x: Any, p: Any, m: Any, length: int, passes: int) -> None:
    """Minimise one row; ``m`` is its model on entry and on return.

    With ``G`` the slope of the logarithms and ``H`` their curvature, the step to ``b + G (G - s) / (H s)`` is that of
    the hyperbola through both. As G is a sum of hyperbolas, its reciprocal is concave, so the step ends at or left of
    the minimum: from the left it is safe. From the right it may go too far. As the slope is concave, the value
    there is no larger if the slope has not grown; otherwise the multiplicative step ``b G / s`` is safe.
    """
    rank = len(b)
    for j in range(length):
        m[j] = 0.0
    for r in range(rank):
        weight = b[r]
        for j in range(length):
            m[j] += weight * p[r, j]
    for _ in range(passes):
        moved, size = 0.0, 0.0
        for r in range(rank):
            if not s[r] > 0:
                continue
            first, second = _slopes(b[r], b[r], x, p[r], m, length)
            old = b[r]
            if not second > 0:
                new = 0.0
            elif first > s[r]:
                new = old + first / second * (first - s[r]) / s[r]
            elif old > 0:
                new = max(old + first / second * (first - s[r]) / s[r], 0.0)
                there, bent = _slopes(new, old, x, p[r], m, length)
                if there > s[r]:
                    if there - s[r] <= s[r] - first and bent > 0:
                        new += there / bent * (there - s[r]) / s[r]
                    else:
                        new = old * first / s[r]
            else:
                new = 0.0
            step = new - old
            if step != 0:
                b[r] = new
                for j in range(length):
                    m[j] = max(m[j] + step * p[r, j], 0.0)
            moved += abs(step) * s[r]
            size += new * s[r]
        if moved <= 1e-3 * size:
            break


@njit(cache=True, nogil=True, fastmath=_FAST)
def _sums(x: Any, m: Any, length: int) -> tuple[float, float]:
    logs, overlap = 0.0, 0.0
    for j in range(length):
        if x[j] > 0:
            logs += x[j] * np.log(max(m[j], _TINY))
        overlap += x[j] * m[j]
    return logs, overlap


@njit(cache=True, nogil=True)
def sparse_rows(
    b: Any, s: Any, starts: Any, places: Any, values: Any, table: Any, passes: int, summed: bool
) -> tuple[float, float]:
    """All rows of ``b`` (n x r) from listed entries: those of row i are ``starts[i]`` to ``starts[i + 1]``.

    ``places`` has for each entry the rows of ``table`` whose product is p. Returns ``sum x log m`` and ``sum x m`` if
    ``summed``, else zeros.
    """
    longest = 0
    for row in range(len(b)):
        longest = max(longest, starts[row + 1] - starts[row])
    rank, others = b.shape[1], places.shape[1]
    p, m, held = np.empty((rank, longest)), np.empty(longest), np.empty(rank)
    logs, overlap = 0.0, 0.0
    for row in range(len(b)):
        begin, length = starts[row], starts[row + 1] - starts[row]
        for j in range(length):
            held[:] = table[places[begin + j, 0]]
            for k in range(1, others):
                held *= table[places[begin + j, k]]
            p[:, j] = held
        x = values[begin : begin + length]
        _row(b[row], s, x, p, m, length, passes)
        if summed:
            one, other = _sums(x, m, length)
            logs += one
            overlap += other
    return logs, overlap


@njit(cache=True, nogil=True)
def dense_rows(b: Any, s: Any, x: Any, p: Any, passes: int, summed: bool) -> tuple[float, float]:
    """The same from whole rows ``x`` (n x entries), with one p (r x entries) for all of them."""
    length = x.shape[1]
    m = np.empty(length)
    logs, overlap = 0.0, 0.0
    for row in range(len(b)):
        _row(b[row], s, x[row], p, m, length, passes)
        if summed:
            one, other = _sums(x[row], m, length)
            logs += one
            overlap += other
    return logs, overlap
