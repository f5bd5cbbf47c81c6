"""How much of the speed that its operations promise a structured convolution reaches beside ``torch.nn.Conv2d``.

    python -m benchmarks.structured_conv --json benchmarks/results/structured_conv.json

Kernels of 3 x 3 from 256 to 256 channels on images of 28 x 28, single precision, without gradients. The promise is the
operations of the full kernel divided by those of the chain; the share is the measured speed-up divided by it.
TensorLy-Torch's `FactorizedConv` of the same ranks is run in each of its implementations, and the fastest counts. All
contenders of a case take turns, and the fastest turn of each counts: the machine may have other work. With one thread
its own time is measured, with more of them the time that passes.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks import machine
from benchmarks.structured_linear import taken
from tenfold import formats
from tenfold.nn import StructuredConv
from tenfold.nn.conv_formats import space_train, tucker2
from tenfold.structure import Structure

BATCHES = (1, 8)


@dataclass(frozen=True)
class Family:
    """A structure of kernels, and what makes TensorLy-Torch's layer of it: arguments, and names of implementations."""

    name: str
    structure: Structure
    peer: dict[str, Any]
    implementations: tuple[str, ...] = ("factorized", "reconstructed")


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
    peer_runs_as: str | None


def families(channels: int) -> list[Family]:
    """Kernels of 3 x 3 between as many channels."""
    shape = (channels, channels, 3, 3)

    def tucker(rank: int) -> Family:
        given = {"factorization": "tucker", "rank": (rank, rank, 3, 3), "fixed_rank_modes": "spatial"}
        return Family(f"Tucker-2, rank {rank}", tucker2(shape, (rank, rank)), given)

    def cp(rank: int) -> Family:
        given = {"factorization": "cp", "rank": rank}
        return Family(f"CP, rank {rank}", formats.cp(shape, rank), given, ("factorized", "mobilenet", "reconstructed"))

    def train(rank: int) -> Family:
        given = {"factorization": "tt", "rank": (1, rank, rank, rank, 1)}
        return Family(f"tensor train, rank {rank}", space_train(shape, (rank,) * 3), given)

    half, quarter, eighth = channels // 2, channels // 4, channels // 8
    ranks = [tucker(half), tucker(quarter), tucker(eighth), cp(channels), cp(half)]
    return [*ranks, train(half), train(quarter)]


def peers(family: Family, channels: int) -> dict[str, nn.Module]:
    """TensorLy-Torch's layers of the same ranks, by their implementation; none where it is not installed."""
    try:
        import tltorch
    except ImportError:
        print("tensorly-torch is not installed", file=sys.stderr)
        return {}
    made = {}
    for name in family.implementations:
        given = {**family.peer, "implementation": name}
        other = tltorch.FactorizedConv(channels, channels, 3, order=2, padding=1, bias=True, **given)
        other.reset_parameters()
        made[name] = other.eval()
    return made


def measured(family: Family, batch: int, threads: int, channels: int, side: int, rounds: int) -> Row:
    """One row of the table."""
    torch.manual_seed(0)
    layer = StructuredConv(family.structure, padding=1).eval()
    full = nn.Conv2d(channels, channels, 3, padding=1).eval()
    x = torch.randn(batch, channels, side, side)
    others = peers(family, channels)
    runs: dict[str, Callable[[], Tensor]] = {"dense": lambda: full(x), "ours": lambda: layer(x)}
    runs |= {name: lambda other=other: other(x) for name, other in others.items()}  # type: ignore[misc]
    with torch.no_grad():
        wanted = nn.functional.conv2d(x, layer.to_dense(), layer.bias, padding=1)
        torch.testing.assert_close(layer(x), wanted, rtol=1e-3, atol=1e-3)
        times = taken(runs, rounds, time.thread_time if threads == 1 else time.perf_counter)
    promise = 2 * batch * side * side * family.structure.size / layer.flops(batch, (side, side))
    seconds = {name: min(values) for name, values in times.items()}
    speedup = seconds["dense"] / seconds["ours"]
    (execution,) = layer._executions.values()
    (way,) = {way.name for way in execution._chosen.values()}
    best = min(others, key=seconds.__getitem__, default=None)
    return Row(
        family.name,
        batch,
        threads,
        layer.parameters_of_kernel,
        way,
        promise,
        seconds["dense"],
        seconds["ours"],
        speedup,
        speedup / promise,
        None if best is None else seconds[best],
        best,
    )


def table(rows: Sequence[Row]) -> str:
    """The rows in Markdown."""
    lines = [
        "| kernel | batch | threads | numbers | way | flop ratio | dense | ours | speed-up | share | TensorLy-Torch |",
        "|---|--:|--:|--:|---|--:|--:|--:|--:|--:|--:|",
    ]
    for row in rows:
        peer = "" if row.peer is None else f"{1e3 * row.peer:.2f} ms, {row.peer_runs_as}"
        lines.append(
            f"| {row.family} | {row.batch} | {row.threads} | {row.numbers:,} | {row.way} | {row.promise:.1f} | "
            f"{1e3 * row.dense:.2f} ms | {1e3 * row.ours:.2f} ms | {row.speedup:.2f} | {100 * row.share:.0f} % "
            f"| {peer} |"
        )
    return "\n".join(lines) + "\n"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.structured_conv", description=__doc__)
    parser.add_argument("--smoke", action="store_true", help="16 channels of 8 x 8, two rounds: does everything run?")
    parser.add_argument("--rounds", type=int, default=20, metavar="N", help="turns of each contender (default 20)")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, machine.cores()], metavar="N")
    parser.add_argument("--batches", type=int, nargs="+", default=list(BATCHES), metavar="N")
    parser.add_argument("--only", metavar="WORD", default="", help="families with this word in their name")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the numbers there too")
    chosen = parser.parse_args(arguments)
    channels, side, rounds = (16, 8, 2) if chosen.smoke else (256, 28, chosen.rounds)
    rows = []
    for threads in dict.fromkeys(chosen.threads):
        with machine.threads(threads):
            for family in families(channels):
                if chosen.only not in family.name:
                    continue
                for batch in chosen.batches:
                    rows.append(measured(family, batch, threads, channels, side, rounds))
                    print(table(rows[-1:]).splitlines()[2], flush=True)
    print("\n" + table(rows))
    if chosen.json is not None:
        told = {"machine": machine.description(max(chosen.threads)), "rows": [asdict(row) for row in rows]}
        chosen.json.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
