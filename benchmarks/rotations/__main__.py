"""Products of irreps beside e3nn, e3nn-jax, cuEquivariance, MACE and sphericart, on the same numbers.

    make peers-so3                                  # once: an environment for the peers
    python -m benchmarks.rotations --json rotations.json
    python -m benchmarks.rotations --json rotations.json --continue
    python -m benchmarks.rotations --table rotations.json --into docs/products.md

Every library does the work three times to warm up; then all of them in turn, again and again, each time twice, of which
the second one counts: others' threads, and what they left in the caches, are gone by then. A ratio is the median of
those of single rounds. Results are compared first: one that differs gets no ratio. After the peers our own products are
measured alone, one size growing at a time.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks import machine
from benchmarks.harness import paired_ratio
from benchmarks.resident import growth
from benchmarks.rotations import ours, report
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


def questions(works: list[str], modes: list[str], smoke: bool) -> Iterator[list[Question]]:
    """The table: each work at its degrees, all modes of one together."""
    sizes: dict[str, dict[str, Any]] = {
        "full": {"degrees": (2, 4, 6)},
        "summed": {"degrees": (4, 6, 8, 10)},
        "edges": {"degrees": (1, 2, 3), "edges": 20000},
        "filter": {"degrees": (2, 4, 6), "edges": 20000},
        "contraction": {"degrees": (2,), "channels": 128},
        "harmonics": {"degrees": (2, 4, 6), "rows": 20000, "channels": 1},
    }
    for work in works:
        size = dict(sizes[work])
        degrees = size.pop("degrees")
        if smoke:
            size |= {"rows": 20, "channels": 3} | ({"edges": 30} if "edges" in size else {})
            degrees = degrees[:1]
        for degree in degrees:
            along = degree if work in ("edges", "filter") else 0
            yield [Question(work, degree, mode=mode, filter_degree=along, **size) for mode in modes]


@dataclass(frozen=True)
class Patience:
    """How long is measured: rounds at most, seconds for the rounds of a question, and seconds for getting ready."""

    rounds: int
    seconds: float
    ready: float


def measure(
    group: list[Question], python: str, patience: Patience, threads: int, late: dict[tuple[str, str], str]
) -> Iterator[dict[str, Any]]:
    """All libraries at questions that differ in the mode only: each in one process, which is closed afterwards.

    Args:
        late: why a library was given up at a work; what is found is added, and larger questions are not asked then.
    """
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        peers = [
            stack.enter_context(Peer(python, library, variant, threads, patience.ready))
            for library, variant in PEERS[group[0].work]
            if group[0].device == "cpu" or library in ON_GPUS
        ]
        for peer in peers:
            known = late.get((peer.name, group[0].work))
            if known is not None:
                peer.missing, peer.late = known, True
        for question in group:
            yield _measured(question, peers, folder, patience)
            for peer in peers:
                if peer.late:
                    late.setdefault((peer.name, question.work), f"{peer.missing} at L={question.degree}")


def _measured(question: Question, peers: list[Peer], folder: Path, patience: Patience) -> dict[str, Any]:
    given = numbers(question)
    np.savez(folder / "numbers.npz", **given)
    # All get ready at the same time: compilers take longer than what is measured.
    for peer in peers:
        peer.ask(question, folder / "numbers.npz")
    for peer in peers:
        peer.answer()
    # MACE chooses its own weights and tells them after its results.
    asked = 1 if question.mode == "forward" else len([name for name in given if name.startswith("input_")])
    asked += question.mode == "double"
    run, results = ours.prepare(question, given, peers[0].results[asked:] if peers else ())
    differences = [_difference(peer.results[:asked], results) if not peer.missing else None for peer in peers]
    able = [number for number, peer in enumerate(peers) if not peer.missing]
    memory = growth(run)
    mine: list[float] = []
    theirs: dict[int, list[float]] = {number: [] for number in able}
    started = time.perf_counter()
    while len(mine) < 3 or (len(mine) < patience.rounds and time.perf_counter() - started < patience.seconds):
        run()
        before = time.perf_counter()
        run()
        mine.append(time.perf_counter() - before)
        turn = len(mine) % max(len(able), 1)
        for number in (*able[turn:], *able[:turn]):
            theirs[number].append(peers[number].seconds())
    rows: list[dict[str, Any]] = [
        {"name": "tenfold", "seconds": statistics.median(mine), "fastest": min(mine), "memory": memory, "note": ""}
    ]
    for number, peer in enumerate(peers):
        row: dict[str, Any] = {"name": peer.name, "note": peer.missing}
        if not peer.missing:
            times, off = theirs[number], differences[number]
            assert off is not None
            row |= {"seconds": statistics.median(times), "fastest": min(times), "memory": peer.memory}
            row["difference"] = off
            if off <= AGREEMENT:
                row["ratio"] = paired_ratio(times, mine)
            else:
                row["note"] = "no ratio: results differ"
        rows.append(row)
    return {
        "question": question.as_json(),
        "label": question.label,
        "bytes": ours.moved(question, given),
        "rounds": len(mine),
        "rows": rows,
    }


# What our own products are measured at, one size changing at a time.
GROWTH: dict[str, dict[str, tuple[int, ...]]] = {
    "full": {"degree": (2, 3, 4, 6)},
    "summed": {"degree": (4, 6, 8, 12, 16)},
    "edges": {"degree": (1, 2, 3, 4)},
    "filter": {"degree": (2, 3, 4, 6, 8)},
    "contraction": {},
    "harmonics": {"degree": (2, 4, 6, 8, 10)},
}
_CHANNELS, _ROWS = (16, 32, 64, 128), (250, 500, 1000, 2000, 4000)


def growing(works: list[str], modes: list[str], smoke: bool) -> Iterator[tuple[str, Question]]:
    """What changes, and the question; sizes that do not change are 64 channels, 1000 rows, 10 edges for each."""
    for work in works:
        sizes = dict(GROWTH[work])
        if work != "harmonics":
            sizes["channels"] = _CHANNELS
        sizes["rows"] = _ROWS
        for axis, values in sizes.items():
            for value in values[:2] if smoke else values:
                size = {"degree": 2 if work != "summed" else 6, "channels": 1 if work == "harmonics" else 64}
                size |= {"rows": 1000, axis: value}
                if smoke:
                    size |= {"rows": size["rows"] // 50, "channels": max(1, size["channels"] // 16)}
                if work in ("edges", "filter"):
                    size |= {"edges": 10 * size["rows"], "filter_degree": size["degree"]}
                for mode in modes:
                    yield axis, Question(work, mode=mode, **size)


def grown(axis: str, question: Question, rounds: int, seconds: float) -> dict[str, Any]:
    """Our time for one question: the shortest, as nothing is compared round by round."""
    run, _ = ours.prepare(question, numbers(question))
    times: list[float] = []
    started = time.perf_counter()
    while len(times) < 5 or (len(times) < rounds and time.perf_counter() - started < seconds):
        before = time.perf_counter()
        run()
        times.append(time.perf_counter() - before)
    return {"axis": axis, "question": question.as_json(), "seconds": min(times), "memory": growth(run)}


def _difference(found: list[np.ndarray], expected: list[np.ndarray]) -> float:
    """The largest difference of an entry, relative to the largest entry."""
    pairs = zip(found, expected, strict=True)
    return max(float(np.abs(a - b).max() / max(np.abs(b).max(), 1e-30)) for a, b in pairs)


def bandwidth(device: str, numbers: int = 2**25) -> float:
    """Bytes in a second that a copy of so many numbers reads and writes, with the threads as they are."""
    source = torch.ones(numbers, device=device)
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


def main(arguments: list[str] | None = None) -> int:
    """Run; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.rotations", description=__doc__.splitlines()[0])
    parser.add_argument("--smoke", action="store_true", help="tiny: does everything run?")
    parser.add_argument("--works", nargs="+", choices=list(PEERS), default=list(PEERS))
    parser.add_argument("--modes", nargs="+", choices=MODES, default=list(MODES))
    parser.add_argument("--degrees", nargs="+", type=int, help="only these; growth is left out")
    parser.add_argument("--only", choices=("peers", "growth"), help="one of the two halves")
    parser.add_argument("--threads", type=int, default=machine.cores())
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu", help="where torch computes (default cpu)")
    parser.add_argument("--rounds", type=int, default=15, help="at most (default 15)")
    parser.add_argument("--seconds", type=float, default=4.0, help="for the rounds of each question (default 4)")
    parser.add_argument("--ready", type=float, default=120.0, help="for peers to compile a question (default 120)")
    parser.add_argument("--peers", type=Path, default=Path(".venv-peers"), help="their environment")
    parser.add_argument("--json", metavar="FILE", type=Path, help="write the numbers there, after every question")
    parser.add_argument("--continue", dest="go_on", action="store_true", help="keep what FILE has, measure the rest")
    parser.add_argument("--table", metavar="FILE", type=Path, help="measure nothing, print the tables of such a file")
    parser.add_argument("--into", metavar="PAGE", type=Path, help="with --table: put them into a page of the docs")
    chosen = parser.parse_args(arguments)
    if chosen.device == "cuda" and not torch.cuda.is_available():
        parser.error("--device cuda: torch finds no GPU here (torch.cuda.is_available() is False); use --device cpu")
    if chosen.table is not None:
        text = report.markdown(json.loads(chosen.table.read_text(encoding="utf-8")))
        if chosen.into is None:
            print(text, end="")
        else:
            page = chosen.into.read_text(encoding="utf-8")
            chosen.into.write_text(report.put(text, page), encoding="utf-8")
        return 0
    if chosen.go_on and chosen.json is None:
        parser.error("--continue asks for --json FILE, which has what was measured before")
    python = python_of(chosen.peers)
    patience = Patience(*((3, 1.0) if chosen.smoke else (chosen.rounds, chosen.seconds)), chosen.ready)
    with machine.threads(chosen.threads):
        record: dict[str, Any] = {
            "machine": _machine(chosen.threads, python) | _gpu(chosen.device),
            "bandwidth": bandwidth(chosen.device, 2**20 if chosen.smoke else 2**25),
            "cases": [],
            "growth": [],
        }
        if chosen.go_on and chosen.json.exists():
            before = json.loads(chosen.json.read_text(encoding="utf-8"))
            if before["machine"] != record["machine"]:
                parser.error(f"--continue: {chosen.json} is of another machine or other versions")
            record = {**record, **before}
        for done in _all(chosen, record, python, patience):
            print(done, file=sys.stderr, flush=True)
            if chosen.json is not None:
                chosen.json.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    print(report.markdown(record), end="")
    return 0


def _all(chosen: argparse.Namespace, record: dict[str, Any], python: str, patience: Patience) -> Iterator[str]:
    """Measure what the record has not yet; the name of each question once it is in."""
    known = {case["label"] for case in record["cases"]}
    late: dict[tuple[str, str], str] = {}
    for group in questions(chosen.works, chosen.modes, chosen.smoke) if chosen.only != "growth" else ():
        left = [replace(question, device=chosen.device) for question in group if question.label not in known]
        if not left or (chosen.degrees and group[0].degree not in chosen.degrees):
            continue
        for case in measure(left, python, patience, chosen.threads, late):
            record["cases"].append(case)
            yield case["label"]
    if chosen.only == "peers" or chosen.degrees:
        return
    have = [(point["axis"], Question(**point["question"])) for point in record["growth"]]
    for axis, question in growing(chosen.works, [mode for mode in chosen.modes if mode != "double"], chosen.smoke):
        question = replace(question, device=chosen.device)
        if (axis, question) not in have:
            record["growth"].append(grown(axis, question, 3 * patience.rounds, patience.seconds / 5))
            yield f"{question.label}, growing {axis}"


def _machine(threads: int, python: str) -> dict[str, Any]:
    """Processor, threads, and versions here and in the environment of the peers."""
    packages = ("e3nn", "e3nn-jax", "jax", "cuequivariance-torch", "mace-torch", "sphericart-torch")
    asked = (
        "import importlib.metadata as m\n"
        f"for p in {packages!r}:\n"
        "    try: print(p, m.version(p))\n"
        "    except m.PackageNotFoundError: pass\n"
    )
    try:
        said = subprocess.run([python, "-c", asked], capture_output=True, text=True, check=False, timeout=60).stdout
    except OSError:
        said = ""
    found = machine.description(threads)
    kept = {name: found[name] for name in ("processor", "threads", "python", "tenfold", "torch", "numpy")}
    return kept | dict(line.split() for line in said.splitlines())


if __name__ == "__main__":
    sys.exit(main())
