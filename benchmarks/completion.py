"""How well unknown cells of real data are predicted, beside TensorLy's masked CP and Tucker.

    python -m benchmarks.completion --json completion.json

A fifth of what is known of each data set is held out for a test that nothing is chosen by. tenfold is called as a user
would who knows nothing: `tn.complete(data)`. Ranks of TensorLy are chosen by a tenth of the rest, as tenfold does it.
Where TENFOLD_DATA names a folder with `completion`, temperatures of the United States and fine particles in Beijing are
among the data, with the published splits.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

import tenfold as tn
from benchmarks import machine
from tenfold.io import read

RANKS = (1, 2, 3, 5, 8, 12, 16)
SWEEPS = 200
# TensorLy works on whole arrays: continuous modes are cut into so many levels where the array would have more cells.
CELLS, CUT = 2_000_000, (50, 50, 150)


@dataclass(frozen=True)
class Data:
    """Coordinates of observations, their values, and which are for the test.

    ``places`` holds positions of continuous modes and codes of the others.
    """

    name: str
    places: np.ndarray
    values: np.ndarray
    test: np.ndarray
    sizes: tuple[int, ...]
    continuous: tuple[int, ...] = ()


def _array(name: str, array: np.ndarray, *, known: float = 0.8, continuous: tuple[int, ...] = ()) -> Data:
    """What is known of an array, of which the share ``known`` may be fitted to."""
    places = np.argwhere(np.isfinite(array))
    test = np.ones(len(places), dtype=bool)
    test[np.random.default_rng(0).permutation(len(places))[: round(known * len(places))]] = False
    return Data(name, places.astype(float), array[tuple(places.T)].astype(float), test, array.shape, continuous)


def _published(name: str, file: str, split: int = 0) -> Data:
    held = np.load(Path(os.environ["TENFOLD_DATA"]) / "completion" / file, allow_pickle=False)
    sizes = tuple(int(size) for size in held["shape"])
    places = held["idx"].astype(float) / (np.array(sizes) - 1)
    return Data(name, places, held["y"].astype(float), held["test_masks"][split], sizes, (0, 1, 2))


def data_sets(smoke: bool) -> Iterator[Data]:
    yield _array("IL-2 response, 13 x 4 x 12 x 8", read("sample:il2").array())
    if smoke:
        return
    from tensorly import datasets

    yield _array("serology, 438 x 6 x 11", np.asarray(datasets.load_covid19_serology().tensor, dtype=float))
    kinetic = np.asarray(datasets.load_kinetic().tensor, dtype=float)[:, :, :, ::4]
    yield _array(f"fluorescence, {' x '.join(map(str, kinetic.shape))}, half known", kinetic, known=0.5)
    pines = read("sample:indian_pines").array().astype(float)[::2, ::2, ::10]
    yield _array("hyperspectral, 32 x 32 x 20, 10 % known", pines, known=0.1)
    if "TENFOLD_DATA" in os.environ:
        yield _published("temperatures of the US", "us_temp_15x95x267.npz")
        yield _published("PM2.5 in Beijing", "beijing_pm25_428x501x1461.npz")
        yield _published("PM10 in Beijing", "beijing_pm10_428x501x1461.npz")


@dataclass(frozen=True)
class Row:
    data: str
    who: str
    rmse: float
    coverage: tuple[float, float] | None
    seconds: float
    note: str


def ours(data: Data, model: str, epochs: int | None) -> Row:
    dims = [f"m{k}" for k in range(len(data.sizes))]
    fitted = ~data.test
    started = time.perf_counter()
    if data.continuous:
        given: Any = tn.Observations(torch.from_numpy(data.places[fitted]), torch.from_numpy(data.values[fitted]), None)
    else:
        cells = torch.from_numpy(data.places[fitted].astype(np.int64))
        given = tn.Observations(cells, torch.from_numpy(data.values[fitted]), data.sizes)
    found = tn.complete(given, model, dims=dims, progress=False, epochs=epochs)
    seconds = time.perf_counter() - started
    points = data.places[data.test]
    truth = data.values[data.test]
    off = found.mean(points) - truth
    bounds = found.quantiles(points, (0.05, 0.25, 0.75, 0.95))
    half = float(((truth >= bounds[:, 1]) & (truth <= bounds[:, 2])).mean())
    most = float(((truth >= bounds[:, 0]) & (truth <= bounds[:, 3])).mean())
    rank = "" if found.rank is None else f" of rank {found.rank}"
    return Row(data.name, f"tenfold {model}", _rms(off), (half, most), seconds, f"{found.method}{rank}")


def _rms(off: np.ndarray) -> float:
    return float(np.sqrt(np.mean(off**2)))


def peer(data: Data, kind: str, epochs: int | None) -> Row:
    """TensorLy on the array of means, the best rank by a tenth of what may be fitted."""
    from tensorly.cp_tensor import cp_to_tensor
    from tensorly.decomposition import parafac, tucker
    from tensorly.tucker_tensor import tucker_to_tensor

    shape = data.sizes
    codes = np.round(data.places * (np.array(shape) - 1) if data.continuous else data.places).astype(int)
    if np.prod(shape) > CELLS:
        shape = CUT
        codes = np.minimum((data.places * np.array(CUT)).astype(int), np.array(CUT) - 1)
    sweeps = SWEEPS if epochs is None else epochs

    def predict(rank: int, rows: np.ndarray, asked: np.ndarray) -> np.ndarray:
        total, count = np.zeros(shape), np.zeros(shape)
        center, scale = data.values[rows].mean(), data.values[rows].std() or 1.0
        np.add.at(total, tuple(codes[rows].T), (data.values[rows] - center) / scale)
        np.add.at(count, tuple(codes[rows].T), 1.0)
        mask = count > 0
        filled = np.where(mask, total / np.maximum(count, 1), 0.0)
        if kind == "CP":
            found = cp_to_tensor(parafac(filled, rank, n_iter_max=sweeps, mask=mask, init="random", random_state=0))
        else:
            ranks = [min(rank, size) for size in shape]
            found = tucker_to_tensor(tucker(filled, ranks, n_iter_max=sweeps, mask=mask, init="random", random_state=0))
        return np.asarray(found)[tuple(codes[asked].T)] * scale + center

    started = time.perf_counter()
    rows = np.flatnonzero(~data.test)
    order = np.random.default_rng(1).permutation(len(rows))
    held, part = rows[order[: len(rows) // 10]], rows[order[len(rows) // 10 :]]
    best, lowest = RANKS[0], np.inf
    for rank in RANKS:
        error = _rms(predict(rank, part, held) - data.values[held])
        if error < lowest:
            best, lowest = rank, error
    answers = predict(best, rows, np.flatnonzero(data.test))
    seconds = time.perf_counter() - started
    return Row(data.name, f"TensorLy {kind}", _rms(answers - data.values[data.test]), None, seconds, f"rank {best}")


def main(arguments: list[str] | None = None) -> int:
    """Run; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.completion", description=__doc__)
    parser.add_argument("--smoke", action="store_true", help="one small data set, few epochs: does everything run?")
    parser.add_argument("--model", action="append", help="a model of tenfold; repeat for more (default auto)")
    parser.add_argument("--only", metavar="WORD", help="data sets whose names hold this")
    parser.add_argument("--json", metavar="FILE", type=Path, help="write the numbers there")
    parser.add_argument("--threads", metavar="N", type=int, default=machine.cores(), help="for every library")
    chosen = parser.parse_args(arguments)
    epochs = 3 if chosen.smoke else None
    rows: list[Row] = []
    with machine.threads(chosen.threads), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for data in data_sets(chosen.smoke):
            if chosen.only and chosen.only not in data.name:
                continue
            jobs: list[Callable[[], Row]] = [
                *(lambda model=model, data=data: ours(data, model, epochs) for model in chosen.model or ["auto"]),
                *(lambda kind=kind, data=data: peer(data, kind, epochs) for kind in ("CP", "Tucker")),
            ]
            for job in jobs:
                rows.append(job())
                row = rows[-1]
                cover = "" if row.coverage is None else f"{100 * row.coverage[0]:.1f} / {100 * row.coverage[1]:.1f} %"
                print(
                    f"| {row.data} | {row.who} | {row.rmse:.4g} | {cover} | {row.seconds:.1f} | {row.note} |",
                    flush=True,
                )
    if chosen.json is not None:
        record = {"machine": machine.description(chosen.threads), "rows": [vars(row) for row in rows]}
        chosen.json.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
