"""An array that stays in its file until it, or a part of it, is asked for."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import numpy as np

from tenfold.io._checks import fits_memory, native, parsing


@dataclass(frozen=True)
class LazyArray:
    """``np.asarray(lazy)`` reads all of it, ``lazy[3, :, 2:5]`` that part; the file is open only meanwhile.

    Attributes:
        open: gives a context manager around something array-like that is indexed as NumPy arrays are.
        shape: the size of every mode.
        dtype: of the numbers that reading gives.
        name: how errors call the file.
        chunks: the size of the pieces in which the file keeps the array, for each mode; None where it is in one piece.
    """

    open: Callable[[], AbstractContextManager[Any]]
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    name: str
    chunks: tuple[int, ...] | None = None

    @property
    def ndim(self) -> int:
        """The number of modes."""
        return len(self.shape)

    @property
    def nbytes(self) -> int:
        """The memory that the whole array takes."""
        return int(np.prod(self.shape, dtype=object)) * self.dtype.itemsize

    def __getitem__(self, key: Any) -> np.ndarray:
        with parsing(self.name, "an array file"), self.open() as values:
            part = values[key]
            # What is mapped would stay open, and change with its file.
            return native(np.array(part) if isinstance(part, np.memmap) else np.asarray(part))

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        if copy is False:
            raise ValueError("an array in a file cannot be had without copying it into memory")
        fits_memory(self.shape, self.dtype, self.name)
        values = self[...]
        return values if dtype is None else values.astype(dtype, copy=False)
