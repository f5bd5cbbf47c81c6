"""The Kalman filter and the smoother of `state_space`, compiled by Numba.

This module is imported only when a kernel runs: loading Numba takes longer than loading the rest of tenfold. A state
has ``b`` derivatives of R components, the component being the faster index, so its first R numbers are observed.
"""

from __future__ import annotations

import numpy as np

from tenfold._compiled import compiled


@compiled
def _add_product(out, factor, left, right, rows, inner, columns):  # type: ignore[no-untyped-def]
    """``out += factor left right``, row by row, so that what the innermost loop reads and writes lies together."""
    for a in range(rows):
        for e in range(inner):
            times = factor * left[a, e]
            for c in range(columns):
                out[a, c] += times * right[e, c]


@compiled
def _observe(covariance, precision, right, system, gain):  # type: ignore[no-untyped-def]
    """``gain = (I + precision P)^-1 precision`` and ``right = (I + precision P)^-1 right``, with P the observed block.

    Returns the logarithm of the determinant of ``I + precision P``, of which all eigenvalues are at least one.
    """
    size = len(right)
    for a in range(size):
        for c in range(size):
            system[a, c] = 1.0 if a == c else 0.0
            gain[a, c] = precision[a, c]
    _add_product(system, 1.0, precision, covariance, size, size, size)
    logarithm = 0.0
    for a in range(size):
        pivot = a
        for c in range(a + 1, size):
            if abs(system[c, a]) > abs(system[pivot, a]):
                pivot = c
        if pivot != a:
            for c in range(size):
                system[a, c], system[pivot, c] = system[pivot, c], system[a, c]
                gain[a, c], gain[pivot, c] = gain[pivot, c], gain[a, c]
            right[a], right[pivot] = right[pivot], right[a]
        logarithm += np.log(abs(system[a, a]))
        for c in range(a + 1, size):
            factor = system[c, a] / system[a, a]
            if factor != 0:
                for e in range(a + 1, size):
                    system[c, e] -= factor * system[a, e]
                for e in range(size):
                    gain[c, e] -= factor * gain[a, e]
                right[c] -= factor * right[a]
    for a in range(size - 1, -1, -1):
        for e in range(a + 1, size):
            factor = system[a, e]
            for c in range(size):
                gain[a, c] -= factor * gain[e, c]
            right[a] -= factor * right[e]
        for c in range(size):
            gain[a, c] /= system[a, a]
        right[a] /= system[a, a]
    for a in range(size):
        for c in range(a):
            mean = (gain[a, c] + gain[c, a]) / 2
            gain[a, c] = mean
            gain[c, a] = mean
    return logarithm


@compiled
def _turn(step, matrix, work, back):  # type: ignore[no-untyped-def]
    """``matrix`` becomes ``A matrix A^T``, or ``A^T matrix A`` if ``back``, for the A with the blocks ``step``."""
    size, order = step.shape[0], step.shape[1]
    states = size * order
    for i in range(order):
        for r in range(size):
            for c in range(states):
                work[i * size + r, c] = 0.0
            for j in range(order):
                factor = step[r, j, i] if back else step[r, i, j]
                for c in range(states):
                    work[i * size + r, c] += factor * matrix[j * size + r, c]
    factors = np.empty((order, size))
    for i in range(order):
        for j in range(order):
            for r in range(size):
                factors[j, r] = step[r, j, i] if back else step[r, i, j]
        for c in range(states):
            for r in range(size):
                matrix[c, i * size + r] = factors[0, r] * work[c, r]
            for j in range(1, order):
                for r in range(size):
                    matrix[c, i * size + r] += factors[j, r] * work[c, j * size + r]


@compiled
def forward(steps, stationary, precision, shift, means, covariances, gains, innovations):  # type: ignore[no-untyped-def]
    """The filter: predicted means and covariances, ``gain`` and ``right`` of `_observe`; returns the log-evidence."""
    levels, size, order = steps.shape[0], steps.shape[1], steps.shape[2]
    states = size * order
    m = np.zeros(states)
    moved = np.zeros(states)
    p = np.zeros((states, states))  # what the covariance is beyond the stationary one
    work = np.empty((states, states))
    system = np.empty((size, size))
    half = np.empty((states, size))
    evidence = 0.0
    for d in range(levels):
        for i in range(order):
            for r in range(size):
                total = 0.0
                for j in range(order):
                    total += steps[d, r, i, j] * m[j * size + r]
                moved[i * size + r] = total
        _turn(steps[d], p, work, False)
        covariance, gain, right = covariances[d], gains[d], innovations[d]
        for a in range(states):
            m[a] = moved[a]
            means[d, a] = moved[a]
            for c in range(states):
                covariance[a, c] = (p[a, c] + p[c, a]) / 2
        for i in range(order):
            for j in range(order):
                for r in range(size):
                    covariance[i * size + r, j * size + r] += stationary[r, i, j]
        for a in range(size):
            seen = 0.0
            for c in range(size):
                seen += precision[d, a, c] * m[c]
            right[a] = shift[d, a] - seen
            evidence += m[a] * (right[a] + 0.5 * seen)
            half[a, 0] = right[a]
        evidence -= 0.5 * _observe(covariance, precision[d], right, system, gain)
        for a in range(size):
            moves = 0.0
            for c in range(size):
                moves += covariance[a, c] * right[c]
            evidence += 0.5 * half[a, 0] * moves
        half[:] = 0.0
        _add_product(half, 1.0, covariance, gain, states, size, size)
        for a in range(states):
            for c in range(size):
                m[a] += covariance[a, c] * right[c]
        p[:] = covariance
        _add_product(p, -1.0, half, covariance, states, size, states)
        for i in range(order):
            for j in range(order):
                for r in range(size):
                    p[i * size + r, j * size + r] -= stationary[r, i, j]
    return evidence


@compiled
def backward(  # type: ignore[no-untyped-def]
    steps, stationary, means, covariances, gains, innovations, mean, covariance, by_steps, by_stationary, wanted
):
    """From what `forward` kept, the smoothed means and covariances, and if ``wanted`` the slopes of the log-evidence.

    The form of Bryson and Frazier, which inverts no covariance: ``adjoint`` and ``curve`` are the slope of the evidence
    by a predicted mean, and minus twice that by a predicted covariance less the square of the first.
    """
    levels, size, order = steps.shape[0], steps.shape[1], steps.shape[2]
    states = size * order
    adjoint = np.zeros(states)
    curve = np.zeros((states, states))
    work = np.empty((states, states))
    half = np.empty((states, size))
    rows = np.empty((size, states))
    across = np.empty((size, states))
    slope = np.empty((states, states))
    for d in range(levels - 1, -1, -1):
        predicted, gain = covariances[d], gains[d]
        # Before this level's observation: the adjoint of its update, (I - K H)^T x + H^T right with K = P_:u gain.
        half[:] = 0.0
        _add_product(half, 1.0, predicted, gain, states, size, size)
        for c in range(size):
            total = innovations[d, c]
            for a in range(states):
                total -= half[a, c] * adjoint[a]
            rows[c, 0] = total
        for c in range(size):
            adjoint[c] += rows[c, 0]
        across[:] = half.T
        rows[:] = 0.0
        _add_product(rows, 1.0, across, curve, size, states, states)
        work[:size, :size] = gain
        _add_product(work, 1.0, rows, half, size, states, size)
        for c in range(size):
            for a in range(states):
                curve[c, a] -= rows[c, a]
                curve[a, c] -= rows[c, a]
        for c in range(size):
            for a in range(size):
                curve[c, a] += (work[c, a] + work[a, c]) / 2
        for a in range(size):
            total = means[d, a]
            for c in range(states):
                total += predicted[a, c] * adjoint[c]
            mean[d, a] = total
        rows[:] = 0.0
        _add_product(rows, 1.0, predicted, curve, size, states, states)
        found = covariance[d]
        found[:] = predicted[:size, :size]
        _add_product(found, -1.0, rows, predicted, size, states, size)
        for a in range(size):
            for c in range(a):
                found[c, a] = found[a, c]
        if wanted:
            for a in range(states):
                for c in range(states):
                    slope[a, c] = adjoint[a] * adjoint[c] - curve[a, c]
            for r in range(size):
                for i in range(order):
                    for j in range(order):
                        by_stationary[r, i, j] += 0.5 * slope[i * size + r, j * size + r]
            if d > 0:
                _slopes(steps[d], stationary, means[d - 1], covariances[d - 1], gains[d - 1], innovations[d - 1],
                        adjoint, slope, work, by_steps[d], by_stationary)  # fmt: skip
        for i in range(order):
            for r in range(size):
                total = 0.0
                for j in range(order):
                    total += steps[d, r, j, i] * adjoint[j * size + r]
                work[0, i * size + r] = total
        for a in range(states):
            adjoint[a] = work[0, a]
        _turn(steps[d], curve, work, True)


@compiled
def _slopes(  # type: ignore[no-untyped-def]
    step, stationary, mean, covariance, gain, right, adjoint, slope, work, by_step, by_stationary
):
    """The slopes by one step and, through it, by the stationary covariance."""
    size, order = step.shape[0], step.shape[1]
    states = size * order
    excess = np.empty((states, states))
    filtered = mean.copy()
    for a in range(states):
        for c in range(size):
            filtered[a] += covariance[a, c] * right[c]
    work[:] = 0.0
    _add_product(work, 1.0, covariance, gain, states, size, size)
    excess[:] = covariance
    _add_product(excess, -1.0, work, covariance, states, size, states)
    for i in range(order):
        for j in range(order):
            for r in range(size):
                excess[i * size + r, j * size + r] -= stationary[r, i, j]
    # slope A, of which rows meet the excess, and columns A^T.
    for a in range(states):
        for j in range(order):
            for r in range(size):
                total = 0.0
                for i in range(order):
                    total += slope[a, i * size + r] * step[r, i, j]
                work[a, j * size + r] = total
    for r in range(size):
        for i in range(order):
            for j in range(order):
                total = adjoint[i * size + r] * filtered[j * size + r]
                inner = 0.0
                for e in range(states):
                    total += work[i * size + r, e] * excess[j * size + r, e]  # which is symmetric
                for k in range(order):
                    inner += step[r, k, i] * work[k * size + r, j * size + r]
                by_step[r, i, j] = total
                by_stationary[r, i, j] -= 0.5 * inner
