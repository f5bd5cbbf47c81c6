"""Searchers beside the evaluator that papers on structure search use, on a planted ring with a hidden order.

    python -m benchmarks.planted_ring --seeds 10 --json planted_ring.json

The papers fit each structure by two runs of Adam of 10,000 steps. What a step takes is measured here in plain torch, on
the same tensor with the same cores, contracted along the best path, and what so many evaluations would take follows.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from statistics import median
from typing import Any

import torch

from benchmarks import machine
from tenfold.claims._searches import Run, planted_ring, searched
from tenfold.network import Network
from tenfold.structure import Structure

# The settings of the papers' code: learning rate, steps of one run, runs for each structure.
RATE, STEPS, RUNS = 1e-3, 10_000, 2
# Evaluations at most; what is not found by then counts as all of them.
MOST = 1200
WHO: dict[str, tuple[str, dict[str, Any]]] = {
    "tnale, random start": ("tnale", {"start": "random"}),
    "tnale": ("tnale", {}),
    "tnls": ("tnls", {}),
    "tnga": ("tnga", {}),
    "random search": ("random_search", {}),
    "bound guided": ("bound_guided", {}),
}


def reference(data: torch.Tensor, structure: Structure, steps: int) -> float:
    """Seconds of one evaluation as the papers make it: float32 cores, Adam on the relative squared error."""
    goal = data.float()
    cores = [core.requires_grad_() for core in Network.random(structure, std=0.1, seed=0, dtype=torch.float32).cores]
    optimizer = torch.optim.Adam(cores, lr=RATE)
    total = goal.square().sum()
    started = 0.0
    for step in range(steps + 5):
        if step == 5:  # the first steps find the path
            started = time.perf_counter()
        optimizer.zero_grad()
        loss = (Network(structure, cores).dense() - goal).square().sum() / total
        loss.backward()
        optimizer.step()
    return (time.perf_counter() - started) / steps * STEPS * RUNS


def main(arguments: list[str] | None = None) -> int:
    """Run; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.planted_ring", description=__doc__.split("\n")[0])
    parser.add_argument("--seeds", type=int, default=10, metavar="N", help="planted tensors (default 10)")
    parser.add_argument("--most", type=int, default=MOST, metavar="N", help=f"evaluations at most (default {MOST})")
    parser.add_argument("--only", choices=list(WHO), help="one of the searchers")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the numbers there")
    chosen = parser.parse_args(arguments)
    if chosen.seeds < 1 or chosen.most < 1:
        parser.error("--seeds and --most must be positive")
    target, space, size = planted_ring(0)
    with machine.threads(1):
        evaluation = reference(target.data, space.structure(space.first(4)), 200)
        print(
            f"planted ring of {size} numbers in {target.size}; one evaluation by Adam: {evaluation:.1f} s", flush=True
        )
        print("| searcher | found | evaluations | fits | seconds | the same by Adam | ratio |")
        print("|---|--:|--:|--:|--:|--:|--:|", flush=True)
        rows = {}
        for who, (name, options) in WHO.items():
            if chosen.only not in (None, who):
                continue
            runs: list[Run] = []
            for seed in range(chosen.seeds):
                print(f"{who} {seed}", file=sys.stderr, flush=True)
                runs.append(searched(name, seed, chosen.most, **options))
            rows[who] = row = {
                "found": sum(run.found for run in runs),
                "of": len(runs),
                "counted": [run.counted for run in runs],
                "fits": [run.fits for run in runs],
                "seconds": [run.seconds for run in runs],
            }
            counted, seconds = median(row["counted"]), median(row["seconds"])
            print(
                f"| {who} | {row['found']} of {row['of']} | {counted:g} | {median(row['fits']):g} | {seconds:.1f} | "
                f"{counted * evaluation:,.0f} s | {counted * evaluation / seconds:,.0f} |",
                flush=True,
            )
    if chosen.json is not None:
        record = {"machine": machine.description(1), "evaluation_by_adam": evaluation, "searchers": rows}
        chosen.json.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
