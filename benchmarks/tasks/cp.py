"""CP by alternating least squares: equal sweeps from one start, and the two large products alone."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch

from benchmarks import data, peers
from benchmarks.harness import Case, Contender
from tenfold import formats
from tenfold.decomposition import blas, find
from tenfold.network import Network
from tenfold.structure import Structure

TITLE = "CP by alternating least squares, 8 sweeps from one start"
SWEEPS = 8


def cases(smoke: bool) -> Iterator[Case]:
    """A start near the planted factors, from which all arrive. A tenfold that stops before the last sweep fails."""
    sizes = ((20, 3, 5), (50, 3, 10), (100, 3, 10), (200, 3, 10), (200, 3, 50), (40, 4, 10), (50, 4, 10))
    for extent, order, rank in ((15, 3, 3),) if smoke else sizes:
        structure = formats.cp([extent] * order, rank)
        tensor, network = data.planted(structure)
        start = data.nearby(network)

        def own(tensor=tensor, structure=structure, start=start):
            found = find("cp_als").function(tensor, structure, init=start, max_sweeps=SWEEPS, tol=0.0)
            if found.sweeps != SWEEPS:
                raise RuntimeError(f"stopped ({found.stopped}) after {found.sweeps} of {SWEEPS} sweeps")
            return found

        yield Case(
            f"{extent}^{order}, rank {rank}",
            extent**order,
            [
                Contender("tenfold cp_als", own, peers.dense_error(tensor, lambda found: found.network.dense())),
                _floor(tensor, rank),
                *others(tensor, structure, start, SWEEPS),
            ],
            flops=4.0 * extent**order * rank * SWEEPS,
        )


def _floor(tensor: torch.Tensor, rank: int) -> Contender:
    """What no sweep of two products can beat: those alone, by the BLAS that tenfold chose."""
    order = tensor.ndim
    split = min(range(1, order), key=lambda s: abs(math.prod(tensor.shape[:s]) - math.prod(tensor.shape[s:])))
    matrix = tensor.reshape(math.prod(tensor.shape[:split]), -1)
    short, long = (torch.ones(rank, extent, dtype=tensor.dtype) for extent in matrix.shape)
    provider = blas(tensor.dtype).provider
    work = [part.numpy() if provider == "numpy" else part for part in (matrix, short, long)]

    def run() -> None:
        whole, left, right = work
        for _ in range(SWEEPS):
            right @ whole.T
            left @ whole

    return Contender(f"the two products alone ({provider})", run)


def others(tensor: torch.Tensor, structure: Structure, start: Network, sweeps: int) -> list[Contender]:
    """TensorLy and pyttb with so many plain sweeps from one start."""
    factors = [core.numpy() for core in start.cores]
    rank = factors[0].shape[1]

    def parafac(tl, x):
        held = [tl.tensor(factor.copy()) for factor in factors]
        first = tl.cp_tensor.CPTensor((tl.ones(rank, **tl.context(held[0])), held))
        return tl.decomposition.parafac(x, rank, n_iter_max=sweeps, init=first, tol=0)

    def dense(tl, result):
        return tl.cp_to_tensor(result)

    def cp_als(ttb, x):
        first = ttb.ktensor([factor.copy() for factor in factors])
        return ttb.cp_als(x, rank, stoptol=0, maxiters=sweeps, init=first, printitn=0)

    return [
        *peers.tensorly("parafac", tensor, parafac, dense),
        *peers.pyttb("cp_als", tensor, cp_als, lambda found: found[0].full().data),
    ]
