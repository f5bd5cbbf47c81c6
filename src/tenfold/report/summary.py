"""One figure for a notebook: the network, error against size, and where the fit is wrong."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tenfold.report._style import INK, figure, number, plain
from tenfold.report.drawing import draw
from tenfold.report.front import draw_front
from tenfold.report.pictures import draw_error

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from tenfold.verbs.result import Fit


def plot(fit: Fit) -> Figure:
    """The network, error against parameters of all trials, and the difference (or, without data, the reconstruction).

    Args:
        fit: a `tenfold.Fit`.

    Returns:
        A figure of 13 by 4.2 inches, not registered with pyplot.
    """
    fig = figure(13, 4.2)
    fig.set_facecolor("white")
    left, middle, right = fig.subplots(1, 3)
    draw(fit.structure, left, names=[str(name) for name in fit.dims] if len(fit.dims) == len(fit.shape) else None)
    draw_front(middle, fit)
    draw_error(right, fit, fit.data)
    fig.suptitle(
        plain(f"{fit.source or 'array'}: relative error {number(fit.error)}, ratio {number(fit.ratio)}", 90),
        color=INK,
        size=11,
    )
    return fig
