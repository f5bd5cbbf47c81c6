"""ST-HOSVD is within sqrt(N) of the best Tucker approximation of its ranks."""

from __future__ import annotations

import math

import torch

from tenfold import formats
from tenfold.claims._quasi_optimal import Case, Cases
from tenfold.claims._registry import Measurement, claim
from tenfold.claims._tensors import residual, some_rank, tail, varied
from tenfold.decomposition import find


@claim(
    "st_hosvd_bound",
    paper="A new truncation strategy for the higher-order singular value decomposition",
    year=2012,
    where="Theorem 6.5",
    stated=(
        "The error of the sequentially truncated HOSVD is at most the root of the summed squared tails of all "
        "unfoldings, and so at most sqrt(N) times that of the best Tucker approximation of the same multilinear rank."
    ),
)
def st_hosvd_bound(*, seed: int = 0, tensors: int = 64, sweeps: int = 5) -> Measurement:
    """Measure both bounds on random, smooth and real tensors with random ranks.

    Holds if no error exceeds the root of the summed tails, nor sqrt(N) times the largest tail (the best error is at
    least that), but for one part in 10^9 and 10^-12 of the norm. The best approximation known is the one that
    higher-order orthogonal iteration makes of the result; its error is an upper limit of the best.
    """
    generator = torch.Generator().manual_seed(seed + 1)
    cases = Cases()
    for kind, tensor in varied(seed, random=tensors):
        limits = [min(extent, tensor.numel() // extent) for extent in tensor.shape]
        ranks = [some_rank(limit, generator) for limit in limits]
        structure = formats.tucker(tensor.shape, ranks)
        tails = tuple(tail(tensor, [mode], rank) for mode, rank in enumerate(ranks))
        found = find("tree_svd").function(tensor, structure).network
        refined = find("hooi").function(tensor, structure, init=found, max_sweeps=sweeps, tol=0.0).network
        error = residual(tensor, found)
        least = min(error, residual(tensor, refined))
        cases.found.append(Case(kind, float(tensor.norm()), error, tails, least, math.sqrt(tensor.ndim)))
    return cases.measurement("higher-order orthogonal iteration")
