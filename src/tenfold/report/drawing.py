"""The tensor network diagram of a structure: circles are cores, lines are indices."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from tenfold.errors import TenfoldError
from tenfold.report._style import HUES, INK, MUTED, PAPER, plain
from tenfold.report.layout import Layout, Point, arrange
from tenfold.structure import Structure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# [x0, x1] x [y0, y1] in units of the layout.
Box = tuple[float, float, float, float]

# Inches for one unit of the layout, and the widest a figure of our own becomes.
_SCALE = 0.85
# On the axes of others a small network does not grow beyond this.
_LARGEST = 1.1
_WIDEST = 9.6
_FONT = 8.5
# Above this many cores the names of bonds are left out and only their dimensions written.
_NAMED = 16


def draw(structure: Structure, ax: Axes | None = None, *, names: Sequence[str] | None = None) -> Figure:
    """The network as a diagram: cores, bonds with their dimensions, and a leg for each output axis.

    The area of a core grows with the logarithm of its number of entries. An index that joins more than two ends is a
    dot; indices grouped into one axis have a leg each and share a bracket; places that share one core have one colour.

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
    labels = [plain(name, 18) for name in names] if names is not None else None
    if ax is None:
        from tenfold.report._style import figure

        drawing = _Drawing(structure, layout, labels, _SCALE)
        low, high = drawing.extent()
        if high[0] - low[0] > _WIDEST / _SCALE:
            drawing = _fitted(structure, layout, labels, np.array([_WIDEST, math.inf]))
            low, high = drawing.extent()
        width, height = (high - low) * drawing.scale
        fig = figure(float(width), float(height))
        fig.set_layout_engine("none")
        ax = fig.add_axes((0, 0, 1, 1))
    else:
        fig = ax.get_figure(root=True)  # type: ignore[assignment]
        box = np.array(ax.get_window_extent().size) / fig.dpi
        drawing = _fitted(structure, layout, labels, box)
        low, high = drawing.extent()
        spare = np.maximum(box / drawing.scale - (high - low), 0) / 2
        low, high = low - spare, high + spare
    _put(drawing, ax, low, high)
    return fig


def draw_alike(structures: Sequence[Structure], widest: float, *, names: Sequence[str] | None = None) -> list[Figure]:
    """Networks to be compared: one figure each, all at one scale and of one width, which is ``widest`` at most.

    Args:
        widest: inches.
        names: a name for each output axis, which all have in common.

    Returns:
        Figures, not registered with pyplot.
    """
    from tenfold.report._style import figure

    labels = [plain(name, 18) for name in names] if names is not None else None
    layouts = [arrange(structure) for structure in structures]
    largest = max(_weight(structure, place) for structure in structures for place in range(len(structure.cores)))
    box = np.array([widest, math.inf])
    pairs = list(zip(structures, layouts, strict=True))
    scale = min(_SCALE, *(_fitted(structure, layout, labels, box).scale for structure, layout in pairs))
    drawings = [_Drawing(structure, layout, labels, scale, largest) for structure, layout in pairs]
    extents = [drawing.extent() for drawing in drawings]
    width = max(float(high[0] - low[0]) for low, high in extents)
    figures = []
    for drawing, (low, high) in zip(drawings, extents, strict=True):
        spare = np.array([(width - (high[0] - low[0])) / 2, 0])
        fig = figure(width * scale, float(high[1] - low[1]) * scale)
        fig.set_layout_engine("none")
        _put(drawing, fig.add_axes((0, 0, 1, 1)), low - spare, high + spare)
        figures.append(fig)
    return figures


def _put(drawing: _Drawing, ax: Axes, low: np.ndarray, high: np.ndarray) -> None:
    """A drawing on axes that show just the box between two corners."""
    ax.set_xlim(low[0], high[0])
    ax.set_ylim(low[1], high[1])
    ax.set_aspect("equal")
    ax.axis("off")
    drawing.draw(ax)


def _weight(structure: Structure, core: int) -> float:
    """What the area of a circle grows with."""
    return math.log2(1 + math.prod(structure.cores[core].shape))


def _fitted(structure: Structure, layout: Layout, names: Sequence[str] | None, box: np.ndarray) -> _Drawing:
    """The drawing at the scale that fills a box, in inches."""
    scale = _SCALE
    # Letters do not shrink with the circles, so the scale that fits is a fixed point.
    for _ in range(5):
        low, high = _Drawing(structure, layout, names, scale).extent()
        scale = float(min(*(box / (high - low)), _LARGEST))
    return _Drawing(structure, layout, names, scale)


def _width(text: str, scale: float, font: float = _FONT) -> float:
    return max(map(len, text.split("\n"))) * font * 0.58 / 72 / scale


def _height(text: str, scale: float, font: float = _FONT) -> float:
    return (text.count("\n") + 1) * font * 1.35 / 72 / scale


@dataclass(frozen=True)
class _Label:
    """Text with the places for its middle, best first; the line that it belongs to ends at ``end``."""

    text: str
    places: tuple[Point, ...]
    end: Point


@dataclass(frozen=True)
class _Bracket:
    """A line over (or under) the legs of one axis, with what they make together."""

    text: str
    left: float
    right: float
    y: float
    side: int


class _Drawing:
    """One diagram at one scale (inches for a unit); keeps the boxes of what is written so that labels stay apart.

    The ``largest`` weight of a core is that of the largest circle: of this structure, if nobody says otherwise.
    """

    def __init__(
        self,
        structure: Structure,
        layout: Layout,
        names: Sequence[str] | None,
        scale: float,
        largest: float | None = None,
    ) -> None:
        self.structure = structure
        self.layout = layout
        self.names = names
        self.scale = scale
        # A figure drawn small keeps its proportions, down to what can be read.
        self.font = max(5.0, min(_FONT, _FONT * scale / 0.6))
        self.group = {i: n for n, group in enumerate(structure.outputs) for i in group}
        sizes = [_weight(structure, place) for place in range(len(structure.cores))]
        self.radius = [0.15 + 0.12 * (size / max(largest or 0.0, *sizes, 1.0)) ** 0.5 for size in sizes]
        self.labels = self._leg_labels()
        self.brackets = self._brackets()
        self.captions = self._captions()
        self.taken: list[Box] = []

    def extent(self) -> tuple[np.ndarray, np.ndarray]:
        """The lower left and the upper right corner of everything."""
        boxes = [(x - 0.3, x + 0.3, y - 0.3, y + 0.3) for x, y in (*self.layout.cores, *self.layout.dots.values())]
        boxes += [self._box(label.text, label.places[0]) for label in self.labels.values()]
        boxes += [self._box(b.text, self._over(b)) for b in self.brackets]
        low = np.array([min(box[0] for box in boxes), min(box[2] for box in boxes)])
        high = np.array([max(box[1] for box in boxes), max(box[3] for box in boxes)])
        if self.captions:
            w, h = _width("\n".join(self.captions), self.scale, self.font), self._line_height * len(self.captions)
            low[1] -= h + 0.12
            spare = max(0.0, w - (high[0] - low[0])) / 2
            low[0], high[0] = low[0] - spare, high[0] + spare
        return low - 0.12, high + 0.12

    @property
    def _line_height(self) -> float:
        return _height("", self.scale, self.font)

    def _box(self, text: str, at: Point) -> Box:
        w, h = _width(text, self.scale, self.font) / 2, _height(text, self.scale, self.font) / 2
        return at[0] - w, at[0] + w, at[1] - h, at[1] + h

    def _leg_labels(self) -> dict[str, _Label]:
        """What stands at the end of each leg; where many stand close, the legs of groups carry their sizes only."""
        for short in (False, True):
            found = {index: self._leg_label(index, short) for index in self.layout.legs}
            boxes = [self._box(found[i].text, found[i].places[0]) for i in found]
            if not any(_overlap(a, b) > 0 for a, b in itertools.combinations(boxes, 2)):
                break
        return found

    def _leg_label(self, index: str, short: bool) -> _Label:
        axis, size = self.group[index], f"{self.structure.sizes[index]:,}"
        if len(self.structure.outputs[axis]) > 1:
            text = size if short else f"{index}={size}"
        else:
            text = f"{index if self.names is None else self.names[axis]}\n{size}"
        end = self.layout.legs[index]
        starts = self._starts(index)
        x, y = (end[k] - sum(s[k] for s in starts) / len(starts) for k in (0, 1))
        far = math.hypot(x, y) or 1.0
        dx, dy = x / far, y / far
        w, h = _width(text, self.scale, self.font) / 2, _height(text, self.scale, self.font) / 2
        # Beyond the end of the leg by as much as its box reaches back towards it.
        reach = min(w / abs(dx) if abs(dx) > 1e-6 else math.inf, h / abs(dy) if abs(dy) > 1e-6 else math.inf)
        places = tuple((end[0] + dx * (reach + gap), end[1] + dy * (reach + gap)) for gap in (0.05, 0.14, 0.28))
        return _Label(text, places, end)

    def _starts(self, index: str) -> list[Point]:
        dot = self.layout.dots.get(index)
        return [dot] if dot is not None else self._ends(index)[:1]

    def _whole(self, axis: int) -> str:
        """A grouped axis in words: ``y = 512 = (y1 y2 y3)``."""
        group, size = self.structure.outputs[axis], f"{self.structure.shape[axis]:,}"
        inside = " ".join(group if len(group) <= 4 else (*group[:2], "…", group[-1]))
        if not group:
            return f"{'1' if self.names is None else self.names[axis]} = 1"
        return f"({inside}) = {size}" if self.names is None else f"{self.names[axis]} = {size} = ({inside})"

    def _brackets(self) -> list[_Bracket]:
        made: list[_Bracket] = []
        for axis, side in self.layout.brackets.items():
            reach = [self.layout.legs[i][0] for i in self.structure.outputs[axis]]
            left, right = min(reach) - 0.12, max(reach) + 0.12
            boxes = [self._box(label.text, label.places[0]) for label in self.labels.values()]
            boxes += [self._box(b.text, self._over(b)) for b in made]
            beyond = [side * box[2 + (side > 0)] for box in boxes if box[0] < right and left < box[1]]
            made.append(_Bracket(self._whole(axis), left, right, side * (max(beyond) + 0.12), side))
        return made

    def _over(self, bracket: _Bracket) -> Point:
        """Where the text of a bracket has its middle."""
        return (bracket.left + bracket.right) / 2, bracket.y + bracket.side * (self._line_height / 2 + 0.04)

    def _captions(self) -> list[str]:
        """Lines below for the axes that no leg and no bracket names."""
        outputs = enumerate(self.structure.outputs)
        return [self._whole(n) for n, group in outputs if len(group) != 1 and n not in self.layout.brackets]

    def draw(self, ax: Axes) -> None:
        """Put everything on the axes."""
        self.ax = ax
        shared = [n for n, core in enumerate(self.structure.cores) if len(core.terms) > 1]
        hue = {n: HUES[1 + k % (len(HUES) - 2)] for k, n in enumerate(shared)}
        for term, (x, y) in enumerate(self.layout.cores):
            r = self.radius[self.structure.term_core[term]]
            self.taken.append((x - r, x + r, y - r, y + r))
        self._legs()
        self._bonds()
        for term, (x, y) in enumerate(self.layout.cores):
            number = self.structure.term_core[term]
            self._core(x, y, self.radius[number], hue.get(number, HUES[0]), self.structure.cores[number].name)
        for x, y in self.layout.dots.values():
            self.ax.plot([x], [y], "o", color=INK, markersize=5.5 * min(1, self.scale / 0.6), zorder=4)
        for bracket in self.brackets:
            self._draw_bracket(bracket)
        low, high = self.extent()
        for n, text in enumerate(reversed(self.captions)):
            place = ((low[0] + high[0]) / 2, float(low[1]) + 0.12 + (n + 0.5) * self._line_height)
            self._write(text, [place], INK, 6)

    def _core(self, x: float, y: float, radius: float, colour: str, name: str) -> None:
        from matplotlib.patches import Circle

        self.ax.add_patch(Circle((x, y), radius, facecolor=colour, edgecolor=PAPER, linewidth=1.2, zorder=3))
        inside = name.removeprefix("core") if name.removeprefix("core").isdigit() else name
        font = self.font
        if _width(inside, self.scale, font) <= 2.1 * radius:
            self.ax.text(x, y, inside, color=PAPER, size=font, ha="center", va="center_baseline", zorder=5)
            return
        if inside.isdigit():
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

        def clash(place: Point) -> float:
            here = self._box(text, place)
            return sum(_overlap(here, other) for other in self.taken)

        x, y = min(places, key=clash)
        self.taken.append(self._box(text, (x, y)))
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

    def _legs(self) -> None:
        for index, label in self.labels.items():
            for start in self._starts(index):
                self._line(start, label.end, 0.0, self._thickness(index))
            self._write(label.text, label.places, INK, 6)

    def _draw_bracket(self, bracket: _Bracket) -> None:
        x0, x1, y, tip = bracket.left, bracket.right, bracket.y, bracket.y - 0.07 * bracket.side
        self.ax.plot([x0, x0, x1, x1], [tip, y, y, tip], color=MUTED, linewidth=1.0, zorder=1)
        self._write(bracket.text, [self._over(bracket)], INK, 6)

    def _bond_label(self, index: str, places: Sequence[Point], room: float, direction: Point) -> None:
        """The name and size of a bond on its line; where the line is too short, its size, and that above the line."""
        size = f"{self.structure.sizes[index]:,}"
        texts = [f"{index}={size}", size] if len(index) <= 3 and len(self.structure.terms) <= _NAMED else [size]
        for text in texts:
            w, h = _width(text, self.scale, self.font), _height(text, self.scale, self.font)
            along = min(w / max(abs(direction[0]), 1e-6), h / max(abs(direction[1]), 1e-6))
            if along <= room:
                self._write(text, places, INK, 2, cover=True)
                return
        aside = h / 2 + 0.04
        self._write(size, [(x, y + aside) for x, y in places], INK, 2)

    def _bonds(self) -> None:
        outside = set(self.structure.output_indices)
        between: dict[tuple[int, ...], list[str]] = {}
        for index in self.structure.sizes:
            if index in self.layout.dots:
                dot = self.layout.dots[index]
                middles = [(end, self._line(end, dot, 0.0, self._thickness(index))) for end in self._ends(index)]
                # Where a leg leaves the dot, the size stands at its end.
                if index not in outside:
                    places = [p for end, middle in middles for p in _along(end, dot, middle)[:3]]
                    self._bond_label(index, places, math.inf, (1.0, 0.0))
            elif index not in outside:
                between.setdefault(self.structure.terms_with(index), []).append(index)
        for terms, indices in between.items():
            a, b = (self.layout.cores[n] for n in terms)
            far = math.dist(a, b) or 1.0
            room = far - sum(self.radius[self.structure.term_core[n]] for n in terms)
            direction = ((b[0] - a[0]) / far, (b[1] - a[1]) / far)
            for bend, index in zip(_bends([a] * len(indices)), indices, strict=True):
                middle = self._line(a, b, bend, self._thickness(index))
                self._bond_label(index, _along(a, b, middle), room, direction)


def _overlap(a: Box, b: Box) -> float:
    """The area that two boxes have in common."""
    return max(0.0, min(a[1], b[1]) - max(a[0], b[0])) * max(0.0, min(a[3], b[3]) - max(a[2], b[2]))


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
