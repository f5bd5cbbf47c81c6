"""Alternating minimisation completes matrices in a time that grows with observations times rank."""

from __future__ import annotations

import math
import time
from contextlib import suppress
from dataclasses import dataclass

import torch

from tenfold.claims._clock import exponent
from tenfold.claims._registry import Measurement, Number, claim
from tenfold.completion import Step, Task
from tenfold.completion.alternating_minimization import alternating_minimization
from tenfold.linalg.least_squares import Solver

_LONGEST = 1.15
_REACHED, _UNSEEN = 1e-6, 1e-5
_SWEEPS = 2
# Rows of matrices that grow at rank 4, and ranks of matrices of so many rows.
_ROWS, _RANK = (1_000, 4_000, 16_000, 64_000), 4
_RANKS, _SQUARE = (4, 8, 16, 32), 2_000
_EXACT: Solver = "exact"
_APPROXIMATE: tuple[Solver, ...] = ("cg", "sketched")


@dataclass(frozen=True)
class Run:
    """One completion: observations times rank, seconds of the processor, sweeps, error where nothing was observed."""

    work: int
    seconds: float
    sweeps: int
    unseen: float


@claim(
    "altmin_nearly_linear",
    paper="Low rank matrix completion via robust alternating minimization in nearly linear time",
    year=2024,
    where="the abstract",
    stated=(
        "Alternating minimisation whose rows are solved approximately recovers an incoherent matrix of rank k in a "
        "time of observations times k, up to logarithms."
    ),
)
def altmin_nearly_linear(*, seed: int = 0, largest: int = _ROWS[-1], highest: int = _RANKS[-1]) -> Measurement:
    """Complete square matrices of standard normal factors from ``2 k ln n`` drawn entries in each of n rows.

    Matrices of 1,000 to 64,000 rows at rank 4, and of 2,000 rows at ranks 4 to 32, without ridges, to a residual of
    1e-6 of the values. The time is that of the processor for everything, sorting and start included; its exponent in
    observations times rank is fitted to all matrices together. Holds if for conjugate gradients and for sketched
    solves (three steps for each row) the exponent is at most 1.15, the error on 10,000 other entries is at most 1e-5,
    and no matrix needs more than twice the sweeps that exact solves take. The exponents of exact solves, of the growing
    rows alone and of the growing ranks alone are told beside.
    Takes a minute or two.
    """
    sizes = [(n, _RANK) for n in _ROWS if n <= largest] + [(_SQUARE, k) for k in _RANKS if k <= highest]
    # The first use compiles.
    for solver in (_EXACT, *_APPROXIMATE):
        completed(200, 2, solver, seed)
    runs = {solver: [completed(n, k, solver, seed) for n, k in sizes] for solver in (_EXACT, *_APPROXIMATE)}
    numbers: dict[str, Number] = {}
    lines = []
    holds = True
    for solver, found in runs.items():
        slope = exponent([run.work for run in found], [run.seconds for run in found])
        unseen = max(run.unseen for run in found)
        sweeps = max(run.sweeps / exact.sweeps for run, exact in zip(found, runs[_EXACT], strict=True))
        numbers |= {f"{solver}: exponent": slope, f"{solver}: error unseen": unseen, f"{solver}: sweeps": sweeps}
        for (n, k), run in zip(sizes, found, strict=True):
            numbers[f"{solver}: seconds at {n} rows, rank {k}"] = round(run.seconds, 3)
        grown = sum(n <= largest for n in _ROWS)
        by_rows, by_rank = (
            exponent([run.work for run in part], [run.seconds for run in part])
            for part in (found[:grown], found[grown:])
        )
        numbers |= {f"{solver}: exponent of rows": by_rows, f"{solver}: exponent of rank": by_rank}
        seconds = ", ".join(f"{run.seconds:.2f}" for run in found)
        lines.append(
            f"{solver}: exponent {slope:.2f} ({by_rows:.2f} of rows, {by_rank:.2f} of rank), {seconds} s, at most "
            f"{sweeps:.2f} times the sweeps of exact solves, error on other entries at most {unseen:.1e}"
        )
        if solver in _APPROXIMATE:
            holds &= slope <= _LONGEST and unseen <= _UNSEEN and sweeps <= _SWEEPS
    shapes = ", ".join(f"{n:,} rows at rank {k}" for n, k in sizes)
    return Measurement(holds, "\n".join([shapes, *lines]), numbers)


class _Done(Exception):
    """The residual is small enough."""


def completed(n: int, rank: int, solver: Solver, seed: int) -> Run:
    """Complete one matrix, and look where nothing was observed."""
    generator = torch.Generator().manual_seed(seed)
    left, right = (torch.randn(n, rank, generator=generator, dtype=torch.float64) for _ in range(2))
    each = math.ceil(2 * rank * math.log(n))
    rows = torch.arange(n).repeat_interleave(each)
    columns = torch.randint(n, rows.shape, generator=generator)
    task = Task(torch.stack([rows, columns], 1).double(), (left[rows] * right[columns]).sum(1), (n, n))
    goal = _REACHED * float(task.values.square().mean().sqrt())
    steps: list[Step] = []

    def stop(step: Step) -> None:
        steps.append(step)
        if step.error <= goal:
            raise _Done

    started = time.process_time()
    with suppress(_Done):
        alternating_minimization(
            task, rank=rank, seed=seed, epochs=100, tol=0.0, callback=stop, solver=solver, ridge=0.0
        )
    seconds = time.process_time() - started
    factors = steps[-1].state().tensors
    i, j = torch.randint(n, (2, 10_000), generator=generator)
    off = (factors["rows"][i] * factors["columns"][j] - left[i] * right[j]).sum(1)
    unseen = float(off.norm() / (left[i] * right[j]).sum(1).norm())
    return Run(len(task) * rank, seconds, len(steps), unseen)
