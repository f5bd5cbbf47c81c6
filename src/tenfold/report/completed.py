"""Pictures of a completion: how good its predictions are, what was compared, and where it is off."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from tenfold.report._ruler import Ruler, plain_name
from tenfold.report._style import (
    HUES,
    INK,
    MARKERS,
    MUTED,
    PAPER,
    RULE,
    TALLEST,
    Panel,
    figure,
    log_axis,
    number,
    plain,
    style,
    svg,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from tenfold.verbs._modes import Mode
    from tenfold.verbs.posterior import Posterior

# Inches: pictures that share a row.
_HALF = (5.2, 4.2)
_LOW = (5.2, 3.1)
# Points whose intervals are drawn faintly, and what is drawn at all.
_FAINT = 120
# Counts are drawn on a scale that grows when the largest is above this, and errors when the largest is so many times
# the smallest.
_MANY, _APART = 50, 20
# Bars that have room for names, the longest name, and what fits side by side.
_NAMED = 16
_LONGEST, _LINE = 20, 44
# Levels of a mode of which all residuals are kept; see tenfold.verbs._diagnosis.
_KEPT = 60


def plot_posterior(posterior: Posterior) -> Figure:
    """Predicted against observed, calibration, and the error by rank or, where one was fitted, residuals by mode.

    Without observations that were held out, residuals by mode only.

    Returns:
        A figure 13 by 4.2 inches, not registered with pyplot.
    """
    fig = figure(13, 4.2)
    fig.set_facecolor("white")
    held = posterior.held_out
    wide = [mode for mode in posterior.modes if len(posterior.diagnosis.residuals.get(mode.name, ())) > 1]
    wide.sort(key=lambda mode: -_unevenness(posterior.diagnosis.residuals[mode.name]))
    drawers: list[Any] = []
    if held is not None:
        drawers += [lambda ax: draw_scatter(ax, posterior), lambda ax: draw_calibration(ax, posterior)]
        if _compares(posterior):
            drawers.append(lambda ax: draw_ranks(ax, posterior))
    for mode in wide[: 3 - len(drawers)]:
        drawers.append(lambda ax, mode=mode: draw_residuals(ax, posterior, mode))
    if not drawers:
        drawers.append(lambda ax: draw_epochs(ax, posterior))
    for ax, draw in zip(fig.subplots(1, len(drawers), squeeze=False)[0], drawers, strict=True):
        draw(ax)
    rank = "" if posterior.rank is None else f", rank {posterior.rank}"
    said = "" if held is None else f", RMSE {number(held.rmse, 3)} held out ({_percent(held.explained)} explained)"
    fig.suptitle(
        f"{plain(posterior.source, 50)}: {plain(posterior.value, 30)} by {posterior.method}{rank}{said}",
        color=INK,
        size=11,
    )
    return fig


def fitting(posterior: Posterior) -> list[Panel]:
    """Predicted against observed and the calibration of intervals, where something was held out."""
    held = posterior.held_out
    if held is None:
        return []
    first = figure(*_HALF)
    draw_scatter(first.subplots(), posterior)
    shown = len(held.points)
    outside = sum(not low <= observed <= high for _, observed, low, high in held.points)
    part = f"{shown:,} of {held.count:,}" if shown < held.count else f"{held.count:,}"
    note = (
        f"Each of {part} held-out observations with the 90 % interval of its prediction. The interval of {outside:,} "
        f"(orange, {_percent(outside / shown)}) does not hold what was observed; 10 % are to be expected."
    )
    second = figure(*_HALF)
    draw_calibration(second.subplots(), posterior)
    least, most = held.chance(0.9)
    told = (
        f"How many of {held.count:,} observations are within intervals of each level. Grey: where exact "
        f"intervals would be, for so many observations, in 95 of 100 cases (at 90 %: {_percent(least)} to "
        f"{_percent(most)})."
    )
    if held.kind == "calibration":
        told += " The width of the intervals was set by these very observations, which keeps the curve near the line."
    return [
        Panel(svg(first, "Predicted against observed values"), title="Predicted against observed", note=note),
        Panel(svg(second, "Levels of intervals against the shares they hold"), title="Calibration", note=told),
    ]


def draw_scatter(ax: Axes, posterior: Posterior) -> None:
    """Held-out observations, what was predicted for them and the 0.9 interval."""
    held = posterior.held_out
    assert held is not None
    style(ax, grid=True)
    table, unit = scaled(np.asarray(held.points, dtype=np.float64))
    predicted, observed, low, high = table.T
    inside = (low <= observed) & (observed <= high)
    for chosen, colour in ((inside, HUES[0]), (~inside, HUES[1])):
        if not chosen.any():
            continue
        # All intervals as one path: a page with 1,500 of them stays small.
        xs = np.repeat(observed[chosen], 3)
        ys = np.stack([low[chosen], high[chosen], np.full(int(chosen.sum()), np.nan)], 1).ravel()
        faint = 0.45 if len(observed) <= _FAINT else 0.16
        ax.plot(xs, ys, "-", color=colour, linewidth=0.9, alpha=faint, zorder=2)
        size = 4.0 if len(observed) <= _FAINT else 2.6
        ax.plot(observed[chosen], predicted[chosen], "o", color=colour, markersize=size, markeredgewidth=0, zorder=3)
    # Intervals far beyond all values would leave no room for these.
    both = np.concatenate([observed, predicted])
    ends = np.array([both.min(), both.max()])
    room = 0.06 * (np.ptp(ends) or abs(ends[0]) or 1.0)
    ends += [-room, room]
    ax.plot(ends, ends, "-", color=INK, linewidth=0.9, zorder=4)
    ax.set(xlim=ends, ylim=(max(min(low.min(), ends[0]), ends[0] - np.ptp(ends) / 2), None))
    ax.set_ylim(top=min(max(high.max(), ends[1]), ends[1] + np.ptp(ends) / 2))
    if posterior.counts and observed.max() > _MANY:
        for axis, set_scale in ((ax.xaxis, ax.set_xscale), (ax.yaxis, ax.set_yscale)):
            set_scale("symlog", linthresh=1)
            axis.set_major_formatter(lambda value, _: f"{value:g}")
        ax.set_xlim(left=min(0.0, observed.min()))
        ax.set_ylim(bottom=min(0.0, low.min()))
    value = plain(posterior.value, 28)
    ax.set(xlabel=f"{value} observed{unit}", ylabel=f"predicted{unit}")


def draw_calibration(ax: Axes, posterior: Posterior) -> None:
    """Levels of intervals against the shares of held-out observations within them."""
    held = posterior.held_out
    assert held is not None
    style(ax, grid=True)
    levels = np.linspace(0.01, 0.99, 99)
    low, high = np.array([held.chance(float(level)) for level in levels]).T
    ax.fill_between(levels, low, high, color=RULE, alpha=0.7, linewidth=0, zorder=1)
    ax.plot([0, 1], [0, 1], "-", color=INK, linewidth=0.9, zorder=2)
    curve = np.array(held.curve)
    ax.plot(curve[:, 0], curve[:, 1], "o-", color=HUES[0], markersize=3.6, linewidth=1.4, zorder=3)
    ax.set(xlim=(0, 1), ylim=(0, 1), xlabel="level of the interval", ylabel="share of observations within")
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_formatter(lambda value, _: f"{100 * value:.0f} %")


def ranks(posterior: Posterior) -> Panel | None:
    """Errors of all models that were compared, or None for a single one."""
    if not _compares(posterior):
        return None
    fig = figure(*_HALF)
    draw_ranks(fig.subplots(), posterior)
    note = (
        "Filled: on observations that were held out; hollow: on those it was fitted to. Where the two part, what is "
        "added follows noise. One is the standard deviation of what was held out."
    )
    return Panel(svg(fig, "Error of each model against its rank"), title="Error by model and rank", note=note)


def draw_ranks(ax: Axes, posterior: Posterior) -> None:
    """The held-out and the training error of each model against its rank; those without a rank stand left."""
    from matplotlib.ticker import FixedLocator

    style(ax, grid=True)
    known = [one for one in posterior.tried if one.error is not None]
    found = sorted({one.rank for one in known if one.rank is not None})
    left = any(one.rank is None for one in known)
    place: dict[int | None, float] = {rank: n + left for n, rank in enumerate(found)} | {None: 0.0}
    names = list(dict.fromkeys(one.method for one in known))
    heights = []
    bare = [name for name in names if all(one.rank is None for one in known if one.method == name)]
    for n, name in enumerate(names):
        own = [one for one in known if one.method == name]
        # Those without a rank stand beside one another.
        aside = (bare.index(name) - (len(bare) - 1) / 2) * 0.7 / max(len(bare), 4) if name in bare else 0.0
        xs = np.array([place[one.rank] + aside for one in own])
        errors = np.array([min(float(one.error or 0.0), TALLEST) for one in own])
        training = np.array([np.nan if one.training is None else min(one.training, TALLEST) for one in own])
        colour, marker = HUES[n % len(HUES)], MARKERS[n % len(MARKERS)]
        ax.plot(xs, training, marker + "--", color=colour, markersize=5, markerfacecolor=PAPER, linewidth=1, zorder=3)
        ax.plot(xs, errors, marker + "-", color=colour, markersize=5, linewidth=1.5, zorder=4, label=plain(name, 24))
        heights += [*errors, *training[np.isfinite(training)]]
        for x, error, one in zip(xs, errors, own, strict=True):
            if one.chosen:
                ax.plot(x, error, "o", markersize=13, markerfacecolor="none", markeredgecolor=INK, markeredgewidth=1.4)
    ticks = ([(0.0, "no rank")] if left else []) + [(place[rank], str(rank)) for rank in found]
    ax.xaxis.set_major_locator(FixedLocator([at for at, _ in ticks]))
    ax.set_xticklabels([text for _, text in ticks])
    ax.set_xlim(-0.5, max(at for at, _ in ticks) + 0.5)
    ax.set(xlabel="rank" if found else "", ylabel="error, in standard deviations")
    positive = [height for height in heights if height > 0]
    if positive and len(positive) == len(heights) and max(positive) > _APART * min(positive):
        ax.set_yscale("log")
        log_axis(ax.yaxis)
    else:
        ax.set_ylim(0, 1.12 * max(heights) or 1.0)
    ax.legend(
        fontsize=8,
        labelcolor=INK,
        frameon=False,
        ncols=min(3, len(names)),
        loc="lower left",
        bbox_to_anchor=(0, 1.0),
        borderpad=0.2,
        handletextpad=0.4,
        columnspacing=1.2,
    )


def residuals(posterior: Posterior) -> list[Panel]:
    """How far off the model is along each mode."""
    panels = []
    for mode in posterior.modes:
        rows = posterior.diagnosis.residuals.get(mode.name, [])
        if len(rows) < 2:
            continue
        fig = figure(_LOW[0], _LOW[1] + (0.9 if _upright(mode, rows) else 0.0))
        upper, lower = fig.subplots(2, 1, sharex=True, height_ratios=[3, 1])
        draw_residuals(upper, posterior, mode, counts=lower)
        worst = sorted(rows, key=lambda row: -row["rms"])[:3]
        said = ", ".join(f"{plain_name(row['level'], 30)} ({number(row['rms'], 3)})" for row in worst)
        note = f"Largest at {said}."
        if not mode.continuous and mode.size > len(rows):
            note = f"The {len(rows):,} of {mode.size:,} levels with the largest errors. {note}"
        elif mode.continuous and mode.size > len(rows):
            note = f"In {len(rows):,} stretches. {note}"
        label = f"Root mean square of the residuals along {plain_name(mode.name)}"
        panels.append(Panel(svg(fig, label), title=plain_name(mode.name), note=note))
    return panels


def draw_residuals(ax: Axes, posterior: Posterior, mode: Mode, *, counts: Axes | None = None) -> None:
    """Root mean squares of observed minus predicted along a mode as bars, and their means as points."""
    from matplotlib.ticker import MaxNLocator

    rows = posterior.diagnosis.residuals[mode.name]
    # Bars of a logarithmic mode stand where the model has them, or they would be of different widths.
    ruler = Ruler(mode, codes=mode.log)
    chosen = not mode.continuous and mode.size > len(rows)
    if chosen:
        rows = sorted(rows, key=lambda row: -row["rms"])
    by_name = chosen or (ruler.kind == "name" and not mode.continuous)
    xs = np.arange(len(rows)) if by_name else ruler.positions([row["place"] for row in rows])
    gaps = np.diff(xs)
    width = 0.8 * float(np.median(gaps[gaps > 0]) if (gaps > 0).any() else 1.0)
    heights, unit = scaled(np.array([[row["rms"], row["mean"]] for row in rows]))
    style(ax, grid=True)
    ax.bar(xs, heights[:, 0], width, color=HUES[0], alpha=0.55, linewidth=0, zorder=2, label="root mean square")
    ax.plot(xs, heights[:, 1], "o", color=HUES[1], markersize=3, zorder=3, label="mean")
    ax.axhline(0, color=INK, linewidth=0.8, zorder=2)
    ax.set_ylabel(f"observed − predicted{unit}")
    ax.legend(
        fontsize=8, labelcolor=INK, frameon=False, ncols=2, loc="lower left", bbox_to_anchor=(0, 1.0), borderpad=0.1
    )
    last = ax
    if counts is not None:
        style(counts)
        counts.bar(xs, [row["count"] for row in rows], width, color=MUTED, alpha=0.6, linewidth=0)
        counts.set_ylabel("count")
        counts.yaxis.set_major_locator(MaxNLocator(2, integer=True))
        counts.yaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
        last = counts
    if not by_name:
        ruler.mark(last.xaxis)
        return
    last.set_xlabel(ruler.label + (", worst first" if chosen else ""))
    if len(rows) <= _NAMED:
        last.set_xticks(xs, [plain(row["level"], _LONGEST) for row in rows])
        if _upright(mode, rows):
            last.tick_params(axis="x", labelrotation=90)
    else:
        last.set_xticks([])


def _upright(mode: Mode, rows: list[dict[str, Any]]) -> bool:
    """Whether the names of levels are too long to stand side by side."""
    if len(rows) > _NAMED or (mode.size == len(rows) and Ruler(mode).kind != "name"):
        return False
    return max(min(len(row["level"]), _LONGEST) for row in rows) * len(rows) > _LINE


def epochs(posterior: Posterior) -> Panel | None:
    """The error after each epoch, or None where there were few."""
    if len(posterior.model.errors) < 3:
        return None
    fig = figure(*_HALF)
    draw_epochs(fig.subplots(), posterior)
    note = "On what it was fitted to, as the fit saw it. A curve that still falls at its end asks for more epochs."
    return Panel(svg(fig, "Error after each epoch of the fit"), title="The fit, epoch by epoch", note=note)


def draw_epochs(ax: Axes, posterior: Posterior) -> None:
    """The error as the fit saw it, after each epoch."""
    from matplotlib.ticker import MaxNLocator

    style(ax, grid=True)
    errors = np.clip(np.asarray(posterior.model.errors, dtype=np.float64), -TALLEST, TALLEST)
    ax.plot(np.arange(1, len(errors) + 1), errors, "-" if len(errors) > 1 else "o", color=HUES[0], linewidth=1.4)
    ax.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    ax.set(xlabel="epoch", ylabel="mean deviance" if posterior.counts else "error, in standard deviations")
    known = errors[np.isfinite(errors)]
    if len(known) and known.min() > 0 and known.max() > _APART * known.min():
        ax.set_yscale("log")
        log_axis(ax.yaxis)


def scaled(values: np.ndarray) -> tuple[np.ndarray, str]:
    """Numbers that can be drawn, and their unit: of those far beyond what is usual a power of ten is taken out."""
    known = np.abs(values[np.isfinite(values)])
    largest = float(known.max()) if known.size else 0.0
    if largest == 0 or 1 / TALLEST < largest < TALLEST:
        return values, ""
    power = math.floor(math.log10(largest))
    # In two steps: 1e-320 cannot be divided by at once.
    half = power // 2
    return values / 10.0**half / 10.0 ** (power - half), f" / 1e{power}"


def _compares(posterior: Posterior) -> bool:
    return sum(one.error is not None for one in posterior.tried) > 1


def _unevenness(rows: list[dict[str, Any]]) -> float:
    """How much errors differ along a mode."""
    rms = np.array([row["rms"] for row in rows])
    largest = float(rms.max()) or 1.0
    return float(np.std(rms / largest))


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"
