"""PARAFAC2 of planted slices with noise."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch

from benchmarks import peers
from benchmarks.harness import Case, Contender
from tenfold.decomposition import parafac2

TITLE = "PARAFAC2 of slices with 10% noise, to the end"
# Rows of the slices, columns, rank.
SIZES = (((10, 12, 9, 11), 8, 2),)
FULL = (
    (tuple(15 + 3 * n % 10 for n in range(25)), 30, 3),
    (tuple(100 + 7 * n % 50 for n in range(40)), 100, 5),
    (tuple(40 + 5 * n % 20 for n in range(100)), 400, 8),
)


def cases(smoke: bool) -> Iterator[Case]:
    """Both start from singular vectors and stop as they do by default, the peer after 500 sweeps at most."""
    most = 20 if smoke else 500
    for heights, columns, rank in SIZES if smoke else FULL:
        slices = _noisy(heights, columns, rank)
        entries = columns * sum(heights)
        data = torch.cat(slices)

        def fit(tl, x, heights=heights, rank=rank):
            parts, first = [], 0
            for height in heights:
                parts.append(x[first : first + height])
                first += height
            return tl.decomposition.parafac2(parts, rank, init="svd", n_iter_max=most)

        def dense(tl, result):
            return tl.concatenate(tl.parafac2_tensor.parafac2_to_slices(result))

        yield Case(
            f"{len(heights)} slices of about {min(heights)} x {columns}, rank {rank}",
            entries,
            [
                Contender(
                    "tenfold parafac2",
                    lambda slices=slices, rank=rank: parafac2(slices, rank, init="svd", max_sweeps=most),
                    peers.dense_error(data, lambda found: torch.cat(found.slices())),
                ),
                *peers.tensorly("parafac2", data, fit, dense),
            ],
            agreement=1e-2,
        )


def _noisy(heights: tuple[int, ...], columns: int, rank: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    base, shared = draw(rank, rank), draw(columns, rank)
    slices = []
    for height in heights:
        exact = (torch.linalg.qr(draw(height, rank)).Q @ base * (draw(rank).abs() + 0.2)) @ shared.T
        slices.append(exact + 0.1 * exact.norm() / math.sqrt(exact.numel()) * draw(height, columns))
    return slices
