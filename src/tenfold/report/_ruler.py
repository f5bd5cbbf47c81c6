"""How the modes of what was completed are drawn along an axis: numbers, dates or names."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import numpy as np

from tenfold.report._style import INK, log_axis, plain

if TYPE_CHECKING:
    from tenfold.verbs._modes import Mode

# Levels whose names are all written, and the longest of these names.
_NAMED, _LONGEST = 40, 26
# Numbers of levels are drawn to scale when no step between neighbours is so many times the usual one.
_UNEVEN = 10.0
# Numbers beyond this are drawn by their places.
_HUGE = 1e100
_YEARS = (2, 9997)


class Ruler:
    """Where the places of a mode lie along an axis, and what is written there.

    Args:
        mode: whose coordinates, those of the model, are drawn.
        codes: draw the levels of a discrete mode one beside the other, whatever they are called, and a logarithmic
            mode where the model has it.

    Attributes:
        kind: ``"number"``, ``"time"``, or ``"name"`` for what is written where it stands.
    """

    def __init__(self, mode: Mode, *, codes: bool = False) -> None:
        self.mode = mode
        self.unit = mode.unit
        self.kind = "name"
        self._native: np.ndarray | None = None
        if not codes or (mode.continuous and not mode.log):
            self._find(np.arange(mode.size) if mode.labels is None else mode.labels)

    def _find(self, labels: np.ndarray) -> None:
        if labels.dtype.kind == "M":
            years = labels.astype("datetime64[Y]").astype(np.int64) + 1970
            if np.isnat(labels).any() or years.min() < _YEARS[0] or years.max() > _YEARS[1]:
                return
            days = labels.astype("datetime64[us]").astype(np.float64) / 86_400e6
            self.kind, self._native = "time", days
            return
        if labels.dtype.kind == "m":
            try:
                labels = labels / np.timedelta64(1, "s")
            except TypeError:
                labels = labels.astype(np.int64)
            else:
                self.unit = "s"
        if labels.dtype.kind not in "iuf":
            return
        numbers = labels.astype(np.float64)
        if not np.isfinite(numbers).all() or np.abs(numbers).max() > _HUGE:
            return
        if not self.mode.continuous:
            steps = np.diff(numbers)
            if len(steps) and ((steps <= 0).any() or steps.max() > _UNEVEN * np.median(steps)):
                return
        self.kind, self._native = "number", numbers

    def positions(self, places: Any) -> np.ndarray:
        """Where coordinates of the model lie."""
        given = np.asarray(places, dtype=np.float64)
        if self._native is None:
            return given
        if self.mode.log:
            low, high = float(self.mode.low), float(self.mode.high)
            return np.asarray(low * (high / low) ** given)
        known = self.mode.positions()
        order = np.argsort(known, kind="stable")
        return np.interp(given, known[order], self._native[order])

    @property
    def label(self) -> str:
        """The name of the mode, with its unit."""
        name = plain(self.mode.name, 40)
        return f"{name} ({plain(self.unit, 16)})" if self.unit and self.kind == "number" else name

    def mark(self, axis: Any, *, few: int = _NAMED, across: bool = False) -> None:
        """Write what stands along an axis of matplotlib, and its name.

        Args:
            axis: ``ax.xaxis`` or ``ax.yaxis``.
            few: how many names of levels there is room for.
            across: whether names stand upright, for there is no room for them side by side.
        """
        from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
        from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator

        axis.set_label_text(self.label, color=INK, size=9)
        if self.kind == "time":
            locator = AutoDateLocator(minticks=3, maxticks=7)
            axis.set_major_locator(locator)
            axis.set_major_formatter(ConciseDateFormatter(locator))
            return
        if self.kind == "number" and self.mode.log:
            axis.axes.set(**{f"{axis.axis_name}scale": "log"})
            log_axis(axis)
            return
        if self.kind == "number":
            whole = self._native is not None and bool((self._native == np.round(self._native)).all())
            axis.set_major_locator(MaxNLocator(6, integer=whole and not self.mode.continuous))
            return
        if not self.mode.continuous and self.mode.size <= few:
            axis.set_major_locator(FixedLocator(list(range(self.mode.size))))
        else:
            axis.set_major_locator(MaxNLocator(5, integer=not self.mode.continuous))
        axis.set_major_formatter(FuncFormatter(lambda place, _: self._written(place)))
        if across:
            axis.set_tick_params(labelrotation=90)

    def _written(self, place: float) -> str:
        if self.mode.log:
            return f"{float(self.mode.low) * (float(self.mode.high) / float(self.mode.low)) ** place:.3g}"
        if self.mode.continuous:
            return plain(self.mode.at(place), _LONGEST) if -1e-9 <= place <= 1 + 1e-9 else ""
        return plain(self.mode.label(int(place)), _LONGEST) if 0 <= place < self.mode.size else ""


def setting(modes: tuple[Mode, ...], places: dict[str, float]) -> str:
    """Where other modes stand, in words."""
    shown = [mode for mode in modes if mode.name in places]
    parts = [f"{plain_name(mode.name)} = {plain_name(brief(mode.at(places[mode.name])))}" for mode in shown[:6]]
    more = len(shown) - len(parts)
    return ", ".join(parts) + (f" and {more} more" if more > 0 else "")


def brief(text: str) -> str:
    """A date without the midnight at its end."""
    return re.sub(r"(?<=\d)T00:00(:00(\.0+)?)?$", "", text)


def plain_name(text: object, longest: int = 48) -> str:
    """One line of text, cut to ``longest``; as `plain`, for HTML."""
    return plain(text, longest).replace(r"\$", "$")
