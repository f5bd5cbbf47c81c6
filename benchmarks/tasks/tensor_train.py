"""TT-SVD."""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks import data, peers
from benchmarks.harness import Case, Contender
from tenfold import formats
from tenfold.decomposition import find

TITLE = "Tensor train of given ranks"


def cases(smoke: bool) -> Iterator[Case]:
    """Planted ranks, few long modes and many short ones, from a quarter of a million entries to sixteen. pyttb has no
    tensor trains.

    From the left and from the right one arrives at different trains, both good ones: hence the looser agreement.
    """
    large = ((64, 3, 10, False), (16, 5, 10, False), (64, 4, 10, False), (16, 6, 10, False), (16, 6, 32, False))
    for extent, order, rank, single in ((4, 5, 3, False),) if smoke else (*large, (16, 6, 10, True)):
        structure = formats.tensor_train([extent] * order, rank)
        tensor, _ = data.planted(structure)
        if single:
            tensor = tensor.float()
        ranks = [1, *(structure.sizes[bond] for bond in structure.inner_indices), 1]

        def own(tensor=tensor, structure=structure):
            return find("tree_svd").function(tensor, structure)

        def exact(tl, x, ranks=ranks):
            return tl.decomposition.tensor_train(x, rank=list(ranks), svd="truncated_svd")

        def randomized(tl, x, ranks=ranks):
            return tl.decomposition.tensor_train(x, rank=list(ranks), svd="randomized_svd", random_state=0)

        def truncated(tt, x, rank=rank):
            return tt.TT(x, eps=1e-14, rmax=rank)

        def by_gram(tn, x, rank=rank):
            return tn.Tensor(x, ranks_tt=rank, algorithm="eig")

        def dense(tl, result):
            return tl.tt_to_tensor(result)

        def steps(extent=extent, order=order, rank=rank):
            entries, left = float(extent**order), 1
            for _ in range(order - 1):
                rows = left * extent
                yield rows * entries + 2 * rank * entries
                entries, left = entries / rows * rank, rank

        yield Case(
            f"{extent}^{order}, ranks {rank}" + (", float32" if single else ""),
            0 if single or rank == 32 else extent**order,
            [
                Contender("tenfold tree_svd", own, peers.dense_error(tensor, lambda found: found.network.dense())),
                *peers.tensorly("tensor_train, truncated_svd", tensor, exact, dense),
                *peers.tensorly("tensor_train, randomized_svd", tensor, randomized, dense),
                *peers.torchtt("TT", tensor, truncated),
                *peers.tntorch("Tensor, ranks_tt, eig", tensor, by_gram),
            ],
            agreement=1e-2,
            flops=sum(steps()),
        )
