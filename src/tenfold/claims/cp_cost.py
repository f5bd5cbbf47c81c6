"""A sweep of alternating least squares for CP costs two large products, whatever the order of the tensor."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch.utils.flop_counter import FlopCounterMode

from tenfold import formats
from tenfold.claims._registry import Measurement, Number, claim
from tenfold.decomposition._cp_sweep import Sweeps
from tenfold.network import Network

_CASES = (((60, 60, 60), 8), ((24, 24, 24, 24), 8), ((12, 12, 12, 12, 12), 4), ((8, 8, 8, 8, 8, 8), 4))
_SLACK = 1.25


@claim(
    "cp_cost",
    paper="Fast alternating LS algorithms for high order CANDECOMP/PARAFAC tensor factorizations",
    year=2013,
    where="The cost of the gradients with respect to all factors",
    stated=(
        "All factors of a CP decomposition of order N are updated with the multiplications of two products of the "
        "whole tensor with a Khatri-Rao matrix, where one product for each factor needs N."
    ),
)
def cp_cost(*, seed: int = 0) -> Measurement:
    """Count the multiplications of one sweep in tensors of orders 3 to 6, and time it beside the two products.

    Holds if for every order the operations counted (a multiplication and an addition each for every matrix product) are
    at least ``4 |X| R`` and at most 1.25 times that, N products needing ``2 N |X| R``. The time depends on the machine
    and decides nothing.
    """
    numbers: dict[str, Number] = {}
    lines = []
    holds = True
    for shape, rank in _CASES:
        structure = formats.cp(shape, rank)
        data = Network.random(structure, seed=seed, dtype=torch.float64).dense().contiguous()
        factors = [core.T.contiguous() for core in Network.random(structure, seed=seed + 1, dtype=data.dtype).cores]
        norm2 = float(data.norm()) ** 2
        with _torch_counts():
            counter = FlopCounterMode(display=False)
            with counter:
                Sweeps(data, norm2).sweep(factors)
        counted, products = counter.get_total_flops(), 4 * data.numel() * rank
        holds = holds and products <= counted <= _SLACK * products
        problem = Sweeps(data, norm2)
        seconds = _fastest(problem, factors)
        label = f"{shape[0]}^{len(shape)} rank {rank}"
        lines.append(
            f"{label}: {counted / products:.3f} of 4 |X| R counted, {len(shape) * products / counted / 2:.2f} "
            f"times fewer than N products; {1e3 * seconds:.2f} ms, {products / seconds / 1e9:.1f} Gflop/s"
        )
        numbers |= {f"{label}: of two products": counted / products, f"{label}: seconds": seconds}
    return Measurement(holds, "\n".join(lines), {"orders": len(_CASES), **numbers})


@contextmanager
def _torch_counts() -> Iterator[None]:
    """torch counts its own products only, so the sweep is to use no others for a moment."""
    before = os.environ.get("TENFOLD_BLAS")
    os.environ["TENFOLD_BLAS"] = "torch"
    try:
        yield
    finally:
        if before is None:
            del os.environ["TENFOLD_BLAS"]
        else:
            os.environ["TENFOLD_BLAS"] = before


def _fastest(problem: Sweeps, factors: list[torch.Tensor], tries: int = 5) -> float:
    times = [math.inf]
    for _ in range(tries):
        started = time.perf_counter()
        problem.sweep(factors)
        times.append(time.perf_counter() - started)
    return min(times)
