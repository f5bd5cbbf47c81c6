"""The tensor network diagram of a structure: circles are cores, lines are indices."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from tenfold.errors import TenfoldError
from tenfold.report._style import HUES, INK, MUTED, PAPER, plain
from tenfold.report.layout import Layout, Point, arrange
from tenfold.structure import Structure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Inches for one unit of the layout, and the widest a figure of our own becomes.
_SCALE = 0.85
_WIDEST = 9.6
_FONT = 8.5
# Above this many cores the names of bonds are left out and only their dimensions written.
_NAMED = 16


def draw(structure: Structure, ax: Axes | None = None, *, names: Sequence[str] | None = None) -> Figure:
    """The network as a diagram: cores, bonds with their dimensions, and a leg for each output axis.

    The area of a core grows with the logarithm of its number of entries. An index that joins more than two ends is a
    dot; indices grouped into one axis meet where the axis leaves; places that share one core have one colour.

    Args:
        structure: what to draw.
        ax: where; by default the only axes of a new figure that fits.
        names: a name for each output axis; by default its indices.

    Returns:
        The figure, not registered with pyplot.

    Raises:
        TenfoldError: there is not one name for each output axis.
    """
    if names is not None and len(names) != structure.order:
        raise TenfoldError(f"names must hold one name for each of the {structure.order} output axes, not {len(names)}")
    layout = arrange(structure)
    # Boxes [x0, x1] x [y0, y1] around everything, in units of the layout.
    labels = [_leg_text(structure, axis, names) for axis in range(structure.order)]
    points = np.array([*layout.cores, *layout.dots.values(), *layout.ports])
    margin_x = 0.45 + 0.5 * max((_width(text, _SCALE) for text in labels), default=0)
    margin = np.array([margin_x, 0.65])
    low, high = points.min(0) - margin, points.max(0) + margin
    extent = high - low
    if ax is None:
        from tenfold.report._style import figure

        scale = min(_SCALE, _WIDEST / extent[0])
        fig = figure(float(extent[0]) * scale, float(extent[1]) * scale)
        fig.set_layout_engine("none")
        ax = fig.add_axes((0, 0, 1, 1))
    else:
        fig = ax.get_figure(root=True)  # type: ignore[assignment]
        box = np.array(ax.get_window_extent().size) / fig.dpi
        scale = float(min(box / extent))
    ax.set_xlim(low[0], high[0])
    ax.set_ylim(low[1], high[1])
    ax.set_aspect("equal")
    ax.axis("off")
    _Drawing(structure, layout, ax, scale).draw(labels)
    return fig


def _leg_text(structure: Structure, axis: int, names: Sequence[str] | None) -> str:
    group, size = structure.outputs[axis], structure.shape[axis]
    name = plain(names[axis], 18) if names is not None else " ".join(group)
    if len(group) > 1 and names is not None:
        name += f"\n({' '.join(group)})" if len(group) <= 4 else ""
    return f"{name}\n{size:,}"


def _width(text: str, scale: float, font: float = _FONT) -> float:
    return max(map(len, text.split("\n"))) * font * 0.58 / 72 / scale


def _height(text: str, scale: float, font: float = _FONT) -> float:
    return (text.count("\n") + 1) * font * 1.35 / 72 / scale


class _Drawing:
    """One diagram on one axes; keeps the boxes of what is written so that labels stay apart."""

    def __init__(self, structure: Structure, layout: Layout, ax: Axes, scale: float) -> None:
        self.structure = structure
        self.layout = layout
        self.ax = ax
        self.scale = scale
        # A figure drawn small keeps its proportions, down to what can be read.
        self.font = max(5.0, min(_FONT, _FONT * scale / 0.6))
        self.taken: list[tuple[float, float, float, float]] = []

    def draw(self, labels: Sequence[str]) -> None:
        shared = [n for n, core in enumerate(self.structure.cores) if len(core.terms) > 1]
        hue = {n: HUES[1 + k % (len(HUES) - 2)] for k, n in enumerate(shared)}
        sizes = [math.log2(1 + math.prod(core.shape)) for core in self.structure.cores]
        radius = [0.15 + 0.12 * (size / max(*sizes, 1.0)) ** 0.5 for size in sizes]
        for term, (x, y) in enumerate(self.layout.cores):
            r = radius[self.structure.term_core[term]]
            self.taken.append((x - r, x + r, y - r, y + r))
        self._legs(labels)
        self._bonds()
        for term, (x, y) in enumerate(self.layout.cores):
            number = self.structure.term_core[term]
            self._core(x, y, radius[number], hue.get(number, HUES[0]), self.structure.cores[number].name)
        for x, y in self.layout.dots.values():
            self.ax.plot([x], [y], "o", color=INK, markersize=5.5 * min(1, self.scale / 0.6), zorder=4)

    def _core(self, x: float, y: float, radius: float, colour: str, name: str) -> None:
        from matplotlib.patches import Circle

        self.ax.add_patch(Circle((x, y), radius, facecolor=colour, edgecolor=PAPER, linewidth=1.2, zorder=3))
        inside = name.removeprefix("core") if name.removeprefix("core").isdigit() else name
        font = self.font
        if _width(inside, self.scale, font) <= 2.1 * radius:
            self.ax.text(x, y, inside, color=PAPER, size=font, ha="center", va="center_baseline", zorder=5)
            return
        # Names that do not fit stand beside the circle, where there is room.
        w, h = _width(name, self.scale, font), _height(name, self.scale, font)
        around = [
            (x + (radius + w / 2 + 0.05) * dx, y + (radius + h / 2 + 0.03) * dy)
            for dx, dy in ((0.75, 0.75), (-0.75, 0.75), (0.75, -0.75), (-0.75, -0.75), (0, 1), (0, -1), (1, 0), (-1, 0))
        ]
        self._write(name, around, INK, 5)

    def _write(self, text: str, places: Sequence[Point], colour: str, zorder: float, *, cover: bool = False) -> None:
        """Text centred at the place that overlaps least with what is there already."""
        w, h = _width(text, self.scale, self.font) / 2, _height(text, self.scale, self.font) / 2

        def clash(place: Point) -> float:
            x, y = place
            return sum(
                max(0.0, min(x + w, b) - max(x - w, a)) * max(0.0, min(y + h, d) - max(y - h, c))
                for a, b, c, d in self.taken
            )

        x, y = min(places, key=clash)
        self.taken.append((x - w, x + w, y - h, y + h))
        box = {"boxstyle": "square,pad=0.12", "facecolor": PAPER, "edgecolor": "none"} if cover else None
        self.ax.text(
            x, y, text, color=colour, size=self.font, ha="center", va="center", zorder=zorder, bbox=box, linespacing=1.1
        )

    def _ends(self, index: str) -> list[Point]:
        return [self.layout.cores[n] for n in self.structure.terms_with(index)]

    def _thickness(self, index: str) -> float:
        return (0.9 + 0.28 * math.log2(self.structure.sizes[index])) * min(1.0, self.scale / 0.5)

    def _line(self, a: Point, b: Point, bend: float, width: float) -> Point:
        """A line, bent sideways by ``bend``; returns the point in its middle."""
        from matplotlib.patches import PathPatch
        from matplotlib.path import Path

        dx, dy = b[0] - a[0], b[1] - a[1]
        far = math.hypot(dx, dy) or 1.0
        side = (-dy / far * bend, dx / far * bend)
        control = ((a[0] + b[0]) / 2 + 2 * side[0], (a[1] + b[1]) / 2 + 2 * side[1])
        path = Path([a, control, b], [Path.MOVETO, Path.CURVE3, Path.CURVE3])
        self.ax.add_patch(
            PathPatch(path, facecolor="none", edgecolor=MUTED, linewidth=width, capstyle="round", zorder=1)
        )
        return (a[0] + b[0]) / 2 + side[0], (a[1] + b[1]) / 2 + side[1]

    def _legs(self, labels: Sequence[str]) -> None:
        for axis, group in enumerate(self.structure.outputs):
            port = self.layout.ports[axis]
            starts = [
                (index, self.layout.dots[index] if index in self.layout.dots else self._ends(index)[0])
                for index in group
            ]
            bracket = axis in self.layout.brackets
            if bracket:
                self._bracket(port, starts)
            else:
                bends = _bends([start for _, start in starts])
                for (index, start), bend in zip(starts, bends, strict=True):
                    middle = self._line(start, port, bend, self._thickness(index))
                    if len(group) > 1:
                        self._write(self._bond_text(index), _along(start, port, middle), MUTED, 2, cover=True)
            if len(group) > 1 and not bracket:
                self.ax.plot([port[0]], [port[1]], "s", color=MUTED, markersize=4, zorder=2)
            self._leg_label(labels[axis], port, [start for _, start in starts])

    def _bracket(self, port: Point, starts: Sequence[tuple[str, Point]]) -> None:
        for index, (x, y) in starts:
            self.ax.plot([x, x], [y, port[1]], color=MUTED, linewidth=self._thickness(index), zorder=1)
            self._write(self._bond_text(index), [(x, y + 0.6 * (port[1] - y))], MUTED, 2, cover=True)
        reach = [x for _, (x, _) in starts]
        self.ax.plot([min(reach), max(reach)], [port[1], port[1]], color=MUTED, linewidth=1.5, zorder=1)

    def _leg_label(self, text: str, port: Point, starts: Sequence[Point]) -> None:
        x = port[0] - (sum(s[0] for s in starts) / len(starts) if starts else port[0])
        y = port[1] - (sum(s[1] for s in starts) / len(starts) if starts else port[1] + 1)
        far = math.hypot(x, y) or 1.0
        dx, dy = x / far, y / far
        w, h = _width(text, self.scale, self.font) / 2, _height(text, self.scale, self.font) / 2
        # Beyond the end of the leg by as much as its box reaches back towards it.
        reach = min(w / abs(dx) if abs(dx) > 1e-6 else math.inf, h / abs(dy) if abs(dy) > 1e-6 else math.inf)
        places = [(port[0] + dx * (reach + gap), port[1] + dy * (reach + gap)) for gap in (0.1, 0.18, 0.32)]
        self._write(text, places, INK, 6)

    def _bond_text(self, index: str) -> str:
        size = f"{self.structure.sizes[index]:,}"
        short = len(index) <= 2 and len(self.structure.terms) <= _NAMED
        return f"{index}={size}" if short else size

    def _bonds(self) -> None:
        outside = set(self.structure.output_indices)
        between: dict[tuple[int, ...], list[str]] = {}
        for index in self.structure.sizes:
            if index in self.layout.dots:
                dot = self.layout.dots[index]
                middles = [(end, self._line(end, dot, 0.0, self._thickness(index))) for end in self._ends(index)]
                if index not in outside or len(self.structure.outputs[self._axis(index)]) == 1:
                    places = [p for end, middle in middles for p in _along(end, dot, middle)[:3]]
                    self._write(self._bond_text(index), places, INK, 2, cover=True)
            elif index not in outside:
                between.setdefault(self.structure.terms_with(index), []).append(index)
        for terms, indices in between.items():
            a, b = (self.layout.cores[n] for n in terms)
            for bend, index in zip(_bends([a] * len(indices)), indices, strict=True):
                middle = self._line(a, b, bend, self._thickness(index))
                self._write(self._bond_text(index), _along(a, b, middle), INK, 2, cover=True)

    def _axis(self, index: str) -> int:
        return next(axis for axis, group in enumerate(self.structure.outputs) if index in group)


def _bends(starts: Sequence[Point]) -> list[float]:
    """Sideways bends that part lines with one and the same start."""
    bends = []
    for n, start in enumerate(starts):
        same = [k for k, other in enumerate(starts) if other == start]
        bends.append(0.22 * (same.index(n) - (len(same) - 1) / 2))
    return bends


def _along(a: Point, b: Point, middle: Point) -> list[Point]:
    """Places for a label on a line from a to b through middle: the middle first."""
    places = []
    for t in (0.5, 0.42, 0.58, 0.36, 0.64, 0.3, 0.7):
        flat = 4 * t * (1 - t)
        bend = (middle[0] - (a[0] + b[0]) / 2, middle[1] - (a[1] + b[1]) / 2)
        places.append((a[0] + t * (b[0] - a[0]) + flat * bend[0], a[1] + t * (b[1] - a[1]) + flat * bend[1]))
    return places
