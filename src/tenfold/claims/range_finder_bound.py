"""The expected error of a randomized range finder, and what the one of this library leaves of it."""

from __future__ import annotations

import math
import statistics

import torch
from torch import Tensor

from tenfold.claims._registry import Measurement, Number, claim
from tenfold.decomposition._range import dominant

_SHAPE = (120, 150)
_SPECTRA = {
    "flat": [1.0] * 120,
    "polynomial": [1 / (1 + k) for k in range(120)],
    "exponential": [0.8**k for k in range(120)],
    "rank 10 and noise": [1.0] * 10 + [0.05] * 110,
}
_RANKS = ((5, 2), (10, 5), (10, 10))


@claim(
    "range_finder_bound",
    paper="Finding structure with randomness: probabilistic algorithms for constructing approximate matrix "
    "decompositions",
    year=2011,
    where="Theorem 10.5",
    stated=(
        "The product of a matrix with k + p Gaussian vectors spans a space outside which the matrix has an expected "
        "Frobenius norm of at most sqrt(1 + k / (p - 1)) times that of its best approximation of rank k."
    ),
)
def range_finder_bound(*, seed: int = 0, draws: int = 60) -> Measurement:
    """Draw Gaussian matrices for four spectra and three pairs of k and p, and average the error.

    Holds if no average is above the bound by more than three standard errors. Beside it, as a number only: the largest
    error of the range finder of ``tree_svd`` in units of the best error of its rank, where it gives an answer. It adds
    power iterations until more would gain nothing, so that should be near 1.
    """
    generator = torch.Generator().manual_seed(seed)
    numbers: dict[str, Number] = {}
    lines = []
    holds, ours = True, 0.0
    for name, spectrum in _SPECTRA.items():
        matrix = _matrix(spectrum, generator)
        part = 0.0
        for rank, more in _RANKS:
            best = math.sqrt(math.fsum(value**2 for value in spectrum[rank:]))
            bound = math.sqrt(1 + rank / (more - 1)) * best
            errors = []
            for _ in range(draws):
                vectors = torch.randn(_SHAPE[1], rank + more, generator=generator, dtype=matrix.dtype)
                errors.append(_outside(matrix, torch.linalg.qr(matrix @ vectors).Q))
            mean = statistics.fmean(errors)
            holds &= mean - 3 * statistics.stdev(errors) / math.sqrt(draws) <= bound
            part = max(part, mean / bound)
            square = math.fsum(value**2 for value in spectrum)
            found = dominant(matrix, square, rank=rank, allowed=0.0, most=60, precise=False, generator=generator)
            if found is not None:
                ours = max(ours, _outside(matrix, found.vectors) / best)
        numbers[f"{name}: largest part of the bound"] = part
        lines.append(f"{name}: the average error is at most {part:.3f} of the bound")
    numbers |= {"draws": draws, "tree_svd: largest error over the best one": ours}
    lines.append(f"the range finder of tree_svd: at most {ours:.6f} times the best error of its rank")
    return Measurement(holds, "\n".join(lines), numbers)


def _matrix(spectrum: list[float], generator: torch.Generator) -> Tensor:
    left, right = (
        torch.linalg.qr(torch.randn(n, len(spectrum), generator=generator, dtype=torch.float64)).Q for n in _SHAPE
    )
    return (left * torch.tensor(spectrum, dtype=torch.float64)) @ right.T


def _outside(matrix: Tensor, basis: Tensor) -> float:
    return float(torch.linalg.vector_norm(matrix - basis @ (basis.T @ matrix)))
