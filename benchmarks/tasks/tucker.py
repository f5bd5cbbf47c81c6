"""Truncated higher-order SVD."""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks import data, peers
from benchmarks.harness import Case, Contender
from tenfold import formats
from tenfold.decomposition import find

TITLE = "Tucker of given ranks"


def cases(smoke: bool) -> Iterator[Case]:
    """Planted ranks. TensorLy starts from singular vectors and makes no sweep, with its faster SVD; pyttb truncates
    sequentially, or makes one sweep of its alternating method; tntorch takes Gram matrices. Rows in single precision
    leave out pyttb, which computes in double precision whatever it is given."""
    sizes = ((20, 4, False),) if smoke else ((50, 5, False), (100, 10, False), (200, 20, False), (400, 20, False))
    for extent, rank, single in sizes if smoke else (*sizes, (200, 20, True)):
        structure = formats.tucker([extent] * 3, rank)
        tensor, _ = data.planted(structure)
        if single:
            tensor = tensor.float()
        ranks = [rank] * 3

        def own(tensor=tensor, structure=structure):
            return find("tree_svd").function(tensor, structure)

        def randomized(tl, x, ranks=ranks):
            return tl.decomposition.tucker(
                x, rank=ranks, init="svd", svd="randomized_svd", n_iter_max=0, tol=0, random_state=0
            )

        def dense(tl, result):
            return tl.tucker_to_tensor(result)

        def hosvd(ttb, x, ranks=ranks):
            return ttb.hosvd(x, tol=1e-9, verbosity=0, ranks=ranks, sequential=True)

        def alternating(ttb, x, rank=rank):
            return ttb.tucker_als(x, rank, maxiters=1, init="nvecs", printitn=0)

        def by_gram(tn, x, rank=rank):
            return tn.Tensor(x, ranks_tucker=rank, algorithm="eig")

        def steps(extent=extent, rank=rank):
            entries = float(extent**3)
            for _ in range(3):
                yield extent * entries + 2 * rank * entries
                entries *= rank / extent

        yield Case(
            f"{extent}^3, ranks {rank}" + (", float32" if single else ""),
            0 if single else extent**3,
            [
                Contender("tenfold tree_svd", own, peers.dense_error(tensor, lambda found: found.network.dense())),
                *peers.tensorly("tucker, randomized_svd", tensor, randomized, dense),
                *([] if single else peers.pyttb("hosvd", tensor, hosvd, lambda found: found.full().data)),
                *([] if single else peers.pyttb("tucker_als", tensor, alternating, lambda found: found[0].full().data)),
                *peers.tntorch("Tensor, ranks_tucker, eig", tensor, by_gram),
            ],
            flops=sum(steps()),
        )
