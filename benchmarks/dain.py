"""Neural completion with and without the cells that DAIN adds, beside the masked CP of TensorLy.

    TENFOLD_DATA=folder taskset -c 0 python -m benchmarks.dain --seeds 3 --json dain.json

Root mean square errors of test cells in units of the standard deviation of what was observed, medians over seeds;
seconds are those of the processor, of one thread. TensorLy's CP gets that rank of 1, 2, 3, 5 and 8 which has the least
error on a tenth of what was observed, and is then fitted to all of it; the time of that choice is not counted. It makes
the whole array, so data whose array has more than 2 million cells are left to the networks.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import tensorly as tl
import torch
from tensorly.decomposition import parafac
from torch import Tensor

from benchmarks import machine
from tenfold.claims.dain_improves import data
from tenfold.completion import Task, find

RANKS = (1, 2, 3, 5, 8)
CELLS = 2_000_000


def by_network(method: str, members: int, epochs: int) -> Callable[[Task, int], Callable[[Tensor], Tensor]]:
    def fit(task: Task, seed: int) -> Callable[[Tensor], Tensor]:
        model = find(method).function(task, seed=seed, epochs=epochs, **{"members": members})
        return lambda cells: model.predict(cells).mean

    return fit


def masked_cp(task: Task, rank: int, seed: int) -> Callable[[Tensor], Tensor]:
    """TensorLy's CP of the mean of each cell that was observed."""
    shape = tuple(size for size in task.sizes if size is not None)
    index = tuple(task.coordinates.long().numpy().T)
    sums, counts = np.zeros(shape), np.zeros(shape)
    np.add.at(sums, index, task.values.numpy())
    np.add.at(counts, index, 1)
    known = counts > 0
    filled = np.where(known, sums / np.maximum(counts, 1), 0.0)
    cp = parafac(filled, rank, mask=known, init="random", random_state=seed, n_iter_max=100, tol=1e-6)
    dense = torch.from_numpy(np.asarray(tl.cp_to_tensor(cp)))
    return lambda cells: dense[tuple(cells.long().T)]


def tensorly_cp(task: Task, seed: int) -> tuple[float, Callable[[Tensor], Tensor]]:
    """The seconds of the fit of the chosen rank, and its predictions."""
    order = torch.randperm(len(task), generator=torch.Generator().manual_seed(seed))
    held, learned = order[: len(order) // 10], order[len(order) // 10 :]
    part = task.rows(learned)

    def off(rank: int) -> float:
        error = float((masked_cp(part, rank, seed)(task.coordinates[held]) - task.values[held]).square().mean())
        return error if math.isfinite(error) else math.inf

    rank = min(RANKS, key=off)
    started = time.process_time()
    predict = masked_cp(task, rank, seed)
    return time.process_time() - started, predict


def main(arguments: list[str] | None = None) -> int:
    """Run; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.dain", description=__doc__.split("\n")[0])
    parser.add_argument("--seeds", type=int, default=3, metavar="N", help="draws of each data set (default 3)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the numbers here too")
    parser.add_argument("--smoke", action="store_true", help="one seed, two epochs, the first data set")
    chosen = parser.parse_args(arguments)
    epochs = 2 if chosen.smoke else 200
    fits = {
        f"{method}, {members} member{'s' * (members > 1)}": by_network(method, members, epochs)
        for members in (1, 5)
        for method in ("neural", "dain")
    }
    errors: dict[str, dict[str, list[float]]] = {}
    seconds: dict[str, dict[str, list[float]]] = {}
    with machine.threads(1):
        for seed in range(1 if chosen.smoke else chosen.seeds):
            for name, (task, cells, values) in list(data(seed).items())[: 1 if chosen.smoke else None]:
                predictions: dict[str, tuple[float, Callable[[Tensor], Tensor]]] = {}
                for label, fit in fits.items():
                    started = time.process_time()
                    predict = fit(task, seed)
                    predictions[label] = (time.process_time() - started, predict)
                if math.prod(size or 1 for size in task.sizes) <= CELLS:
                    predictions["TensorLy, masked CP"] = tensorly_cp(task, seed)
                for label, (took, predict) in predictions.items():
                    error = float((predict(cells) - values).square().mean().sqrt())
                    errors.setdefault(name, {}).setdefault(label, []).append(error)
                    seconds.setdefault(name, {}).setdefault(label, []).append(took)
    print(f"{machine.description(1)['processor']}, load average {os.getloadavg()[0]:.1f}\n")
    print("| data | method | test RMSE | each seed | seconds |\n|---|---|--:|---|--:|")
    for name, methods in errors.items():
        for label, each in methods.items():
            took = statistics.median(seconds[name][label])
            shown = ", ".join(f"{one:.3f}" for one in each)
            print(f"| {name} | {label} | {statistics.median(each):.3f} | {shown} | {took:.1f} |")
    if chosen.json:
        chosen.json.write_text(json.dumps({"errors": errors, "seconds": seconds}, indent=1), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
