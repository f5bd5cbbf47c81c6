"""CP by alternating least squares: equal sweeps from one start."""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks import data, peers
from benchmarks.harness import Case, Contender
from tenfold import formats
from tenfold.decomposition import find

TITLE = "CP by alternating least squares, 8 sweeps from one start"
SWEEPS = 8


def cases(smoke: bool) -> Iterator[Case]:
    """A start near the planted factors, from which all arrive. A tenfold that stops before the last sweep fails."""
    for extent, order, rank in ((15, 3, 3),) if smoke else ((50, 3, 10), (100, 3, 10), (200, 3, 10), (40, 4, 10)):
        structure = formats.cp([extent] * order, rank)
        tensor, network = data.planted(structure)
        start = data.nearby(network)
        factors = [core.numpy() for core in start.cores]

        def own(tensor=tensor, structure=structure, start=start):
            found = find("cp_als").function(tensor, structure, init=start, max_sweeps=SWEEPS, tol=0.0)
            if found.sweeps != SWEEPS:
                raise RuntimeError(f"stopped ({found.stopped}) after {found.sweeps} of {SWEEPS} sweeps")
            return found

        def parafac(tl, x, factors=factors, rank=rank):
            held = [tl.tensor(factor.copy()) for factor in factors]
            first = tl.cp_tensor.CPTensor((tl.ones(rank, **tl.context(held[0])), held))
            return tl.decomposition.parafac(x, rank, n_iter_max=SWEEPS, init=first, tol=0)

        def dense(tl, result):
            return tl.cp_to_tensor(result)

        def cp_als(ttb, x, factors=factors, rank=rank):
            first = ttb.ktensor([factor.copy() for factor in factors])
            return ttb.cp_als(x, rank, stoptol=0, maxiters=SWEEPS, init=first, printitn=0)

        yield Case(
            f"{extent}^{order}, rank {rank}",
            extent**order,
            [
                Contender("tenfold cp_als", own, peers.dense_error(tensor, lambda found: found.network.dense())),
                *peers.tensorly("parafac", tensor, parafac, dense),
                *peers.pyttb("cp_als", tensor, cp_als, lambda found: found[0].full().data),
            ],
            flops=4.0 * extent**order * rank * SWEEPS,
        )
