"""Stationary covariances whose power spectrum is a mixture of peaks, and their first two derivatives."""

from __future__ import annotations

from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from tenfold.errors import TenfoldError

Spectrum = Literal["student", "gaussian"]

_N = Float[Tensor, "... n"]


def spectral_mixture(
    distances: _N,
    weights: Float[Tensor, "q"],
    scales: Float[Tensor, "q"],
    frequencies: Float[Tensor, "q"] | None,
    spectrum: Spectrum = "student",
) -> tuple[_N, _N, _N]:
    """Covariance at distances d >= 0 and its first two derivatives by d, sums over the peaks of the spectrum.

    ``"student"`` peaks (five degrees of freedom) give ``w (1 + s d + s² d² / 3) exp(-s d) cos(2 pi f d)``, with
    ``s = sqrt(5) scale`` a Matern 5/2 covariance times a cosine; ``"gaussian"`` ones give
    ``w exp(-scale d²) cos(2 pi f d)``.

    Args:
        distances: what is between two points, not negative.
        weights, scales: positive, one for each peak.
        frequencies: where the peaks are, in cycles per unit of distance; None puts all of them at 0, which leaves the
            cosine out.
        spectrum: the form of the peaks.

    Returns:
        ``k``, ``k'`` and ``k''``. Both covariances are smooth in d from the right, so at 0 these are the limits:
        ``k(|x - y|)`` has the second derivative ``k''`` by x, and the first ``sign(x - y) k'``, which is 0 at 0. All
        are differentiable by weights, scales and frequencies.

    Raises:
        TenfoldError: another spectrum.

    Cost: O(distances * peaks). On a uniform grid of n points n distances are enough: `toeplitz.toeplitz` spreads them.
    Paper: "Solving High Frequency and Multi-Scale PDEs with Gaussian Processes", 2024.
    """
    d = distances.unsqueeze(-1)
    if spectrum == "student":
        s = 5**0.5 * scales
        sd = s * d
        decay = torch.exp(-sd)
        third = s * s / 3 * decay
        m, m1, m2 = (1 + sd + sd * sd / 3) * decay, -third * d * (1 + sd), -third * (1 + sd - sd * sd)
    elif spectrum == "gaussian":
        m = torch.exp(-scales * d * d)
        m1 = -2 * scales * d * m
        m2 = (4 * scales * scales * d * d - 2 * scales) * m
    else:
        raise TenfoldError(f"spectrum must be {' or '.join(map(repr, get_args(Spectrum)))}, not {spectrum!r}")
    if frequencies is None:
        return m @ weights, m1 @ weights, m2 @ weights
    turn = 2 * torch.pi * frequencies
    cos, sin = torch.cos(turn * d), torch.sin(turn * d)
    first = m1 * cos - turn * m * sin
    second = m2 * cos - 2 * turn * m1 * sin - turn * turn * m * cos
    return (m * cos) @ weights, first @ weights, second @ weights
