"""Loops over counted cells that BLAS cannot serve, compiled by Numba on their first use.

Only `_counts` imports this module, and only when a kernel runs: loading Numba takes longer than loading the rest of
tenfold. The factors of all modes are stacked to one matrix; ``rows`` holds for each cell the row of each mode in it.
"""

from __future__ import annotations

import numpy as np

from tenfold._compiled import compiled

# Models below this are taken for it, so that their reciprocals are numbers.
_TINY = 1e-300


@compiled
def rates(rows, factors, out):  # type: ignore[no-untyped-def]
    """``out[s, n]``: the sum over components of the products of the rows of cell n, in start s."""
    starts, rank = factors.shape[0], factors.shape[2]
    cells, modes = rows.shape
    for s in range(starts):
        for n in range(cells):
            total = 0.0
            for f in range(rank):
                product = 1.0
                for k in range(modes):
                    product *= factors[s, rows[n, k], f]
                total += product
            out[s, n] = total


@compiled
def mode_sums(rows, mode, counts, exposure, factors, gained, owed):  # type: ignore[no-untyped-def]
    """Add to each row of one mode ``counts / rate`` and ``exposure`` times the products of the other rows of its cells.

    ``counts`` has an entry for each cell; ``exposure`` one for each start and cell.
    """
    starts, rank = factors.shape[0], factors.shape[2]
    cells, modes = rows.shape
    others = np.empty(rank)
    for s in range(starts):
        for n in range(cells):
            row = rows[n, mode]
            rate = 0.0
            for f in range(rank):
                product = 1.0
                for k in range(modes):
                    if k != mode:
                        product *= factors[s, rows[n, k], f]
                others[f] = product
                rate += product * factors[s, row, f]
            ratio = counts[n] / max(rate, _TINY)
            seen = exposure[s, n]
            for f in range(rank):
                gained[s, row, f] += ratio * others[f]
                owed[s, row, f] += seen * others[f]


@compiled
def information(places, slopes, weights, matrix):  # type: ignore[no-untyped-def]
    """Add ``weights[n] * v v^T`` of each cell to ``matrix``, v being ``slopes[n]`` at ``places[n]``.

    Only the lower triangle is filled.
    """
    cells, entries = places.shape
    for n in range(cells):
        for a in range(entries):
            i = places[n, a]
            one = weights[n] * slopes[n, a]
            for b in range(entries):
                j = places[n, b]
                if j <= i:
                    matrix[i, j] += one * slopes[n, b]
