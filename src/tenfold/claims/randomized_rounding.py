"""Rounding sums of tensor trains by a random train: as accurate as by orthogonalising, in less time."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial, reduce

import torch

from tenfold import formats
from tenfold.claims._registry import Measurement, Number, claim
from tenfold.network import Network

_SHAPE = (20,) * 8
_RANK = 5
# Sizes of the terms of a sum against its first one.
_PERTURBATION = 1e-5


@claim(
    "randomized_rounding",
    paper="Randomized algorithms for rounding in the tensor-train format",
    year=2023,
    where="the algorithm Randomize-then-Orthogonalize and its experiments on sums",
    stated=(
        "Rounding a sum of tensor trains with a random train, before anything is orthogonalised, is as accurate as "
        "rounding it by orthogonalisation and takes less time, all the more the more terms there are."
    ),
)
def randomized_rounding(*, seed: int = 0, most: int = 32) -> Measurement:
    """Round sums of 8 to ``most`` trains that are one train but for perturbations of 10^-5, to the rank of the one.

    Holds if for every sum the error is at most twice that of rounding by singular values, the largest sum takes at most
    half of its time, and the ratio of the times grows with the number of terms. Times are those of the processor, the
    least of three.
    """
    structure = formats.tensor_train(_SHAPE, _RANK)
    ranks = dict.fromkeys(structure.inner_indices, _RANK)
    one = Network.random(structure, seed=seed, dtype=torch.float64)
    numbers: dict[str, Number] = {}
    lines, ratios, worst = [], [], 0.0
    count = 8
    while count <= most:
        others = [Network.random(structure, seed=seed + 1 + k, dtype=torch.float64) for k in range(count - 1)]
        whole = reduce(lambda total, other: total + _PERTURBATION * other, others, one)
        exact, by_svd = _timed(partial(whole.round, ranks=ranks))
        random, by_random = _timed(partial(whole.round, ranks=ranks, method="random", seed=seed))
        errors = [float((whole - rounded).round(error=1e-3).norm() / whole.norm()) for rounded in (by_svd, by_random)]
        worst = max(worst, errors[1] / errors[0])
        ratios.append(exact / random)
        lines.append(
            f"{count} terms: error {errors[1]:.3e} against {errors[0]:.3e} by singular values, {random:.3f} s against "
            f"{exact:.3f} s"
        )
        numbers[f"{count} terms: ratio of times"] = ratios[-1]
        count *= 2
    numbers["largest ratio of errors"] = worst
    holds = worst <= 2 and ratios[-1] >= 2 and ratios[-1] > ratios[0]
    return Measurement(holds, "\n".join(lines), numbers)


def _timed(work: Callable[[], Network]) -> tuple[float, Network]:
    least = float("inf")
    for _ in range(3):
        before = time.process_time()
        found = work()
        least = min(least, time.process_time() - before)
    return least, found
