"""Errors of photographs at given sizes: what searchers find, beside tensor trains, Tucker and tensor rings.

    python -m benchmarks.image_fronts --sizes 400 1000 2500 --evaluations 60 --seconds 20 --json fronts.json

Each picture is grey, 256 x 256, folded to eight modes of four. Pictures are the sample that comes with tenfold and, in
the folder that TENFOLD_DATA names, those that papers on structure search use. Each search goes on until it has made the
evaluations and used the seconds, of the processor; what it had found when the first and when the second was reached
makes two tables.
"""

from __future__ import annotations

import argparse
import json
import math
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
    "bound_guided, rings": ("bound_guided", Ring),
    "bound_guided, graphs": ("bound_guided", AnyGraph),
    "tnale, rings": ("tnale", Ring),
    "tnls, rings": ("tnls", Ring),
    "greedy, graphs": ("greedy", AnyGraph),
    "tnga, graphs": ("tnga", AnyGraph),
    "map_elites, graphs": ("map_elites", AnyGraph),
    "sparse_edges, graphs": ("sparse_edges", AnyGraph),
    "random_search, graphs": ("random_search", AnyGraph),
}
# No search goes on for longer than so many times the seconds, whatever evaluations are left.
_PATIENCE = 3
# What those errors are that nothing was found for.
_NOTHING = 1.0


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
    name: str, space: type[Space], data: Tensor, size: int, evaluations: int, seconds: float, seed: int
) -> tuple[float, float, float]:
    """What a searcher reaches with so many parameters after evaluations, after seconds; how long the former took."""
    started = time.process_time()
    after = [_NOTHING, _NOTHING]
    took = math.inf

    def watch(session: Session) -> None:
        nonlocal took
        used = time.process_time() - started
        best = session.best
        error = best.error if best is not None and best.parameters <= size else _NOTHING
        if session.counted <= evaluations:
            after[0] = error
        elif took == math.inf:
            took = used
        if used <= seconds:
            after[1] = error
        if (session.counted >= evaluations and used >= seconds) or used >= _PATIENCE * seconds:
            raise Spent

    with Session(Dense(data), ErrorWithin(size), seed=seed, watch=watch) as session, suppress(Spent):
        find_searcher(name).function(session, space(SHAPE, max_rank=8), seed=seed)
    return after[0], after[1], min(took, time.process_time() - started)


def main(arguments: list[str] | None = None) -> int:
    """Run; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.image_fronts", description=__doc__.split("\n")[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=[400, 1000, 2500], metavar="P", help="parameters")
    parser.add_argument("--evaluations", type=int, default=60, metavar="N", help="for each search (default 60)")
    parser.add_argument("--seconds", type=float, default=20.0, metavar="S", help="for each search (default 20)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", choices=list(WHO), nargs="+", default=list(WHO), help="some of the searchers")
    parser.add_argument("--pictures", nargs="+", metavar="NAME", help="some of the pictures")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the numbers there")
    chosen = parser.parse_args(arguments)
    limits = {"evaluations": chosen.evaluations, "seconds": chosen.seconds}
    record: dict[str, object] = {"machine": machine.description(1), **limits}
    with machine.threads(1):
        for picture, data in pictures():
            if chosen.pictures and picture not in chosen.pictures:
                continue
            plain: dict[str, dict[int, float]] = {}
            found: dict[str, dict[int, tuple[float, float, float]]] = {}
            for size in chosen.sizes:
                for who, error in common(data, size).items():
                    plain.setdefault(who, {})[size] = error
                for who in chosen.only:
                    print(picture, size, who, file=sys.stderr, flush=True)
                    name, space = WHO[who]
                    found.setdefault(who, {})[size] = searched(
                        name, space, data, size, chosen.evaluations, chosen.seconds, chosen.seed
                    )
            for which, what in enumerate((f"{chosen.evaluations} evaluations", f"{chosen.seconds:g} seconds")):
                rows = {**plain, **{who: {p: one[which] for p, one in row.items()} for who, row in found.items()}}
                print(f"\n{picture}, relative error after {what}\n\n{_table(rows, chosen.sizes)}", flush=True)
            record[picture] = {"common": plain, "searched": found}
            if chosen.json is not None:
                chosen.json.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    return 0


def _table(rows: dict[str, dict[int, float]], sizes: list[int]) -> str:
    lines = ["| | " + " | ".join(f"P = {size:,}" for size in sizes) + " |", "|---|" + "--:|" * len(sizes)]
    lines += [
        f"| {who} | " + " | ".join(f"{errors[size]:.4f}" for size in sizes) + " |" for who, errors in rows.items()
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
