"""Loops over groups of entries, compiled by Numba on their first use: BLAS has no call for groups of unequal sizes."""

from __future__ import annotations

import numpy as np

from tenfold._compiled import compiled


@compiled
def _gram(matrix, rows, gram):  # type: ignore[no-untyped-def]
    """The lower triangle of ``matrix[:rows]' matrix[:rows]``."""
    k = matrix.shape[1]
    gram[:] = 0
    for p in range(rows):
        line = matrix[p]
        for a in range(k):
            left = line[a]
            target = gram[a]
            for b in range(a + 1):
                target[b] += left * line[b]


@compiled
def _factorise(gram, ridge):  # type: ignore[no-untyped-def]
    """The Cholesky factor of ``gram + diag(ridge)`` in its place; singular ones get a little more ridge."""
    k = len(ridge)
    trace = 0.0
    for a in range(k):
        gram[a, a] += ridge[a]
        trace += gram[a, a]
    least = 1e-13 * trace if trace > 0 else 1e-300
    for a in range(k):
        for b in range(a):
            total = gram[a, b]
            for c in range(b):
                total -= gram[a, c] * gram[b, c]
            gram[a, b] = total / gram[b, b]
        total = gram[a, a] + least
        for c in range(a):
            total -= gram[a, c] * gram[a, c]
        gram[a, a] = np.sqrt(max(total, least))


@compiled
def _forward(lower, x):  # type: ignore[no-untyped-def]
    for a in range(len(x)):
        total = x[a]
        for c in range(a):
            total -= lower[a, c] * x[c]
        x[a] = total / lower[a, a]


@compiled
def _backward(lower, x):  # type: ignore[no-untyped-def]
    # By columns, so that the triangle is read along its rows.
    for a in range(len(x) - 1, -1, -1):
        x[a] /= lower[a, a]
        for c in range(a):
            x[c] -= lower[a, c] * x[a]


@compiled
def _mixed(number):  # type: ignore[no-untyped-def]
    """A hash of a whole number (the finaliser of splitmix64)."""
    z = number + np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


@compiled
def solve(  # type: ignore[no-untyped-def]
    factor, index, values, weights, first, ridge, code, steps, places, seed, out, diagonal, low, high
):
    """The problems ``low`` to ``high``; ``out`` holds their starts. See `gathered_least_squares`."""
    k = factor.shape[1]
    most = 0
    for group in range(low, high):
        most = max(most, first[group + 1] - first[group])
    matrix = np.empty((most, k))
    right = np.empty(most)
    sketch = np.empty((places, k))
    gram = np.empty((k, k))
    x = np.empty(k)
    residual = np.empty(k)
    z = np.empty(k)
    direction = np.empty(k)
    image = np.empty(k)
    for group in range(low, high):
        begin = first[group]
        rows = first[group + 1] - begin
        if rows == 0:
            out[group] = 0
            continue
        diagonal[group] = 0
        for p in range(rows):
            root = np.sqrt(weights[begin + p])
            line = factor[index[begin + p]]
            right[p] = root * values[begin + p]
            for a in range(k):
                entry = root * line[a]
                matrix[p, a] = entry
                diagonal[group, a] += entry * entry
        x[:] = out[group]
        small = code == 2 and rows <= places
        if code == 0 or small:
            _gram(matrix, rows, gram)
            _factorise(gram, ridge[group])
            x[:] = 0
            for p in range(rows):
                for a in range(k):
                    x[a] += matrix[p, a] * right[p]
            _forward(gram, x)
            _backward(gram, x)
            out[group] = x
            continue
        if code == 2:
            sketch[:] = 0
            state = _mixed(np.uint64(seed) ^ _mixed(np.uint64(group)))
            for p in range(rows):
                drawn = _mixed(state + np.uint64(p))
                place = np.int64((drawn >> np.uint64(1)) % np.uint64(places))
                sign = 1.0 if drawn & np.uint64(1) else -1.0
                for a in range(k):
                    sketch[place, a] += sign * matrix[p, a]
            _gram(sketch, places, gram)
            _factorise(gram, ridge[group])
        for a in range(k):
            residual[a] = -ridge[group, a] * x[a]
        for p in range(rows):
            missing = right[p]
            for a in range(k):
                missing -= matrix[p, a] * x[a]
            for a in range(k):
                residual[a] += matrix[p, a] * missing
        before = 0.0
        for step in range(steps):
            if code == 2:
                z[:] = residual
                _forward(gram, z)
                _backward(gram, z)
            else:
                for a in range(k):
                    scale = diagonal[group, a] + ridge[group, a]
                    z[a] = residual[a] / scale if scale > 0 else 0.0
            now = 0.0
            for a in range(k):
                now += residual[a] * z[a]
            if now <= 0:
                break
            for a in range(k):
                direction[a] = z[a] + (now / before * direction[a] if step else 0.0)
                image[a] = ridge[group, a] * direction[a]
            before = now
            for p in range(rows):
                along = 0.0
                for a in range(k):
                    along += matrix[p, a] * direction[a]
                for a in range(k):
                    image[a] += matrix[p, a] * along
            curved = 0.0
            for a in range(k):
                curved += direction[a] * image[a]
            if curved <= 0:
                break
            length = now / curved
            for a in range(k):
                x[a] += length * direction[a]
                residual[a] -= length * image[a]
        out[group] = x


@compiled
def variances(  # type: ignore[no-untyped-def]
    factor, index, weights, first, ridge, asked, places, directions, out, low, high
):
    """See `gathered_variances`; ``places`` says which directions belong to each group that is asked for."""
    k = factor.shape[1]
    most = 0
    for number in range(low, high):
        most = max(most, first[asked[number] + 1] - first[asked[number]])
    matrix = np.empty((most, k))
    gram = np.empty((k, k))
    x = np.empty(k)
    for number in range(low, high):
        group = asked[number]
        begin = first[group]
        rows = first[group + 1] - begin
        for p in range(rows):
            root = np.sqrt(weights[begin + p])
            for a in range(k):
                matrix[p, a] = root * factor[index[begin + p], a]
        _gram(matrix, rows, gram)
        _factorise(gram, ridge[group])
        for place in range(places[number], places[number + 1]):
            x[:] = directions[place]
            _forward(gram, x)
            total = 0.0
            for a in range(k):
                total += x[a] * x[a]
            out[place] = total


@compiled
def products(left, i, right, j, out):  # type: ignore[no-untyped-def]
    """``out[p] = left[i[p]] . right[j[p]]``."""
    k = left.shape[1]
    for p in range(len(out)):
        one, other = left[i[p]], right[j[p]]
        total = 0.0
        for a in range(k):
            total += one[a] * other[a]
        out[p] = total
