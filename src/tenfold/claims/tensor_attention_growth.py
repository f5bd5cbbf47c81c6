"""The time of polynomial tensor attention grows with the tokens, that of the exact one with their cube."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor

from tenfold._threads import threads_for
from tenfold.claims._clock import exponent, fastest
from tenfold.claims._registry import Measurement, Number, claim
from tenfold.nn import polynomial_tensor_attention, tensor_attention


@claim(
    "tensor_attention_growth",
    paper="How to Capture Higher-order Correlations? Generalizing Matrix Softmax Attention to Kronecker Computation",
    year=2024,
    where="The algorithm for bounded entries",
    stated="With bounded entries tensor attention takes nearly linear time in the tokens, where exactly it is cubic.",
)
def tensor_attention_growth(
    *,
    seed: int = 0,
    lengths: Sequence[int] = (1024, 2048, 4096, 8192, 16384),
    exact_lengths: Sequence[int] = (192, 256, 384, 512),
    rounds: int = 5,
) -> Measurement:
    """Time polynomial attention of degree 4 and exact attention, d = 4, and fit time = c n^p to the least of some runs.

    Entries are uniform between -1 and 1, in single precision, on one thread; polynomial attention also where each token
    sees the ones before it only.

    Holds if the exponents of the polynomial ones are at most 1.2, and that of the exact one at least 2.5.
    """
    generator = torch.Generator().manual_seed(seed)
    ways: dict[str, Callable[..., Tensor]] = {
        "polynomial": partial(polynomial_tensor_attention, degree=4),
        "polynomial, causal": partial(polynomial_tensor_attention, degree=4, causal=True),
        "exact": tensor_attention,
    }
    numbers: dict[str, Number] = {}
    lines = []
    powers = {}
    with threads_for(0), torch.no_grad():
        for name, way in ways.items():
            sizes = exact_lengths if name == "exact" else lengths
            seconds = []
            for n in sizes:
                given = [2 * torch.rand(n, 4, generator=generator) - 1 for _ in range(5)]
                seconds.append(fastest({"": partial(way, *given)}, rounds)[""])
            powers[name] = exponent(sizes, seconds)
            times = ", ".join(f"{1e3 * each:.3g}" for each in seconds)
            lines.append(f"{name}, n = {', '.join(map(str, sizes))}: {times} ms, exponent {powers[name]:.2f}")
            numbers[f"{name}: exponent"] = powers[name]
            numbers |= {f"{name}, n = {n}: milliseconds": 1e3 * each for n, each in zip(sizes, seconds, strict=True)}
    holds = powers["exact"] >= 2.5 and max(powers["polynomial"], powers["polynomial, causal"]) <= 1.2
    return Measurement(holds, "\n".join(lines), numbers)
