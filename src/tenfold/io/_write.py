"""Writing: check the labels, choose the format, replace the file in one step."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tenfold._files import atomic
from tenfold.errors import DataError, FileError, TenfoldError
from tenfold.io._checks import cast, nameless, numeric, one_line
from tenfold.io._registry import Content, find


def write(
    array: np.ndarray,
    path: str | Path,
    *,
    dtype: str | None = None,
    dims: Sequence[str] | None = None,
    coordinates: Mapping[str, Any] | None = None,
    units: Mapping[str, str] | None = None,
) -> None:
    """Write an array in the format that the suffix of ``path`` means; ``"-"`` is .npy on standard output.

    The file appears whole or not at all: an earlier one of that name stays until the new one is complete.

    Args:
        array: the numbers.
        path: where to; ``tenfold.io.suffixes(writing=True)`` lists the formats.
        dtype: the dtype in the file, that of the array by default. Integers are rounded to the nearest and
            clipped. Images that hold only integers are ``"uint8"`` unless the array, or this, is
            ``"uint16"``.
        dims: one name per mode, for formats that keep them (.nc, .h5, .zarr, .npz, .csv, .parquet); i, j, k,
            ... by default.
        coordinates: labels of modes, for the same formats.
        units: units of those labels, for .nc, .h5, .zarr and .npz.

    Raises:
        FileError: the file cannot be written, or the format cannot hold the array.
        DataError: labels do not fit the array, or the values not the dtype.
        MissingExtra: the format needs an optional package.
    """
    values = np.asarray(array)
    name = "standard output" if path == "-" else Path(path).name
    numeric(values.dtype, values.shape, name)
    if path == "-":
        _write_standard_output(values if dtype is None else cast(values, dtype, name))
        return
    content = Content(values, dtype, *_labels(values, dims, coordinates, units))
    format = find(name, writing=True)
    assert format.write is not None  # find(writing=True) gives no other
    with atomic(path) as temporary:
        try:
            format.write(content, temporary, name)
        except (TenfoldError, OSError):  # worded already, or the system's, which atomic() words
            raise
        except Exception as error:
            raise FileError(f"cannot write '{path}': {one_line(error)}") from error


def _labels(
    values: np.ndarray,
    dims: Sequence[str] | None,
    coordinates: Mapping[str, Any] | None,
    units: Mapping[str, str] | None,
) -> tuple[tuple[str, ...], dict[str, np.ndarray], dict[str, str]]:
    names = nameless(values.ndim) if dims is None else tuple(dims)
    if len(names) != values.ndim or len(set(names)) != len(names):
        raise DataError(f"dims {names} does not name each of the {values.ndim} modes of shape {values.shape} once")
    labels = {mode: np.asarray(given) for mode, given in (coordinates or {}).items()}
    for mode, given in labels.items():
        if mode not in names:
            raise DataError(f"coordinates name '{mode}', which is none of the modes {names}")
        size = values.shape[names.index(mode)]
        if given.shape != (size,):
            raise DataError(f"coordinates of '{mode}' have shape {given.shape}, the mode has size {size}")
    for mode in units or {}:
        if mode not in names:
            raise DataError(f"units name '{mode}', which is none of the modes {names}")
    return names, labels, dict(units or {})


def _write_standard_output(values: np.ndarray) -> None:
    try:
        np.lib.format.write_array(sys.stdout.buffer, values, allow_pickle=False)
        sys.stdout.buffer.flush()
    except OSError as error:
        raise FileError(f"cannot write standard output: {error.strerror or error}") from error
