"""The components of a CP fit: a row for each component, a column for each mode, and whether they can be trusted."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from tenfold.components import Components, core_consistency, degeneracy, kruskal
from tenfold.errors import DataError
from tenfold.observations import Observations
from tenfold.report._axes import Axis, axes_of
from tenfold.report._style import INK, MUTED, Panel, figure, number, plain, style, svg
from tenfold.report.factors import draw_strips, hue

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import FigureBase

    from tenfold.verbs.result import Fit

# Components and modes of one picture, and bars of one row in wide and in narrow columns.
_ROWS, _MODES, _BARS, _FEWER = 12, 5, 24, 16
# Cells of an array with gaps that is made whole for its diagnosis.
_CELLS = 2**26


@dataclass(frozen=True)
class Finding:
    """A sentence on whether components can be trusted.

    Attributes:
        what: what was looked at.
        verdict: ``"good"``, ``"doubtful"`` or ``"bad"``.
        text: what was found, and what would help.
    """

    what: str
    verdict: str
    text: str


def panels(fit: Fit) -> tuple[list[Panel], str]:
    """The pictures of all modes, and a sentence about components that are not drawn ('' if all are)."""
    found = fit.components()
    names = list(found.factors)
    made = []
    each = math.ceil(len(names) / math.ceil(len(names) / _MODES))
    for start in range(0, len(names), each):
        shown = names[start : start + each]
        fig = figure(10.4, grid_height(fit, found, shown))
        draw_grid(fig, fit, found, shown)
        label = f"Components along {', '.join(map(str, shown))}"
        complex_ = any(found.factors[name].is_complex() for name in shown)
        note = "Solid: real part, dashed: imaginary part; bars: magnitudes." if complex_ else ""
        made.append(Panel(svg(fig, label), "", note, wide=True))
    left_out = found.rank - _ROWS
    return made, f"{left_out:,} lighter components are not drawn." if left_out > 0 else ""


def grid_height(fit: Fit, found: Components, names: list[str]) -> float:
    """Inches that `draw_grid` needs."""
    labels = [_longest(axis) for axis, _ in _columns(fit, found, names)]
    return 0.75 + 0.62 * min(found.rank, _ROWS) + 0.07 * max(labels, default=0)


def draw_grid(fig: FigureBase, fit: Fit, found: Components, names: list[str]) -> None:
    """A row for each component with its shares at the left, a column for each of the modes ``names``."""
    rank = min(found.rank, _ROWS)
    columns = _columns(fit, found, names)
    grid: Any = fig.subplots(1, len(columns), squeeze=False)[0]
    for ax, (axis, values) in zip(grid, columns, strict=True):
        if axis.kind == "label" or axis.size <= 4:
            _bar_strips(ax, axis, values[:, :rank], _BARS if len(columns) <= 3 else _FEWER)
        else:
            draw_strips(ax, axis, values[:, :rank])
        ax.set_title(plain(axis.name, 28), size=9.5, color=INK)
    first = grid[0]
    for n in range(rank):
        middle = rank - n - 0.5
        at: dict[str, Any] = {"xycoords": first.get_yaxis_transform(), "textcoords": "offset points"}
        at |= {"ha": "right", "va": "center"}
        first.annotate(f"{n + 1}", (0, middle), xytext=(-5, 0), size=12, color=hue(n), weight="bold", **at)
        said = f"{percent(float(found.shares[n]))}\nalone {percent(float(found.drops[n]))}"
        first.annotate(said, (0, middle), xytext=(-26, 0), size=7.5, color=MUTED, linespacing=1.25, **at)


def percent(part: float) -> str:
    """A share in percent; of components that cancel each other, how many times the whole."""
    return f"{part:.1%}" if part < 10 else f"{part:,.0f}×"


def findings(fit: Fit, original: Any) -> list[Finding]:
    """What the diagnosis of a CP fit says: fit for people who look at the pictures below it."""
    network = fit.components().network()
    rank = network.structure.sizes[network.structure.inner_indices[0]]
    size = _norm(original)
    made = []
    consistency = _consistency(fit, original)
    if rank > 1 and consistency is not None:
        made.append(_consistent(consistency, filled=_has_gaps(original)))
    if rank > 1:
        made.append(_cancelling(network, size))
    unique = kruskal(network)
    verdict = {True: "good", False: "bad", None: "doubtful"}[unique.unique]
    said = {
        True: "No other components of this number make the same array",
        False: "Other components make the same array, so single ones mean nothing by themselves",
        None: "It is not known whether other components could make the same array; compare fits from several starts "
        "(tenfold.stability)",
    }
    made.append(Finding("Uniqueness", verdict, f"{said[unique.unique]}: {unique.why}."))
    return made


def _consistent(value: float, *, filled: bool) -> Finding:
    what = "Core consistency"
    if math.isnan(value):
        return Finding(what, "doubtful", "Cannot be computed: a mode is shorter than the number of components.")
    note = " Missing cells count as the fit has them, which flatters it." if filled else ""
    if value >= 90:
        text = "patterns of different components hardly mix, as it should be. It is as high with too few components, "
        text += "and can be with one that only follows noise."
        return Finding(what, "good", f"{value:.1f} of 100: {text}{note}")
    if value >= 50:
        text = "patterns of different components mix; see whether fewer say the same."
        return Finding(what, "doubtful", f"{value:.1f} of 100: {text}{note}")
    low = f"{value:.1f} of 100" if value > -100 else "Far below 0, where 100 is best"
    text = "patterns of different components mix, because there are too many, because some are much alike, or because "
    text += "the data is no sum of such products. Try fewer, and see whether every start finds the same "
    text += "(tenfold.stability)."
    return Finding(what, "bad", f"{low}: {text}{note}")


def _has_gaps(original: Any) -> bool:
    return isinstance(original, Observations) and original.rest != "zero"


def _cancelling(network: Any, size: float | None) -> Finding:
    found = degeneracy(network, size)
    assert found.pair is not None
    first, second = (n + 1 for n in found.pair)
    if found.degenerate:
        text = f"Components {first} and {second} cancel each other (cosine {found.cosine:.3f})"
        if found.growth > 1.5:
            text += f", the largest being {number(found.growth, 2)} times the data"
        return Finding("Cancellation", "bad", f"{text}: their shapes and shares mean little; try fewer components.")
    if found.cosine < -0.5:
        text = f"Components {first} and {second} cancel each other in part (cosine {found.cosine:.2f})."
        return Finding("Cancellation", "doubtful", text)
    return Finding("Cancellation", "good", f"No two components cancel each other (least cosine {found.cosine:.2f}).")


def _consistency(fit: Fit, original: Any) -> float | None:
    """Core consistency where the data is at hand and not too large to be made whole."""
    if isinstance(original, Observations) and (original.shape is None or fit.structure.size > _CELLS):
        return None
    if not isinstance(original, (Tensor, Observations)):
        array = None if original is None else np.asarray(original)
        if array is None or array.dtype.kind not in "biufc" or not np.isfinite(array).all():
            return None
        original = torch.from_numpy(array.astype(np.complex128 if array.dtype.kind == "c" else np.float64))
    try:
        return core_consistency(original, fit.network)
    except DataError:  # a sparse array whose zeros do not fit memory
        return None


def _norm(original: Any) -> float | None:
    if isinstance(original, Observations):
        return None  # what is known of it says nothing about the size of the rest
    return float(torch.linalg.vector_norm(original)) if isinstance(original, Tensor) else None


# --- the columns ------------------------------------------------------------------------------------------------------


def _columns(fit: Fit, found: Components, names: list[str]) -> list[tuple[Axis, np.ndarray]]:
    """For each mode what stands along it, and the columns of its factor."""
    axes = {axis.name: axis for axis in axes_of(fit)}
    made = []
    for name in names:
        values = found.factors[name].cpu().numpy()
        axis = axes.get(name)
        made.append((axis if axis is not None else Axis(name, len(values), None, "place"), values))
    return made


def _longest(axis: Axis) -> int:
    """The length of the labels below a column of bars."""
    if axis.kind != "label":
        return 0
    return max(len(axis.at(n)) for n in range(min(axis.size, 200)))


def _bar_strips(ax: Axes, axis: Axis, columns: np.ndarray, most: int) -> None:
    """Bars over the labels of an axis in strips of height 1 from the top; of many labels those that weigh most."""
    values = np.abs(columns) if np.iscomplexobj(columns) else columns
    places = np.arange(axis.size)
    if axis.size > most:
        places = np.sort(np.argsort(-np.abs(values).max(1), kind="stable")[:most])
    elif axis.kind == "number":
        places = np.argsort(axis.positions, kind="stable")
    style(ax)
    ax.spines["left"].set_visible(False)
    ax.set_yticks([])
    count = values.shape[1]
    for n in range(count):
        own = values[places, n]
        low = min(0.0, float(own.min()))
        span = max(0.0, float(own.max())) - low or 1.0
        zero = count - 1 - n + 0.1 - 0.8 * low / span
        ax.bar(np.arange(len(places)), 0.8 * own / span, bottom=zero, color=hue(n), width=0.72)
        ax.axhline(zero, color=MUTED, linewidth=0.7)
    ax.set_ylim(0, count)
    names = [plain(axis.at(int(n)), 22) for n in places]
    turned = max(map(len, names)) * len(names) > 22
    ax.set_xticks(np.arange(len(places)), names, rotation=90 if turned else 0, size=8 if len(places) <= 16 else 6.5)
    ax.tick_params(axis="x", length=0)
    ax.set_xlim(-0.6, len(places) - 0.4)
    rest = f"the {most} heaviest of {axis.size:,}" if axis.size > most else ""
    ax.set_xlabel(rest or (plain(axis.label) if axis.unit and axis.kind == "number" else ""), size=8)
