"""How much of the speed-up that its operations promise a structured layer reaches beside ``torch.nn.Linear``.

    python -m benchmarks.structured_linear --json benchmarks/results/structured_linear.json

Layers of 2048 features in and out, single precision, without gradients. The promise is the operations of the full
matrix divided by those of the structure; the share is the measured speed-up divided by it. TensorLy-Torch's
`FactorizedLinear` with the same cores is run where it has the structure. All contenders of a case take turns, and the
fastest turn of each counts: the machine may have other work. For one thread its own time is measured, for more of them
the time that passes.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from benchmarks import machine
from tenfold import formats
from tenfold.nn import BlockDiagonalLinear, LinearMap, StructuredLinear, ToeplitzLinear

BATCHES = (1, 32, 256)
# A turn takes at least so long; it is the mean of as many calls as that needs.
_TURN = 1e-3


@dataclass(frozen=True)
class Family:
    """A structured layer, and TensorLy-Torch's layer with the same cores where it has one."""

    name: str
    layer: Callable[[], LinearMap]
    peer: Callable[[], nn.Module] | None = None


@dataclass(frozen=True)
class Row:
    """One family with one batch: seconds of a call in the fastest turn, and what they make."""

    family: str
    batch: int
    threads: int
    numbers: int
    way: str
    promise: float
    dense: float
    ours: float
    speedup: float
    share: float
    peer: float | None


def families(size: int) -> list[Family]:
    """Layers of ``size`` features, 2048 or 64."""
    big = size == 2048
    rows, columns = ((64, 32), (32, 64)) if big else ((8, 8), (8, 8))
    three = (16, 8, 16) if big else (4, 4, 4)
    rank = 8 if big else 2

    def train() -> nn.Module:
        import tltorch

        ranks = (1, rank, rank, 1)
        return tltorch.FactorizedLinear(three, three, bias=True, factorization="blocktt", rank=ranks)

    def structured(structure: object) -> Callable[[], LinearMap]:
        return lambda: StructuredLinear(structure)  # type: ignore[arg-type]

    return [
        Family(f"low rank {size // 32}", structured(formats.low_rank(size, size, size // 32))),
        Family(f"low rank {size // 8}", structured(formats.low_rank(size, size, size // 8))),
        Family("Kronecker", structured(formats.kronecker(rows, columns))),
        Family("Kronecker, 4 terms", structured(formats.kronecker(rows, columns, 4))),
        Family("PHM, n = 4", structured(formats.phm(size, size, 4))),
        Family(f"tensor train, rank {rank}", structured(formats.tensor_train_matrix(three, three, rank)), train),
        Family("Monarch", structured(formats.monarch(rows, columns))),
        Family("block tensor train, rank 2", structured(formats.block_tensor_train(rows, columns, 2))),
        Family("block tensor train, 3 cores, rank 2", structured(formats.block_tensor_train(three, three, 2))),
        Family("Toeplitz", lambda: ToeplitzLinear(size, size)),
        Family(
            f"blocks of {size // 32} + rank {size // 128}",
            lambda: BlockDiagonalLinear([(size // 32, size // 32)] * 32, size // 128),
        ),
    ]


def measured(family: Family, batch: int, threads: int, size: int, rounds: int) -> Row:
    """One row of the table."""
    torch.manual_seed(0)
    layer, full = family.layer().eval(), nn.Linear(size, size).eval()
    x = torch.randn(batch, size)
    runs: dict[str, Callable[[], Tensor]] = {"dense": lambda: full(x), "ours": lambda: layer(x)}
    if family.peer is not None:
        try:
            other = family.peer().eval()
            runs["peer"] = lambda: other(x)
        except ImportError:
            print("tensorly-torch is not installed", file=sys.stderr)
    with torch.no_grad():
        torch.testing.assert_close(layer(x), x @ layer.to_dense().T, rtol=1e-3, atol=1e-3)
        times = taken(runs, rounds, time.thread_time if threads == 1 else time.perf_counter)
    whole = 2 * size * size
    promise = whole / layer.flops(1)
    seconds = {name: min(values) for name, values in times.items()}
    speedup = seconds["dense"] / seconds["ours"]
    (way,) = {way.name for way in layer._execution._chosen.values()}
    return Row(
        family.name,
        batch,
        threads,
        layer.parameters_of_matrix,
        way,
        promise,
        seconds["dense"],
        seconds["ours"],
        speedup,
        speedup / promise,
        seconds.get("peer"),
    )


def taken(runs: dict[str, Callable[[], Tensor]], rounds: int, clock: Callable[[], float]) -> dict[str, list[float]]:
    """Seconds of a call in each turn."""
    calls = {}
    for name, run in runs.items():
        run()
        started = clock()
        run()
        calls[name] = max(1, round(_TURN / max(clock() - started, 1e-7)))
    times: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            # Not timed: the contender before has left its own numbers in the cache, and its own sizes of free memory.
            run()
            started = clock()
            for _ in range(calls[name]):
                run()
            times[name].append((clock() - started) / calls[name])
    return times


def table(rows: Sequence[Row]) -> str:
    """The rows in Markdown."""
    lines = [
        "| layer | batch | threads | numbers | way | flop ratio | dense | ours | speed-up | share | TensorLy-Torch |",
        "|---|--:|--:|--:|---|--:|--:|--:|--:|--:|--:|",
    ]
    for row in rows:
        peer = "" if row.peer is None else f"{1e6 * row.peer:.0f} µs"
        lines.append(
            f"| {row.family} | {row.batch} | {row.threads} | {row.numbers:,} | {row.way} | {row.promise:.1f} | "
            f"{1e6 * row.dense:.0f} µs | {1e6 * row.ours:.0f} µs | {row.speedup:.2f} | {100 * row.share:.0f} % "
            f"| {peer} |"
        )
    return "\n".join(lines) + "\n"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.structured_linear", description=__doc__)
    parser.add_argument("--smoke", action="store_true", help="64 features, two rounds: does everything run?")
    parser.add_argument("--rounds", type=int, default=30, metavar="N", help="turns of each contender (default 30)")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, machine.cores()], metavar="N")
    parser.add_argument("--batches", type=int, nargs="+", default=list(BATCHES), metavar="N")
    parser.add_argument("--only", metavar="WORD", default="", help="families with this word in their name")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the numbers there too")
    chosen = parser.parse_args(arguments)
    size, rounds = (64, 2) if chosen.smoke else (2048, chosen.rounds)
    rows = []
    for threads in dict.fromkeys(chosen.threads):
        with machine.threads(threads):
            for family in families(size):
                if chosen.only not in family.name:
                    continue
                for batch in chosen.batches:
                    rows.append(measured(family, batch, threads, size, rounds))
                    print(table(rows[-1:]).splitlines()[2], flush=True)
    print("\n" + table(rows))
    if chosen.json is not None:
        told = {"machine": machine.description(max(chosen.threads)), "rows": [asdict(row) for row in rows]}
        chosen.json.write_text(json.dumps(told, indent=1), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
