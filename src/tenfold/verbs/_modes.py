"""Modes as people give them, and as the models of `tenfold.completion` see them."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np

from tenfold._arguments import closest, quoted
from tenfold.errors import DataError

# Levels that a message names.
_SHOWN = 6
# Letters of a level that a message shows.
_LONGEST = 80
# Positive numbers half of which lie in this part of their range, such as doses and frequencies, go on a log scale.
_CROWDED = 0.05
SCALES = ("linear", "log")
# The part of a continuous mode within which observations are at the same place for people.
_NEAR = 0.025


@dataclass(frozen=True, eq=False)
class Mode:
    """One mode of what is completed.

    Attributes:
        name: what people call it.
        continuous: whether it is an interval rather than a set of levels.
        labels: the levels that occur, in ascending order (of a discrete mode all of them, in the order of the codes);
            None where codes from 0 on are all there is.
        size: the number of levels that occur.
        low, high: the ends of what was observed of a continuous mode, as numbers in its own unit.
        unit: of the labels, empty where not known.
        log: whether places of a continuous mode are told apart by their ratios.
    """

    name: str
    continuous: bool
    labels: np.ndarray | None
    size: int
    low: Any = 0.0
    high: Any = 1.0
    unit: str = ""
    log: bool = False

    @classmethod
    def over(
        cls,
        name: str,
        labels: np.ndarray | None,
        size: int,
        continuous: bool,
        unit: str = "",
        scale: str | None = None,
    ) -> Mode:
        """The mode of some levels; ``scale`` is one of ``SCALES``, by default what the levels look like.

        Raises:
            DataError: a continuous mode whose levels are no numbers or dates, or on a logarithmic scale not positive.
        """
        if not continuous:
            return cls(name, False, labels, size, unit=unit)
        points = np.arange(size, dtype=np.float64) if labels is None else labels
        if points.dtype.kind not in "biufmM":
            raise DataError(f"mode '{name}' is to be continuous, but its levels are text, such as {str(points[0])!r}")
        if points.dtype.kind == "b":
            points = points.astype(np.int64)
        if points.dtype.kind in "fmM" and not np.isfinite(points).all():
            raise DataError(f"mode '{name}' has a level that is no finite number: leave such observations out")
        if scale == "log" and (points.dtype.kind in "mM" or points.min() <= 0):
            raise DataError(f"mode '{name}' cannot be logarithmic: it has levels that are no positive numbers")
        log = _crowded(points) if scale is None else scale == "log"
        return cls(name, True, labels, size, points.min(), points.max(), unit, log)

    @property
    def kind(self) -> str:
        """What it is, in words."""
        if not self.continuous:
            return f"{self.size:,} levels"
        scale = " on a logarithmic scale" if self.log else ""
        return f"{self.text(self.low)} to {self.text(self.high)}{scale}, {self.size:,} places"

    @property
    def near(self) -> float:
        """How far apart coordinates of the model may be that are the same place for people."""
        return _NEAR if self.continuous else 0.0

    def encode(self, given: Any, *, name: str = "") -> np.ndarray:
        """Coordinates of the model: codes of a discrete mode, places of a continuous one, as float64.

        Raises:
            DataError: a level that is not known, or something that is no place on this mode.
        """
        values = np.atleast_1d(np.asarray(given))
        said = name or f"mode '{self.name}'"
        if values.ndim != 1:
            raise DataError(f"{said} has shape {values.shape}: give one value for each point")
        return self._places(values, said) if self.continuous else self._codes(values, said)

    def positions(self) -> np.ndarray:
        """The model's coordinates of all levels that occur."""
        if self.continuous:
            return self._places(np.arange(self.size) if self.labels is None else self.labels, self.name)
        return np.arange(self.size, dtype=np.float64)

    def at(self, place: float) -> str:
        """What is at a coordinate of the model, as text."""
        if not self.continuous:
            return self.label(int(place))
        low, high = self.low, self.high
        if np.asarray(low).dtype.kind in "mM":
            return str(low + (high - low) * place)
        if self.log:
            return self.text(float(low) * (float(high) / float(low)) ** place)
        return self.text(float(low) * (1 - place) + float(high) * place)

    def label(self, level: int) -> str:
        """A level as text."""
        return str(level) if self.labels is None else self.text(self.labels[level])

    def text(self, value: Any) -> str:
        """A place or level as text."""
        if isinstance(value, float | np.floating):
            return f"{value:.6g}"
        return str(value)

    def _places(self, values: np.ndarray, said: str) -> np.ndarray:
        low, high = np.asarray(self.low), np.asarray(self.high)
        if low.dtype.kind in "mM":
            return self._times(values, low, high, said)
        if values.dtype.kind not in "biuf":
            values = _parsed(values, f"{said} is {{}}: give a number")
        if not np.isfinite(values.astype(np.float64)).all():
            raise DataError(f"{said} holds NaN or inf: give a finite number for each point")
        if self.log:
            if (values.astype(np.float64) <= 0).any():
                raise DataError(f"{said} is {values.min()}: give positive numbers, as its scale is logarithmic")
            start = np.log(float(low))
            return np.asarray((np.log(values.astype(np.float64)) - start) / ((np.log(float(high)) - start) or 1.0))
        if values.dtype.kind in "biu" and low.dtype.kind in "biu":
            return _between(values, low, high)
        lowest, highest = float(low), float(high)
        # Halved, so that the ends of the range of doubles may be the ends of the mode.
        span = highest / 2 - lowest / 2
        return (values.astype(np.float64) / 2 - lowest / 2) / (span or 0.5)

    def _times(self, values: np.ndarray, low: np.ndarray, high: np.ndarray, said: str) -> np.ndarray:
        values = self._as_times(values, low.dtype, said)
        if np.isnat(values).any():
            raise DataError(f"{said} holds NaT: give a date for each point")
        # Whole numbers of one unit; microseconds reach far enough for units that are not the same.
        unit = low.dtype if values.dtype == low.dtype else np.dtype(f"{low.dtype.kind}8[us]")
        coarse = "M8[Y]" if low.dtype.kind == "M" else "m8[W]"
        far = values.astype(unit).astype(coarse) != values.astype(coarse)
        if far.any():
            raise DataError(f"{said} is {values[int(far.argmax())]}: that is too far from {low} to be told in {unit}")
        return _between(*(one.astype(unit).astype(np.int64) for one in (values, low, high)))

    def _as_times(self, values: np.ndarray, kind: np.dtype[Any], said: str) -> np.ndarray:
        """Dates or durations of any unit; a number is a duration in the unit of the mode."""
        if values.dtype.kind == kind.kind:
            return values
        what = (
            f"give a {'date' if kind.kind == 'M' else 'duration'}, as {self.low if self.continuous else self.label(0)}"
        )
        if values.dtype.kind in "biufc" and (kind.kind == "M" or values.dtype.kind not in "iu"):
            raise DataError(f"{said} is {values[0]}: {what}")
        try:
            return values.astype("M8" if kind.kind == "M" else kind)
        except (ValueError, TypeError, OverflowError) as cause:
            raise DataError(f"{said} is {quoted(_plain(values[0]))}: {what}") from cause

    def _codes(self, values: np.ndarray, said: str) -> np.ndarray:
        if self.labels is None:
            numbers = values.astype(np.float64) if values.dtype.kind in "biuf" else None
            if numbers is None:
                numbers = _parsed(values, f"{said} is {{}}: give a number from 0 to {self.size - 1}")
            bad = ~((numbers >= 0) & (numbers < self.size) & (numbers == np.round(numbers)))
            if bad.any():
                wrong = values[int(bad.argmax())]
                raise DataError(f"{said} is {wrong}: give a whole number from 0 to {self.size - 1}")
            return numbers
        labels = self.labels
        wanted, known = self._like(values, labels, said)
        order = np.argsort(labels, kind="stable")
        place = np.searchsorted(labels, wanted, sorter=order).clip(0, len(labels) - 1)
        codes = order[place]
        again = known & (np.searchsorted(labels, wanted, sorter=order, side="right") - place > 1)
        if again.any():
            wrong = str(values[int(again.argmax())])
            raise DataError(f"{said} has more than one level {quoted(wrong)}: name its levels differently")
        unknown = ~known | (labels[codes] != wanted)
        if unknown.any():
            wrong = str(values[int(unknown.argmax())])
            names = [str(label) for label in labels[:10_000]]
            near = closest(wrong, [name for name in names if name == _short(name)])
            shown = ", ".join(map(_short, names[:_SHOWN])) + (", ..." if len(labels) > _SHOWN else "")
            raise DataError(f"{said} has no level {quoted(wrong)}{near}; its levels are {shown}")
        return codes.astype(np.float64)

    def _like(self, values: np.ndarray, labels: np.ndarray, said: str) -> tuple[np.ndarray, np.ndarray]:
        """What is asked for as something to compare with the labels, and of which of it that can be made at all.

        Nothing is rounded or wrapped on the way: 259 is no level of bytes, and 1.5 none of whole numbers.
        """
        kind, known = labels.dtype.kind, np.ones(len(values), dtype=bool)
        if kind == "U":
            return values.astype(str), known
        if kind in "mM":
            return self._as_times(values, labels.dtype, said), known
        if values.dtype.kind not in "biuf":
            return _each(values, labels)
        if kind == "f":
            return values.astype(labels.dtype), known
        # Labels are whole numbers or booleans; bounds in Python, as numpy has no type for both signs of 64 bits.
        low, high = (0, 1) if kind == "b" else (int(np.iinfo(labels.dtype).min), int(np.iinfo(labels.dtype).max))
        if values.dtype.kind == "f":
            known = (values == np.round(values)) & (values >= float(low)) & (values < float(high + 1))
        elif values.dtype.kind != "b":
            known = (values >= low) & (values <= high)
        wanted = np.zeros(len(values), dtype=labels.dtype)
        wanted[known] = values[known].astype(labels.dtype)
        return wanted, known

    def record(self) -> dict[str, Any]:
        """The same as plain values for JSON."""
        return {
            "name": self.name,
            "continuous": self.continuous,
            "size": self.size,
            "unit": self.unit,
            "log": self.log,
            "labels": None if self.labels is None else _stored(self.labels),
            "ends": None if not self.continuous else _stored(np.array([self.low, self.high])),
        }

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Mode:
        """The mode that ``record`` was made of. Raises KeyError, TypeError or ValueError for anything else."""
        labels = None if record["labels"] is None else _restored(record["labels"])
        ends: Any = (0.0, 1.0) if record["ends"] is None else _restored(record["ends"])
        size = int(record["size"])
        if labels is not None and len(labels) != size:
            raise ValueError(f"mode {record['name']!r} has {len(labels)} labels for {size} levels")
        return cls(
            str(record["name"]),
            bool(record["continuous"]),
            labels,
            size,
            ends[0],
            ends[1],
            str(record["unit"]),
            bool(record["log"]),
        )


def _between(values: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Where whole numbers are between two: subtracted before they are rounded, and without running over."""
    start, end = int(low), int(high)
    far = max(abs(int(values.min())), abs(int(values.max())), abs(start)) if len(values) else 0
    off = values.astype(np.int64 if far < 2**62 else object) - start
    return np.asarray(off, dtype=np.float64) / (float(end - start) or 1.0)


def _short(name: str) -> str:
    """A level as a message shows it."""
    return name if len(name) <= _LONGEST else f"{name[:_LONGEST]}..."


def _plain(value: Any) -> Any:
    """A number or text of numpy as that of Python, which a message shows without its type."""
    return value.item() if isinstance(value, np.generic) else value


def _parsed(values: np.ndarray, says: str) -> np.ndarray:
    """Text and objects as numbers; ``says`` has a place for what is none."""
    found = []
    for value in values.tolist():
        try:
            found.append(float(value))
        except (ValueError, TypeError, OverflowError) as cause:
            raise DataError(says.format(quoted(value))) from cause
    return np.array(found, dtype=np.float64)


def _each(values: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The label that each text or object is equal to, and whether there is one."""
    own = {label: label for label in labels.tolist()}
    words = {"true": True, "false": False}
    found, known, first = [], [], labels[0].item()
    for value in values.tolist():
        if isinstance(value, bytes):
            value = value.decode(errors="replace")
        if isinstance(value, str):
            value = words.get(value.strip().lower(), value) if labels.dtype.kind == "b" else _number(value)
            if labels.dtype.kind == "f" and isinstance(value, int | float):
                value = labels.dtype.type(value).item()
        try:
            known.append(value in own)
        except TypeError:  # what has no hash is no label
            known.append(False)
        found.append(own[value] if known[-1] else first)
    return np.array(found, dtype=labels.dtype), np.array(known, dtype=bool)


def _number(text: str) -> Any:
    """The number that a text is, whole ones exactly; the text where it is none."""
    for kind in (int, float):
        with suppress(ValueError):
            return kind(text)
    return text


def _crowded(points: np.ndarray) -> bool:
    """Whether positive numbers crowd at the low end of their range."""
    if points.dtype.kind not in "iuf" or len(points) < 3 or points.min() <= 0:
        return False
    low, middle, high = float(points.min()), float(np.median(points)), float(points.max())
    return middle - low < _CROWDED * (high - low)


def _stored(values: np.ndarray) -> dict[str, Any]:
    if values.dtype.kind in "mM":
        return {"dtype": values.dtype.newbyteorder("=").str, "values": values.astype(np.int64).tolist()}
    if values.dtype.kind in "biuf":
        kind = np.dtype(np.float64) if values.dtype.kind == "f" and values.dtype.itemsize > 8 else values.dtype
        return {"dtype": kind.newbyteorder("=").str, "values": values.astype(kind).tolist()}
    return {"dtype": "str", "values": [str(value) for value in values.tolist()]}


def _restored(record: Mapping[str, Any]) -> np.ndarray:
    kind = np.dtype(record["dtype"])
    if kind.kind not in "biufmM" and record["dtype"] != "str":
        raise ValueError(f"labels have the dtype {kind}")
    return np.asarray(record["values"], dtype=kind)
