"""Errors of photographs at given sizes: what searchers find after equal evaluations, beside trains, Tucker and rings.

    python -m benchmarks.image_fronts --sizes 400 1000 2500 --evaluations 100 --json fronts.json

Each picture is grey, 256 x 256, folded to eight modes of four. Pictures are the sample that comes with tenfold and, in
the folder that TENFOLD_DATA names, those that papers on structure search use.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from benchmarks import machine
from tenfold import formats
from tenfold._trees import bond_limits
from tenfold.decomposition import find
from tenfold.io import read
from tenfold.structure import Structure
from tenfold.structure_search import (
    AnyGraph,
    Budget,
    Dense,
    ErrorWithin,
    Ring,
    Session,
    Space,
    Spent,
    find_searcher,
    tree_trials,
)

SHAPE = (4,) * 8
# Who searches what: ranks up to eight, and graphs with at most three bonds on a core.
WHO: dict[str, tuple[str, type[Space]]] = {
    "bound_guided, graphs": ("bound_guided", AnyGraph),
    "bound_guided, rings": ("bound_guided", Ring),
    "tnale, rings": ("tnale", Ring),
    "greedy, graphs": ("greedy", AnyGraph),
    "tnga, graphs": ("tnga", AnyGraph),
    "tnls, rings": ("tnls", Ring),
    "random_search, graphs": ("random_search", AnyGraph),
}


def pictures() -> Iterator[tuple[str, Tensor]]:
    """Names and grey pictures of 256 x 256, as tensors of eight modes."""
    colour = torch.as_tensor(np.asarray(read("sample:astronaut").values), dtype=torch.float64)
    grey = colour.mean(2)
    side = min(grey.shape) // 256
    small = grey[: 256 * side, : 256 * side].reshape(256, side, 256, side).mean((1, 3)) / 255
    yield "astronaut", small.reshape(SHAPE)
    folder = os.environ.get("TENFOLD_DATA")
    for name in ("Image_A", "Image_B"):
        path = Path(folder or ".") / "tnss" / f"{name}.npz"
        if folder and path.exists():
            with np.load(path) as file:
                # Stored with the first mode fastest.
                plain = file["goal"].reshape(256, 256, order="F")
            yield name, torch.as_tensor(np.ascontiguousarray(plain), dtype=torch.float64).reshape(SHAPE)


def common(data: Tensor, size: int) -> dict[str, float]:
    """Errors of the formats that people take, as good as so many parameters allow."""
    shape = tuple(data.shape)
    found = {}
    for name, thin in (("tensor train", formats.tensor_train(shape, 1)), ("tucker", formats.tucker(shape, 1))):
        full: Structure = thin.replace(bond_limits(thin))
        trials = [t for t in tree_trials(data, full, Budget(parameters=size), name) if t.parameters <= size]
        found[name] = min((t.error for t in trials), default=1.0)
    rank = 1
    while formats.tensor_ring(shape, [rank + 1] * len(shape)).parameters <= size:
        rank += 1
    ring = formats.tensor_ring(shape, [rank] * len(shape))
    found["tensor ring"] = find("tensor_ring_als").function(data, ring, max_sweeps=50).error
    return found


def searched(
    name: str, space: type[Space], data: Tensor, size: int, evaluations: int, seed: int
) -> tuple[float, float]:
    """The error that a searcher reaches with so many parameters, and the seconds it took."""
    started = time.perf_counter()
    with Session(Dense(data), ErrorWithin(size), evaluations=evaluations, seed=seed) as session:
        with suppress(Spent):
            find_searcher(name).function(session, space(SHAPE, max_rank=8), seed=seed)
        best = session.best
    error = best.error if best is not None and best.parameters <= size else 1.0
    return error, time.perf_counter() - started


def main(arguments: list[str] | None = None) -> int:
    """Run; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.image_fronts", description=__doc__.split("\n")[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=[400, 1000, 2500], metavar="P", help="parameters")
    parser.add_argument("--evaluations", type=int, default=100, metavar="N", help="for each search (default 100)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", choices=list(WHO), nargs="+", default=list(WHO), help="some of the searchers")
    parser.add_argument("--pictures", nargs="+", metavar="NAME", help="some of the pictures")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the numbers there")
    chosen = parser.parse_args(arguments)
    record: dict[str, object] = {"machine": machine.description(1), "evaluations": chosen.evaluations}
    with machine.threads(1):
        for picture, data in pictures():
            if chosen.pictures and picture not in chosen.pictures:
                continue
            rows: dict[str, dict[int, float]] = {}
            seconds: dict[str, float] = {}
            for size in chosen.sizes:
                for who, error in common(data, size).items():
                    rows.setdefault(who, {})[size] = error
                for who in chosen.only:
                    print(picture, size, who, file=sys.stderr, flush=True)
                    error, took = searched(*WHO[who], data, size, chosen.evaluations, chosen.seed)
                    rows.setdefault(who, {})[size] = error
                    seconds[who] = seconds.get(who, 0.0) + took
            print(f"\n{picture}, relative error after {chosen.evaluations} evaluations\n")
            print("| | " + " | ".join(f"P = {size:,}" for size in chosen.sizes) + " | seconds |")
            print("|---|" + "--:|" * (len(chosen.sizes) + 1))
            for who, errors in rows.items():
                took = f"{seconds[who]:.0f}" if who in seconds else ""
                print(f"| {who} | " + " | ".join(f"{errors[size]:.4f}" for size in chosen.sizes) + f" | {took} |")
            record[picture] = {"errors": rows, "seconds": seconds}
    if chosen.json is not None:
        chosen.json.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
