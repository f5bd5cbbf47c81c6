"""Functions of continuous indices beside tables of cells: errors, intervals, and how time grows with observations.

    taskset -c 0 python -m benchmarks.funbat --json funbat.json

The data are in the folder that TENFOLD_DATA names. Peers are TensorLy's masked CP and Tucker and `als_observed`, on a
table of at most 50 x 50 x 150 cells, each at the rank of 3, 5 and 8 that is best for it on what is held out, which
favours them; the functions get no rank at all. Times are of one thread, the least of the rounds.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks import machine
from tenfold import formats
from tenfold.claims._clock import exponent
from tenfold.claims.funbat import PUBLISHED, Split, published
from tenfold.completion import Task
from tenfold.completion import find as find_model
from tenfold.decomposition import find
from tenfold.observations import Observations

RANKS = (3, 5, 8)
GROWTH, SIDE, SWEEPS = (10_000, 100_000, 1_000_000), 200, 10
# Of a table that TensorLy fills in; beyond, it would take minutes for each sweep.
SMALL = 60


def timed(run: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds and what came out."""
    started = time.perf_counter()
    found = run()
    return time.perf_counter() - started, found


def errors(data: Split, found: Tensor) -> dict[str, float]:
    """In the units of the data."""
    gap = (found - data.values) * data.scale
    return {"rmse": float(gap.square().mean().sqrt()), "mae": float(gap.abs().mean())}


def functions(data: Split, form: str, epochs: int) -> dict[str, float]:
    """With nothing set; also how much of what is held out lies in intervals of 90 %."""
    took, model = timed(lambda: find_model(f"funbat_{form}").function(data.task, epochs=epochs))
    found = model.predict(data.coordinates)
    width = 1.6449 * (found.variance + found.noise).sqrt()
    inside = float(((found.mean - data.values).abs() < width).double().mean())
    return errors(data, found.mean) | {"inside 90 %": inside, "seconds": took}


def observed(data: Split, form: str, sweeps: int) -> dict[str, float]:
    """`als_observed` on the table, at its best rank."""
    cells, shape = data.cells(data.task.coordinates)
    asked = data.cells(data.coordinates)[0]
    best: dict[str, float] = {}
    for rank in RANKS:
        structure = formats.cp(shape, rank) if form == "cp" else formats.tucker(shape, (rank,) * len(shape))
        table = Observations(cells, data.task.values, shape)
        took, fit = timed(lambda: find("als_observed").function(table, structure, max_sweeps=sweeps))  # noqa: B023
        one = errors(data, fit.network.at(asked)) | {"rank": rank, "seconds": took}
        best = min(best or one, one, key=lambda each: each["rmse"])
    return best


def tensorly(data: Split, form: str, sweeps: int) -> dict[str, float]:
    """TensorLy on the table, where a cell has the mean of what was observed in it, at its best rank."""
    import numpy as np
    from tensorly.cp_tensor import cp_to_tensor
    from tensorly.decomposition import parafac, tucker
    from tensorly.tucker_tensor import tucker_to_tensor

    cells, shape = data.cells(data.task.coordinates)
    asked = tuple(data.cells(data.coordinates)[0].T.numpy())
    place = tuple(cells.T.numpy())
    total, count = np.zeros(shape), np.zeros(shape)
    np.add.at(total, place, data.task.values.numpy())
    np.add.at(count, place, 1.0)
    mask = (count > 0).astype(float)
    array = total / np.maximum(count, 1)
    best: dict[str, float] = {}
    for rank in RANKS:
        given = {"n_iter_max": sweeps, "mask": mask, "init": "random", "random_state": 0}
        ranks = rank if form == "cp" else (rank,) * array.ndim
        run = partial(parafac if form == "cp" else tucker, array, ranks, **given)
        took, fit = timed(run)
        full = cp_to_tensor(fit) if form == "cp" else tucker_to_tensor(fit)
        one = errors(data, torch.from_numpy(full[asked])) | {"rank": rank, "seconds": took}
        best = min(best or one, one, key=lambda each: each["rmse"])
    return best


def growth(count: int, side: int, rounds: int) -> dict[str, float]:
    """Seconds of a sweep over so many observations of a table of ``side`` cubed cells, rank 5, beside plain ALS."""
    generator = torch.Generator().manual_seed(0)
    cells = torch.randint(side, (count, 3), generator=generator)
    factors = torch.randn(3, side, 5, generator=generator, dtype=torch.float64).cumsum(1) / side**0.5
    values = (factors[0][cells[:, 0]] * factors[1][cells[:, 1]] * factors[2][cells[:, 2]]).sum(1)
    values = (values - values.mean()) / values.std() + 0.1 * torch.randn(
        count, generator=generator, dtype=torch.float64
    )
    task = Task(cells / (side - 1), values, (None,) * 3)
    table, structure = Observations(cells, values, (side,) * 3), formats.cp((side,) * 3, 5)
    runs: dict[str, Callable[[], Any]] = {
        "funbat_cp": lambda: find_model("funbat_cp").function(task, rank=5, starts=1, epochs=SWEEPS, tol=0.0),
        "als_observed": lambda: find("als_observed").function(
            table, structure, max_sweeps=SWEEPS, tol=0.0, ridge=1e-6, holdout=0.0, starts=1
        ),
    }
    if side <= SMALL:
        import numpy as np
        from tensorly.decomposition import parafac

        array, mask = np.zeros((side,) * 3), np.zeros((side,) * 3)
        array[tuple(cells.T.numpy())] = values.numpy()
        mask[tuple(cells.T.numpy())] = 1.0
        runs["TensorLy parafac"] = lambda: parafac(
            array, 5, n_iter_max=SWEEPS, tol=0, mask=mask, init="random", random_state=0
        )
    best = dict.fromkeys(runs, float("inf"))
    for _ in range(rounds):
        for name, run in runs.items():
            best[name] = min(best[name], timed(run)[0] / SWEEPS)
    return best


def main(arguments: list[str] | None = None) -> int:
    """Run; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.funbat", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--smoke", action="store_true", help="little of everything, to see that it runs")
    parser.add_argument("--splits", type=int, default=1, metavar="N", help="of the five of each set (default 1)")
    parser.add_argument("--only", choices=[*PUBLISHED, "growth"], help="one part")
    parser.add_argument("--alone", action="store_true", help="leave the peers on the data out, which take longest")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the numbers there")
    chosen = parser.parse_args(arguments)
    epochs, sweeps = (3, 3) if chosen.smoke else (100, 100)
    folder = os.environ.get("TENFOLD_DATA")
    record: dict[str, Any] = {}
    print(f"{machine.description(1)['processor']}, load average {os.getloadavg()[0]:.1f}\n")
    with machine.threads(1):
        growth(200, 10, 1)  # what is compiled and loaded once is no part of any row
        for name in PUBLISHED if folder and chosen.only != "growth" else ():
            if chosen.only not in (None, name):
                continue
            print("| data | split | model | RMSE | MAE | inside 90 % | rank | seconds |")
            print("|---|--:|---|--:|--:|--:|--:|--:|", flush=True)
            for number in range(1 if chosen.smoke else chosen.splits):
                data = published(Path(str(folder)), name, number)
                for form in ("cp", "tucker"):
                    for kind, found in (
                        ("funbat", functions(data, form, epochs)),
                        ("als_observed", {} if chosen.alone else observed(data, form, sweeps)),
                        ("TensorLy", {} if chosen.smoke or chosen.alone else tensorly(data, form, sweeps)),
                    ):
                        record[f"{name}, {number}, {kind} {form}"] = found
                        if found:
                            inside = f"{found['inside 90 %']:.1%}" if "inside 90 %" in found else ""
                            print(
                                f"| {name} | {number} | {kind} {form} | {found['rmse']:.4f} | {found['mae']:.4f} | "
                                f"{inside} | {found.get('rank', '')} | {found['seconds']:.1f} |",
                                flush=True,
                            )
            print()
        if chosen.only in (None, "growth"):
            print("| observations | cells | " + "seconds of a sweep |")
            print("|--:|--:|---|", flush=True)
            for count, side in ((2000, 10),) if chosen.smoke else [(GROWTH[1], SMALL), *((n, SIDE) for n in GROWTH)]:
                found = growth(count, side, 1 if chosen.smoke else 3)
                record[f"growth, {count}, {side}"] = found
                said = ", ".join(f"{kind} {seconds:.4f}" for kind, seconds in found.items())
                print(f"| {count:,} | {side}³ | {said} |", flush=True)
            if not chosen.smoke:
                for kind in ("funbat_cp", "als_observed"):
                    found = [record[f"growth, {count}, {SIDE}"][kind] for count in GROWTH]
                    record[f"exponent, {kind}"] = exponent(GROWTH, tuple(found))
                    print(f"\n{kind}: seconds grow with the power {record[f'exponent, {kind}']:.2f} of observations")
    if chosen.json is not None:
        chosen.json.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
