"""Pool adjacent violators, both ways: the nearest vectors that rise and then fall."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from jaxtyping import Float64


def unimodal(rows: Float64[np.ndarray, "r n"], nonnegative: bool) -> Float64[np.ndarray, "r n"]:
    """The nearest vectors that rise to some entry and fall after it, each row on its own; O(n) each.

    For every place of the peak the best rising start and the best falling end are those of isotonic regression, whose
    errors a single pass gives for all of them.
    Paper: "Unimodal regression via prefix isotonic regression", 2008.
    """
    found = np.empty_like(rows)
    _kernel()(np.ascontiguousarray(rows), found, nonnegative)
    return found


def fit_rows(rows: Any, found: Any, nonnegative: bool) -> None:
    """What the kernel compiles: writes the nearest unimodal vector of each row to ``found``."""
    count, extent = rows.shape
    # Blocks of equal values of the regression of a prefix: their sums, sizes and errors.
    sums, sizes, errors = np.empty(extent), np.empty(extent, np.int64), np.empty(extent)
    squares = np.empty(extent)
    reached = np.empty((2, extent + 1))
    for row in range(count):
        for side in range(2):
            total, blocks = 0.0, 0
            reached[side, 0] = 0.0
            for step in range(extent):
                value = rows[row, step] if side == 0 else rows[row, extent - 1 - step]
                sums[blocks], sizes[blocks], squares[blocks] = value, 1, value * value
                errors[blocks] = squares[blocks] if nonnegative and value < 0 else 0.0
                total += errors[blocks]
                blocks += 1
                while blocks > 1 and sums[blocks - 2] * sizes[blocks - 1] >= sums[blocks - 1] * sizes[blocks - 2]:
                    blocks -= 1
                    total -= errors[blocks] + errors[blocks - 1]
                    sums[blocks - 1] += sums[blocks]
                    sizes[blocks - 1] += sizes[blocks]
                    squares[blocks - 1] += squares[blocks]
                    error = squares[blocks - 1]
                    if not (nonnegative and sums[blocks - 1] < 0):
                        error -= sums[blocks - 1] ** 2 / sizes[blocks - 1]
                    errors[blocks - 1] = error
                    total += error
                reached[side, step + 1] = total
        best, left = np.inf, 0
        for step in range(extent + 1):
            error = reached[0, step] + reached[1, extent - step]
            if error < best:
                best, left = error, step
        for side in range(2):
            length = left if side == 0 else extent - left
            blocks = 0
            for step in range(length):
                sums[blocks] = rows[row, step] if side == 0 else rows[row, extent - 1 - step]
                sizes[blocks] = 1
                blocks += 1
                while blocks > 1 and sums[blocks - 2] * sizes[blocks - 1] >= sums[blocks - 1] * sizes[blocks - 2]:
                    blocks -= 1
                    sums[blocks - 1] += sums[blocks]
                    sizes[blocks - 1] += sizes[blocks]
            place = 0
            for block in range(blocks):
                value = sums[block] / sizes[block]
                if nonnegative and value < 0:
                    value = 0.0
                for _ in range(sizes[block]):
                    found[row, place if side == 0 else extent - 1 - place] = value
                    place += 1


@cache
def _kernel() -> Any:
    from numba import njit

    return njit(cache=True, nogil=True)(fit_rows)
