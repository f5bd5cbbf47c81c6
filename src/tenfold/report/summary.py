"""One figure for a notebook: the network, error against size, where the fit is wrong, and what its cores hold."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tenfold.components import canonical_train, canonical_tucker
from tenfold.report import components, factors
from tenfold.report._axes import Axis, axes_of
from tenfold.report._style import INK, MUTED, figure, number, plain
from tenfold.report.drawing import draw
from tenfold.report.front import compares, draw_front
from tenfold.report.pictures import draw_error

if TYPE_CHECKING:
    from matplotlib.figure import Figure, FigureBase, SubFigure

    from tenfold.verbs.result import Fit

# Modes and columns of each that are drawn.
_MODES, _COLUMNS = 5, 6


def plot(fit: Fit) -> Figure:
    """The network, the error against the size of several trials, and the difference (or, without data, the network's).

    Below, what the cores hold, where the structure has a canonical form: the components of a CP, a row for each; the
    leading singular vectors of a Tucker network along each axis; the singular values across the bonds of a train.

    Args:
        fit: a `tenfold.Fit`.

    Returns:
        A figure 13 inches wide and at least 4.2 high, not registered with pyplot.
    """
    below = _height(fit)
    fig = figure(13, 4.2 + below)
    fig.set_facecolor("white")
    above: FigureBase = fig
    if below:
        cells = fig.add_gridspec(2, 1, height_ratios=[4.2, below])
        above, rest = fig.add_subfigure(cells[0]), fig.add_subfigure(cells[1])
        _draw_cores(rest, fit)
    left, *middle, right = above.subplots(1, 3 if compares(fit) else 2)
    draw(fit.structure, left, names=[str(name) for name in fit.dims] if len(fit.dims) == len(fit.shape) else None)
    if middle:
        draw_front(middle[0], fit)
    draw_error(right, fit, fit.data)
    fig.suptitle(
        plain(f"{fit.subject}: {fit.measure} {number(fit.error)}, ratio {number(fit.ratio)}", 90),
        color=INK,
        size=11,
    )
    return fig


def _height(fit: Fit) -> float:
    family = fit.format
    if family == "cp":
        found = fit.components()
        return components.grid_height(fit, found, list(found.factors)[:_MODES])
    if family == "tucker":
        return 0.8 + 0.5 * min(_COLUMNS, max(fit.structure.sizes[i] for i in fit.structure.inner_indices))
    return 3.0 if family == "tensor_train" and fit.structure.inner_indices else 0.0


def _draw_cores(rest: SubFigure, fit: Fit) -> None:
    family = fit.format
    if family == "cp":
        found = fit.components()
        components.draw_grid(rest, fit, found, list(found.factors)[:_MODES])
    elif family == "tensor_train":
        factors.draw_bond_spectra(rest.subplots(), canonical_train(fit.network))
    else:
        form = canonical_tucker(fit.network)
        shown = list(form.factors.items())[:_MODES]
        axes = {
            group[0]: axis for group, axis in zip(fit.structure.outputs, axes_of(fit), strict=True) if len(group) == 1
        }
        grid = rest.subplots(1, len(shown), squeeze=False)[0]
        for ax, (mode, factor) in zip(grid, shown, strict=True):
            columns = factor[:, :_COLUMNS].cpu().numpy()
            axis = axes.get(mode, Axis(mode, len(columns), None, "place"))
            shares = (form.norms[mode].square() / form.norms[mode].square().sum().clamp(min=1e-300)).tolist()
            factors.draw_strips(ax, axis, columns)
            factors.label_strips(ax, [factors.percent(share) for share in shares[: columns.shape[1]]])
            ax.set_title(plain(axis.name, 28), size=9.5, color=INK)
        rest.supylabel("leading columns", size=8.5, color=MUTED)
