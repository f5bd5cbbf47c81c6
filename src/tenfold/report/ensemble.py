"""Fits from different starts: how alike they are."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from tenfold.report._style import HUES, INK, MUTED, SEQUENTIAL, figure, style

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from tenfold.verbs.stability import Ensemble


def plot_ensemble(ensemble: Ensemble) -> Figure:
    """Similarity to the best start against error, and the factor match scores of all pairs, best start first.

    Returns:
        A figure of 9 by 3.8 inches, not registered with pyplot.
    """
    from matplotlib.ticker import MaxNLocator

    fig = figure(9, 3.8)
    fig.set_facecolor("white")
    left, right = fig.subplots(1, 2)
    style(left, grid=True)
    scores = ensemble.scores.numpy()
    errors = np.asarray(ensemble.errors)
    near = np.zeros(len(errors), dtype=bool)
    near[list(ensemble.runs.near)] = True
    left.plot(errors[near], scores[0][near], "o", color=HUES[0], markersize=6, label="as good as the best")
    if not near.all():
        left.plot(errors[~near], scores[0][~near], "s", color=HUES[1], markersize=5, label="local minima")
    left.plot(errors[:1], scores[0, :1], "o", markersize=12, markerfacecolor="none", markeredgecolor=INK, label="best")
    left.set(xlabel="relative error", ylabel="factor match score with the best", ylim=(-0.03, 1.06))
    if np.ptp(errors) < 1e-3 * errors[0]:
        # Starts that agree to many digits: their differences are rounding, so the axis does not magnify them.
        left.set_xlim(errors[0] * 0.98, errors[-1] * 1.02)
    left.xaxis.set_major_locator(MaxNLocator(5))
    left.legend(fontsize=8, labelcolor=INK, frameon=False, loc="lower left")
    image = right.imshow(scores, cmap=SEQUENTIAL, vmin=0, vmax=1, interpolation="none")
    style(right)
    right.set(xlabel="start, by error", ylabel="start, by error")
    right.set_title("factor match score of every two", size=9, color=INK)
    for axis in (right.xaxis, right.yaxis):
        axis.set_major_locator(MaxNLocator(8, integer=True))
    bar = fig.colorbar(image, ax=right)
    bar.outline.set_visible(False)
    bar.ax.tick_params(colors=MUTED, labelsize=8)
    fig.suptitle(f"stability {ensemble.stability:.3f} over {len(errors)} starts", size=11, color=INK)
    return fig
