"""The sum of the tails of singular values is within a factor N of the best squared error of a Tucker core shape."""

from __future__ import annotations

import math
from collections.abc import Sequence

from tenfold import formats
from tenfold.claims._recorded_shapes import Recorded, recorded
from tenfold.claims._registry import Measurement, claim
from tenfold.claims._tensors import by_kind, residual, varied
from tenfold.decomposition import find
from tenfold.structure_search.core_shapes import core_shapes, size
from tenfold.structure_search.spectra import mode_spectra

# Rounding of singular values from Gram matrices, in squared relative errors.
_ROUNDING = 1e-12
# What recorded errors and sums, of single precision at times, may be off by.
_RECORDED = 1e-6


@claim(
    "core_shape_bound",
    paper="Approximately optimal core shapes for tensor decompositions",
    year=2023,
    where="the surrogate loss and its approximation of the error by a factor of the order",
    stated=(
        "For every core shape the sum of the squared singular values that it cuts off is at least the squared error of "
        "the best Tucker decomposition of that shape and at most N times it, so that the shape with the least sum is "
        "within a factor of N of the best."
    ),
)
def core_shape_bound(*, seed: int = 0, tensors: int = 48, sweeps: int = 10) -> Measurement:
    """For each tensor three budgets, for each of them the three shapes with the least sums, decomposed.

    The best error L of a shape is not known, but a decomposition found is not below it. Holds if the sequentially
    truncated HOSVD, so L too, is never above the sum, and no decomposition by higher-order orthogonal iteration is
    below its N-th part, nor below the largest of the tails; but for 10^-12 of the squared norm. Where the folder that
    TENFOLD_DATA names has what the paper's authors recorded, their sums and errors must keep to it too, but for a
    millionth, and no way of choosing may have come to a smaller sum than their enumeration with the same budget.
    """
    kinds, least, most, ill = [], math.inf, 0.0, 0
    for kind, tensor in varied(seed, random=tensors):
        shape = tuple(tensor.shape)
        spectra = mode_spectra(tensor)
        norm2 = float(tensor.norm()) ** 2
        low, high = 1 + sum(shape), size(shape, shape)
        for part in (0.05, 0.2, 0.5):
            for one in core_shapes(spectra, shape, low + int(part * (high - low)), count=3):
                structure = formats.tucker(shape, one.ranks)
                truncated = find("tree_svd").function(tensor, structure).network
                refined = find("hooi").function(tensor, structure, init=truncated, max_sweeps=sweeps, tol=0.0).network
                first, last = (residual(tensor, network) ** 2 / norm2 for network in (truncated, refined))
                kinds.append(kind)
                ill += first > one.bound + _ROUNDING
                ill += last < max(one.lower, one.bound / len(shape)) - _ROUNDING
                if one.bound > 1e3 * _ROUNDING:
                    least = min(least, one.bound / first)
                    most = max(most, one.bound / last / len(shape))
    rows = recorded()
    odd = beyond(rows)
    text = (
        f"{len(kinds)} shapes of tensors of orders 3 to 6: {by_kind(kinds)}.\n"
        f"sum of tails / squared error of the truncated HOSVD: at least {least:.4f} (bound 1).\n"
        f"sum of tails / (N squared error of the best found): at most {most:.4f} (bound 1).\n"
        f"beyond a bound: {ill}."
    )
    numbers = {"shapes": len(kinds), "least_over_hosvd": least, "largest_part_of_allowed": most, "beyond": ill}
    if rows:
        text += f"\n{len(rows)} shapes recorded by the paper's authors, {odd} of them beyond a bound."
        numbers |= {"recorded": len(rows), "recorded_beyond": odd}
    return Measurement(not ill and not odd, text, numbers)


def beyond(rows: Sequence[Recorded]) -> int:
    """How many of the recorded shapes break a bound, exceed their budget, or beat the enumeration."""
    best = {(row.dataset, row.budget): row.bound for row in rows if row.way == "hosvd-brute-force"}
    odd = 0
    for row in rows:
        fits = size(row.shape, row.ranks) == row.parameters <= row.budget
        least, most = row.bound / len(row.shape), row.bound * (1 + _RECORDED)
        beaten = most < best.get((row.dataset, row.budget), 0.0)
        odd += beaten or not fits or not least <= row.error2 * (1 + _RECORDED) <= most * (1 + _RECORDED)
    return odd
