"""`Compressed`: what the verb `compress` returns."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import nn

from tenfold._tables import columns, facts
from tenfold.compression import Choice, LeftAlone
from tenfold.errors import FileError
from tenfold.nn import stored

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Facts:
    """What is known of a model.

    Attributes:
        bytes: of its parameters and buffers, shared ones once.
        parameters: their number.
        flops: of one call on the example, as torch counts them; None without one.
        seconds: of one call on the example, the lower quartile; None without one.
        metric: what ``evaluate`` says; None without it.
        difference: ``||f(x) - g(x)|| / ||g(x)||`` of its outputs f and the original's g on the data; None without data.
    """

    bytes: int
    parameters: int
    flops: int | None
    seconds: float | None
    metric: float | None
    difference: float | None


@dataclass(frozen=True, eq=False)
class Layer:
    """What was done to one layer.

    Attributes:
        name: in the model.
        kind: ``"linear"``, ``"conv"`` or ``"embedding"``.
        shape: of its weight.
        before: the layer as it was.
        after: what was chosen.
        seconds_before, seconds_after: of one call on what came into it first; None where it never ran.
    """

    name: str
    kind: str
    shape: tuple[int, ...]
    before: Choice
    after: Choice
    seconds_before: float | None
    seconds_after: float | None


@dataclass(frozen=True)
class Point:
    """A point of the trade-off: the share of the bytes, and the relative error of the outputs that is expected."""

    size: float
    error: float


@dataclass(frozen=True, eq=False)
class Compressed:
    """A smaller model, and what it costs and loses beside the one that it was made from.

    Attributes:
        model: the small model, an ordinary module in evaluation mode.
        modules: the modules that took the place of layers, by the layers' names.
        layers: what was done to each layer that could be replaced.
        left_alone: the other layers with weights, and why.
        before, after: the two models.
        untuned: the small model before fine-tuning; None without.
        budget: what was asked for: the share of ``size``, of ``latency``, or of both, or the ``error``.
        curve: the expected error over the size, by the exact allocation.
        uniform: the same with equal shares for all layers.
        epochs: of the fine-tuning.
        threads: torch's, when times were taken.
        warnings: what should be known before the model is used.
        source: what the model is called.
        seconds: the time it took.
        example: the batch that it was timed with.
    """

    model: nn.Module
    modules: Mapping[tuple[str, ...], nn.Module]
    layers: tuple[Layer, ...]
    left_alone: tuple[LeftAlone, ...]
    before: Facts
    after: Facts
    untuned: Facts | None
    budget: Mapping[str, float]
    curve: tuple[Point, ...]
    uniform: tuple[Point, ...]
    epochs: int
    threads: int
    warnings: tuple[str, ...]
    source: str
    seconds: float
    example: Any = field(default=None, repr=False)

    @property
    def size(self) -> float:
        """The share of the bytes that is left."""
        return self.after.bytes / max(self.before.bytes, 1)

    @property
    def speedup(self) -> float | None:
        """How many times faster it is on the example; None without one."""
        if not self.before.seconds or not self.after.seconds:
            return None
        return self.before.seconds / self.after.seconds

    def summary(self) -> dict[str, Any]:
        """All that is known, as JSON knows it."""
        return {
            "source": self.source,
            "budget": dict(self.budget),
            "size": self.size,
            "speedup": self.speedup,
            "threads": self.threads,
            "before": vars(self.before),
            "untuned": None if self.untuned is None else vars(self.untuned),
            "after": vars(self.after),
            "epochs": self.epochs,
            "seconds": self.seconds,
            "layers": [
                {
                    "name": one.name,
                    "kind": one.kind,
                    "shape": list(one.shape),
                    "chosen": one.after.label,
                    "bytes": [one.before.bytes, one.after.bytes],
                    "flops": [one.before.flops, one.after.flops],
                    "seconds": [one.seconds_before, one.seconds_after],
                    "error": one.after.error**0.5,
                }
                for one in self.layers
            ],
            "left_alone": [vars(one) for one in self.left_alone],
            "curve": [[one.size, one.error] for one in self.curve],
            "uniform": [[one.size, one.error] for one in self.uniform],
            "warnings": list(self.warnings),
        }

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the small model as one file; ``tn.nn.load(path, model)`` puts it into the original's class again.

        Raises:
            FileError: the file cannot be written.
        """
        stored.save(path, self.model, self.modules, record=self.summary())

    def export(self, path: str | os.PathLike[str], example: Any = None, *, dynamic_shapes: Any = None) -> None:
        """Write the small model as a program of ``torch.export`` (.pt2), which runs without tenfold.

        Args:
            path: of the file.
            example: one batch, whose first axis becomes free; what the model was timed with by default.
            dynamic_shapes: which axes are free instead, as ``torch.export.export`` takes it.

        Raises:
            TenfoldError: torch cannot export the model, or there is no example.
            FileError: the file cannot be written.
        """
        from tenfold.verbs._exported import export

        export(self.model, path, self.example if example is None else example, dynamic_shapes)

    def plot(self) -> Figure:
        """The trade-off, and what is left of each layer."""
        from tenfold.report.compressed import plot_compressed

        return plot_compressed(self)

    def report(self, path: str | os.PathLike[str], *, saved: str | None = None) -> None:
        """Write a page that opens offline. Raises `FileError` where it cannot be written."""
        from tenfold.report.compressed import write

        write(self, path, saved=saved)

    def __repr__(self) -> str:
        return _told(self.summary())


@dataclass(frozen=True, eq=False)
class CompressedFile:
    """What is in a file that `Compressed.save` wrote, the numbers not read yet.

    Attributes:
        path: of the file.
        record: all that was known of the model, as `Compressed.summary` gives it.
    """

    path: Path
    record: Mapping[str, Any]

    def summary(self) -> dict[str, Any]:
        """All that was known, as JSON knows it."""
        return dict(self.record)

    def into(self, model: nn.Module) -> nn.Module:
        """Put the small model's layers and numbers into the model that it was made from; see `tenfold.nn.load`."""
        return stored.load(self.path, model)

    def __repr__(self) -> str:
        return _told(self.record)


def load_compressed(path: str | os.PathLike[str]) -> CompressedFile:
    """What a file says of the model in it. Raises `FileError` where it holds none, or is damaged."""
    record = stored.record_of(path)
    found = CompressedFile(Path(path).absolute(), record)
    try:
        repr(found)
    except (KeyError, TypeError, ValueError, IndexError, AttributeError, ZeroDivisionError) as cause:
        raise FileError(f"'{path}' has a damaged record of its model ({cause!r})") from cause
    return found


def _told(record: Mapping[str, Any]) -> str:
    """The tables that are printed."""
    before, after, untuned = record["before"], record["after"], record["untuned"]
    rows = [
        ("model", record["source"]),
        ("budget", ", ".join(f"{goal} {bound:g}" for goal, bound in record["budget"].items())),
    ]
    rows.append(("size", f"{_bytes(before['bytes'])} -> {_bytes(after['bytes'])}  ({record['size']:.1%})"))
    if before["flops"] and after["flops"] is not None:
        share = after["flops"] / before["flops"]
        rows.append(("flops", f"{before['flops']:.3g} -> {after['flops']:.3g}  ({share:.1%})"))
    if record["speedup"] is not None:
        was, now, count = 1e3 * before["seconds"], 1e3 * after["seconds"], record["threads"]
        threads = f"{count} thread{'' if count == 1 else 's'}"
        rows.append(("time", f"{was:.4g} ms -> {now:.4g} ms  ({record['speedup']:.2f}x as fast, {threads})"))
    if before["metric"] is not None and after["metric"] is not None:
        tuned = "" if untuned is None else f", {untuned['metric']:.4g} before fine-tuning"
        rows.append(("metric", f"{before['metric']:.4g} -> {after['metric']:.4g}{tuned}"))
    if after["difference"] is not None:
        rows.append(("outputs", f"{after['difference']:.3g} relative difference"))
    rows += [("note", warning) for warning in record["warnings"]]
    table = columns(
        ["layer", "shape", "becomes", "bytes", "flops", "ms", "error"],
        [_row(layer) for layer in record["layers"]],
        right=(3, 4, 5, 6),
    )
    left = "".join(
        f"\nleft alone: {one['name'] or 'the model'} ({one['kind']}): {one['why']}" for one in record["left_alone"]
    )
    return f"{facts(rows)}\n\n{table}{left}"


def _row(layer: Mapping[str, Any]) -> tuple[str, ...]:
    def share(pair: Sequence[float | None]) -> str:
        return "" if not pair[0] or pair[1] is None else f"{pair[1] / pair[0]:.0%}"

    shape = " x ".join(map(str, layer["shape"]))
    parts = (share(layer["bytes"]), share(layer["flops"]), share(layer["seconds"]))
    return layer["name"], shape, layer["chosen"], *parts, f"{layer['error']:.2g}"


def _bytes(count: int) -> str:
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= size:
            return f"{count / size:.3g} {unit}"
    return f"{count} B"
