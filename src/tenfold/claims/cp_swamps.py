"""Recombined earlier iterates take alternating least squares for CP through swamps."""

from __future__ import annotations

import statistics

import torch

from tenfold import formats
from tenfold.claims._registry import Measurement, claim
from tenfold.decomposition import find
from tenfold.network import Network
from tenfold.structure import Structure

_ERROR = 1e-6
_TIMES = 5


@claim(
    "cp_swamps",
    paper="A nonlinear GMRES optimization algorithm for canonical tensor decomposition",
    year=2012,
    where="Abstract",
    stated=(
        "Where high accuracy is wanted on difficult tensors, alternating least squares whose earlier iterates are "
        "recombined after each sweep may take far fewer sweeps than alternating least squares alone."
    ),
)
def cp_swamps(*, seed: int = 0, tensors: int = 5, extent: int = 40, most: int = 3000) -> Measurement:
    """Count sweeps to a relative error of 10^-6 on exact rank-5 tensors of collinearity 0.9, from random starts.

    The recombination is the one of `cp_als`, Anderson's of type II; all its sweeps are counted, those thrown away
    too. Holds if the median over the tensors of plain sweeps to accelerated ones is at least 5.
    """
    method = find("cp_als").function
    plain: list[int] = []
    accelerated: list[int] = []
    for number in range(seed, seed + tensors):
        data, start = collinear(extent, 5, 0.9, number)
        for accelerate, counts in ((False, plain), (True, accelerated)):
            fit = method(
                data,
                start.structure,
                init=start,
                error=_ERROR,
                max_sweeps=most,
                tol=0.0,
                accelerate=accelerate,  # type: ignore[call-arg]  # an option of this method
            )
            counts.append(fit.sweeps)
    ratio = statistics.median(slow / fast for slow, fast in zip(plain, accelerated, strict=True))
    text = (
        f"{extent}^3, rank 5, collinearity 0.9: {', '.join(map(str, plain))} plain sweeps to {_ERROR:.0e} (at most "
        f"{most}), {', '.join(map(str, accelerated))} accelerated; the median ratio is {ratio:.1f}"
    )
    numbers = {
        "tensors": tensors,
        "median_plain": statistics.median(plain),
        "median_accelerated": statistics.median(accelerated),
        "median_ratio": ratio,
        "least_ratio": min(slow / fast for slow, fast in zip(plain, accelerated, strict=True)),
    }
    return Measurement(ratio >= _TIMES, text, numbers)


def collinear(extent: int, rank: int, cosine: float, seed: int) -> tuple[torch.Tensor, Network]:
    """Exact CP data whose factors have this cosine between any two columns in every mode, and a random start."""
    generator = torch.Generator().manual_seed(seed)
    structure: Structure = formats.cp((extent,) * 3, rank)
    cosines = torch.full((rank, rank), cosine, dtype=torch.float64).fill_diagonal_(1.0)
    factors = []
    for _ in range(3):
        basis = torch.linalg.qr(torch.randn(extent, rank, generator=generator, dtype=torch.float64)).Q
        factors.append(basis @ torch.linalg.cholesky(cosines).T)
    start = [torch.rand(extent, rank, generator=generator, dtype=torch.float64) for _ in range(3)]
    return Network(structure, factors).dense().contiguous(), Network(structure, start)
