"""Core shapes that the paper on them recorded, with their errors and times, where there is a copy."""

from __future__ import annotations

import csv
import os
from dataclasses import dataclass
from pathlib import Path

_FILE = Path("tnss") / "core_shape_recorded_results.csv"


@dataclass(frozen=True)
class Recorded:
    """One core shape of a recording.

    Attributes:
        shape: of the tensor.
        ranks: of the core.
        bound: the sum of the tails, relative to the squared norm.
        error2: the squared relative error that was reached.
        seconds: what finding the shape took, singular values included.
    """

    dataset: str
    shape: tuple[int, ...]
    way: str
    budget: int
    ranks: tuple[int, ...]
    parameters: int
    bound: float
    error2: float
    seconds: float


def recorded() -> list[Recorded]:
    """All of them, from the folder that TENFOLD_DATA names; nothing where it is not set or has none."""
    path = Path(os.environ.get("TENFOLD_DATA", "")) / _FILE
    if not path.is_file():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return [_row(row) for row in csv.DictReader(file)]


def _row(row: dict[str, str]) -> Recorded:
    shape = tuple(int(n) for n in row["input_shape"].strip("()").split(","))
    # Squares kept and cut off by all modes add up to the squared norm, once for each mode.
    kept, cut = float(row["prefix"]), float(row["suffix"])
    return Recorded(
        row["dataset"],
        shape,
        row["algorithm"],
        int(row["budget"]),
        tuple(int(n) for n in row["core_shape"].split("x")),
        int(row["params"]),
        cut / (kept + cut) * len(shape),
        float(row["rre"]),
        float(row["solve_s"]),
    )
