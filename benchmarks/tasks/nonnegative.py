"""Nonnegative decompositions: equal sweeps from one start, and counts fitted to the end."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks import data, peers
from benchmarks.harness import Case, Contender
from tenfold import formats
from tenfold.decomposition import find
from tenfold.decomposition.cp_poisson import poisson_deviance
from tenfold.network import Network
from tenfold.structure import Structure

TITLE = "Nonnegative CP and Tucker, 10 sweeps from one start; CP of counts to the end"
SWEEPS = 10


def cases(smoke: bool) -> Iterator[Case]:
    """The starts are near the planted factors. Sweeps are not the same in all libraries (how often each vector is
    updated, what is accelerated), so errors may differ by a few hundredths where none has converged."""
    for extent, order in ((12, 3),) if smoke else ((100, 3), (200, 3), (50, 4)):
        yield _hals(extent, order, 3 if smoke else 10)
    for extent, rank in ((12, 2),) if smoke else ((100, 8), (200, 10)):
        yield _tucker(extent, rank)
    for extent, total in ((10, 4_000),) if smoke else ((60, 30_000), (60, 1_000_000)):
        yield _poisson(extent, total, 1 if smoke else 5)


def _planted(structure: Structure) -> tuple[Tensor, Network]:
    """Uniform cores and their network with noise; a start nearby."""
    generator = torch.Generator().manual_seed(0)
    network = Network(structure, [torch.rand(c.shape, generator=generator).double() for c in structure.cores])
    signal = network.dense()
    noise = torch.randn(signal.shape, generator=generator, dtype=signal.dtype)
    start = data.nearby(network)
    return (
        signal + data.NOISE * float(signal.norm() / noise.norm()) * noise,
        start.replace([core.clamp(min=0) for core in start.cores]),
    )


def _own(method: str, tensor: Tensor, start: Network) -> Contender:
    def run() -> Any:
        found = find(method).function(tensor, start.structure, init=start, max_sweeps=SWEEPS, tol=0.0)
        if found.sweeps != SWEEPS:
            raise RuntimeError(f"stopped ({found.stopped}) after {found.sweeps} of {SWEEPS} sweeps")
        return found

    return Contender(f"tenfold {method}", run, peers.dense_error(tensor, lambda found: found.network.dense()))


def _hals(extent: int, order: int, rank: int) -> Case:
    tensor, start = _planted(formats.cp([extent] * order, rank))
    factors = [core.numpy() for core in start.cores]

    def hals(tl: Any, x: Any) -> Any:
        held = [tl.tensor(factor.copy()) for factor in factors]
        first = tl.cp_tensor.CPTensor((tl.ones(rank, **tl.context(held[0])), held))
        return tl.decomposition.non_negative_parafac_hals(x, rank, n_iter_max=SWEEPS, init=first, tol=0)

    return Case(
        f"HALS {extent}^{order}, rank {rank}",
        extent**order,
        [
            _own("cp_hals", tensor, start),
            *peers.tensorly("non_negative_parafac_hals", tensor, hals, lambda tl, found: tl.cp_to_tensor(found)),
        ],
        agreement=0.05,
        flops=4.0 * extent**order * rank * SWEEPS,
    )


def _tucker(extent: int, rank: int) -> Case:
    tensor, start = _planted(formats.tucker([extent] * 3, rank))
    cores = [core.numpy() for core in start.cores]

    def hals(tl: Any, x: Any) -> Any:
        core, *factors = [tl.tensor(core.copy()) for core in cores]
        first = tl.tucker_tensor.TuckerTensor((core, factors))
        return tl.decomposition.non_negative_tucker_hals(x, [rank] * 3, n_iter_max=SWEEPS, init=first, tol=0)

    return Case(
        f"Tucker {extent}^3, ranks {rank}",
        0,
        [
            _own("nonnegative_tucker", tensor, start),
            *peers.tensorly("non_negative_tucker_hals", tensor, hals, lambda tl, found: tl.tucker_to_tensor(found)),
        ],
        agreement=0.05,
    )


def _poisson(extent: int, total: int, rank: int) -> Case:
    """Each from its own start to its own end, pyttb's after at most 100 iterations.

    What is compared is the root of the divergence for each count."""
    random = np.random.default_rng(0)
    structure = formats.cp([extent] * 3, rank)
    means = Network(structure, [torch.from_numpy(random.gamma(0.4, size=(extent, rank))) for _ in range(3)]).dense()
    counts = torch.from_numpy(random.poisson((means * (total / means.sum())).numpy()).astype(float))

    def divergence(network: Callable[[Any], Network]) -> Callable[[Any], float]:
        return lambda found: math.sqrt(poisson_deviance(counts, network(found)) / (2 * total))

    def as_network(found: Any) -> Network:
        model = found[0]
        factors = [torch.from_numpy(np.ascontiguousarray(factor)) for factor in model.factor_matrices]
        return Network(structure, [factors[0] * torch.from_numpy(model.weights), *factors[1:]])

    def cp_apr(ttb: Any, x: Any) -> Any:
        np.random.seed(0)  # noqa: NPY002
        return ttb.cp_apr(x.to_sptensor(), rank, maxiters=100, printitn=0)

    (peer,) = peers.pyttb("cp_apr", counts, cp_apr, lambda found: found[0].full().data)
    return Case(
        f"counts {extent}^3, {int((counts > 0).sum()):,} cells above zero, rank {rank}",
        0,
        [
            Contender(
                "tenfold cp_poisson",
                lambda: find("cp_poisson").function(counts, structure),
                divergence(lambda found: found.network),
            ),
            replace(peer, error=divergence(as_network)),
        ],
        agreement=0.01,
    )
