"""Sums over the observations of each level, compiled by Numba.

This module is imported only when a kernel runs: loading Numba takes longer than loading the rest of tenfold. What
belongs to a level lies together, so every row of a result is written by one thread, in the order of the observations.
"""

from __future__ import annotations

import numpy as np

from tenfold._compiled import compiled


@compiled
def products_two(one, other, i_of, j_of, weights, numbers, split, first, out, low, high):  # type: ignore[no-untyped-def]
    """``out[d] += w one[i] other[j]``, where from column ``split`` on ``numbers`` take the place of the weights."""
    columns = one.shape[1]
    total = np.empty(columns)
    for level in range(low, high):
        total[:] = 0
        for n in range(first[level], first[level + 1]):
            a, b = one[i_of[n]], other[j_of[n]]
            weight, number = weights[n], numbers[n]
            for c in range(split):
                total[c] += weight * a[c] * b[c]
            for c in range(split, columns):
                total[c] += number * a[c] * b[c]
        out[level] = total


@compiled
def products_any(tables, begins, rows, weights, numbers, split, first, out, low, high):  # type: ignore[no-untyped-def]
    """The same for any number of tables, which lie below one another and begin at rows ``begins``."""
    columns = tables.shape[1]
    total = np.empty(columns)
    product = np.empty(columns)
    for level in range(low, high):
        total[:] = 0
        for n in range(first[level], first[level + 1]):
            product[:split] = weights[n]
            product[split:] = numbers[n]
            for k in range(len(begins)):
                row = tables[begins[k] + rows[k, n]]
                for c in range(columns):
                    product[c] *= row[c]
            for c in range(columns):
                total[c] += product[c]
        out[level] = total


@compiled
def outer_any(flat, begins, widths, rows, weights, first, out, low, high):  # type: ignore[no-untyped-def]
    """``out[d] += w t1[i] x t2[j] x ...``, the outer products of rows of tables that lie in ``flat`` one by one."""
    columns = out.shape[1]
    tables = len(begins)
    last = widths[tables - 1]
    before = np.empty(columns // last)
    for level in range(low, high):
        total = out[level - low]
        total[:] = 0
        for n in range(first[level], first[level + 1]):
            before[0] = weights[n]
            size = 1
            for k in range(tables - 1):
                place, width = begins[k] + rows[k, n] * widths[k], widths[k]
                # From the end, so that what is still needed is not written over.
                for p in range(size - 1, -1, -1):
                    factor = before[p]
                    for q in range(width):
                        before[p * width + q] = factor * flat[place + q]
                size *= width
            place = begins[tables - 1] + rows[tables - 1, n] * last
            row = flat[place : place + last]
            for p in range(size):
                factor = before[p]
                line = total[p * last : (p + 1) * last]
                for q in range(last):
                    line[q] += factor * row[q]
