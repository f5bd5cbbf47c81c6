"""CP of sparse arrays by alternating least squares: equal sweeps from one start."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from benchmarks import peers
from benchmarks.data import NOISE, nearby
from benchmarks.harness import Case, Contender
from tenfold import formats
from tenfold.decomposition import find, relative_error
from tenfold.network import Network
from tenfold.observations import Observations
from tenfold.structure import Structure

TITLE = "CP of sparse arrays, 3 sweeps from one start"
SWEEPS = 3


def planted(structure: Structure, used: int, seed: int = 0) -> tuple[Observations, Network]:
    """Terms whose vectors have so many positive entries, with 10 % noise on what is listed; and those terms."""
    generator = torch.Generator().manual_seed(seed)
    (r,) = structure.inner_indices
    factors = [torch.zeros(n, structure.sizes[r], dtype=torch.float64) for n in structure.shape]
    cells, values = [], []
    for term in range(structure.sizes[r]):
        places = [torch.randperm(len(factor), generator=generator)[:used] for factor in factors]
        vectors = []
        for factor, place in zip(factors, places, strict=True):
            vectors.append(0.5 + torch.rand(len(place), generator=generator, dtype=torch.float64))
            factor[place, term] = vectors[-1]
        cells.append(torch.cartesian_prod(*places))
        values.append(torch.cartesian_prod(*vectors).prod(1))
    y = torch.cat(values)
    y = y * (1 + NOISE * torch.randn(len(y), generator=generator, dtype=torch.float64))
    data = Observations.from_coo(torch.cat(cells), y, structure.shape, rest="zero", duplicates="sum")
    return data, Network(structure, factors)


def cases(smoke: bool) -> Iterator[Case]:
    """A start near the planted factors. Reading, sorting and the true error at the end are part of tenfold's time."""
    sizes: Sequence[tuple[tuple[int, ...], int, int]] = (
        (((30, 40, 50), 3, 5),) if smoke else (((1000, 1000, 1000), 10, 46), ((20_000, 10_000, 5_000), 10, 46))
    )
    for shape, rank, used in sizes:
        structure = formats.cp(shape, rank)
        data, network = planted(structure, used)
        # Rows of indices that no cell has are zero in every solution, and in the start.
        used_rows = [(core != 0).any(1, keepdim=True) for core in network.cores]
        noisy = zip(nearby(network).cores, used_rows, strict=True)
        start = network.replace([core * rows for core, rows in noisy])

        def own(data=data, structure=structure, start=start):
            found = find("cp_als_sparse").function(data, structure, init=start, max_sweeps=SWEEPS, tol=0.0)
            if found.sweeps != SWEEPS:
                raise RuntimeError(f"stopped ({found.stopped}) after {found.sweeps} of {SWEEPS} sweeps")
            return found

        yield Case(
            f"{' x '.join(map(str, shape))}, {len(data):,} listed, rank {rank}",
            0,
            [Contender("tenfold cp_als_sparse", own, lambda found: found.error), _pyttb(data, structure, start)],
        )


def _pyttb(data: Observations, structure: Structure, start: Network) -> Contender:
    module, _ = peers.load("pyttb")
    held, missing = peers.sptensor(data.coordinates, data.values, structure.shape)
    (r,) = structure.inner_indices

    def run() -> Any:
        assert module is not None
        first = module.ktensor([core.numpy().copy() for core in start.cores])
        with contextlib.redirect_stdout(io.StringIO()):
            found = module.cp_als(held, structure.sizes[r], stoptol=0, maxiters=SWEEPS, init=first, printitn=0)
        return found[0]

    def error(found: Any) -> float:
        factors: list[Tensor] = [torch.from_numpy(factor.copy()) for factor in found.factor_matrices]
        factors[0] = factors[0] * torch.from_numpy(found.weights)
        return relative_error(data, Network(structure, factors))

    return Contender("pyttb cp_als", run, error, missing)
