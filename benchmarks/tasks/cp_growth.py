"""How the time of CP grows with the tensor, over two decades of entries."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from benchmarks import data, peers
from benchmarks.harness import Case, Contender
from benchmarks.tasks.cp import others
from tenfold import formats
from tenfold.decomposition import find
from tenfold.network import Network

TITLE = "CP of rank 10 from data to factors, starts and all; peers 50 sweeps from one random start"
SWEEPS = 50


def cases(smoke: bool) -> Iterator[Case]:
    """Entries from 10^5 to 10^7. A peer that ends in a worse minimum has no ratio, but its growth."""
    for extent in (12, 20) if smoke else (46, 100, 215):
        structure = formats.cp([extent] * 3, 3 if smoke else 10)
        tensor, _ = data.planted(structure)
        start = Network.random(structure, seed=11, dtype=torch.float64)

        def own(tensor=tensor, structure=structure):
            return find("cp_als").function(tensor, structure)

        yield Case(
            f"{extent}^3",
            extent**3,
            [
                Contender("tenfold cp_als", own, peers.dense_error(tensor, lambda found: found.network.dense())),
                *others(tensor, structure, start, SWEEPS),
            ],
        )
