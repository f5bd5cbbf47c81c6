"""What the criteria say of each rank, as curves."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from tenfold.report._style import HUES, INK, MUTED, figure, log_axis, style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from tenfold.verbs.select_rank import RankTable

# Core consistency has no lower end; below this it says the same.
_FLOOR = -30.0


def plot_ranks(table: RankTable) -> Figure:
    """One panel for the error of all starts and one for each criterion against the rank; chosen ranks are ringed.

    Returns:
        A figure of 14 by 3.2 inches, not registered with pyplot.
    """
    from matplotlib.ticker import MaxNLocator

    fig = figure(14, 3.2)
    fig.set_facecolor("white")
    panels = fig.subplots(1, 5)
    ranks = [row.rank for row in table.rows]
    errors, stable, consistent, held_out, bic = (style(ax, grid=True) for ax in panels)
    for row in table.rows:
        errors.plot([row.rank] * len(row.errors), row.errors, "o", color=HUES[0], markersize=4, alpha=0.45)
    errors.plot(ranks, [row.error for row in table.rows], color=HUES[0], linewidth=1.3)
    errors.set_title("relative error\n(a dot for each start)", size=9)
    errors.set_yscale("log")
    log_axis(errors.yaxis)
    _curve(stable, ranks, [row.stability for row in table.rows])
    stable.set_ylim(-0.03, 1.05)
    _threshold(stable, 0.9)
    clipped = [max(row.core_consistency, _FLOOR) for row in table.rows]
    _curve(consistent, ranks, clipped)
    consistent.set_ylim(_FLOOR - 5, 106)
    _threshold(consistent, 60)
    low = [(rank, _FLOOR) for rank, row in zip(ranks, table.rows, strict=True) if row.core_consistency < _FLOOR]
    if low:
        consistent.plot(*zip(*low, strict=True), "v", color=HUES[1], markersize=6)
        consistent.annotate("below", low[0], xytext=(0, 6), textcoords="offset points", size=8, color=HUES[1])
    means = [row.held_out for row in table.rows]
    if any(math.isnan(mean) for mean in means):
        held_out.set_yticks([])
        held_out.text(0.5, 0.5, "not measured", transform=held_out.transAxes, ha="center", color=MUTED, size=9)
    else:
        held_out.errorbar(ranks, means, [row.held_out_se for row in table.rows], color=HUES[0], capsize=2)
        _curve(held_out, ranks, means)
        best = min(table.rows, key=lambda row: row.held_out)
        _threshold(held_out, best.held_out + best.held_out_se)
    _curve(bic, ranks, [row.bic for row in table.rows])
    words = {"stability": "stability of components", "core_consistency": "core consistency, %"}
    words |= {"held_out": "error on held-out cells", "bic": "BIC"}
    shown = dict(zip(table.choices, (stable, consistent, held_out, bic), strict=True))
    for name, ax in shown.items():
        rank = table.choices[name]
        asked = name == table.criterion
        said = f"chooses {rank}" if rank else "chooses none"
        ax.set_title(f"{words[name]}\n{said}", weight="bold" if asked else "normal", size=9)
        for row in table.rows:
            if row.rank == rank:
                value = max(getattr(row, name), _FLOOR) if name == "core_consistency" else getattr(row, name)
                ax.plot([rank], [value], "o", markersize=12, markerfacecolor="none", markeredgecolor=INK)
    for ax in panels:
        ax.set_xlabel("rank")
        ax.xaxis.set_major_locator(MaxNLocator(8, integer=True))
    return fig


def _curve(ax: Axes, ranks: list[int], values: list[float]) -> None:
    ax.plot(ranks, values, "o-", color=HUES[0], markersize=4.5, linewidth=1.3)


def _threshold(ax: Axes, value: float) -> None:
    ax.axhline(value, color=HUES[1], linewidth=1, linestyle=(0, (5, 3)), zorder=1)
