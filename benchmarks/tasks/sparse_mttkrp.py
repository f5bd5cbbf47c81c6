"""Matricised sparse arrays times Khatri-Rao products, one for each mode: what a sweep of CP spends its time on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks import peers
from benchmarks.harness import Case, Contender
from tenfold.decomposition._sparse import Pattern, SparseArray, mttkrp_reference

TITLE = "Sparse arrays times Khatri-Rao products, once for each mode"

# Shape, listed cells, rank, whether growth is measured with it.
SIZES = (
    ((1000, 1000, 1000), 10**5, 10, True),
    ((1000, 1000, 1000), 10**6, 10, True),
    ((1000, 1000, 1000), 10**6, 50, False),
    ((20_000, 10_000, 5_000), 10**6, 10, False),
    ((20_000, 10_000, 5_000), 10**6, 50, False),
)


def uniform(shape: Sequence[int], count: int, seed: int = 0) -> tuple[list[Tensor], Tensor]:
    """So many cells drawn evenly, none twice, in row-major order, with Gaussian values."""
    generator = np.random.default_rng(seed)
    cells = np.unique(generator.integers(0, int(np.prod(shape, dtype=np.int64)), int(1.1 * count) + 10))
    cells = np.sort(generator.permutation(cells)[:count])
    columns = [torch.from_numpy(column) for column in np.unravel_index(cells, shape)]
    return columns, torch.from_numpy(generator.standard_normal(len(cells)))


def cases(smoke: bool) -> Iterator[Case]:
    """The array is sorted before the clock runs, as it is once for all sweeps; a row of its own has the sorting too.

    The last row copies as many bytes as the first one reads, listed cells and rows of factors: its ratio is the share
    of the rate of a copy that is reached, above one where rows come from caches.
    """
    for shape, count, rank, grows in (((40, 30, 20), 500, 4, False),) if smoke else SIZES:
        columns, values = uniform(shape, count)
        generator = torch.Generator().manual_seed(1)
        factors = [torch.randn(n, rank, generator=generator, dtype=torch.float64) for n in shape]
        modes = range(len(shape))

        def prepared(columns=columns, values=values, shape=shape):
            array = SparseArray(Pattern(columns, shape), values)
            for mode in range(len(shape)):
                array.pattern.plan(mode)
            return array

        array = prepared()
        compact = [factor[present] for factor, present in zip(factors, array.pattern.present, strict=True)]

        def own(array=array, compact=compact, modes=modes):
            return [array.mttkrp(compact, mode) for mode in modes]

        def gathered(columns=columns, values=values, factors=factors, modes=modes):
            return [mttkrp_reference(columns, values, factors, mode, len(factors[mode])) for mode in modes]

        wanted = gathered()
        rows = [out[present] for out, present in zip(wanted, array.pattern.present, strict=True)]
        length = sum(len(array.pattern.plan(mode).order) * (8 + 4 * 2 + 8 * 2 * rank) for mode in modes) // 16
        source, target = torch.ones(min(length, 2**22), dtype=torch.float64), torch.empty(min(length, 2**22)).double()

        def copy(source=source, target=target, length=length):
            for start in range(0, length, len(source)):
                part = min(len(source), length - start)
                target[:part].copy_(source[:part])

        def all_of_it(prepared=prepared, compact=compact, modes=modes):
            array = prepared()
            return [array.mttkrp(compact, mode) for mode in modes]

        yield Case(
            f"{' x '.join(map(str, shape))}, {count:,} listed, rank {rank}",
            count if grows else 0,
            [
                Contender("tenfold", own, _difference(rows)),
                Contender("tenfold, with sorting", all_of_it, _difference(rows)),
                _pyttb(columns, values, shape, factors, _difference(wanted)),
                Contender("torch gather and index_add", gathered, _difference(wanted)),
                Contender("copy of as many bytes", copy),
            ],
            agreement=1e-8,
        )


def _difference(wanted: Sequence[Tensor]) -> Any:
    def error(found: Sequence[Any]) -> float:
        pairs = zip(found, wanted, strict=True)
        return max(float((torch.as_tensor(mine) - one).norm() / one.norm()) for mine, one in pairs)

    return error


def _pyttb(
    columns: Sequence[Tensor], values: Tensor, shape: Sequence[int], factors: Sequence[Tensor], error: Any
) -> Contender:
    held, missing = peers.sptensor(torch.stack(list(columns), 1), values, shape)
    plain = [np.asfortranarray(factor.numpy()) for factor in factors]

    def run() -> list[Any]:
        return [held.mttkrp(plain, mode) for mode in range(len(shape))]

    return Contender("pyttb sptensor.mttkrp", run, error, missing)
