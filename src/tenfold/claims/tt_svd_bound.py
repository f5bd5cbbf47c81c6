"""TT-SVD is within sqrt(d - 1) of the best tensor train of its ranks."""

from __future__ import annotations

import math

import torch

from tenfold import formats
from tenfold.claims._quasi_optimal import Case, Cases
from tenfold.claims._registry import Measurement, claim
from tenfold.claims._tensors import residual, some_rank, tail, varied
from tenfold.decomposition import find


@claim(
    "tt_svd_bound",
    paper="Tensor-train decomposition",
    year=2011,
    where="Theorem 2.2 and Corollary 2.4",
    stated=(
        "The error of TT-SVD is at most the root of the summed squared errors of the best low-rank approximations of "
        "the d - 1 unfoldings, and so at most sqrt(d - 1) times that of the best tensor train with the same ranks."
    ),
)
def tt_svd_bound(*, seed: int = 0, tensors: int = 64, sweeps: int = 5) -> Measurement:
    """Measure both bounds on random, smooth and real tensors with random ranks.

    Holds if no error exceeds the root of the summed tails, nor sqrt(d - 1) times the largest tail (the best error is at
    least that), but for one part in 10^9 and 10^-12 of the norm. The best train known is the one that alternating least
    squares makes of the result; its error is an upper limit of the best.
    """
    generator = torch.Generator().manual_seed(seed)
    cases = Cases()
    for kind, tensor in varied(seed, random=tensors):
        order = tensor.ndim
        limits = [
            min(math.prod(tensor.shape[: bond + 1]), math.prod(tensor.shape[bond + 1 :])) for bond in range(order - 1)
        ]
        ranks = [some_rank(limit, generator) for limit in limits]
        structure = formats.tensor_train(tensor.shape, ranks)
        tails = tuple(tail(tensor, range(bond + 1), rank) for bond, rank in enumerate(ranks))
        found = find("tree_svd").function(tensor, structure).network
        refined = find("als").function(tensor, structure, init=found, max_sweeps=sweeps, tol=0.0).network
        error = residual(tensor, found)
        least = min(error, residual(tensor, refined))
        cases.found.append(Case(kind, float(tensor.norm()), error, tails, least, math.sqrt(order - 1)))
    return cases.measurement("alternating least squares")
