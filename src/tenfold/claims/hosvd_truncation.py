"""Truncating the higher-order SVD loses at most the sum of what each mode's truncation loses."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from tenfold import formats
from tenfold.claims._quasi_optimal import Case, Cases
from tenfold.claims._registry import Measurement, claim
from tenfold.claims._tensors import residual, some_rank, tail, varied
from tenfold.decomposition import find
from tenfold.network import Network


@claim(
    "hosvd_truncation",
    paper="A multilinear singular value decomposition",
    year=2000,
    where="Property 10",
    stated=(
        "Dropping the smallest n-mode singular values of every mode at once costs a squared error of at most the sum "
        "of all the squares dropped."
    ),
)
def hosvd_truncation(*, seed: int = 0, tensors: int = 64, sweeps: int = 5) -> Measurement:
    """Project random, smooth and real tensors on the leading singular vectors of all unfoldings of the tensor itself.

    Holds if no error exceeds the root of the summed tails, nor sqrt(N) times the largest tail (which follows), but for
    one part in 10^9 and 10^-12 of the norm. The best approximation known is the one that higher-order orthogonal
    iteration makes of the result.
    """
    generator = torch.Generator().manual_seed(seed + 2)
    cases = Cases()
    for kind, tensor in varied(seed, random=tensors):
        limits = [min(extent, tensor.numel() // extent) for extent in tensor.shape]
        ranks = [some_rank(limit, generator) for limit in limits]
        tails = tuple(tail(tensor, [mode], rank) for mode, rank in enumerate(ranks))
        found = truncated_hosvd(tensor, ranks)
        refined = find("hooi").function(tensor, found.structure, init=found, max_sweeps=sweeps, tol=0.0).network
        error = residual(tensor, found)
        least = min(error, residual(tensor, refined))
        cases.found.append(Case(kind, float(tensor.norm()), error, tails, least, math.sqrt(tensor.ndim)))
    return cases.measurement("higher-order orthogonal iteration")


def truncated_hosvd(tensor: Tensor, ranks: list[int]) -> Network:
    """The classical truncation: every basis from the whole tensor, then one projection on all of them."""
    core, bases = tensor, []
    for mode, rank in enumerate(ranks):
        unfolding = tensor.movedim(mode, 0).flatten(1)
        basis = torch.linalg.svd(unfolding, full_matrices=False).U[:, :rank]
        core = torch.tensordot(core, basis, dims=([mode], [0])).movedim(-1, mode)
        bases.append(basis)
    return Network(formats.tucker(tensor.shape, ranks), [core, *bases])
