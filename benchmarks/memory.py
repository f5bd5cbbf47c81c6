"""How much memory a contender needs beyond its input: its work once, in a process of its own.

Linux resets the peak of a process on request, so that making the input does not count.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator

from benchmarks import machine, peers
from benchmarks.resident import growth
from benchmarks.tasks import tasks


def table(name: str, *, smoke: bool, threads: int) -> str:
    """The peaks of all contenders of a task's largest case, as Markdown."""
    lines = [f"### {tasks()[name].TITLE}: memory", "", "| size | who | peak above the input | |", "|---|---|--:|---|"]
    for label, who, peak, note in _peaks(name, smoke=smoke, threads=threads):
        lines.append(f"| {label} | {who} | {'' if peak is None else f'{peak:.0f} MB'} | {note} |")
    return "\n".join(lines) + "\n"


def _peaks(name: str, *, smoke: bool, threads: int) -> Iterator[tuple[str, str, float | None, str]]:
    number, count = 0, 1
    while number < count:
        arguments = [name, str(int(smoke)), str(number), str(threads)]
        done = subprocess.run(
            [sys.executable, "-m", "benchmarks.memory", *arguments],
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        )
        if done.returncode:
            said = done.stderr.strip().splitlines()
            raise RuntimeError(f"measuring memory of {name} ended with {done.returncode}: {said[-1] if said else ''}")
        found = json.loads(done.stdout.splitlines()[-1])
        count = found["count"]
        yield found["label"] if number == 0 else "", found["who"], found["peak"], found["note"]
        number += 1


def main(name: str, smoke: str, number: str, threads: str) -> None:
    """Measure one contender and print what was found as JSON."""
    for package in ("scipy.linalg", "tensorly", "pyttb", "tntorch", "torchtt"):
        peers.load(package)
    case = max(tasks()[name].cases(bool(int(smoke))), key=lambda case: case.entries)
    contender = case.contenders[int(number)]
    peak, note = None, contender.missing
    if not note:
        with machine.threads(int(threads)):
            peak = growth(contender.run)
            if peak is None:
                raise RuntimeError("memory is measured on Linux only")
    found = {"label": case.label, "who": contender.name, "peak": peak, "note": note, "count": len(case.contenders)}
    print(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
