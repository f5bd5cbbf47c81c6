"""The log determinant of a covariance on a grid with holes, from the eigenvalues of the whole grid."""

from __future__ import annotations

import torch

from tenfold.claims._registry import Measurement, Number, claim
from tenfold.completion.grid_gp import GridGP
from tenfold.linalg.covariances import RBF, Covariance, Matern32
from tenfold.linalg.kronecker import outer

_BOUND, _CELLS = 0.05, (14, 13, 12)


@claim(
    "partial_grid_determinant",
    paper="Fast kernel learning for multidimensional pattern extrapolation",
    year=2014,
    where="inference with missing observations: the log determinant",
    stated=(
        "With missing cells the eigenvalues of the covariance of the observed ones can be approximated by the largest "
        "of the whole grid, scaled by the part that was observed."
    ),
)
def partial_grid_determinant(*, seed: int = 0) -> Measurement:
    """Hide 10, 50 and 90 % of 14 x 13 x 12 cells at random, under a smooth and a rough kernel.

    The log determinant of ``K + 0.01`` over the n observed of N cells is compared with the sum of the logarithms of
    ``n/N λ + 0.01`` over the n largest eigenvalues λ of the whole grid. What is off is divided by the dense log
    determinant of ``1 + K/0.01``, the part in which kernels differ.

    Holds if it is off by at most 5 % in every case.
    """
    numbers: dict[str, Number] = {}
    lines, worst = [], 0.0
    kernels: tuple[Covariance, ...] = (RBF(0.3), Matern32(0.3))
    for kernel in kernels:
        axes = [torch.linspace(0, 1, n, dtype=torch.float64) for n in _CELLS]
        gp = GridGP(axes, kernel, noise=0.01, tied=True)
        spectrum = outer(gp.pair.values).flatten().sort(descending=True).values
        prior, order = gp.prior.dense(), torch.randperm(gp.cells, generator=torch.Generator().manual_seed(seed))
        for hidden in (0.1, 0.5, 0.9):
            seen = order[: round((1 - hidden) * gp.cells)]
            inside = prior[seen][:, seen] / gp.noise
            inside.diagonal().add_(1)
            exact = float(torch.logdet(inside))
            scaled = len(seen) / gp.cells * spectrum[: len(seen)] / gp.noise
            off = float(scaled.log1p().sum()) / exact - 1
            worst = max(worst, abs(off))
            label = f"{type(kernel).__name__}, {hidden:.0%} hidden"
            lines.append(f"{label}: {exact:.1f}, approximated with {off:+.1%}")
            numbers |= {f"{label}: exact": exact, f"{label}: off": off}
    return Measurement(worst <= _BOUND, "\n".join(lines), numbers)
