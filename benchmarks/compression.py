"""``python -m benchmarks.compression``: trained networks made smaller, beside SVD, TensorLy-Torch and torch's own.

For each network: what `tenfold.compress` makes of it in the share of bytes asked for, with all its methods and with
those that keep every number in floating point; and each peer in as many bytes as the latter took. The metric is the
network's own, on data that nobody has seen; latency is measured in turns. Nothing is trained unless ``--epochs`` says
so, and then everyone is trained by the same loop on the same batches.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from torch import nn

import tenfold as tn
from benchmarks import machine
from benchmarks.compress_tasks import NAMES, Task, peers, task
from tenfold.compression import distil, forward, seconds, size_of


@dataclass(frozen=True)
class Row:
    """One network.

    Attributes:
        who: made it.
        size: bytes, as a share of those of the network that was trained.
        metrics: the network's own, the first is the one that counts.
        seconds: of one call on the task's example.
        note: why there is none.
    """

    who: str
    size: float
    metrics: dict[str, float]
    seconds: float
    note: str = ""


def measure(
    chosen: Task, size: float, epochs: int, batches: int | None = None, latency: float | None = None
) -> list[Row]:
    """The network as it was trained and what each makes of it; ``batches`` of calibration at most."""
    original, data, example = chosen.model(), list(chosen.calibration())[:batches], chosen.example()
    whole = size_of(original)[0]

    def ours(**options: Any) -> nn.Module:
        return tn.compress(original, data=data, example=example, progress=False, **options).model

    made: dict[str, nn.Module | str] = {"as trained": original}
    made["tenfold"] = _tried(lambda: ours(size=size))
    made["tenfold, floating point"] = kept = _tried(lambda: ours(size=size, bits=()))
    if latency is not None:
        made[f"tenfold, {latency:g} of the time"] = _tried(lambda: ours(latency=latency))
        made["tenfold, both"] = _tried(lambda: ours(size=size, latency=latency))
    same = size if isinstance(kept, str) else size_of(kept)[0] / whole
    made["truncated SVD"] = _tried(lambda: peers.truncated_svd(original, same))
    made["TensorLy-Torch, Tucker"] = peers.missing() or _tried(lambda: peers.tensorly_torch(original, same))
    if any(isinstance(module, nn.Linear) for module in original.modules()):
        made["torch, dynamic 8 bits"] = peers.torch_dynamic(original)
    there = {who: network for who, network in made.items() if isinstance(network, nn.Module)}
    if epochs:
        training = list(chosen.finetuning())
        for who, network in there.items():
            # What torch has packed cannot be trained.
            if who not in ("as trained", "torch, dynamic 8 bits"):
                _train(network, original, training, epochs)
    times = dict(zip(there, seconds([lambda m=m: forward(m, example) for m in there.values()], budget=3), strict=True))
    rows = []
    for who, network in made.items():
        if isinstance(network, str):
            rows.append(Row(who, float("nan"), {}, float("nan"), network))
            continue
        print(f"  the metric of {who}", file=sys.stderr, flush=True)
        rows.append(Row(who, peers.bytes_of(network) / whole, chosen.metrics(network), times[who]))
    return rows


def _tried(make: Callable[[], nn.Module]) -> nn.Module | str:
    try:
        return make()
    except tn.TenfoldError as cause:
        return str(cause)


def _train(small: nn.Module, original: nn.Module, batches: list[Any], epochs: int) -> None:
    distil(
        small,
        original,
        batches,
        forward,
        epochs=epochs,
        learning_rate=1e-4,
        seed=0,
        tell=lambda step, total, loss: None,
    )


def table(title: str, rows: list[Row]) -> str:
    """As Markdown."""
    name = next(iter(rows[0].metrics))
    lines = [
        f"**{title}**",
        "",
        f"| | bytes | {name} | loss | ms | times as fast |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    best = rows[0]
    for row in rows:
        if row.note:
            lines.append(f"| {row.who} | {row.note} | | | | |")
            continue
        loss = 1 - row.metrics[name] / best.metrics[name]
        lines.append(
            f"| {row.who} | {row.size:.1%} | {row.metrics[name]:.4f} | {loss:.2%} | {1e3 * row.seconds:.1f} |"
            f" {best.seconds / row.seconds:.2f} |"
        )
    return "\n".join([*lines, ""])


def main(arguments: list[str] | None = None) -> int:
    """Run; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.compression", description=__doc__)
    parser.add_argument("--only", metavar="NAME", choices=NAMES, help=f"one of {', '.join(NAMES)}")
    parser.add_argument("--size", metavar="SHARE", type=float, default=0.38, help="of the bytes (default 0.38)")
    parser.add_argument("--latency", metavar="SHARE", type=float, help="of the time, alone and together with the size")
    parser.add_argument("--epochs", metavar="N", type=int, default=0, help="of fine-tuning, for all (default 0)")
    parser.add_argument("--batches", metavar="N", type=int, help="of calibration at most")
    parser.add_argument("--threads", metavar="N", type=int, default=1, help="for every library (default 1)")
    parser.add_argument("--json", metavar="FILE", type=Path, help="write the numbers there")
    parser.add_argument("--smoke", action="store_true", help="digits only: does everything run?")
    chosen = parser.parse_args(arguments)
    record: dict[str, Any] = {"machine": machine.description(chosen.threads), "epochs": chosen.epochs, "tasks": {}}
    names = ["digits_cnn"] if chosen.smoke else [chosen.only] if chosen.only else list(NAMES)
    with machine.threads(chosen.threads):
        for name in names:
            found = task(name)
            if found.missing():
                print(f"{name}: {found.missing()}\n")
                continue
            print(name, file=sys.stderr, flush=True)
            rows = measure(found, chosen.size, chosen.epochs, chosen.batches, chosen.latency)
            record["tasks"][name] = {"title": found.TITLE, "rows": [asdict(row) for row in rows]}
            print(table(found.TITLE, rows), flush=True)
    if chosen.json is not None:
        chosen.json.parent.mkdir(parents=True, exist_ok=True)
        chosen.json.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
