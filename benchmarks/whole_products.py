"""How fast layers of whole numbers are beside floating point and beside torch's own dynamic quantization.

    python -m benchmarks.whole_products

Linear layers of common shapes for 1 to 2048 rows, and convolutions for a batch of images; single precision comes in and
goes out, so that rounding and scaling count. torch's own layer (`torch.ao.nn.quantized.dynamic.Linear`'s operator) has
one scale for all rows. All take turns; for one thread its own time is measured, for more of them the time that passes.
"""

from __future__ import annotations

import argparse
import json
import sys
import warnings
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from benchmarks import machine
from tenfold.compression import seconds
from tenfold.nn import W8A8Conv, W8A8Linear

ROWS = (1, 16, 128, 512, 2048)
SHAPES = ((384, 384), (384, 1536), (1536, 384), (2048, 2048))


@dataclass(frozen=True)
class Row:
    """Seconds and relative errors of a layer; ``torch`` is None where torch has no such layer."""

    layer: str
    rows: int
    floating: float
    ours: float
    error: float
    torch: float | None
    torch_error: float | None


def linear(columns: int, features: int, rows: int, budget: float) -> Row:
    """A linear layer with inputs whose rows are of several sizes, as they are in trained networks."""
    torch.manual_seed(0)
    dense = nn.Linear(columns, features)
    x = torch.randn(rows, columns) * torch.empty(rows, 1).log_normal_()
    layer = W8A8Linear.from_dense(dense.weight, bias=dense.bias).eval()
    return _measured(f"{columns} to {features}", rows, dense, layer, x, _dynamic(dense), budget)


def convolution(channels: int, features: int, kernel: int, side: int, examples: int, budget: float) -> Row:
    """A convolution of images."""
    torch.manual_seed(0)
    dense = nn.Conv2d(channels, features, kernel, padding=kernel // 2)
    layer = W8A8Conv.from_dense(dense, bias=dense.bias).eval()
    x = torch.randn(examples, channels, side, side)
    title = f"{channels} to {features} channels, {kernel} x {kernel}, images of {side} x {side}"
    return _measured(title, examples, dense, layer, x, None, budget)


def _measured(
    title: str,
    rows: int,
    dense: nn.Module,
    layer: nn.Module,
    x: Tensor,
    peer: Callable[[Tensor], Tensor] | None,
    budget: float,
) -> Row:
    runs: list[Callable[[Tensor], Tensor]] = [dense, layer, *([peer] if peer else [])]
    times = seconds([lambda run=run: run(x) for run in runs], budget=budget)
    with torch.no_grad():
        wanted = dense(x)
        errors = [float((run(x) - wanted).norm() / wanted.norm()) for run in runs]
    return Row(title, rows, times[0], times[1], errors[1], times[2] if peer else None, errors[2] if peer else None)


def _dynamic(dense: nn.Linear) -> Callable[[Tensor], Tensor] | None:
    """torch's linear layer of 8 bits, a scale for each row of the weight and one for all inputs."""
    weight = dense.weight.detach()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            scale = weight.abs().amax(dim=1) / 127
            whole = torch.quantize_per_channel(
                weight, scale, torch.zeros(len(weight), dtype=torch.int64), 0, torch.qint8
            )
            packed = torch.ops.quantized.linear_prepack(whole, dense.bias.detach())
    except (AttributeError, RuntimeError):  # a torch without it
        return None
    return lambda x: torch.ops.quantized.linear_dynamic(x, packed, False)


def table(rows: Sequence[Row]) -> str:
    """As Markdown."""
    lines = [
        "| layer | rows | floating point | whole numbers | times as fast | error | torch's | its error |",
        "|---|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for row in rows:
        peer = (
            "| |" if row.torch is None or row.torch_error is None else f"{_time(row.torch)} | {row.torch_error:.2%} |"
        )
        lines.append(
            f"| {row.layer} | {row.rows} | {_time(row.floating)} | {_time(row.ours)} | "
            f"{row.floating / row.ours:.1f} | {row.error:.2%} | {peer}"
        )
    return "\n".join(lines) + "\n"


def _time(value: float) -> str:
    return f"{1e6 * value:.0f} µs"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.whole_products", description=__doc__)
    parser.add_argument("--smoke", action="store_true", help="the smallest of each kind: does everything run?")
    parser.add_argument("--threads", type=int, default=1, metavar="N", help="for torch (default 1)")
    parser.add_argument("--seconds", type=float, default=0.3, metavar="S", help="for each run (default 0.3)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the numbers there too")
    chosen = parser.parse_args(arguments)
    shapes, counts = (SHAPES[:1], ROWS[:1]) if chosen.smoke else (SHAPES, ROWS)
    images = [(32, 64, 3, 14, 32), (64, 64, 3, 14, 32), (64, 128, 1, 28, 32)][: 1 if chosen.smoke else None]
    with machine.threads(chosen.threads):
        rows = [linear(*shape, count, chosen.seconds) for shape in shapes for count in counts]
        rows += [convolution(*one, chosen.seconds) for one in images]
    print(table(rows))
    if chosen.json is not None:
        told = {"machine": machine.description(chosen.threads), "rows": [asdict(row) for row in rows]}
        chosen.json.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
