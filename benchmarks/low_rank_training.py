"""Training in low rank beside dense training, and beside truncating afterwards: accuracy at rank, and seconds a step.

    taskset -c 0 python -m benchmarks.low_rank_training --json low_rank_training.json

Accuracy is on handwritten digits, 1,400 pictures to train on and 397 to test on, drawn anew for each of three seeds;
the same epochs, batches and learning rates (AdamW, falling to zero) for everybody. Ranks are given, so that all have
the same. *truncated* is the dense network after SVDs, or higher-order SVDs of its convolutions; *fine-tuned* is that
network after as many epochs more, which is twice the training of the others.

Seconds are those of the processor for one step of one thread, the mean of five; what is compared takes turns, and
medians are given.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from benchmarks import machine
from tenfold.claims._digits import Digits, accuracy, convolutional, digits, numbers_of, perceptron, train
from tenfold.nn.low_rank import DLRT, TDLRT, Maestro, Scheme, TrainedRankPruning

Numbers = dict[str, Any]
Make = Callable[[nn.Module, Mapping[str, int]], Scheme]


# Steps that are timed together: from one projection of trained rank pruning to the next.
PERIOD = 5


def tucker(ranks: Mapping[str, int]) -> dict[str, tuple[int, int]]:
    return {name: (rank, rank) for name, rank in ranks.items()}


# Schemes at ranks that are given, on networks of linear layers; and of convolutions.
LINEAR: dict[str, Make] = {
    "DLRT": lambda m, r: DLRT(m, tolerance=0.01, lr=0.5, max_rank=r, min_rank=1, only=list(r)),
    "DLRT, fixed rank": lambda m, r: DLRT(m, tolerance=None, lr=0.5, rank=r, max_rank=r, min_rank=1, only=list(r)),
    "TrainedRankPruning": lambda m, r: TrainedRankPruning(m, rank=r, period=PERIOD, only=list(r)),
    "Maestro": lambda m, r: Maestro(m, rank=r, penalty=0.0, only=list(r)),
}
CONVOLUTIONAL: dict[str, Make] = LINEAR | {
    "TDLRT": lambda m, r: TDLRT(m, tolerance=0.01, lr=0.5, rank=tucker(r), max_rank=r, min_rank=1, only=list(r)),
}


def truncated(model: nn.Module, ranks: Mapping[str, int], *, modes: bool) -> nn.Module:
    """A trained network after SVDs, or after higher-order ones."""
    copy = deepcopy(model)
    if modes:
        return TDLRT(copy, rank=tucker(ranks), min_rank=1, only=list(ranks)).finish()
    return TrainedRankPruning(copy, rank=ranks, only=list(ranks)).finish()


def at_rank(kind: str, rank: int, seeds: int, epochs: int) -> Numbers:
    """Mean accuracy of everybody at one rank."""
    linear = kind == "two hidden layers of 128"
    names = ("1", "3") if linear else ("2", "4")
    ranks, schemes = dict.fromkeys(names, rank), LINEAR if linear else CONVOLUTIONAL
    found: dict[str, list[float]] = {}
    sizes: dict[str, int] = {}

    def note(name: str, model: nn.Module, data: Digits) -> None:
        found.setdefault(name, []).append(accuracy(model, data))
        sizes[name] = numbers_of(model)

    for seed in range(seeds):
        data = digits(seed)

        def begin(number: int = seed) -> nn.Sequential:
            return perceptron(number) if linear else convolutional(number)

        dense = begin()
        train(dense, data, epochs=epochs, seed=seed)
        note("dense", dense, data)
        for modes in (False,) if linear else (False, True):
            cut = truncated(dense, ranks, modes=modes)
            what = "higher-order SVD" if modes else "SVD"
            note(f"dense, truncated by {what}", cut, data)
            train(cut, data, epochs=epochs, seed=seed)
            note(f"dense, truncated by {what}, fine-tuned", cut, data)
        for name, make in schemes.items():
            model = begin()
            scheme = make(model, ranks)
            train(model, data, epochs=epochs, seed=seed, scheme=scheme)
            note(name, scheme.finish(), data)
    means = {name: statistics.mean(values) for name, values in found.items()}
    return {"network": kind, "rank": rank, "accuracy": means, "numbers": sizes}


def steps(network: str, rank: int, repeats: int, *, width: int, batch: int) -> Numbers:
    """Median seconds of one step of everybody at one rank."""
    generator = torch.Generator().manual_seed(0)
    linear = network == "linear"

    def begin() -> nn.Sequential:
        return perceptron(0, width) if linear else convolutional(0, width)

    names = ("3",) if linear else ("2", "4")
    ranks, schemes = dict.fromkeys(names, rank), LINEAR if linear else CONVOLUTIONAL
    pictures = torch.rand(batch, 1, 8, 8, generator=generator)
    labels = torch.randint(10, (batch,), generator=generator)
    runs: dict[str, Callable[[], object]] = {}

    def ordinary(model: nn.Module) -> Callable[[], object]:
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)

        def step() -> None:
            optimizer.zero_grad()
            cross_entropy(model(pictures), labels).backward()
            optimizer.step()

        return step

    def of(model: nn.Module, make: Make) -> Callable[[], object]:
        scheme = make(model, ranks)
        if isinstance(scheme, DLRT | TDLRT):
            scheme.lr = 1e-3
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)

        def loss() -> Tensor:
            return cross_entropy(model(pictures), labels)

        return lambda: scheme.step(loss, optimizer)

    runs["dense"] = ordinary(begin())
    runs["dense, truncated by SVD, fine-tuned"] = ordinary(truncated(begin(), ranks, modes=False))
    for name, make in schemes.items():
        runs[name] = of(begin(), make)
    took: dict[str, list[float]] = {name: [] for name in runs}
    for turn in range(repeats + 1):
        for name, run in runs.items():
            started = time.process_time()
            for _ in range(PERIOD):
                run()
            if turn:  # the first is to warm up
                took[name].append((time.process_time() - started) / PERIOD)
    medians = {name: statistics.median(values) for name, values in took.items()}
    what = f"{width} to {width} features" if linear else f"two 3 x 3 convolutions of {width} channels"
    return {"what": f"{what}, batch {batch}", "rank": rank, "seconds": medians}


def tables(record: Numbers) -> str:
    parts = []
    for found in record["accuracy"]:
        parts += [f"### {found['network']}, rank {found['rank']}", "", "| who | accuracy | numbers |", "|---|--:|--:|"]
        parts += [f"| {n} | {a:.1%} | {found['numbers'][n]:,} |" for n, a in found["accuracy"].items()]
        parts.append("")
    for found in record["steps"]:
        first = found["seconds"]["dense"]
        parts += [
            f"### A step: {found['what']}, rank {found['rank']}",
            "",
            "| who | time | of dense |",
            "|---|--:|--:|",
        ]
        parts += [f"| {n} | {1e3 * s:.2f} ms | {s / first:.2f} |" for n, s in found["seconds"].items()]
        parts.append("")
    return "\n".join(parts)


def measured(*, smoke: bool, seeds: int, repeats: int) -> Numbers:
    if smoke:
        return {
            "accuracy": [at_rank("two hidden layers of 128", 4, 1, 1)],
            "steps": [steps("linear", 4, 1, width=32, batch=4), steps("convolutional", 4, 1, width=8, batch=4)],
        }
    return {
        "accuracy": [
            *(at_rank("two hidden layers of 128", rank, seeds, 30) for rank in (4, 8)),
            *(at_rank("three convolutions of 32 channels", rank, seeds, 20) for rank in (4, 8)),
        ],
        "steps": [
            steps("linear", 32, repeats, width=512, batch=64),
            steps("linear", 64, repeats, width=1024, batch=256),
            steps("convolutional", 16, repeats, width=64, batch=64),
        ],
    }


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.low_rank_training", description=__doc__)
    parser.add_argument("--json", type=Path, help="where to keep the numbers")
    parser.add_argument("--smoke", action="store_true", help="tiny sizes: does everything run?")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--repeats", type=int, default=15)
    given = parser.parse_args()
    with machine.threads(1):
        record = measured(smoke=given.smoke, seeds=given.seeds, repeats=given.repeats)
        record["machine"] = machine.description(1)
    if given.json:
        given.json.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    sys.stdout.write(tables(record))


if __name__ == "__main__":
    main()
