"""Pictures of a search: the network beside its rivals, the path that led to it, and what costs what."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from tenfold.report._style import (
    HUES,
    INK,
    MUTED,
    PAPER,
    RULE,
    SEQUENTIAL,
    TALLEST,
    Panel,
    figure,
    log_axis,
    number,
    plain,
    style,
    svg,
)
from tenfold.report.drawing import draw, draw_alike
from tenfold.report.front import draw_front, kind
from tenfold.structure import Structure
from tenfold.structure_search.objectives import ErrorWithin, SizeWithin
from tenfold.structure_search.pareto import non_dominated

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from tenfold.verbs.search_result import Candidate, Search

# Networks of the front that are drawn beside the one that was found.
_RIVALS = 3
# How many times smaller or larger a rival is, so that there is something to choose.
_APART = 1.25
# Errors at and below this are zero to rounding, which is nothing to tell structures apart by.
_EXACT = 1e-7
# How many times the best value the path reaches up to.
_TALLEST = 1e4
# The fewest points that a picture of what costs what is made of.
_FEW = 3
# Inches: how wide a network is drawn that shares a row with another, and the size of other pictures that do.
_WIDEST = 5.4
_HALF = (5.6, 4.0)
_RING: dict[str, Any] = {
    "markersize": 12,
    "linestyle": "none",
    "markerfacecolor": "none",
    "markeredgecolor": INK,
    "markeredgewidth": 1.4,
}


def plot_search(search: Search) -> Figure:
    """The network, the front and the path of a search.

    Returns:
        A figure 13 by 4.2 inches, not registered with pyplot.
    """
    fig = figure(13, 4.2)
    fig.set_facecolor("white")
    left, middle, right = fig.subplots(1, 3)
    draw(search.structure, left, names=[str(name) for name in search.fit.dims])
    draw_front(middle, search.fit)
    draw_path(right, search)
    fig.suptitle(
        plain(
            f"{search.fit.subject}: {search.parameters:,} parameters, error {number(search.error)}, "
            f"{search.counted:,} evaluations",
            90,
        ),
        color=INK,
        size=11,
    )
    return fig


def rivals(search: Search) -> list[Panel]:
    """The network that was found, those next to it on the front and one of another kind, at one scale; nothing where it
    is alone on the front.
    """
    chosen = _chosen(search)
    others = _rivals(search, chosen)
    if not others:
        return []
    names = [str(name) for name in search.fit.dims]
    shown = [chosen, *others]
    figures = draw_alike([one.structure for one in shown], _WIDEST, names=names)
    panels = []
    for one, fig in zip(shown, figures, strict=True):
        found = one is chosen
        label = f"Network of {len(one.structure.terms)} cores with {one.parameters:,} parameters"
        note = _measured(search, chosen) if found else _compared(search, one, chosen)
        title = f"{'Found' if found else _against(one, chosen)}: {one.name}"
        panels.append(Panel(svg(fig, label), title=title, note=note))
    return panels


def path(search: Search) -> Panel | None:
    """What was minimised for one network after the other, or None for a single one."""
    if len(search.history) < 2:
        return None
    fig = figure(*_HALF)
    draw_path(fig.subplots(), search)
    label = f"What was minimised for each of {len(search.history)} networks, and the best so far"
    return Panel(svg(fig, label), title="The best so far", note=heights(search))


def draw_path(ax: Axes, search: Search) -> None:
    """Each network in the order in which they were fitted, and the best so far."""
    from matplotlib.ticker import MaxNLocator

    style(ax, grid=True)
    history = search.history
    values = np.array([_height(search, one) for one in history])
    known = np.isfinite(values)
    values = np.where(known, np.clip(values, -TALLEST, TALLEST), np.nan)
    positive = bool(known.any() and (values[known] > 0).all())
    met = np.array([search.objective.met(one.parameters, one.error) for one in history])
    best = _best_so_far(search)
    # What is far worse than the rest would leave no room for the others; it is drawn at the upper edge.
    if positive and known[best[-1]]:
        values = np.minimum(values, _TALLEST * values[best[-1]])
    place = np.arange(1, len(history) + 1)
    able, unable = met & known, ~met & known
    inside, outside = _sides(search)
    if unable.any():
        ax.plot(place[unable], values[unable], "o", **_dots(MUTED, hollow=True), label=outside, zorder=2)
    if able.any():
        ax.plot(place[able], values[able], "o", **_dots(HUES[0]), label=inside, zorder=3)
    ends = np.append(place, len(history) + 0.5)
    lows = np.append(values[best], values[best[-1]])
    first = int(np.argmax(met)) if met.any() else len(history)
    line: dict[str, Any] = {"where": "post", "color": HUES[1], "zorder": 4}
    if first:
        until = slice(0, first + 1)
        ax.step(ends[until], lows[until], linewidth=1.2, linestyle=(0, (4, 2)), label="nearest so far", **line)
    if first < len(history):
        ax.step(ends[first:], lows[first:], linewidth=1.8, label="best so far", **line)
    ax.plot(place[best[-1]], values[best[-1]], "o", **_RING, label="found", zorder=5)
    common = sum(one.counted == 0 for one in history)
    if 0 < common < len(history):
        ax.axvspan(0.5, common + 0.5, color=RULE, alpha=0.4, linewidth=0, zorder=0)
        for at, ha, text in ((0.5, "left", " common formats"), (len(history) + 0.5, "right", f"{search.method} ")):
            ax.annotate(
                text,
                (at, 1),
                xycoords=("data", "axes fraction"),
                xytext=(0, -2),
                textcoords="offset points",
                ha=ha,
                va="top",
                size=8,
                color=MUTED,
            )
    ax.set(xlabel="networks, in the order in which they were fitted", ylabel=_called(search))
    ax.set_xlim(0.5, len(history) + 0.5)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    if positive:
        ax.set_yscale("log")
        low, high = ax.get_ylim()
        # Room for the words at the top.
        ax.set_ylim(low, high * (high / low) ** 0.1)
        log_axis(ax.yaxis)
    _legend(ax)


def sizes_and_flops(search: Search) -> Panel | None:
    """Size, cost and error of all, or None where there are too few to compare."""
    table = _table(search)
    if len({row[:2] for row in table}) < _FEW:
        return None
    fig = figure(*_HALF)
    draw_costs(fig, fig.subplots(), table, search)
    note = (
        f"Each network by how many numbers it holds and what it costs to contract it to the whole array; the darker, "
        f"the smaller the {search.measure}. Large points are beaten by no other in size, cost and {search.measure} "
        f"at once."
    )
    return Panel(svg(fig, "Parameters and cost of contraction of each network"), title="What costs what", note=note)


def draw_costs(fig: Figure, ax: Axes, table: list[tuple[int, float, float]], search: Search) -> None:
    """Points of parameters and flops, coloured by the error of ``(parameters, flops, error)``."""
    from matplotlib.colors import LogNorm

    style(ax, grid=True)
    front = set(non_dominated(table, lambda row: row))
    low = max(min(row[2] for row in table), _EXACT)
    # An error above that of no network at all is as bad as that.
    high = max(min(max(row[2] for row in table), 1.0 if not search.of_loss else TALLEST), 1.01 * low)
    # The best last, so that nothing covers it.
    rows = sorted(table, key=lambda row: (row in front, -row[2]))
    points = ax.scatter(
        [row[0] for row in rows],
        [row[1] for row in rows],
        s=[52 if row in front else 16 for row in rows],
        c=[min(max(row[2], low), high) for row in rows],
        norm=LogNorm(low, high),
        cmap=SEQUENTIAL,
        edgecolors=[PAPER if row in front else "none" for row in rows],
        linewidths=0.7,
        zorder=3,
    )
    chosen = _chosen(search)
    ax.plot(chosen.parameters, _flops(chosen.structure), "o", **_RING, label="found", zorder=4)
    ax.set(xscale="log", yscale="log", xlabel="parameters", ylabel="flops of one contraction")
    ax.margins(0.08)
    log_axis(ax.xaxis)
    log_axis(ax.yaxis)
    _legend(ax)
    bar = fig.colorbar(points, ax=ax, pad=0.02, aspect=28)
    bar.outline.set_visible(False)
    bar.ax.tick_params(which="both", colors=MUTED, labelsize=8)
    bar.set_label(search.measure, color=INK, size=9)
    log_axis(bar.ax.yaxis)


def _legend(ax: Axes) -> None:
    ax.legend(
        fontsize=8,
        labelcolor=INK,
        frameon=False,
        ncols=3,
        loc="lower left",
        bbox_to_anchor=(0, 1.0),
        borderpad=0.2,
        handletextpad=0.3,
        columnspacing=1.2,
    )


def _dots(colour: str, *, hollow: bool = False) -> dict[str, Any]:
    return {
        "markersize": 4,
        "color": colour,
        "markerfacecolor": "none" if hollow else colour,
        "markeredgecolor": colour if hollow else PAPER,
        "markeredgewidth": 0.7 if hollow else 0.4,
    }


def _best_so_far(search: Search) -> list[int]:
    """For each network that was fitted the place of the best until then."""
    best: list[int] = []
    ranks = [search.objective.rank(one.parameters, one.error) for one in search.history]
    for place, rank in enumerate(ranks):
        best.append(place if not best or rank < ranks[best[-1]] else best[-1])
    return best


def _table(search: Search) -> list[tuple[int, float, float]]:
    """Parameters, flops and error of each structure once, the least error of those fitted twice."""
    least: dict[str, tuple[int, float, float]] = {}
    for one in search.history:
        if not math.isfinite(one.error):
            continue
        key = one.structure.key
        if key not in least or one.error < least[key][2]:
            least[key] = (one.parameters, _flops(one.structure), one.error)
    return list(least.values())


def _flops(structure: Structure) -> float:
    """Of one contraction; an array that is its own only core has none, which no logarithm can show."""
    return float(max(structure.cost().flops, 1))


def _chosen(search: Search) -> Candidate:
    key = search.structure.key
    return min((one for one in search.history if one.structure.key == key), key=lambda one: one.error)


def _rivals(search: Search, chosen: Candidate) -> list[Candidate]:
    """Those nearest to it on the front, on either side, that are more than a little smaller or larger, and the best of
    another kind; where there is none, one more of the front.
    """
    others = [one for one in search.front if one.structure.key != chosen.structure.key]
    apart = [one for one in others if abs(math.log(one.parameters / chosen.parameters)) > math.log(_APART)] or others
    near = sorted(apart, key=lambda one: abs(math.log(one.parameters / chosen.parameters)))
    smaller = [one for one in near if one.parameters < chosen.parameters]
    larger = [one for one in near if one.parameters >= chosen.parameters]
    picked = [*smaller[:1], *larger[:1]]
    shown = {kind(one) for one in (chosen, *picked)}
    # What shares nothing, and the array as its only core, is a kind that anybody can think of.
    unlike = [one for one in search.history if one.structure.inner_indices and kind(one) not in shown]
    rank = search.objective.rank
    if unlike and picked:
        picked.append(min(unlike, key=lambda one: rank(one.parameters, one.error)))
    picked += [one for one in near if one not in picked][: _RIVALS - len(picked)]
    return sorted(picked, key=lambda one: one.parameters)


def _against(one: Candidate, chosen: Candidate) -> str:
    if kind(one) != kind(chosen):
        return "Another kind"
    if one.parameters < chosen.parameters:
        return "Smaller"
    return "Closer" if one.error < chosen.error and chosen.error > _EXACT else "As near"


def _measured(search: Search, one: Candidate) -> str:
    return f"{one.parameters:,} parameters, {search.measure} {number(one.error)}"


def _compared(search: Search, one: Candidate, chosen: Candidate) -> str:
    """Size and error, and what that is beside what was found."""
    size = _times(one.parameters, chosen.parameters, "fewer")
    error = _times(one.error, chosen.error, "less") if chosen.error > _EXACT else ""
    return f"{one.parameters:,} parameters{size}, {search.measure} {number(one.error)}{error}"


def _times(value: float, beside: float, less: str) -> str:
    """How much more or less one number is than another, in brackets."""
    word = less if value < beside else "more"
    if not 0.5 < value / beside < 2:
        return f" ({number(max(value, beside) / min(value, beside), 2)} times {word})" if value > 0 else ""
    share = round(100 * abs(value / beside - 1))
    return f" ({share}% {word})" if share else ""


def heights(search: Search) -> str:
    """What the picture of the path shows, in words."""
    text = f"Each point is a network that was fitted, and its height the {_called(search)}."
    if isinstance(search.objective, SizeWithin):
        text += f" Hollow ones have a larger {search.measure} than was asked for."
    if isinstance(search.objective, ErrorWithin):
        text += " Hollow ones have more parameters than were asked for."
    return text + " What had been seen before, or could not win, was not fitted and has no point."


def _height(search: Search, one: Candidate) -> float:
    """What was made small, in units that people know."""
    if isinstance(search.objective, SizeWithin):
        return float(one.parameters)
    if isinstance(search.objective, ErrorWithin):
        return max(one.error, _EXACT)
    return one.value


def _called(search: Search) -> str:
    if isinstance(search.objective, SizeWithin):
        return "number of parameters"
    if isinstance(search.objective, ErrorWithin):
        return search.measure
    return f"weighted sum of size and {search.measure}"


def _sides(search: Search) -> tuple[str, str]:
    """What networks are called that keep to what was asked for, and those that do not."""
    if isinstance(search.objective, SizeWithin):
        limit = f"{search.measure} {{}} {search.objective.error:g}"
    elif isinstance(search.objective, ErrorWithin):
        limit = f"parameters {{}} {search.objective.parameters:,}"
    else:
        return "one network", ""
    return limit.format("≤"), limit.format(">")
