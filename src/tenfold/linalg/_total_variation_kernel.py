"""The loop of `tenfold.linalg.total_variation`, compiled."""

from __future__ import annotations

import numpy as np

from tenfold._compiled import compiled_as_written


@compiled_as_written
def prox_rows(rows, weight):  # type: ignore[no-untyped-def]
    """The proximal map of the total variation of each row.

    From left to right the derivative of the best objective, given the value at a place, is kept as its knots: a
    piecewise linear function, which is cut at ``-weight`` and ``weight`` and gets the next square added. From right to
    left each value is the one after it, clipped to where its derivative was cut.
    """
    count, length = rows.shape
    result = np.empty_like(rows)
    knots, slopes, heights = np.empty(2 * length), np.empty(2 * length), np.empty(2 * length)
    lowest, highest = np.empty(length), np.empty(length)
    for row in range(count):
        y, x = rows[row], result[row]
        if length == 1:
            x[0] = y[0]
            continue
        lowest[0], highest[0] = y[0] - weight, y[0] + weight
        left, right = length - 1, length
        knots[left], slopes[left], heights[left] = lowest[0], 1.0, weight - y[0]
        knots[right], slopes[right], heights[right] = highest[0], -1.0, weight + y[0]
        for k in range(1, length):
            last = k == length - 1
            bound = 0.0 if last else weight
            slope, height = 1.0, -weight - y[k]
            low = left
            while low <= right and slope * knots[low] + height <= -bound:
                slope += slopes[low]
                height += heights[low]
                low += 1
            if last:
                x[k] = -height / slope
                break
            top_slope, top_height = -1.0, y[k] - weight
            high = right
            while high >= low and -top_slope * knots[high] - top_height >= weight:
                top_slope += slopes[high]
                top_height += heights[high]
                high -= 1
            lowest[k] = (-weight - height) / slope
            highest[k] = -(weight + top_height) / top_slope
            left, right = low - 1, high + 1
            knots[left], slopes[left], heights[left] = lowest[k], slope, height + weight
            knots[right], slopes[right], heights[right] = highest[k], top_slope, top_height + weight
        for k in range(length - 2, -1, -1):
            x[k] = min(max(x[k + 1], lowest[k]), highest[k])
    return result
