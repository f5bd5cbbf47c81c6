"""Loops over the entries of sparse arrays that BLAS cannot serve, compiled by Numba on their first use.

Only `_sparse` imports this module, and only when a kernel runs: loading Numba takes longer than loading the rest of
tenfold. Every function works on plain arrays and lets go of the interpreter's lock, so that threads can share the work;
what they compute does not depend on their number.
"""

from __future__ import annotations

import numpy as np

from tenfold._compiled import compiled


@compiled
def counting_sort(keys, order, buckets):  # type: ignore[no-untyped-def]
    """``order`` sorted stably by ``keys[order]``, integers from 0 to ``buckets - 1``, and where each bucket begins."""
    begins = np.zeros(buckets + 1, np.int64)
    for place in range(len(order)):
        begins[keys[order[place]] + 1] += 1
    for bucket in range(buckets):
        begins[bucket + 1] += begins[bucket]
    fill = begins[:-1].copy()
    result = np.empty_like(order)
    for place in range(len(order)):
        key = keys[order[place]]
        result[fill[key]] = order[place]
        fill[key] += 1
    return result, begins


# Each of the kernels below does the chunks first..last of equally many entries, sorted by row. A row is written by the
# chunk it begins in; what later chunks hold of it goes to their line of ``carry``, and `add_carried` adds it up. So
# heavy rows are shared between threads like any others, and no two threads write to one place.


@compiled
def mttkrp_3(first, last, length, heads, rows, j_of, k_of, values, b, c, out, carry):  # type: ignore[no-untyped-def]
    """``out[i] += v B[j] C[k]`` for arrays of order 3."""
    rank = b.shape[1]
    total = np.empty(rank, out.dtype)
    for chunk in range(first, last):
        begin = chunk * length
        end = min(begin + length, len(values))
        row = heads[chunk]
        place = begin
        while place < end:
            stop = min(rows[row + 1], end)
            total[:] = 0
            for p in range(place, stop):
                v = values[p]
                bj = b[j_of[p]]
                ck = c[k_of[p]]
                for r in range(rank):
                    total[r] += v * bj[r] * ck[r]
            target = carry[chunk] if rows[row] < begin else out[row]
            target[:] = total
            place = stop
            row += 1


@compiled
def mttkrp_3_fibres(  # type: ignore[no-untyped-def]
    first, last, length, heads, rows, j_of, k_of, values, b, c, out, carry
):
    """The same where neighbours mostly share i and j: half the multiplications."""
    rank = b.shape[1]
    total = np.empty(rank, out.dtype)
    fibre = np.empty(rank, out.dtype)
    for chunk in range(first, last):
        begin = chunk * length
        end = min(begin + length, len(values))
        row = heads[chunk]
        place = begin
        while place < end:
            stop = min(rows[row + 1], end)
            total[:] = 0
            p = place
            while p < stop:
                j = j_of[p]
                fibre[:] = 0
                while p < stop and j_of[p] == j:
                    v = values[p]
                    ck = c[k_of[p]]
                    for r in range(rank):
                        fibre[r] += v * ck[r]
                    p += 1
                bj = b[j]
                for r in range(rank):
                    total[r] += fibre[r] * bj[r]
            target = carry[chunk] if rows[row] < begin else out[row]
            target[:] = total
            place = stop
            row += 1


@compiled
def mttkrp_4(  # type: ignore[no-untyped-def]
    first, last, length, heads, rows, j_of, k_of, l_of, values, b, c, d, out, carry
):
    """``out[i] += v B[j] C[k] D[l]`` for arrays of order 4."""
    rank = b.shape[1]
    total = np.empty(rank, out.dtype)
    for chunk in range(first, last):
        begin = chunk * length
        end = min(begin + length, len(values))
        row = heads[chunk]
        place = begin
        while place < end:
            stop = min(rows[row + 1], end)
            total[:] = 0
            for p in range(place, stop):
                v = values[p]
                bj = b[j_of[p]]
                ck = c[k_of[p]]
                dl = d[l_of[p]]
                for r in range(rank):
                    total[r] += v * bj[r] * ck[r] * dl[r]
            target = carry[chunk] if rows[row] < begin else out[row]
            target[:] = total
            place = stop
            row += 1


@compiled
def mttkrp_4_fibres(  # type: ignore[no-untyped-def]
    first, last, length, heads, rows, j_of, k_of, l_of, values, b, c, d, out, carry
):
    """The same where neighbours mostly share i, j and k: a third of the multiplications."""
    rank = b.shape[1]
    total = np.empty(rank, out.dtype)
    fibre = np.empty(rank, out.dtype)
    for chunk in range(first, last):
        begin = chunk * length
        end = min(begin + length, len(values))
        row = heads[chunk]
        place = begin
        while place < end:
            stop = min(rows[row + 1], end)
            total[:] = 0
            p = place
            while p < stop:
                j = j_of[p]
                k = k_of[p]
                fibre[:] = 0
                while p < stop and j_of[p] == j and k_of[p] == k:
                    v = values[p]
                    dl = d[l_of[p]]
                    for r in range(rank):
                        fibre[r] += v * dl[r]
                    p += 1
                bj = b[j]
                ck = c[k]
                for r in range(rank):
                    total[r] += fibre[r] * bj[r] * ck[r]
            target = carry[chunk] if rows[row] < begin else out[row]
            target[:] = total
            place = stop
            row += 1


@compiled
def mttkrp_any(first, last, length, heads, rows, columns, values, factors, out, carry):  # type: ignore[no-untyped-def]
    """The same for arrays of any order from 2 on; ``columns`` and ``factors`` are tuples, one for each other mode."""
    rank = out.shape[1]
    total = np.empty(rank, out.dtype)
    term = np.empty(rank, out.dtype)
    for chunk in range(first, last):
        begin = chunk * length
        end = min(begin + length, len(values))
        row = heads[chunk]
        place = begin
        while place < end:
            stop = min(rows[row + 1], end)
            total[:] = 0
            for p in range(place, stop):
                term[:] = values[p]
                for mode in range(len(factors)):
                    line = factors[mode][columns[mode][p]]
                    for r in range(rank):
                        term[r] *= line[r]
                for r in range(rank):
                    total[r] += term[r]
            target = carry[chunk] if rows[row] < begin else out[row]
            target[:] = total
            place = stop
            row += 1


@compiled
def add_carried(length, heads, rows, out, carry):  # type: ignore[no-untyped-def]
    """Add to each row what chunks hold of it that it did not begin in."""
    for chunk in range(len(heads)):
        row = heads[chunk]
        if rows[row] < chunk * length:
            for r in range(out.shape[1]):
                out[row, r] += carry[chunk, r]


@compiled
def entries(first, last, length, columns, factors, out):  # type: ignore[no-untyped-def]
    """``out[p] = sum_r prod_m factors[m][columns[m][p], r]``."""
    rank = factors[0].shape[1]
    term = np.empty(rank, out.dtype)
    for p in range(first * length, min(last * length, len(out))):
        term[:] = factors[0][columns[0][p]]
        for mode in range(1, len(factors)):
            line = factors[mode][columns[mode][p]]
            for r in range(rank):
                term[r] *= line[r]
        total = term[0]
        for r in range(1, rank):
            total += term[r]
        out[p] = total


@compiled
def gram_product(fibres, rows, values, right, out):  # type: ignore[no-untyped-def]
    """``out += S S^H right`` for a sparse S whose entries are sorted by column; a column is from one fibre to the next.

    ``S^H right`` has a row for each column of S, mostly as many as entries: no more than one is held at a time.
    """
    width = right.shape[1]
    line = np.empty(width, out.dtype)
    for fibre in range(len(fibres) - 1):
        line[:] = 0
        for p in range(fibres[fibre], fibres[fibre + 1]):
            v = np.conj(values[p])
            for r in range(width):
                line[r] += v * right[rows[p], r]
        for p in range(fibres[fibre], fibres[fibre + 1]):
            v = values[p]
            for r in range(width):
                out[rows[p], r] += v * line[r]
