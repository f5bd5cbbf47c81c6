"""The posterior of a tensor with Kronecker structure costs far less than that of its vector."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial

import numpy as np
import torch

from tenfold.claims._registry import Measurement, Number, claim
from tenfold.claims._sparse_recovery import dense_posterior, kronecker
from tenfold.completion._krosbl import posterior, product

_DENSE, _FACTORED = (5, 6, 8, 10, 12), (16, 24, 32, 48, 64)
_LEAST = 6.0


@claim(
    "krosbl_cost",
    paper=(
        "Bayesian Algorithms for Kronecker-structured Sparse Vector Recovery With Application to IRS-MIMO Channel "
        "Estimation"
    ),
    year=2023,
    where="the discussion of complexity",
    stated="With factored matrices the expectation step grows far more slowly with the sizes than with the whole one.",
)
def krosbl_cost(*, seed: int = 0, repeats: int = 3) -> Measurement:
    """Posterior mean and variance from m × m × m measurements of (5m/4)³ entries, both ways, by the processor's clock.

    The exponents are those of lines fitted to the logarithms of the fastest of ``repeats`` times over m: from 5 to 12
    for the whole matrix, whose product with itself alone is of m⁹, and from 16 to 64 for factors, which take m⁴ for the
    products. Holds if the first exponent is at least 6, the second at most 5, and both agree to 1e-9 where both are
    computed.
    """
    generator = torch.Generator().manual_seed(seed)
    times: dict[str, dict[int, float]] = {"whole": {}, "factored": {}}
    apart = 0.0
    for m in (*_DENSE, *_FACTORED):
        columns = 5 * m // 4
        matrices = [torch.randn(m, columns, generator=generator, dtype=torch.float64) for _ in range(3)]
        scales = [torch.rand(columns, generator=generator, dtype=torch.float64) for _ in range(3)]
        measured = torch.randn(m, m, m, generator=generator, dtype=torch.float64)
        factored = posterior(measured, matrices, scales, 0.1)
        if m in _DENSE:
            whole, prior = kronecker(matrices), product(scales).reshape(-1)
            mean, variance, _ = dense_posterior(measured, whole, prior, 0.1)
            apart = max(
                apart,
                float((mean - factored.mean.reshape(-1)).abs().max() / mean.abs().max()),
                float((variance - factored.variance.reshape(-1)).abs().max() / variance.max()),
            )
            times["whole"][m] = _fastest(partial(dense_posterior, measured, whole, prior, 0.1), repeats)
        seconds = _fastest(partial(posterior, measured, matrices, scales, 0.1), repeats)
        if m in _FACTORED:
            times["factored"][m] = seconds
        elif m == max(_DENSE):
            gain = times["whole"][m] / seconds
    exponents = {name: _exponent(some) for name, some in times.items()}
    holds = exponents["whole"] >= _LEAST and exponents["factored"] <= 5 and apart <= 1e-9
    text = (
        f"exponents {exponents['whole']:.1f} whole and {exponents['factored']:.1f} factored; at m = {max(_DENSE)} "
        f"{gain:.0f} times as fast; largest difference {apart:.1g}"
    )
    numbers: dict[str, Number] = {f"exponent, {name}": value for name, value in exponents.items()}
    return Measurement(holds, text, {**numbers, "gain": gain, "difference": apart})


def _fastest(function: Callable[[], object], repeats: int) -> float:
    seconds = []
    for _ in range(repeats):
        started, calls = time.process_time(), 0
        # Clocks of processors tick coarsely.
        while calls == 0 or time.process_time() - started < 0.02:
            function()
            calls += 1
        seconds.append((time.process_time() - started) / calls)
    return min(seconds)


def _exponent(times: dict[int, float]) -> float:
    sizes, seconds = np.log(list(times)), np.log(list(times.values()))
    return float(np.polyfit(sizes, seconds, 1)[0])
