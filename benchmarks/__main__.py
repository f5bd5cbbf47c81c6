"""``python -m benchmarks``: run the tasks, print their tables."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from benchmarks import machine, memory, peers, report
from benchmarks.harness import measure
from benchmarks.tasks import tasks


def main(arguments: list[str] | None = None) -> int:
    """Run; returns the exit status."""
    known = tasks()
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Measure tenfold beside its peers.")
    parser.add_argument("--smoke", action="store_true", help="tiny sizes, two rounds: does everything run?")
    parser.add_argument("--only", metavar="NAME", choices=list(known), help=f"one of {', '.join(known)}")
    parser.add_argument("--json", metavar="FILE", type=Path, help="write the numbers there")
    parser.add_argument("--threads", metavar="N", type=int, default=machine.cores(), help="for every library")
    parser.add_argument("--rounds", metavar="N", type=int, default=7, help="at most so many (default 7)")
    parser.add_argument("--memory", action="store_true", help="peaks of memory on the largest size instead of times")
    parser.add_argument("--table", metavar="FILE", type=Path, help="measure nothing, print the tables of such a file")
    chosen = parser.parse_args(arguments)
    if chosen.table is not None:
        print(report.markdown(json.loads(chosen.table.read_text(encoding="utf-8"))), end="")
        return 0
    if not 1 <= chosen.threads <= machine.cores():
        parser.error(f"--threads {chosen.threads} is not between 1 and {machine.cores()}, the cores there are")
    if chosen.rounds < 1:
        parser.error(f"--rounds {chosen.rounds} is not positive")
    if chosen.memory:
        names = [chosen.only] if chosen.only else [name for name in known if name != "import_time"]
        print("\n".join(memory.table(name, smoke=chosen.smoke, threads=chosen.threads) for name in names), end="")
        return 0
    for package in ("scipy.linalg", "tensorly", "pyttb", "tntorch", "torchtt"):
        peers.load(package)
    numba, _ = peers.load("numba")
    if numba is not None:
        numba.get_num_threads()  # loads its threads, which are OpenMP's
    measured = {}
    with machine.threads(chosen.threads):
        gemm = machine.gemm_gflops(300, 1) if chosen.smoke else machine.gemm_gflops()
        for name in [chosen.only] if chosen.only else known:
            outcomes = []
            for case in known[name].cases(chosen.smoke):
                print(f"{name} {case.label}", file=sys.stderr, flush=True)
                outcomes.append(measure(case, rounds=2 if chosen.smoke else chosen.rounds, seconds=6))
                machine.check(chosen.threads)
            measured[name] = (known[name].TITLE, outcomes)
    record = report.record(machine.description(chosen.threads), gemm, measured)
    print(report.markdown(record), end="")
    if chosen.json is not None:
        chosen.json.parent.mkdir(parents=True, exist_ok=True)
        chosen.json.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    own = [outcome.rows[0] for _, outcomes in measured.values() for outcome in outcomes]
    broken = [f"{row.name}: {row.note}" for row in own if row.seconds is None]
    for line in broken:
        print(line, file=sys.stderr)
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
