"""Core shapes of Tucker within a number of parameters: exact, integer programs, greedy, and greedy by true errors."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.data import planted
from benchmarks.harness import Case, Contender
from tenfold import formats
from tenfold.decomposition import find
from tenfold.structure_search import CoreShape, core_shape, mode_spectra, refined_core_shape, rre_greedy

TITLE = "core shapes of Tucker within a number of parameters"

Spectra = list[NDArray[Any]]


def falling(shape: Sequence[int], seed: int) -> Spectra:
    """Singular values that fall as powers, with jitter; their squares add up to one in each mode."""
    generator = np.random.default_rng(seed)
    found = []
    for extent in shape:
        powers = np.arange(1, extent + 1) ** -generator.uniform(0.2, 1.5)
        values = np.sort(powers * np.exp(0.3 * generator.standard_normal(extent)))[::-1]
        found.append(values / np.linalg.norm(values))
    return found


def cases(smoke: bool) -> Iterator[Case]:
    """The error of a shape from singular values is its bound, the sum of the tails, averaged over the spectra. A method
    that comes to another bound has no ratio. The last case chooses and decomposes; its errors are the true ones."""
    if smoke:
        yield _chosen((12, 10, 8), 200, count=3, programs=True)
        yield _decomposed(8, 60)
        return
    yield _chosen((30, 25, 20), 2_000, count=100, programs=False)
    yield _chosen((30, 25, 20), 2_000, count=3, programs=True)
    yield _chosen((256, 256, 14, 20), 40_000, count=1, programs=True)
    yield _chosen((1024, 1344, 33), 40_000, count=1, programs=True)
    yield _chosen((20,) * 8, 100_000, count=1, programs=False)
    yield _decomposed(50, 2_500)


def _chosen(shape: tuple[int, ...], parameters: int, *, count: int, programs: bool) -> Case:
    spectra = [falling(shape, seed) for seed in range(count)]

    def by(how: str, **options: float) -> Callable[[], list[CoreShape]]:
        return lambda: [core_shape(one, shape, parameters, how=how, **options) for one in spectra]

    def bound(found: list[CoreShape]) -> float:
        return statistics.fmean(one.bound for one in found)

    ways = {"tenfold exact": by("exact"), "greedy": by("greedy"), "bang_for_buck": by("bang_for_buck")}
    if programs:
        ways |= {"milp, eps 0.5 (SciPy HiGHS)": by("milp", eps=0.5)}
    size = " x ".join(map(str, shape))
    label = f"{size}, {parameters:,} parameters" + (f", {count} spectra" if count > 1 else "")
    return Case(label, 0, [Contender(name, way, bound) for name, way in ways.items()])


def _decomposed(extent: int, parameters: int) -> Case:
    tensor, _ = planted(formats.tucker([extent] * 3, [min(rank, extent) for rank in (4, 8, 16)]))

    def exact() -> Any:
        chosen = core_shape(mode_spectra(tensor), tensor.shape, parameters)
        return find("hooi").function(tensor, formats.tucker(tensor.shape, chosen.ranks), max_sweeps=20, tol=0.0)

    def error(found: Any) -> float:
        dense = found.network.dense()
        return float(torch.linalg.vector_norm(tensor - dense) / torch.linalg.vector_norm(tensor))

    return Case(
        f"{extent}^3, {parameters:,} parameters, shape and decomposition",
        0,
        [
            Contender("tenfold exact, then hooi", exact, error),
            Contender("refined_core_shape, 8", lambda: refined_core_shape(tensor, parameters, refine=8), error),
            Contender("rre_greedy", lambda: rre_greedy(tensor, parameters), error),
        ],
    )
