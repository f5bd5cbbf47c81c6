"""The expected error of a positive semidefinite matrix that is known by its product with random vectors only."""

from __future__ import annotations

import math
import statistics

import torch

from tenfold.claims._registry import Measurement, Number, claim
from tenfold.decomposition._reduction import nystrom, random_vectors

_ROWS = 100
_SPECTRA = {
    "flat": [1.0] * _ROWS,
    "polynomial": [1 / (1 + k) for k in range(_ROWS)],
    "exponential": [0.8**k for k in range(_ROWS)],
    "rank 10 and noise": [1.0] * 10 + [0.001] * (_ROWS - 10),
}
# Ranks, and numbers of random vectors; the last is what arrays that are read box by box get.
_RANKS = ((5, 10), (10, 15), (10, 30))


@claim(
    "nystrom_streaming",
    paper="Fixed-rank approximation of a positive-semidefinite matrix from streaming data",
    year=2017,
    where="Theorem 4.1",
    stated=(
        "From the product of a positive semidefinite matrix with k Gaussian vectors alone, the Nyström approximation "
        "cut to rank r has an expected trace norm error of at most 1 + r / (k - r - 1) times the best one of rank r."
    ),
)
def nystrom_streaming(*, seed: int = 0, draws: int = 60) -> Measurement:
    """Draw random vectors for four spectra and three pairs of r and k, and average the error.

    Holds if no average is above the bound by more than three standard errors, nor below the best error.
    """
    numbers: dict[str, Number] = {"draws": draws}
    lines = []
    holds = True
    for name, spectrum in _SPECTRA.items():
        values = torch.tensor(spectrum, dtype=torch.float64)
        rotation = random_vectors(_ROWS, _ROWS, seed, torch.float64)
        matrix = (rotation * values) @ rotation.T
        part = 0.0
        for rank, count in _RANKS:
            best = math.fsum(spectrum[rank:])
            bound = (1 + rank / (count - rank - 1)) * best
            errors = []
            for draw in range(draws):
                key = seed + 1 + draw
                sketch = matrix @ random_vectors(_ROWS, count, key, torch.float64)
                found, vectors = nystrom(sketch, count, key)
                kept = (vectors[:, :rank] * found[:rank]) @ vectors[:, :rank].T
                errors.append(float(torch.linalg.eigvalsh(matrix - kept).abs().sum()))
            mean = statistics.fmean(errors)
            slack = 3 * statistics.stdev(errors) / math.sqrt(draws) + 1e-9
            holds &= best - slack <= mean <= bound + slack
            part = max(part, mean / bound)
        numbers[f"{name}: largest part of the bound"] = part
        lines.append(f"{name}: the average error is at most {part:.3f} of the bound")
    return Measurement(holds, "\n".join(lines), numbers)
