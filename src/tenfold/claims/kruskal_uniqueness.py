"""Fits from different starts find the same components where Kruskal's condition holds, and others where it cannot."""

from __future__ import annotations

import torch

from tenfold import formats
from tenfold.claims._registry import Measurement, Number, claim
from tenfold.components import factor_match_score, kruskal
from tenfold.decomposition import find
from tenfold.network import Network

_FITS = 1e-8
_MATCHES, _DIFFERS = 1e-5, 1e-3
# Shape, rank, and whether two columns of the last factor are made parallel, which forbids uniqueness.
_PLANTED = (((8, 7, 6), 4, False), ((5, 5, 5, 4), 5, False), ((8, 7, 6), 4, True))


@claim(
    "kruskal_uniqueness",
    paper="Three-way arrays: rank and uniqueness of trilinear decompositions, with application to arithmetic "
    "complexity and statistics",
    year=1977,
    where="Theorem 4a; for four modes its extension of 2000",
    stated=(
        "Two decompositions of one tensor into the same number of rank-one terms are equal, up to order and scale, if "
        "the k-ranks of one of them add up to at least 2R + N - 1."
    ),
)
def kruskal_uniqueness(*, seed: int = 0, seeds: int = 6, starts: int = 4) -> Measurement:
    """Fit planted tensors from random starts; compare the components of all fits that are exact to 10^-8.

    Holds if `components.kruskal` calls every planted network with independent columns unique and all its exact fits
    have the same components (factor match score within 10^-5 of 1), if it calls those with two parallel columns in one
    of three modes not unique and two of their exact fits always differ (by more than 10^-3), and if each kind was
    fitted exactly at least twice.
    """
    method = find("cp_als").function
    numbers: dict[str, Number] = {}
    lines = []
    holds = True
    for shape, rank, parallel in _PLANTED:
        structure = formats.cp(shape, rank)
        pairs = right = verdicts = 0
        worst, least = 1.0, 0.0
        for number in range(seed, seed + seeds):
            planted = Network.random(structure, seed=number, dtype=torch.float64)
            if parallel:
                cores = [core.clone() for core in planted.cores]
                cores[-1][:, 1] = 2 * cores[-1][:, 0]
                planted = planted.replace(cores)
            verdicts += kruskal(planted).unique is not parallel and kruskal(planted).unique is not None
            data = planted.dense()
            exact = []
            for start in range(starts):
                init = Network.random(structure, seed=1000 * (start + 1) + number, dtype=torch.float64)
                fit = method(data, structure, error=1e-10, init=init, max_sweeps=1000, tol=1e-10)
                if fit.error <= _FITS:
                    exact.append(fit.network)
            scores = [factor_match_score(exact[0], other).score for other in exact[1:]]
            pairs += len(scores)
            if scores:
                worst, least = min(worst, *scores), max(least, min(scores))
                right += min(scores) < 1 - _DIFFERS if parallel else min(scores) >= 1 - _MATCHES
            else:
                right += 1
        holds = holds and verdicts == seeds and right == seeds and pairs > 0
        label = f"{'x'.join(map(str, shape))} rank {rank}" + (", two columns parallel" if parallel else "")
        said = (
            f"called not unique in {verdicts} of {seeds}, fits differ: score at most {least:.4f}"
            if parallel
            else f"called unique in {verdicts} of {seeds}, the least score {worst:.8f}"
        )
        lines.append(f"{label}: {pairs} pairs of exact fits; {said}")
        numbers |= {f"{label}: pairs": pairs, f"{label}: right": right, f"{label}: verdicts": verdicts}
    return Measurement(holds, "\n".join(lines), {"tensors": seeds, **numbers})
