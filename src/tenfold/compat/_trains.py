"""Tensor trains for scripts: ranks as large as they can be used."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from tenfold import formats
from tenfold.compat import _ranks
from tenfold.compat._common import check_svd
from tenfold.decomposition import find


def cores(data: Tensor, rank: Any, svd: str, verbose: int | bool) -> list[Tensor]:
    """The cores of a train, (rank, mode, rank), with ranks as large as they can be used."""
    check_svd(svd)
    ranks, shape = _ranks.train(data.shape, rank), data.shape
    if data.ndim == 1:
        return [data.reshape(1, -1, 1)]
    rest = data.numel()
    for bond in range(1, data.ndim):
        rest //= shape[bond - 1]
        ranks[bond] = min(ranks[bond], ranks[bond - 1] * shape[bond - 1], rest)
    network = find("tree_svd").function(data, formats.tensor_train(shape, ranks[1:-1])).network
    cores = [core.reshape(ranks[k], shape[k], ranks[k + 1]) for k, core in enumerate(network.cores)]
    if verbose:
        for place, core in enumerate(cores):
            print(f"core {place}: {tuple(core.shape)}")
    return cores
