"""CP decompositions within Kruskal's bound are unique, so whoever fits one exactly has found its factors."""

from __future__ import annotations

import torch

from tenfold import formats
from tenfold.claims._registry import Measurement, Number, claim
from tenfold.components import factor_match_score
from tenfold.decomposition import find
from tenfold.network import Network

_FITS = 1e-8
_MATCHES = 1e-5
# Random factors have k-rank min(n, R) almost surely; the last of these meets Kruskal's bound with equality.
_PLANTED = (((12, 11, 10), 5), ((7, 7, 7), 8), ((6, 6, 6), 8))


@claim(
    "cp_recovery",
    paper="Three-way arrays: rank and uniqueness of trilinear decompositions, with application to arithmetic "
    "complexity and statistics",
    year=1977,
    where="Theorem 4a",
    stated=(
        "A three-way CP decomposition of rank R whose k-ranks add up to at least 2R + 2 is the only one of its tensor, "
        "up to the order and the scale of its terms."
    ),
)
def cp_recovery(*, seed: int = 0, seeds: int = 10, restarts: int = 3) -> Measurement:
    """Plant CP tensors with Gaussian factors, fit each by alternating least squares from up to ``restarts`` seeds.

    A fit is exact at a relative error of 10^-8; the factors are found if every term of the fit is a planted one: the
    product over the modes of the cosines differs from 1 by at most 10^-5. Holds if every exact fit has found the
    factors and every rank was fitted exactly at least once; how often, is a number of the method, not of the theorem.
    """
    numbers: dict[str, Number] = {}
    lines = []
    holds = True
    method = find("cp_als").function
    for shape, rank in _PLANTED:
        structure = formats.cp(shape, rank)
        first = exact = found = 0
        for number in range(seed, seed + seeds):
            planted = Network.random(structure, seed=number, dtype=torch.float64)
            data = planted.dense()
            for attempt in range(restarts):
                fit = method(data, structure, error=1e-10, seed=1000 * attempt + number, max_sweeps=1000, tol=1e-10)
                if fit.error <= _FITS:
                    first += attempt == 0
                    exact += 1
                    found += match(planted, fit.network) >= 1 - _MATCHES
                    break
        holds = holds and found == exact > 0
        label = f"{'x'.join(map(str, shape))} rank {rank}"
        lines.append(
            f"{label}: fitted to {_FITS:.0e} in {exact} of {seeds} tensors ({first} at once, the others in up to "
            f"{restarts} tries); all factors right in {found} of these {exact}"
        )
        numbers |= {f"{label}: exact": exact, f"{label}: exact at once": first, f"{label}: factors": found}
    return Measurement(holds, "\n".join(lines), {"tensors": seeds, **numbers})


def match(planted: Network, found: Network) -> float:
    """The least agreement of a term with its partner: the product of the cosines over the modes; 1 for equal terms."""
    return min(factor_match_score(planted, found, weights=False).scores)
