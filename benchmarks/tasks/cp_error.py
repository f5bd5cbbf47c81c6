"""CP to the error that 200 plain sweeps reach, by way of a compression."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from benchmarks import data, peers
from benchmarks.harness import Case, Contender
from benchmarks.tasks.cp import others
from tenfold import formats
from tenfold.decomposition import find
from tenfold.network import Network

TITLE = "CP to the error that 200 plain sweeps reach, from one random start"
SWEEPS, FEW = 200, 20


def cases(smoke: bool) -> Iterator[Case]:
    """Peers make their 200 sweeps on the whole tensor, tenfold as many as it needs on the core, then on the whole."""
    sweeps = FEW if smoke else SWEEPS
    for extent, rank in ((20, 3),) if smoke else ((100, 10), (200, 10)):
        structure = formats.cp([extent] * 3, rank)
        tensor, _ = data.planted(structure)
        start = Network.random(structure, seed=11, dtype=torch.float64)

        def own(tensor=tensor, structure=structure, start=start):
            return find("cp_als").function(tensor, structure, init=start, max_sweeps=sweeps, compress=True)

        yield Case(
            f"{extent}^3, rank {rank}",
            extent**3,
            [
                Contender("tenfold cp_als", own, peers.dense_error(tensor, lambda found: found.network.dense())),
                *others(tensor, structure, start, sweeps),
            ],
        )
