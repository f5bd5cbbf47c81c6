"""Functions of continuous indices predict better than rows of a table of cells at equal rank."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from tenfold import formats
from tenfold.claims._registry import Measurement, Number, claim
from tenfold.completion import Task
from tenfold.completion import find as find_model
from tenfold.decomposition import find
from tenfold.io import read
from tenfold.observations import Observations

_RANK = 5
# The paper's table of cells.
_GRID = (50, 50, 150)
PUBLISHED = {
    "US-TEMP": "us_temp_15x95x267",
    "Beijing PM2.5": "beijing_pm25_428x501x1461",
    "Beijing PM10": "beijing_pm10_428x501x1461",
}


@dataclass(frozen=True, eq=False)
class Split:
    """Observations and those that are held out; values are standardised by the former.

    Attributes:
        task: what is fitted.
        coordinates: of what is held out.
        values: of the same.
        scale: what one standard deviation is in the units of the data.
    """

    task: Task
    coordinates: Tensor
    values: Tensor
    scale: float

    @classmethod
    def of(cls, coordinates: Tensor, values: Tensor, held: Tensor, sizes: tuple[int | None, ...]) -> Split:
        mean, scale = values[~held].mean(), values[~held].std()
        values = (values - mean) / scale
        return cls(Task(coordinates[~held], values[~held], sizes), coordinates[held], values[held], float(scale))

    def cells(self, coordinates: Tensor, grid: tuple[int, ...] = _GRID) -> tuple[Tensor, tuple[int, ...]]:
        """In which cells of a table the points are; intervals are cut into equal parts, at most as many as levels."""
        columns, shape = [], []
        for mode, size in enumerate(self.task.sizes):
            if size is not None:
                columns.append(coordinates[:, mode].long())
                shape.append(size)
                continue
            parts = min(len(self.task.coordinates[:, mode].unique()), grid[min(mode, len(grid) - 1)])
            columns.append((coordinates[:, mode] * parts).long().clamp(0, parts - 1))
            shape.append(parts)
        return torch.stack(columns, 1), tuple(shape)


def published(folder: Path, name: str, number: int = 0) -> Split:
    """One of the five splits that the paper's authors published; positions are ranks of the levels, from 0 to 1."""
    with np.load(folder / "completion" / f"{PUBLISHED[name]}.npz") as kept:
        coordinates = torch.from_numpy(kept["idx"].astype(np.float64) / (kept["shape"] - 1))
        values = torch.from_numpy(kept["y"].astype(np.float64))
        held = torch.from_numpy(kept["test_masks"][number])
    return Split.of(coordinates, values, held, (None,) * coordinates.shape[1])


def responses(seed: int) -> Split:
    """The sample of responses of cells to ligands, half of them held out; times and doses by their ranks."""
    response = torch.from_numpy(np.asarray(read("sample:il2").load().values, dtype=np.float64))
    cells = torch.isfinite(response).nonzero()
    values = response[tuple(cells.T)]
    coordinates = cells.double()
    coordinates[:, 1:3] /= torch.tensor(response.shape[1:3], dtype=torch.float64) - 1
    held = torch.rand(len(values), generator=torch.Generator().manual_seed(seed)) < 0.5
    return Split.of(coordinates, values, held, (response.shape[0], None, None, response.shape[3]))


@claim(
    "funbat",
    paper="Functional Bayesian Tucker decomposition for continuous-indexed tensor data",
    year=2024,
    where="Section 5.2, real-world applications",
    stated=(
        "On data with continuous indices, factors that are functions predict better than Tucker and CP of a table of "
        "cells."
    ),
)
def funbat(*, seed: int = 0, split: int = 0, epochs: int = 60) -> Measurement:
    """Functions against rows of a table of at most 50 x 50 x 150 cells, rank 5 in both, errors of what is held out.

    The functions are `funbat_cp` and `funbat_tucker` with the rank, the seed and at most 60 epochs set, else nothing.
    Of the table CP and Tucker are fitted by `als_observed`, which chooses its ridge by observations it leaves out.
    On the responses of the sample ``il2`` half is held out; where the folder that TENFOLD_DATA names has them, the
    temperatures and the two pollutants of the paper come with its first split. Holds if on every set each form's error
    is below that of the same form of the table. With the paper's data it takes about 70 seconds of one thread.
    """
    numbers: dict[str, Number] = {}
    lines, worse = [], []
    for name, data in _sets(seed, split):
        said = []
        for form in ("cp", "tucker"):
            function = functional(data, form, _RANK, seed, epochs)
            table = tabled(data, form, _RANK, seed)
            if function >= table:
                worse.append(f"{form} of {name}")
            numbers |= {f"{name}, {form}: functions": function, f"{name}, {form}: table": table}
            said.append(f"{form} {function:.3f} against {table:.3f}")
        lines.append(f"{name}: RMSE of functions and of a table, {', '.join(said)}")
    lines.append(f"Functions are not better: {', '.join(worse)}" if worse else "Functions are better on every set")
    return Measurement(not worse, "\n".join(lines), numbers)


def functional(data: Split, form: str, rank: int, seed: int, epochs: int) -> float:
    """The error of functions, in the units of the data."""
    model = find_model(f"funbat_{form}").function(data.task, rank=rank, seed=seed, epochs=epochs)
    return _error(data, model.predict(data.coordinates).mean)


def tabled(data: Split, form: str, rank: int, seed: int) -> float:
    """The error of a table of cells, in the units of the data; a mode has no more components than cells."""
    cells, shape = data.cells(data.task.coordinates)
    ranks = tuple(min(rank, size) for size in shape)
    structure = formats.cp(shape, rank) if form == "cp" else formats.tucker(shape, ranks)
    network = find("als_observed").function(Observations(cells, data.task.values, shape), structure, seed=seed).network
    return _error(data, network.at(data.cells(data.coordinates)[0]))


def _error(data: Split, found: Tensor) -> float:
    return data.scale * float((found - data.values).square().mean().sqrt())


def _sets(seed: int, split: int) -> Iterator[tuple[str, Split]]:
    yield "IL-2 responses", responses(seed)
    folder = Path(os.environ.get("TENFOLD_DATA", ""))
    for name, file in PUBLISHED.items():
        if os.environ.get("TENFOLD_DATA") and (folder / "completion" / f"{file}.npz").exists():
            yield name, published(folder, name, split)
