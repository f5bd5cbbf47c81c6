"""Matrices of low rank with most entries missing: alternating minimisation beside TensorLy's masked CP.

    taskset -c 0 python -m benchmarks.matrix_completion --json found.json

Every library gets the true rank and one thread; they take turns. TensorLy starts from singular vectors and from random
factors; the better of the two counts, with its own time.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median

import numpy as np
import tensorly
import torch
from tensorly.decomposition import parafac
from torch import Tensor

from benchmarks import machine
from tenfold.completion import Task
from tenfold.completion.alternating_minimization import alternating_minimization

# Rows and columns, rank, part of the entries that is known, noise relative to the entries.
CASES = {
    "300 × 300, rank 5, 15 % known": (300, 5, 0.15, 0.1),
    "300 × 300, rank 5, 50 % known": (300, 5, 0.5, 0.1),
    "1000 × 1000, rank 5, 8 % known": (1000, 5, 0.08, 0.1),
    "1000 × 1000, rank 20, 20 % known": (1000, 20, 0.2, 0.1),
}
SMALL = {"60 × 60, rank 2, 50 % known": (60, 2, 0.5, 0.1)}


def planted(size: int, rank: int, part: float, noise: float, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """The matrix (mean square one), what is known of it with noise, and where."""
    generator = torch.Generator().manual_seed(seed)
    left, right = (torch.randn(size, rank, generator=generator, dtype=torch.float64) for _ in range(2))
    matrix = left @ right.T / rank**0.5
    known = torch.rand(size, size, generator=generator) < part
    noisy = matrix + noise * torch.randn(size, size, generator=generator, dtype=torch.float64)
    return matrix, noisy, known


def ours(noisy: Tensor, known: Tensor, rank: int) -> Tensor:
    """The whole matrix as alternating minimisation has it."""
    shape = (noisy.shape[0], noisy.shape[1])
    model = alternating_minimization(Task(known.nonzero().double(), noisy[known], shape), rank=rank)
    return model.factors.rows @ model.factors.columns.T


def theirs(noisy: Tensor, known: Tensor, rank: int, init: str, sweeps: int) -> Tensor:
    """The same of TensorLy."""
    filled = torch.where(known, noisy, 0.0).numpy()
    mask = known.double().numpy()
    found = parafac(filled, rank, n_iter_max=sweeps, tol=1e-8, init=init, random_state=0, mask=mask)
    return torch.from_numpy(np.asarray(tensorly.cp_to_tensor(found)))


def measured(case: Sequence[float], rounds: int, sweeps: int) -> dict[str, dict[str, float]]:
    """Median seconds of the processor and relative error on hidden entries, for each."""
    size, rank, part, noise = case
    matrix, noisy, known = planted(int(size), int(rank), part, noise)
    work: dict[str, Callable[[], Tensor]] = {
        "tenfold": lambda: ours(noisy, known, int(rank)),
        "tensorly, svd": lambda: theirs(noisy, known, int(rank), "svd", sweeps),
        "tensorly, random": lambda: theirs(noisy, known, int(rank), "random", sweeps),
    }
    times: dict[str, list[float]] = {name: [] for name in work}
    errors: dict[str, float] = {}
    for _ in range(rounds):
        for name, call in work.items():
            started = time.process_time()
            found = call()
            times[name].append(time.process_time() - started)
            errors[name] = float((found - matrix)[~known].norm() / matrix[~known].norm())
    return {name: {"seconds": median(times[name]), "hidden error": errors[name]} for name in work}


def main(arguments: list[str] | None = None) -> int:
    """Run; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.matrix_completion", description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=3, metavar="N", help="of which the median counts (default 3)")
    parser.add_argument("--sweeps", type=int, default=500, metavar="N", help="of TensorLy at most (default 500)")
    parser.add_argument("--smoke", action="store_true", help="a small matrix, to see that everything runs")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the numbers there too")
    chosen = parser.parse_args(arguments)
    if chosen.rounds < 1 or chosen.sweeps < 1:
        parser.error("--rounds and --sweeps must be positive")
    about = machine.description(1)
    print(f"{about['processor']}, load average {os.getloadavg()[0]:.1f}\n")
    print("| matrix | tenfold | error | tensorly | error | times as fast |")
    print("|---|--:|--:|--:|--:|--:|", flush=True)
    results = {}
    with machine.threads(1):
        measured(SMALL["60 × 60, rank 2, 50 % known"], 1, 2)  # what is compiled and loaded once is no part of any row
        for name, case in (SMALL if chosen.smoke else CASES).items():
            found = results[name] = measured(case, chosen.rounds, chosen.sweeps)
            mine = found["tenfold"]
            peer = min((found[key] for key in found if key != "tenfold"), key=lambda one: one["hidden error"])
            print(
                f"| {name} | {mine['seconds']:.2f} s | {mine['hidden error']:.4f} | {peer['seconds']:.2f} s | "
                f"{peer['hidden error']:.4f} | {peer['seconds'] / mine['seconds']:.0f} |",
                flush=True,
            )
    if chosen.json is not None:
        chosen.json.write_text(json.dumps({"machine": about, "results": results}, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
