"""Error against size of everything that was tried."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from itertools import compress, pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from tenfold._along import bonds_along
from tenfold.report._style import (
    HUES,
    INK,
    MARKERS,
    MUTED,
    PAPER,
    TALLEST,
    Panel,
    family,
    figure,
    log_axis,
    number,
    plain,
    shorten,
    style,
    svg,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from tenfold.structure_search import Trial
    from tenfold.verbs.result import Fit
    from tenfold.verbs.search_result import Candidate

# Relative errors at and below this are rounding, and drawn as exact: a little below all others.
_EXACT = 1e-14
# Relative errors above this are far worse than no network at all, and drawn as this.
_WORST = 2.0
_MOST_LABELS = 7
# Ranks that are written behind a name, at most.
_FEW_RANKS = 6


def panel(fit: Fit) -> Panel | None:
    """Error against parameters of all trials, or None where there is nothing to compare."""
    if not compares(fit):
        return None
    fig = figure(6.0, 4.6)
    draw_front(fig.subplots(), fit)
    label = f"{measure(fit).capitalize()} against parameters of {len(fit.front)} structures, both logarithmic"
    worse = not fit.of_loss and any(trial.error > _WORST for trial in _drawable(fit.front))
    return Panel(svg(fig, label), note=f"Errors above {_WORST:g} are drawn at {_WORST:g}." if worse else "", wide=True)


def compares(fit: Fit) -> bool:
    """Whether there are several trials to draw."""
    return len(_drawable(fit.front)) > 1


def draw_front(ax: Axes, fit: Fit) -> None:
    """Put the trials of a fit on the axes, those whose error is a number."""
    trials = _drawable(fit.front)
    style(ax, grid=True)
    if not trials:
        return
    ax.set(xscale="log", yscale="log", xlabel="parameters", ylabel=measure(fit))
    height = _heights(trials, _WORST if not fit.of_loss else TALLEST)
    families: dict[str, list[Trial]] = {}
    for trial in trials:
        families.setdefault(kind(trial), []).append(trial)
    for n, (name, members) in enumerate(families.items()):
        ax.plot(
            [t.parameters for t in members],
            [height[id(t)] for t in members],
            MARKERS[n % len(MARKERS)],
            color=HUES[n % len(HUES)],
            markeredgecolor=PAPER,
            markeredgewidth=0.6,
            markersize=6.5,
            linestyle="none",
            label=name,
            zorder=3,
        )
    best = pareto(trials)
    ax.plot([t.parameters for t in best], [height[id(t)] for t in best], color=MUTED, linewidth=1.2, zorder=2)
    chosen = [t for t in trials if t.chosen]
    if chosen:
        ax.plot(
            [t.parameters for t in chosen],
            [height[id(t)] for t in chosen],
            "o",
            markersize=14,
            markerfacecolor="none",
            markeredgecolor=INK,
            markeredgewidth=1.4,
            zorder=4,
            label="chosen",
        )
    _limits(ax, trials, height)
    _budget(ax, fit, height)
    ax.legend(
        fontsize=8,
        labelcolor=INK,
        frameon=False,
        ncols=min(4, len(families) + 1),
        loc="lower left",
        bbox_to_anchor=(0, 1.0),
        handletextpad=0.3,
        columnspacing=1.2,
        borderpad=0.2,
    )
    log_axis(ax.xaxis)
    log_axis(ax.yaxis)
    _labels(ax, trials, [*chosen, *(t for t in best if not t.chosen)], height)


def kind(trial: Trial | Candidate) -> str:
    """The family of a trial, or the words before its ranks, or the first word that it goes by."""
    words = re.match(r"[a-z]+(?: [a-z]+)*(?= [\d·]+$|$)", trial.name)
    first = words.group() if words else (trial.name.split() or ["other"])[0]
    return family(trial.structure, trial.name) or plain(first)


def measure(fit: Fit) -> str:
    """What the errors of the trials are called: a search with missing cells knows only those on what was held out."""
    held = bool(fit.front) and all(trial.held_out == trial.error for trial in fit.front)
    return "held-out error" if held else fit.measure


def pareto(trials: Sequence[Trial]) -> list[Trial]:
    """The trials that no other beats in both size and error, by size."""
    best: list[Trial] = []
    for trial in sorted(trials, key=lambda t: (t.parameters, t.error)):
        if not best or trial.error < best[-1].error:
            best.append(trial)
    return best


def budget(target: str) -> tuple[str, float] | None:
    """What was asked for, ``"error"`` or ``"parameters"`` with its limit, read from the words of a fit's target."""
    for what, words in (("error", r"error at most (\S+)"), ("parameters", r"at most ([\d,]+) parameters")):
        found = re.fullmatch(words, target)
        if found:
            return what, float(found.group(1).replace(",", ""))
    return None


def _drawable(front: Sequence[Trial]) -> list[Trial]:
    return [t for t in front if math.isfinite(t.error) and t.error >= 0 and t.parameters > 0]


def _heights(trials: Sequence[Trial], worst: float) -> dict[int, float]:
    """Where each trial is drawn, by its id; exact ones would be infinitely far down, and some far above all others."""
    near = {id(t): min(t.error, worst) for t in trials if t.error > _EXACT}
    exact = min(near.values(), default=1e-3) / 5
    return {id(t): near.get(id(t), exact) for t in trials}


def _limits(ax: Axes, trials: Sequence[Trial], height: dict[int, float]) -> None:
    for values, setter in (
        ([t.parameters for t in trials], ax.set_xlim),
        ([height[id(t)] for t in trials], ax.set_ylim),
    ):
        low, high = min(values), max(values)
        room = max((high / low) ** 0.12, 1.35)
        setter(low / room, high * room)


def _budget(ax: Axes, fit: Fit, height: dict[int, float]) -> None:
    asked = budget(fit.target)
    if asked is None or asked[1] <= 0:
        return
    what, value = asked
    line: dict[str, Any] = {"color": HUES[1], "linewidth": 1.1, "linestyle": (0, (5, 3)), "zorder": 1}
    if what == "error":
        low, high = ax.get_ylim()
        ax.set_ylim(min(low, value / 1.3), max(high, value * 1.3))
        ax.axhline(value, **line)
        ax.annotate(
            f"asked: error ≤ {number(value)}",
            (1, value),
            xycoords=("axes fraction", "data"),
            xytext=(-2, 3),
            textcoords="offset points",
            ha="right",
            color=HUES[1],
            size=8,
        )
        return
    low, high = ax.get_xlim()
    ax.set_xlim(min(low, value / 1.3), max(high, value * 1.3))
    ax.axvline(value, **line)
    # At the end of the line that is further from the trials beside it.
    beside = min(_drawable(fit.front), key=lambda t: abs(math.log(t.parameters / value)))
    top = height[id(beside)] < math.sqrt(math.prod(ax.get_ylim()))
    ax.annotate(
        f"asked: parameters ≤ {number(value)}",
        (value, float(top)),
        xycoords=("data", "axes fraction"),
        xytext=(-3, -3 if top else 3),
        textcoords="offset points",
        ha="right",
        va="top" if top else "bottom",
        rotation=90,
        color=HUES[1],
        size=8,
    )


def _labels(ax: Axes, trials: Sequence[Trial], wanted: Sequence[Trial], height: dict[int, float]) -> None:
    """Names at the best trials, each where it covers nothing; those that find no room go without."""
    fig = ax.get_figure(root=True)
    assert fig is not None
    fig.draw_without_rendering()
    points = ax.transData.transform([(t.parameters, height[id(t)]) for t in trials])
    unit = fig.dpi / 72
    taken = [(x - 5 * unit, x + 5 * unit, y - 5 * unit, y + 5 * unit) for x, y in points]
    # Labels also keep off the lines, of which points close together stand in.
    for line in ax.get_lines():
        if line.get_linestyle() != "None" and len(line.get_xdata()) > 1:  # type: ignore[arg-type]
            corners = line.get_transform().transform(np.column_stack(line.get_data()).astype(float))
            for a, b in pairwise(corners):
                for x, y in np.linspace(a, b, max(2, int(np.hypot(*(b - a)) / (3 * unit)))):
                    taken.append((x - unit, x + unit, y - unit, y + unit))
    box = ax.get_window_extent()
    written = 0
    for trial in wanted:
        if written == _MOST_LABELS:
            break
        x, y = ax.transData.transform((trial.parameters, height[id(trial)]))
        text = plain(_with_ranks(trial), 26) + (" (exact)" if trial.error <= _EXACT else "")
        w, h = len(text) * 4.6 * unit, 10 * unit
        for dx, dy, ha in (
            (10, 5, "left"),
            (10, -13, "left"),
            (-10, 5, "right"),
            (-10, -13, "right"),
            (10, 16, "left"),
        ):
            left = x + dx * unit - (w if ha == "right" else 0)
            low = y + dy * unit
            spot = (left, left + w, low, low + h)
            inside = box.x0 <= spot[0] and spot[1] <= box.x1 and box.y0 <= spot[2] and spot[3] <= box.y1
            if inside and not any(spot[0] < b and a < spot[1] and spot[2] < d and c < spot[3] for a, b, c, d in taken):
                ax.annotate(
                    text,
                    (trial.parameters, height[id(trial)]),
                    xytext=(dx, dy),
                    textcoords="offset points",
                    ha=ha,
                    va="bottom",
                    size=8,
                    color=INK,
                    zorder=5,
                )
                taken.append(spot)
                written += 1
                break


def _with_ranks(trial: Trial) -> str:
    """The name of a trial, and its ranks where it does not say them and they are few."""
    ranks = [str(trial.structure.sizes[bond]) for bond in bonds_along(trial.structure)]
    if not 0 < len(ranks) <= _FEW_RANKS or re.search(r"\d|\(", trial.name):
        return trial.name
    return f"{trial.name} {'·'.join(ranks)}"


def rows(fit: Fit) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The lines of the table of trials, smallest first: the front with the chosen one, and all others."""
    best = set(map(id, pareto(_drawable(fit.front))))
    order = sorted(fit.front, key=lambda t: (t.parameters, t.error))
    table = [
        {
            "name": t.name,
            "family": kind(t),
            "pattern": t.structure.pattern,
            "ranks": shorten(", ".join(f"{t.structure.sizes[i]:,}" for i in bonds_along(t.structure)), 28),
            "parameters": f"{t.parameters:,}",
            "ratio": number(t.structure.size / max(t.parameters, 1)),
            "error": number(t.error) if math.isfinite(t.error) else "failed",
            "held_out": "" if t.held_out is None else number(t.held_out),
            "seconds": f"{t.seconds:.2f}",
            "method": t.method,
            "chosen": t.chosen,
            "best": id(t) in best,
        }
        for t in order
    ]
    matters = [row["chosen"] or row["best"] for row in table]
    return list(compress(table, matters)), [row for row, kept in zip(table, matters, strict=True) if not kept]
