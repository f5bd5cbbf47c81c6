"""Tensor ring by alternating least squares."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from benchmarks import data, peers
from benchmarks.harness import Case, Contender
from tenfold import formats
from tenfold.decomposition import find
from tenfold.network import Network
from tenfold.structure import Structure

TITLE = "Tensor ring of given ranks, from one random start until a sweep changes the error by less than 1e-6"
SWEEPS = 1000
TOLERANCE = 1e-6
SEED = 0


def cases(smoke: bool) -> Iterator[Case]:
    """Planted ranks. TensorLy takes no start but a seed, so its start is drawn first and given to tenfold; it solves
    normal equations, as tenfold does. Both stop by themselves: tenfold accelerates and needs fewer sweeps, so equal
    numbers of sweeps would compare different work.

    Its ring by singular values is listed too; another algorithm, whose error is its own.
    """
    for extent, order, rank in ((8, 3, 2),) if smoke else ((30, 3, 3), (60, 3, 3), (120, 3, 3), (20, 4, 3)):
        structure = formats.tensor_ring([extent] * order, [rank] * order)
        tensor, _ = data.planted(structure)
        ranks = [rank] * (order + 1)
        start = _start(structure, ranks)

        def own(tensor=tensor, structure=structure, start=start):
            return find("tensor_ring_als").function(tensor, structure, init=start, max_sweeps=SWEEPS, tol=TOLERANCE)

        def alternating(tl, x, ranks=ranks):
            return tl.decomposition.tensor_ring_als(
                x, list(ranks), ls_solve="normal_eq", n_iter_max=SWEEPS, tol=TOLERANCE, random_state=SEED
            )

        def sequential(tl, x, ranks=ranks):
            return tl.decomposition.tensor_ring(x, list(ranks))

        def dense(tl, result):
            return tl.tr_to_tensor(result)

        yield Case(
            f"{extent}^{order}, ranks {rank}",
            extent**order,
            [
                Contender(
                    "tenfold tensor_ring_als", own, peers.dense_error(tensor, lambda found: found.network.dense())
                ),
                *peers.tensorly("tensor_ring_als", tensor, alternating, dense),
                *peers.tensorly("tensor_ring", tensor, sequential, dense),
            ],
        )


def _start(structure: Structure, ranks: list[int]) -> Network:
    """The cores that TensorLy draws for its seed; any others where it is absent."""
    module, _ = peers.load("tensorly")
    if module is None:
        return Network.random(structure, seed=SEED)
    drawn = module.random.random_tr(structure.shape, ranks, random_state=module.check_random_state(SEED))
    return Network(structure, [torch.from_numpy(core) for core in drawn])
