"""Pictures of a compressed model, and its page."""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Callable
from typing import TYPE_CHECKING

from tenfold._files import atomic
from tenfold.report._style import HUES, INK, MUTED, Panel, figure, log_axis, number, plain, shorten, style, svg, times
from tenfold.report._template import filled, footer, marked

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from tenfold.verbs.compressed import Compressed, Layer

# Layers that a picture has room for, those with the most bytes.
_BARS = 28
_GOALS = {"size": "share of the bytes", "latency": "share of the time", "error": "relative loss"}


def plot_compressed(result: Compressed) -> Figure:
    """The trade-off between size and error, what is left of each layer, and the time beside what its flops promise.

    Returns:
        A figure of 13 by 4.4 inches, not registered with pyplot.
    """
    fig = figure(13, 4.4)
    fig.set_facecolor("white")
    left, middle, right = fig.subplots(1, 3)
    draw_trade_off(left, result)
    draw_bytes(middle, result, 16)
    if _timed(result):
        draw_times(right, result)
    else:
        right.set_axis_off()
    said = f"{number(100 * result.size, 3)} % of the bytes"
    if result.speedup is not None:
        said += f", {number(result.speedup, 3)} times as fast"
    fig.suptitle(plain(f"{result.source}: {said}", 140), color=INK, size=11)
    return fig


def draw_trade_off(ax: Axes, result: Compressed) -> None:
    """The expected error of the outputs over the size, by the exact allocation and with equal shares for all layers."""
    lines = ((result.curve, HUES[0], "-", "best shares"), (result.uniform, MUTED, "--", "equal shares"))
    for points, colour, dash, label in lines:
        shown = [(100 * point.size, point.error) for point in points if point.error > 0]
        if shown:
            ax.plot(*zip(*shown, strict=True), dash, color=colour, linewidth=1.6, label=label)
    if result.after.difference:
        before = result.untuned or result.after
        if before.difference:
            ax.plot(100 * result.size, before.difference, "o", color=HUES[1], markersize=7, label="measured")
        if result.untuned is not None:
            ax.plot(100 * result.size, result.after.difference, "D", color=HUES[2], markersize=7, label="fine-tuned")
    ax.set_yscale("log")
    log_axis(ax.yaxis)
    style(ax, grid=True)
    ax.set(xlabel="bytes, % of the original", ylabel="relative error of the outputs")
    ax.legend(fontsize=8, labelcolor=INK, frameon=False)
    ax.set_title("trade-off", size=9, color=INK)


def draw_bytes(ax: Axes, result: Compressed, most: int = _BARS) -> None:
    """Bytes of the largest layers, before and after."""
    layers = sorted(result.layers, key=lambda one: -one.before.bytes)[:most]
    shown = [one for one in result.layers if one in layers][::-1]
    places = range(len(shown))
    unit, name = (1e6, "megabytes") if layers[0].before.bytes >= 1e6 else (1e3, "kilobytes")
    ax.barh(places, [one.before.bytes / unit for one in shown], color=MUTED, alpha=0.3, height=0.72, label="before")
    ax.barh(places, [one.after.bytes / unit for one in shown], color=HUES[0], height=0.72, label="after")
    ax.set_yticks(list(places), [plain(_short(one.name), 30) for one in shown], fontsize=7)
    style(ax)
    ax.tick_params(axis="y", length=0, labelsize=7)
    ax.set_xlabel(name)
    # Above the bars, which leave no room.
    ax.legend(fontsize=8, labelcolor=INK, frameon=False, loc="lower right", bbox_to_anchor=(1, 1), ncols=2, borderpad=0)
    left_out = len(result.layers) - len(shown)
    ax.set_title("bytes by layer" + (f", the largest {len(shown)}" if left_out else ""), size=9, color=INK, loc="left")


def draw_times(ax: Axes, result: Compressed) -> None:
    """How much faster each changed layer is beside what its flops promise."""
    pairs = [(one, *_ratios(one)) for one in result.layers if one.after.candidate is not None and _known(one)]
    kinds = sorted({one.after.candidate.method for one, *_ in pairs if one.after.candidate is not None})
    for place, kind in enumerate(kinds):
        mine = [(f, t) for one, f, t in pairs if one.after.candidate and one.after.candidate.method == kind]
        ax.plot(*zip(*mine, strict=True), "o", color=HUES[place % len(HUES)], markersize=5, alpha=0.8, label=kind)
    numbers = [value for _, f, t in pairs for value in (f, t)] or [1.0]
    low, high = min(*numbers, 1.0) / 1.15, max(*numbers, 1.0) * 1.15
    ax.plot([low, high], [low, high], color=MUTED, linewidth=0.8, linestyle=(0, (4, 3)))
    ax.set(xscale="log", yscale="log", xlim=(low, high), ylim=(low, high))
    log_axis(ax.xaxis)
    log_axis(ax.yaxis)
    style(ax, grid=True)
    ax.set(xlabel="flops, before / after", ylabel="measured time, before / after")
    if kinds:
        ax.legend(fontsize=8, labelcolor=INK, frameon=False)
    ax.set_title("speed-up of each layer", size=9, color=INK)


def _known(layer: Layer) -> bool:
    return bool(layer.seconds_before and layer.seconds_after and layer.before.flops and layer.after.flops)


def _ratios(layer: Layer) -> tuple[float, float]:
    assert layer.seconds_before
    assert layer.seconds_after
    return layer.before.flops / layer.after.flops, layer.seconds_before / layer.seconds_after


def _timed(result: Compressed) -> bool:
    return any(one.after.candidate is not None and _known(one) for one in result.layers)


def _short(name: str) -> str:
    """The end of a dotted name, which tells layers apart."""
    return shorten(name, 30)


def write(result: Compressed, path: str | os.PathLike[str], *, saved: str | None = None) -> None:
    """Write a compressed model's story as one self-contained HTML page.

    Raises:
        FileError: the file cannot be written; what stood there before is unchanged.
    """
    text = render(result, saved=saved)
    with atomic(os.fspath(path)) as beside:
        beside.write_text(text, encoding="utf-8")


def render(result: Compressed, *, saved: str | None = None) -> str:
    """The page of `write` as text."""
    panels = [
        _panel(
            draw_trade_off,
            result,
            "Error against size",
            "Lines: expected, as the root of the sum over the layers. Points: measured, of the model itself.",
        )
    ]
    if _timed(result):
        panels.append(
            _panel(
                draw_times,
                result,
                "Speed-up against what flops promise",
                "Each point is a layer that was changed; on the dashed line a layer is as fast as its flops say.",
            )
        )
    tall = 1.4 + 0.22 * min(len(result.layers), _BARS)
    bars = _panel(draw_bytes, result, "Bytes by layer", height=max(2.4, tall), width=8.4)
    return filled(
        "compressed.html.j2",
        title=shorten(result.source, 80),
        head={
            "source": result.source,
            "goal": ", ".join(f"{_GOALS[goal]} {bound:g}" for goal, bound in result.budget.items()),
            "layers": len(result.layers),
            "changed": sum(one.after.candidate is not None for one in result.layers),
            "epochs": result.epochs,
            "untuned": None if result.untuned is None else _told(result.untuned.metric, result.untuned.difference),
            "threads": result.threads,
        },
        facts=_facts(result),
        warnings=list(result.warnings),
        panels=[marked(panel) for panel in panels],
        bars=marked(bars),
        rows=[_row(one) for one in result.layers],
        left_alone=[{"name": one.name or "the model", "kind": one.kind, "why": one.why} for one in result.left_alone],
        use=_use(result, saved),
        footer=[line for line in footer(0, _threads(result.threads)) if line[0] != "seed"],
        summary_json=json.dumps(result.summary(), indent=1, ensure_ascii=False),
    )


def _told(metric: float | None, difference: float | None) -> str:
    if metric is not None:
        return f"metric {number(metric)}"
    return f"relative difference {number(difference, 3)}" if difference is not None else ""


def _panel(
    draw: Callable[..., None],
    result: Compressed,
    title: str,
    note: str = "",
    *,
    height: float = 3.6,
    width: float = 5.2,
) -> Panel:
    fig = figure(width, height)
    ax = fig.subplots()
    draw(ax, result)
    ax.set_title("")
    ax.set_title("", loc="left")
    return Panel(svg(fig, title), title, note)


def _facts(result: Compressed) -> list[dict[str, str]]:
    before, after = result.before, result.after
    found = [
        {
            "name": "size",
            "value": f"{number(100 * result.size, 3)} %",
            "note": f"{_megabytes(before.bytes)} → {_megabytes(after.bytes)}",
        }
    ]
    if result.speedup is not None and before.seconds and after.seconds:
        found.append(
            {
                "name": "speed",
                "value": f"{number(result.speedup, 3)} ×",
                "note": f"{number(1e3 * before.seconds, 3)} → {number(1e3 * after.seconds, 3)} ms, measured in turns",
            }
        )
    if before.flops and after.flops is not None:
        found.append(
            {
                "name": "flops",
                "value": f"{number(100 * after.flops / before.flops, 3)} %",
                "note": f"{before.flops:.3g} → {after.flops:.3g} for the example",
            }
        )
    if before.metric is not None and after.metric is not None:
        found.append({"name": "metric", "value": number(after.metric), "note": f"{number(before.metric)} before"})
    if after.difference is not None:
        found.append(
            {"name": "outputs", "value": number(after.difference, 3), "note": "relative difference on the data"}
        )
    found.append({"name": "took", "value": f"{result.seconds:.1f} s", "note": "to compress"})
    return found


def _row(layer: Layer) -> dict[str, str]:
    timed = layer.seconds_before and layer.seconds_after is not None
    return {
        "name": layer.name,
        "shape": times(layer.shape),
        "becomes": layer.after.label,
        "changed": "chosen" if layer.after.candidate is not None else "",
        "bytes": f"{number(100 * layer.after.bytes / max(layer.before.bytes, 1), 3)} %",
        "flops": f"{number(100 * layer.after.flops / layer.before.flops, 3)} %" if layer.before.flops else "",
        "before": f"{number(1e3 * layer.seconds_before, 3)}" if timed and layer.seconds_before else "",
        "after": f"{number(1e3 * layer.seconds_after, 3)}" if timed and layer.seconds_after is not None else "",
        "error": number(layer.after.error**0.5, 2) if layer.after.error else "0",
    }


def _use(result: Compressed, saved: str | None) -> dict[str, str]:
    place = json.dumps(saved or "small.tn", ensure_ascii=False)
    first = [] if saved else [f"result.save({place})   # once, where it was made"]
    lines = ["# model: the original's class, whatever its numbers", f"model = tn.nn.load({place}, model)"]
    # What was made in Python has no name that the command line could find.
    named = ":" in result.source or "/" in result.source or "." in result.source
    budget = " ".join(f"--{goal} {bound:g}" for goal, bound in result.budget.items())
    terminal = f"tenfold compress {shlex.quote(result.source)} {budget}"
    if result.epochs:
        terminal += f" --finetune {result.epochs}"
    if not result.source.startswith("sample:"):
        terminal += "\n# and --data, --metric, --into, --forward as they were given"
    return {
        "python": "\n".join(["import tenfold as tn", "", *first, *lines]),
        "terminal": terminal if named else "",
    }


def _threads(count: int) -> str:
    return f"{count} thread{'' if count == 1 else 's'}"


def _megabytes(count: int) -> str:
    return f"{number(count / 1e6, 3)} MB" if count >= 1e5 else f"{number(count / 1e3, 3)} kB"
