"""Polynomial tensor attention keeps to the error that its degree promises."""

from __future__ import annotations

import torch

from tenfold.claims._registry import Measurement, Number, claim
from tenfold.nn import polynomial_degree, polynomial_error, polynomial_tensor_attention, score_bound, tensor_attention

_DEGREES = (2, 4, 6, 8, 10)


@claim(
    "tensor_attention_error_bound",
    paper="How to Capture Higher-order Correlations? Generalizing Matrix Softmax Attention to Kronecker Computation",
    year=2024,
    where="The algorithm for bounded entries: a polynomial of small degree in place of exp",
    stated=(
        "Where entries are bounded, tensor attention with a polynomial of small degree in place of exp is within any "
        "error of the exact one."
    ),
)
def tensor_attention_error_bound(*, seed: int = 0, n: int = 64, long: int = 16384, rows: int = 16) -> Measurement:
    """The largest error of an output, in units of ``max |V1| max |V2|``, beside `polynomial_error`'s bound.

    Entries are uniform between plus and minus B for B in 0.5, 1, 1.5 and 2, in double precision, d = 3, scale 1 / d, as
    in the paper; degrees 2 to 10; causal and not. Then for each B the degree that is chosen for errors of 10^-2, 10^-4
    and 10^-6. Last, ``long`` tokens, d = 4, B = 1, in single precision, at the degree for 10^-3, compared with the
    exact outputs of ``rows`` of them.

    Holds if no error is above its bound, or above what was asked for; 10^-6 is added for rounding in single precision.
    Takes about ten seconds.
    """
    generator = torch.Generator().manual_seed(seed)
    numbers: dict[str, Number] = {}
    lines = []
    holds = True
    for largest in (0.5, 1.0, 1.5, 2.0):
        given = [largest * _uniform((n, 3), torch.float64, generator) for _ in range(5)]
        units = float(given[3].abs().max() * given[4].abs().max())
        scores = score_bound(*given[:3], scale=1 / 3)
        shown = []
        for causal in (False, True):
            exact = tensor_attention(*given, scale=1 / 3, causal=causal)

            def error(degree: int, causal: bool = causal, exact: torch.Tensor = exact) -> float:
                found = polynomial_tensor_attention(*given, scale=1 / 3, causal=causal, degree=degree)  # noqa: B023
                return float((found - exact).abs().max()) / units  # noqa: B023

            name = "causal, " if causal else ""
            for degree in _DEGREES:
                bound, measured = polynomial_error(scores, degree, 3).output, error(degree)
                # What rounding in double precision can add.
                holds &= measured <= bound + 1e-12
                numbers[f"B = {largest}, {name}degree {degree}: error"] = measured
                numbers[f"B = {largest}, {name}degree {degree}: bound"] = bound
                if not causal:
                    shown.append(f"{degree}: {measured:.1e} of {bound:.1e}")
            for asked in (1e-2, 1e-4, 1e-6):
                degree = polynomial_degree(scores, asked)
                measured = error(degree)
                holds &= measured <= asked
                numbers[f"B = {largest}, {name}asked for {asked:g}: degree"] = degree
                numbers[f"B = {largest}, {name}asked for {asked:g}: error"] = measured
        lines.append(f"B = {largest}, scores up to {scores:.2f}; error of bound by degree: {', '.join(shown)}")
    given = [_uniform((long, 4), torch.float32, generator) for _ in range(5)]
    units = float(given[3].abs().max() * given[4].abs().max())
    scores = score_bound(*given[:3], scale=1 / 4)
    degree = polynomial_degree(scores, 1e-3)
    bound = polynomial_error(scores, degree, 4).output
    found = polynomial_tensor_attention(*given, scale=1 / 4, degree=degree)
    exact = tensor_attention(given[0][:rows], *given[1:], scale=1 / 4)
    measured = float((found[:rows] - exact).abs().max()) / units
    holds &= measured <= bound + 1e-6
    numbers |= {f"{long} tokens: error": measured, f"{long} tokens: bound": bound, f"{long} tokens: degree": degree}
    lines.append(f"{long} tokens, scores up to {scores:.2f}, degree {degree}: {measured:.1e} of {bound:.1e}")
    return Measurement(holds, "\n".join(lines), numbers)


def _uniform(shape: tuple[int, ...], dtype: torch.dtype, generator: torch.Generator) -> torch.Tensor:
    return 2 * torch.rand(shape, dtype=dtype, generator=generator) - 1
