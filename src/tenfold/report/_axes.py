"""The axes of the data: their names and what stands at each place of them."""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from tenfold.report._style import plain

if TYPE_CHECKING:
    from tenfold.verbs.result import Fit


@dataclass(frozen=True)
class Axis:
    """One axis of the data.

    Attributes:
        name: as the data calls it.
        size: how many places it has.
        values: what stands at each place, or None when nothing is known: numbers, times (datetime64) or labels.
        kind: ``"number"``, ``"time"``, ``"label"`` or ``"place"`` for plain positions.
        unit: that of the values, '' where it is not known.
    """

    name: str
    size: int
    values: np.ndarray | None
    kind: str
    unit: str = ""

    @property
    def label(self) -> str:
        """The name, with the unit if it is known."""
        return f"{self.name} ({self.unit})" if self.unit and self.kind == "number" else self.name

    def at(self, place: int) -> str:
        """What stands at a place, as short text."""
        if self.values is None:
            return str(place)
        value = self.values[place]
        if self.kind == "number":
            return f"{value:.5g}" if isinstance(value, np.floating) else str(value)
        if self.kind == "time":
            return _time(value)
        return _short(str(value))

    @property
    def positions(self) -> np.ndarray:
        """Where each place lies on a plotted axis: the coordinate if it is a number or a time, else 0, 1, 2, ..."""
        return self.values if self.kind in ("number", "time") and self.values is not None else np.arange(self.size)

    @property
    def falls(self) -> bool:
        """Whether its coordinates go down from place to place."""
        values = self.positions
        return self.values is not None and self.size > 1 and bool((values[1:] < values[:-1]).all())


def axes_of(fit: Fit) -> list[Axis]:
    """The axes of a fit; coordinates that do not match an axis in length are not used."""
    names = [str(name) for name in fit.dims]
    shape = tuple(fit.shape)
    if len(names) != len(shape):
        names = [f"axis {n}" for n in range(len(shape))]
    return [
        replace(_axis(name, size, (fit.coordinates or {}).get(name)), unit=fit.units.get(name, ""))
        for name, size in zip(names, shape, strict=True)
    ]


def _axis(name: str, size: int, coordinate: Any) -> Axis:
    nothing = Axis(name, size, None, "place")
    if coordinate is None:
        return nothing
    values = np.asarray(coordinate)
    if values.shape != (size,):
        return nothing
    if np.issubdtype(values.dtype, np.datetime64):
        return nothing if np.isnat(values).any() else Axis(name, size, values, "time")
    if values.dtype.kind == "m":
        values = values / np.timedelta64(1, "s")
    if values.dtype.kind in "iuf":
        return Axis(name, size, values, "number") if np.isfinite(values).all() else nothing
    if values.dtype.kind == "O":
        if all(hasattr(value, "isoformat") for value in values):
            try:
                return Axis(name, size, values.astype("datetime64[us]"), "time")
            except (TypeError, ValueError):
                return Axis(name, size, values.astype(str), "label")
        if all(isinstance(value, int | float) and not isinstance(value, bool) for value in values):
            return _axis(name, size, values.astype(np.float64))
    if values.dtype.kind == "S":
        values = np.array([value.decode("utf-8", "replace") for value in values])
    return Axis(name, size, values.astype(str), "label")


def _short(label: str) -> str:
    """A label to read; numbers written out to many digits are rounded."""
    if len(label) > 7:
        with suppress(ValueError):
            return f"{float(label):.4g}"
    return plain(label, 22)


def _time(value: np.datetime64) -> str:
    """A time without the zeros at its end."""
    text = str(value.astype("datetime64[s]")).replace("T", " ")
    return re.sub(r"( 00:00)?:00$", "", text)
