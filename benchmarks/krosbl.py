"""Sparse Bayesian learning with Kronecker structure beside learning without it and matching pursuit: errors and times.

    taskset -c 0 python -m benchmarks.krosbl --trials 10 --json krosbl.json

Seconds are those of the processor, of one thread; all methods take turns on each draw.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

from torch import Tensor

from benchmarks import machine
from tenfold.claims._sparse_recovery import Planted, classic_sbl, kronecker, kronecker_omp, nmse, on_support, planted
from tenfold.completion.am_krosbl import am_krosbl
from tenfold.completion.pc_krosbl import pc_krosbl
from tenfold.completion.svd_krosbl import svd_krosbl

NONZEROS = 3


def _classic(one: Planted) -> Tensor:
    return classic_sbl(one.measured, kronecker(one.dictionaries), one.noise).reshape(one.truth.shape)


METHODS: dict[str, Callable[[Planted], Tensor]] = {
    "svd_krosbl": lambda one: svd_krosbl(one.measured, one.dictionaries, noise=one.noise).mean,
    "am_krosbl": lambda one: am_krosbl(one.measured, one.dictionaries, noise=one.noise).mean,
    "pc_krosbl": lambda one: pc_krosbl(one.measured, one.dictionaries, noise=one.noise).mean,
    "svd_krosbl, noise not known": lambda one: svd_krosbl(one.measured, one.dictionaries).mean,
    "am_krosbl, noise not known": lambda one: am_krosbl(one.measured, one.dictionaries).mean,
    "without structure": _classic,
    "matching pursuit, told the number": lambda one: kronecker_omp(one.measured, one.dictionaries, NONZEROS),
    "least squares, told the places": lambda one: on_support(one.measured, one.dictionaries, one.support),
}


def main(arguments: list[str] | None = None) -> int:
    """Run; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.krosbl", description=__doc__.split("\n")[0])
    parser.add_argument("--trials", type=int, default=10, metavar="N", help="draws (default 10)")
    parser.add_argument("--decibel", type=float, nargs="+", default=[5, 15, 25], help="signal to noise")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the numbers there too")
    parser.add_argument("--smoke", action="store_true", help="the smallest size")
    chosen = parser.parse_args(arguments)
    if chosen.trials < 1:
        parser.error("--trials must be positive")
    size, rows, trials = (15, (8, 12, 15), chosen.trials) if not chosen.smoke else (6, (4, 5, 6), 1)
    print(f"{machine.description(1)['processor']}, load average {os.getloadavg()[0]:.1f}\n")
    print(f"{size}³ entries, {NONZEROS}³ of them not zero, {' × '.join(map(str, rows))} measurements; {trials} draws\n")
    print("| method | dB | error | seconds |")
    print("|---|--:|--:|--:|", flush=True)
    results = []
    with machine.threads(1):
        for decibel in chosen.decibel:
            errors: dict[str, list[float]] = {name: [] for name in METHODS}
            seconds: dict[str, list[float]] = {name: [] for name in METHODS}
            for seed in range(trials):
                one = planted(seed, decibel, size=size, rows=rows, nonzeros=NONZEROS)
                for name, method in METHODS.items():
                    started = time.process_time()
                    found = method(one)
                    seconds[name].append(time.process_time() - started)
                    errors[name].append(nmse(found, one.truth))
            for name in METHODS:
                row = {"method": name, "decibel": decibel, "error": median(errors[name])}
                row["seconds"] = median(seconds[name])
                results.append(row)
                print(f"| {name} | {decibel:g} | {row['error']:.2g} | {row['seconds']:.3f} |", flush=True)
    if chosen.json is not None:
        chosen.json.write_text(json.dumps({"machine": machine.description(1), "results": results}, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
