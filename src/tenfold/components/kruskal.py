"""Whether the components of a CP network are the only ones: Kruskal's condition, and what forbids uniqueness."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations

import torch
from torch import Tensor

from tenfold.components._terms import Terms, terms_of
from tenfold.network import Network

# Up to this rank every set of columns is tried.
_BRUTE = 12


@dataclass(frozen=True)
class Kruskal:
    """What is known of the uniqueness of a CP network, up to the order and scale of its components.

    Attributes:
        k_ranks: by mode the largest k such that every k columns are independent; a lower bound where not ``exact``.
        exact: whether the k-ranks were found by trying all sets of columns.
        needed: what the k-ranks must add up to, ``2R + N - 1``.
        unique: True where uniqueness is certain, False where it is excluded, None where neither is known.
        why: the reason, in a sentence.
    """

    k_ranks: Mapping[str, int]
    exact: bool
    needed: int
    unique: bool | None
    why: str

    def __str__(self) -> str:
        verdict = {True: "yes", False: "no", None: "unknown"}[self.unique]
        ranks = ", ".join(f"{name} {'' if self.exact else '>= '}{k}" for name, k in self.k_ranks.items())
        return f"unique: {verdict} ({self.why}); k-ranks: {ranks}; needed: {self.needed}"


def kruskal(network: Network, tol: float | None = None) -> Kruskal:
    """Whether the components of a CP network are determined by the tensor that they make.

    They are if the k-ranks of the factors add up to ``2R + N - 1``. They are not if two components are parallel in all
    modes but two, or the products of all factors but one are dependent. Between the two nothing is said. K-ranks are
    found by trying all sets of columns up to rank 12; above, bounds from the largest cosine take their place.

    Args:
        network: one inner index on every core; a core with several modes is one factor.
        tol: columns of norm one are dependent where their least singular value is below this; by default the square
            root of the precision of the network's dtype.

    Raises:
        StructureError: the network is no sum of rank-one terms.

    Cost: ``O(2^R R^3)`` up to rank 12, ``O(sum(n) R^2 + R^3)`` above.
    Papers: "Three-way arrays: rank and uniqueness of trilinear decompositions, with application to arithmetic
    complexity and statistics", 1977; "On the uniqueness of multilinear decomposition of N-way arrays", 2000.
    """
    terms = terms_of(network)
    small = math.sqrt(torch.finfo(network.dtype).eps) if tol is None else tol
    rank, order = terms.rank, len(terms.factors)
    exact = rank <= _BRUTE
    k_ranks = {name: (_k_rank if exact else _k_rank_bound)(f, small) for name, f in terms.factors.items()}
    needed = 2 * rank + order - 1
    total = sum(k_ranks.values())

    def verdict(unique: bool | None, why: str) -> Kruskal:
        return Kruskal(k_ranks, exact, needed, unique, why)

    if (terms.weights == 0).any():
        return verdict(False, "a component is zero")
    if rank == 1:
        return verdict(True, "a single component has no other form")
    if order < 3:
        return verdict(False, "a matrix of rank above one is a sum of rank-one terms in infinitely many ways")
    if total >= needed:
        return verdict(True, f"the k-ranks add up to {total}, at least the {needed} of Kruskal's condition")
    pair = _parallel(terms, small)
    if pair is not None:
        return verdict(False, f"components {pair[0] + 1} and {pair[1] + 1} are parallel in all modes but two")
    dependent = _dependent(terms, small)
    if dependent is not None:
        return verdict(False, f"the components are dependent in all modes but {dependent}")
    return verdict(None, f"the k-ranks add up to {total}, below the {needed} of Kruskal's condition")


def _k_rank(factor: Tensor, tol: float) -> int:
    rank = factor.shape[1]
    square = torch.linalg.qr(factor).R  # all that matters of columns is their angles
    for k in range(1, rank + 1):
        if k > factor.shape[0]:
            return k - 1
        sets = torch.tensor(list(combinations(range(rank), k)), device=factor.device)
        chosen = square.T[sets]
        if float(torch.linalg.svdvals(chosen)[:, -1].min()) <= tol:
            return k - 1
    return rank


def _k_rank_bound(factor: Tensor, tol: float) -> int:
    """Full where all columns are independent, else one over the largest cosine."""
    rank = factor.shape[1]
    if factor.shape[0] >= rank and float(torch.linalg.svdvals(factor)[-1]) > tol:
        return rank
    gram = (factor.mH @ factor).abs()
    if float(gram.diagonal().min()) == 0:
        return 0
    cosine = float((gram - torch.diag(gram.diagonal())).max())
    if cosine * cosine >= 1 - tol * tol:
        return 1
    return min(rank, factor.shape[0], math.ceil(1 / cosine - 1e-9) if cosine > 0 else rank)


def _parallel(terms: Terms, tol: float) -> tuple[int, int] | None:
    """Two components whose columns are parallel in at least all modes but two."""
    parallel = torch.zeros(terms.rank, terms.rank, dtype=torch.int64, device=terms.weights.device)
    for factor in terms.factors.values():
        # For columns of norm one sin^2 = 1 - cos^2, which has half the digits; so the distance from the line itself.
        gram = factor.mH @ factor
        for k in range(terms.rank):
            away = torch.linalg.vector_norm(factor - factor[:, k : k + 1] * gram[k], dim=0)
            parallel[k] += away <= tol
    parallel.fill_diagonal_(0)
    found = (parallel >= len(terms.factors) - 2).nonzero()
    return (int(found[0, 0]), int(found[0, 1])) if len(found) else None


def _dependent(terms: Terms, tol: float) -> str | None:
    """A mode without which the components, as vectors of all others, are linearly dependent."""
    for left_out in terms.factors:
        gram = torch.ones(terms.rank, terms.rank, dtype=torch.float64, device=terms.weights.device)
        for name, factor in terms.factors.items():
            if name != left_out:
                gram = gram * (factor.mH @ factor)
        # A Gram matrix has the squares of singular values.
        if float(torch.linalg.eigvalsh(gram)[0]) <= max(tol * tol, 1e-15 * terms.rank):
            return left_out
    return None
