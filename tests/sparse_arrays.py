"""Sparse arrays that tests fit: sums of terms with sparse vectors, and noise."""

from __future__ import annotations

import torch

from tenfold.network import Network
from tenfold.observations import Observations


def planted(shape, rank, entries, dtype=torch.float64, seed=0):
    """A sum of terms whose vectors have a few positive (or complex) entries each, as a sparse array."""
    generator = torch.Generator().manual_seed(seed)
    cells, values = [], []
    for _ in range(rank):
        places = [torch.randint(0, n, (entries,), generator=generator).unique() for n in shape]
        vectors = [(0.2 + torch.rand(len(p), generator=generator)).to(dtype) for p in places]
        if dtype.is_complex:
            vectors = [v * torch.exp(6.28j * torch.rand(len(v), generator=generator)).to(dtype) for v in vectors]
        grid = torch.meshgrid(*places, indexing="ij")
        value = vectors[0]
        for vector in vectors[1:]:
            value = value[..., None] * vector
        cells.append(torch.stack([axis.reshape(-1) for axis in grid], 1))
        values.append(value.reshape(-1))
    return Observations.from_coo(torch.cat(cells), torch.cat(values), shape, rest="zero", duplicates="sum")


def noise(shape, count, dtype=torch.float64, seed=0):
    generator = torch.Generator().manual_seed(seed)
    cells = torch.stack([torch.randint(0, n, (count,), generator=generator) for n in shape], 1)
    values = torch.randn(count, generator=generator, dtype=dtype)
    return Observations.from_coo(cells, values, shape, rest="zero", duplicates="sum")


def true_error(data: Observations, network: Network) -> float:
    dense = data.dense()
    return float(torch.linalg.vector_norm(dense - network.dense()) / torch.linalg.vector_norm(dense))
