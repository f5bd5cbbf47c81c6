"""Products of irreps beside e3nn, e3nn-jax, cuEquivariance, MACE and sphericart, on the same numbers.

    make peers-so3                                  # once: an environment for the peers
    python -m benchmarks.rotations --json rotations.json

Every library does the work three times to warm up; then all of them in turn, again and again. A ratio is the median of
those of single rounds. Results are compared first: one that differs gets no ratio.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks import machine
from benchmarks.harness import paired_ratio
from benchmarks.rotations import ours
from benchmarks.rotations.process import Peer, python_of
from benchmarks.rotations.questions import MODES, Question, numbers

# Who has what, and in which variants.
PEERS: dict[str, tuple[tuple[str, str], ...]] = {
    "full": (("e3nn", ""), ("e3nn", "compiled"), ("e3nn_jax", ""), ("cuequivariance", "")),
    "summed": (("e3nn", ""), ("e3nn", "compiled")),
    "edges": (("e3nn", ""), ("e3nn", "compiled"), ("e3nn_jax", ""), ("cuequivariance", "")),
    "filter": (("e3nn", ""), ("e3nn", "compiled")),
    "contraction": (("mace", ""),),
    "harmonics": (("e3nn", ""), ("e3nn", "compiled"), ("e3nn_jax", ""), ("sphericart", "")),
}
# Those that compute on a GPU as they are run here.
ON_GPUS = ("e3nn", "cuequivariance", "mace")
# Relative to the largest entry: single precision, sums of hundreds of terms.
AGREEMENT = 2e-4


def questions(works: list[str], modes: list[str], smoke: bool) -> Iterator[Question]:
    """The table: each work at its degrees."""
    sizes: dict[str, dict[str, Any]] = {
        "full": {"degrees": (2, 4, 6)},
        "summed": {"degrees": (2, 4, 6, 8, 10)},
        "edges": {"degrees": (1, 2, 3), "edges": 20000},
        "filter": {"degrees": (2, 3, 4, 5, 6), "edges": 20000},
        "contraction": {"degrees": (2,), "channels": 128},
        "harmonics": {"degrees": (2, 4, 6, 10), "rows": 20000, "channels": 1},
    }
    for work in works:
        size = dict(sizes[work])
        degrees = size.pop("degrees")
        if smoke:
            size |= {"rows": 20, "channels": 3} | ({"edges": 30} if "edges" in size else {})
            degrees = degrees[:1]
        for degree in degrees:
            along = degree if work in ("edges", "filter") else 0
            for mode in modes:
                yield Question(work, degree, mode=mode, filter_degree=along, **size)


def measure(question: Question, python: str, rounds: int, seconds: float, threads: int) -> dict[str, Any]:
    """All libraries at one question."""
    given = numbers(question)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        np.savez(folder / "numbers.npz", **given)
        peers = [
            stack.enter_context(Peer(python, library, variant, question, folder / "numbers.npz", threads))
            for library, variant in PEERS[question.work]
            if question.device == "cpu" or library in ON_GPUS
        ]
        # MACE chooses its own weights and tells them after its results.
        asked = 1 if question.mode == "forward" else len([name for name in given if name.startswith("input_")])
        asked += question.mode == "double"
        run, results = ours.prepare(question, given, peers[0].results[asked:] if peers else ())
        differences = [_difference(peer.results[:asked], results) if not peer.missing else None for peer in peers]
        able = [number for number, peer in enumerate(peers) if not peer.missing]
        mine: list[float] = []
        theirs: dict[int, list[float]] = {number: [] for number in able}
        started = time.perf_counter()
        while len(mine) < 3 or (len(mine) < rounds and time.perf_counter() - started < seconds):
            before = time.perf_counter()
            run()
            mine.append(time.perf_counter() - before)
            turn = len(mine) % max(len(able), 1)
            for number in (*able[turn:], *able[:turn]):
                theirs[number].append(peers[number].seconds())
        rows = [{"name": "tenfold", "seconds": statistics.median(mine), "fastest": min(mine), "note": ""}]
        for number, peer in enumerate(peers):
            row: dict[str, Any] = {"name": peer.name, "note": peer.missing}
            if not peer.missing:
                times = theirs[number]
                row |= {"seconds": statistics.median(times), "fastest": min(times), "difference": differences[number]}
                if differences[number] <= AGREEMENT:
                    row["ratio"] = paired_ratio(times, mine)
                else:
                    row["note"] = "no ratio: results differ"
            rows.append(row)
    return {"question": question.as_json(), "label": question.label, "bytes": ours.moved(question, given), "rows": rows}


def _difference(found: list[np.ndarray], expected: list[np.ndarray]) -> float:
    """The largest difference of an entry, relative to the largest entry."""
    pairs = zip(found, expected, strict=True)
    return max(float(np.abs(a - b).max() / max(np.abs(b).max(), 1e-30)) for a, b in pairs)


def bandwidth(device: str) -> float:
    """Bytes in a second that a copy of 256 MB reads and writes, with the threads as they are."""
    source = torch.ones(2**25, device=device)
    target = torch.empty_like(source)
    best = float("inf")
    for _ in range(7):
        before = time.perf_counter()
        target.copy_(source)
        if device == "cuda":
            torch.cuda.synchronize()
        best = min(best, time.perf_counter() - before)
    return 2 * source.nbytes / best


def _gpu(device: str) -> dict[str, str]:
    """What stands in the place of the processor."""
    return {"processor": torch.cuda.get_device_name()} if device == "cuda" else {}


def markdown(record: dict[str, Any]) -> str:
    """One line for each library at each question."""
    rate = record["bandwidth"]
    lines = [
        f"{record['machine']['processor']}, {record['machine']['threads']} threads. "
        f"A copy moves {rate / 1e9:.0f} GB/s; 'passes' is the time in units of reading and writing the data once.",
        "",
        "| work | who | median | ratio | passes | difference | |",
        "|---|---|--:|--:|--:|--:|---|",
    ]
    for case in record["cases"]:
        for number, row in enumerate(case["rows"]):
            seconds = row.get("seconds")
            cells = [
                case["label"] if number == 0 else "",
                row["name"],
                "" if seconds is None else f"{1e3 * seconds:.2f} ms",
                f"{row['ratio']:.1f}" if "ratio" in row else "",
                "" if seconds is None else f"{seconds * rate / case['bytes']:.1f}",
                f"{row['difference']:.0e}" if "difference" in row else "",
                row["note"],
            ]
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def main(arguments: list[str] | None = None) -> int:
    """Run; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.rotations", description=__doc__.splitlines()[0])
    parser.add_argument("--smoke", action="store_true", help="tiny: does everything run?")
    parser.add_argument("--works", nargs="+", choices=list(PEERS), default=list(PEERS))
    parser.add_argument("--modes", nargs="+", choices=MODES, default=list(MODES))
    parser.add_argument("--degrees", nargs="+", type=int, help="only these")
    parser.add_argument("--threads", type=int, default=machine.cores())
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu", help="where torch computes (default cpu)")
    parser.add_argument("--rounds", type=int, default=15, help="at most (default 15)")
    parser.add_argument("--seconds", type=float, default=20.0, help="for each question (default 20)")
    parser.add_argument("--peers", type=Path, default=Path(".venv-peers"), help="their environment")
    parser.add_argument("--json", metavar="FILE", type=Path, help="write the numbers there")
    chosen = parser.parse_args(arguments)
    if chosen.device == "cuda" and not torch.cuda.is_available():
        parser.error("--device cuda: torch finds no GPU here (torch.cuda.is_available() is False); use --device cpu")
    python = python_of(chosen.peers)
    with machine.threads(chosen.threads):
        record: dict[str, Any] = {
            "machine": machine.description(chosen.threads) | _gpu(chosen.device),
            "bandwidth": bandwidth(chosen.device),
            "cases": [],
        }
        for question in questions(chosen.works, chosen.modes, chosen.smoke):
            if chosen.degrees and question.degree not in chosen.degrees:
                continue
            question = replace(question, device=chosen.device)
            rounds, seconds = (3, 1.0) if chosen.smoke else (chosen.rounds, chosen.seconds)
            record["cases"].append(measure(question, python, rounds, seconds, chosen.threads))
            print(question.label, file=sys.stderr, flush=True)
            if chosen.json is not None:
                chosen.json.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    print(markdown(record), end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())
