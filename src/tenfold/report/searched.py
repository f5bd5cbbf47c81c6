"""Pictures of a search: the network beside its rivals, the path that led to it, and what costs what."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from tenfold.report._style import (
    HUES,
    INK,
    MUTED,
    PAPER,
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
from tenfold.report.drawing import draw
from tenfold.report.front import draw_front
from tenfold.structure import Structure
from tenfold.structure_search.objectives import ErrorWithin, SizeWithin

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from tenfold.verbs.search_result import Candidate, Search

# Rivals that are drawn beside the network that was found, one less where there are more cores than this.
_RIVALS, _SMALL = 3, 5
# How many times smaller or larger a rival is, so that there is something to choose.
_APART = 1.1
# Errors at and below this are zero to rounding, which is nothing to tell structures apart by.
_EXACT = 1e-7
# How many times the best value the path reaches up to.
_TALLEST = 1e4
# Bins of the map along each axis, at most.
_BINS = 14


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
            f"{search.fit.source or 'array'}: {search.parameters:,} parameters, error {number(search.error)}, "
            f"{search.counted:,} evaluations",
            90,
        ),
        color=INK,
        size=11,
    )
    return fig


def rivals(search: Search) -> Panel | None:
    """The network that was found beside those next to it on the front, or None where it is alone there."""
    chosen = _chosen(search)
    others = _rivals(search, chosen)
    if not others:
        return None
    shown = [chosen, *others]
    fig = figure(11, 3.1 if len(shown) > _RIVALS else 4.0)
    for ax, one in zip(fig.subplots(1, len(shown), squeeze=False)[0], shown, strict=True):
        draw(one.structure, ax, names=[str(name) for name in search.fit.dims])
        said = f"{one.parameters:,} parameters\nerror {number(one.error)}"
        ax.set_title(("found\n" if one is chosen else f"{_against(one, chosen)}\n") + said, size=9, color=INK)
    label = f"The network that was found and {len(others)} others of the front, with their sizes and errors"
    return Panel(svg(fig, label), wide=True)


def path(search: Search) -> Panel | None:
    """What was minimised against evaluations, or None for a single one."""
    if len(search.history) < 2:
        return None
    fig = figure(7.4, 3.6)
    draw_path(fig.subplots(), search)
    label = f"What was minimised against evaluations for {len(search.history)} structures, and the best so far"
    return Panel(svg(fig, label), wide=True)


def draw_path(ax: Axes, search: Search) -> None:
    """Each structure that was fitted and the best so far against evaluations."""
    style(ax, grid=True)
    counted = np.array([one.counted for one in search.history])
    values = np.array([_value(search, one) for one in search.history])
    finite = np.isfinite(values)
    values[finite] = np.clip(values[finite], -TALLEST, TALLEST)
    best = np.minimum.accumulate(np.where(finite, values, np.inf))
    # What is far worse than the rest would leave no room for the others; it is drawn at the upper edge.
    positive = bool(finite.any() and (values[finite] > 0).all())
    tallest = _TALLEST * best[-1] if positive else math.inf
    values = np.minimum(values, tallest)
    ax.plot(
        counted[finite],
        values[finite],
        "o",
        color=HUES[0],
        markersize=4,
        markeredgecolor=PAPER,
        markeredgewidth=0.4,
        alpha=0.75,
        label="one structure",
        zorder=2,
    )
    known = np.isfinite(best)
    ends = np.append(counted[known], search.counted)
    lows = np.minimum(np.append(best[known], best[-1]), tallest)
    ax.step(ends, lows, where="post", color=HUES[1], linewidth=1.6, label="best so far")
    ax.set(xlabel="evaluations, as papers count them", ylabel=_called(search))
    ax.set_xlim(0, max(1, search.counted) * 1.02)
    if positive:
        ax.set_yscale("log")
        log_axis(ax.yaxis)
    ax.legend(
        fontsize=8, labelcolor=INK, frameon=False, ncols=2, loc="lower left", bbox_to_anchor=(0, 1.0), borderpad=0.2
    )


def sizes_and_flops(search: Search) -> Panel | None:
    """The least error of each size and cost, or None where all have one."""
    table = _table(search)
    if len(table) < 2:
        return None
    fig = figure(7.4, 3.9)
    draw_map(fig, fig.subplots(), table, search)
    return Panel(svg(fig, "The least error among the structures of each size and each cost of contraction"), wide=True)


def draw_map(fig: Figure, ax: Axes, table: list[tuple[int, float, float]], search: Search) -> None:
    """Cells of parameters by flops, coloured by the least error of ``(parameters, flops, error)``."""
    from matplotlib.colors import LogNorm

    style(ax)
    sizes, flops, errors = (np.array(column, dtype=float) for column in zip(*table, strict=True))
    across, up = _edges(sizes), _edges(flops)
    least = np.full((len(up) - 1, len(across) - 1), np.nan)
    many = np.zeros_like(least, dtype=int)
    for size, flop, error in zip(sizes, flops, errors, strict=True):
        cell = _bin(up, flop), _bin(across, size)
        least[cell] = np.fmin(least[cell], min(max(error, _EXACT), TALLEST))
        many[cell] += 1
    low = float(np.nanmin(least))
    high = max(float(np.nanmax(least)), 1.01 * low)
    mesh = ax.pcolormesh(across, up, least, norm=LogNorm(low, high), cmap=SEQUENTIAL, edgecolors=PAPER)
    ax.set(xscale="log", yscale="log", xlabel="parameters", ylabel="flops of one contraction")
    for row, column in zip(*np.nonzero(many), strict=True):
        middle = math.sqrt(across[column] * across[column + 1]), math.sqrt(up[row] * up[row + 1])
        # These two inks stay what they are on a dark page, as the colours below them do.
        light = math.log(least[row, column] / low) > 0.6 * math.log(high / low)
        ink = "#1c2129" if light else "#fdfdfd"
        ax.text(*middle, str(many[row, column]), size=7, ha="center", va="center", color=ink)
    chosen = _chosen(search)
    ax.plot(
        chosen.parameters,
        _flops(chosen.structure),
        "o",
        markersize=13,
        markerfacecolor="none",
        markeredgecolor=HUES[1],
        markeredgewidth=1.6,
        label="found",
    )
    log_axis(ax.xaxis)
    log_axis(ax.yaxis)
    bar = fig.colorbar(mesh, ax=ax, pad=0.02)
    bar.outline.set_visible(False)
    bar.ax.tick_params(colors=MUTED, labelsize=8)
    bar.set_label("least loss" if search.of_loss else "least error", color=INK, size=9)
    log_axis(bar.ax.yaxis)


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


def _edges(values: np.ndarray) -> np.ndarray:
    """Edges of bins, as many as are of use, alike in the logarithm."""
    low, high = np.log2(values.min()), np.log2(values.max())
    bins = int(min(_BINS, max(1, math.ceil(2 * (high - low)))))
    room = 0.02 * max(high - low, 0.5)
    return np.exp2(np.linspace(low - room, high + room, bins + 1))


def _bin(edges: np.ndarray, value: float) -> int:
    return min(max(int(np.searchsorted(edges, value, side="right")) - 1, 0), len(edges) - 2)


def _chosen(search: Search) -> Candidate:
    key = search.structure.key
    return min((one for one in search.history if one.structure.key == key), key=lambda one: one.error)


def _rivals(search: Search, chosen: Candidate) -> list[Candidate]:
    """Those nearest to it on the front, on either side, that are more than a little smaller or larger."""
    many = _RIVALS if len(chosen.structure.terms) <= _SMALL else _RIVALS - 1
    others = [one for one in search.front if one.structure.key != chosen.structure.key]
    apart = [one for one in others if abs(math.log(one.parameters / chosen.parameters)) > math.log(_APART)] or others
    near = sorted(apart, key=lambda one: abs(math.log(one.parameters / chosen.parameters)))
    smaller = [one for one in near if one.parameters < chosen.parameters]
    larger = [one for one in near if one.parameters >= chosen.parameters]
    picked = [*smaller[:1], *larger[:1]]
    picked += [one for one in near if one not in picked][: many - len(picked)]
    return sorted(picked, key=lambda one: one.parameters)


def _against(one: Candidate, chosen: Candidate) -> str:
    if one.parameters < chosen.parameters:
        return "smaller, less close"
    return "larger, closer" if one.error < chosen.error else "as near"


def heights(search: Search) -> str:
    """What the heights in the picture of the path are, in words."""
    what = "loss" if search.of_loss else "error"
    if isinstance(search.objective, SizeWithin):
        return f"the number of parameters, and where the {what} is above the one asked for, far more than that"
    if isinstance(search.objective, ErrorWithin):
        return f"the {what}, and where there are more parameters than asked for, more than that"
    return f"parameters for each entry and the weighted square of the {what}"


def _value(search: Search, one: Candidate) -> float:
    """What was minimised, in units that people know."""
    if isinstance(search.objective, SizeWithin | ErrorWithin):
        return math.exp(min(one.value, 700.0))
    return one.value


def _called(search: Search) -> str:
    what = "loss" if search.of_loss else "error"
    if isinstance(search.objective, SizeWithin):
        return f"parameters (raised above the {what})"
    if isinstance(search.objective, ErrorWithin):
        return f"{what} (raised above the size)"
    return f"weighted sum of size and {what}"
