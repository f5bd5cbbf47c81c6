"""What a file held: the numbers, and what is known about them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from tenfold.errors import DataError
from tenfold.io._checks import count_missing
from tenfold.io.lazy import LazyArray

if TYPE_CHECKING:
    from tenfold.observations import Observations


@dataclass(frozen=True, repr=False)
class Dataset:
    """The array (or the observed entries) that a file held, with its labels.

    Attributes:
        values: the numbers in the dtype of the file; a :class:`LazyArray` is read from its file when it is needed;
            tables give :class:`~tenfold.observations.Observations`. Missing cells of arrays are NaN.
        dims: one name per mode of the array.
        coordinates: for some or all modes, their labels (numbers, strings or datetimes), one per index.
        dtype: the dtype of the numbers in the file, such as ``"uint8"`` or ``"bfloat16"``.
        source: what was given to ``read``.
        missing: how many cells are NaN (arrays) or rows without a value (tables); None while a lazy array has not
            been read.
        name: the name of the array within its file, empty where files have none.
        unit: the unit of the values, empty when not known.
        units: units of coordinates, by mode.
        note: a sentence on what the data are (samples).
        licence: the terms under which the data may be used (samples).
        origin: where the data come from (samples).
        columns: further columns of a table that were asked for, one number for each observation.
    """

    values: np.ndarray | LazyArray | Observations
    dims: tuple[str, ...]
    coordinates: Mapping[str, np.ndarray]
    dtype: str
    source: str
    missing: int | None
    name: str = ""
    unit: str = ""
    units: Mapping[str, str] = field(default_factory=dict)
    note: str = ""
    licence: str = ""
    origin: str = ""
    columns: Mapping[str, np.ndarray] = field(default_factory=dict)

    def __repr__(self) -> str:
        modes = " x ".join(f"{mode} {size}" for mode, size in zip(self.dims, self.shape, strict=True))
        parts = [f"{self.name} of {modes}" if self.name else modes, self.dtype]
        if self.unit:
            parts.append(f"in {self.unit}")
        if self.coordinates:
            parts.append(f"labels of {', '.join(self.coordinates)}")
        if isinstance(self.values, np.ndarray):
            parts.append(f"{self.missing} missing")
        else:
            parts.append("in its file" if self.lazy else repr(self.values))
        return f"Dataset({self.source!r}: {'; '.join(parts)})"

    @property
    def shape(self) -> tuple[int, ...]:
        """The size of every mode."""
        return tuple(int(size) for size in self.values.shape or ())

    @property
    def lazy(self) -> bool:
        """Whether the numbers are still in the file."""
        return isinstance(self.values, LazyArray)

    def load(self) -> Dataset:
        """The same with the numbers in memory and ``missing`` counted; itself when they already are.

        Raises:
            FileError: the file cannot be read any more.
            DataError: the array is larger than the memory of this machine.
        """
        if not isinstance(self.values, LazyArray):
            return self
        values = np.asarray(self.values)
        return replace(self, values=values, missing=count_missing(values))

    def array(self) -> np.ndarray:
        """The whole array in memory, of shape ``shape``.

        Raises:
            DataError: the data are entries of a table, which need not make a whole array.
        """
        values = self.load().values
        if not isinstance(values, np.ndarray):
            raise DataError(f"'{self.source}' holds entries, not a whole array: use .values (Observations)")
        return values
