"""Singular values of each unfolding: how much rank the data has in each direction."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from tenfold.report._style import HUES, INK, PAPER, Panel, figure, log_axis, plain, style, svg, thin
from tenfold.structure import Structure

if TYPE_CHECKING:
    from tenfold.verbs.result import Fit

_LINES = ((), (5, 2), (1.5, 1.5))
_MOST = 24


def panel(fit: Fit) -> Panel | None:
    """One curve for each unfolding, scaled to begin at 1; None where no spectrum is known."""
    spectra = {name: np.asarray(values, dtype=np.float64) for name, values in fit.spectra.items() if len(values)}
    spectra = {name: values for name, values in spectra.items() if np.isfinite(values).all() and values.max() > 0}
    if not spectra:
        return None
    shown = dict(list(spectra.items())[:_MOST])
    fig = figure(7.4, 4.2)
    ax = style(fig.subplots(), grid=True)
    longest = max(map(len, shown.values()))
    ringed: dict[int, float] = {}
    for n, (name, values) in enumerate(shown.items()):
        relative = values / values.max()
        relative = np.where(relative > 1e-17, relative, np.nan)
        keep = thin(np.log(np.nan_to_num(relative, nan=1e-17)), 500)
        ax.plot(
            keep + 1,
            relative[keep],
            color=HUES[n % len(HUES)],
            linewidth=1.5,
            dashes=_LINES[n // len(HUES) % len(_LINES)] or (None, None),
            marker="." if len(values) <= 40 else None,
            markersize=5,
            label=plain(name, 24),
        )
        rank = _rank(fit, name)
        if rank is not None and rank <= len(values) and relative[rank - 1] == relative[rank - 1]:
            ax.plot(
                [rank],
                [relative[rank - 1]],
                "o",
                markersize=9,
                markeredgecolor=INK,
                markerfacecolor=HUES[n % len(HUES)],
            )
            ringed[rank] = max(ringed.get(rank, 0.0), float(relative[rank - 1]))
    logarithmic = longest > 30
    # Rings that stand side by side share one label, at the last of them.
    near: list[list[int]] = []
    for rank in sorted(ringed):
        close = near and (rank < 1.3 * near[-1][-1] if logarithmic else rank - near[-1][-1] <= longest / 20)
        if close:
            near[-1].append(rank)
        else:
            near.append([rank])
    for ranks in near:
        ax.annotate(
            f"rank {' and '.join(map(str, ranks))}",
            (ranks[-1], max(ringed[rank] for rank in ranks)),
            xytext=(6, 7),
            textcoords="offset points",
            size=8,
            color=INK,
            bbox={"boxstyle": "square,pad=0.05", "facecolor": PAPER, "edgecolor": "none"},
        )
    ax.set_yscale("log")
    if logarithmic:
        ax.set_xscale("log")
        log_axis(ax.xaxis)
    else:
        ax.set_xticks(range(1, longest + 1, max(1, longest // 12)))
    ax.set(xlabel="number of the singular value", ylabel="singular value / largest")
    log_axis(ax.yaxis)
    ax.legend(
        fontsize=8,
        labelcolor=INK,
        frameon=False,
        loc="lower left",
        bbox_to_anchor=(0, 1.0),
        ncols=4,
        handlelength=1.8,
        columnspacing=1.4,
        borderpad=0.2,
    )
    left_out = f"; {len(spectra) - _MOST} more unfoldings are not drawn" if len(spectra) > _MOST else ""
    label = "Singular values of the unfoldings along " + ", ".join(map(str, shown))
    return Panel(svg(fig, label), note=left_out.removeprefix("; "), wide=True)


def _rank(fit: Fit, name: str) -> int | None:
    names = [str(each) for each in fit.dims]
    return separating_rank(fit.structure, names.index(name)) if names.count(name) == 1 else None


def separating_rank(structure: Structure, axis: int) -> int | None:
    """The size of the smallest single inner index whose removal parts one output axis from all the others, if any."""
    mine = set(structure.outputs[axis])
    others = set(structure.output_indices) - mine
    if not mine or not others:
        return None
    cuts = [
        structure.sizes[bond]
        for bond in structure.inner_indices
        if not _reached(structure, mine, without=bond) & others
    ]
    return min(cuts, default=None)


def _reached(structure: Structure, start: set[str], without: str) -> set[str]:
    """All indices that a path of cores joins to ``start`` once one index is cut."""
    found = set(start)
    grown = True
    while grown:
        grown = False
        for term in structure.terms:
            own = set(term.indices) - {without}
            if own & found and not own <= found:
                found |= own
                grown = True
    return found
