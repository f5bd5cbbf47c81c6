"""Checks and small conversions that the formats share."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from tenfold._arguments import closest
from tenfold.errors import DataError, FileError, TenfoldError

_LISTED = 20


@contextmanager
def parsing(name: str, kind: str) -> Iterator[None]:
    """Turn whatever a parser raises over a damaged or foreign file into one :class:`FileError`.

    Every exception is taken, because a library that meets arbitrary bytes raises arbitrary things; it stays
    attached as the cause.
    """
    try:
        yield
    except TenfoldError:
        raise
    except MemoryError as error:
        raise DataError(f"'{name}' holds more than this machine has memory for") from error
    except PermissionError as error:
        raise FileError(f"cannot read '{name}': permission denied") from error
    except Exception as error:
        raise FileError(f"'{name}' is truncated, damaged or not {kind}: {one_line(error)}") from error


def one_line(error: BaseException) -> str:
    """What the exception says, on one line of bounded length."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 160 else text[:157] + "..."


def numeric(dtype: np.dtype[Any], shape: Sequence[int], name: str) -> None:
    """Raise a :class:`DataError` unless the array holds numbers, at least one, along at least one mode."""
    if dtype.kind not in "biufc":
        held = {"O": "Python objects", "U": "strings", "S": "strings", "T": "strings", "V": "records"}
        what = held.get(dtype.kind, f"{dtype} values")
        raise DataError(f"'{name}' holds {what}, not numbers")
    if len(shape) == 0:
        raise DataError(f"'{name}' holds a single number, not an array: at least one mode is needed")
    if 0 in shape:
        raise DataError(f"'{name}' holds an empty array of shape {tuple(shape)}")


def native(values: np.ndarray) -> np.ndarray:
    """The same numbers in the byte order of this machine, long doubles as doubles: what torch can take."""
    if values.dtype.kind in "fc" and values.dtype.itemsize > (8 if values.dtype.kind == "f" else 16):
        return values.astype(np.float64 if values.dtype.kind == "f" else np.complex128)
    if not values.dtype.isnative:
        return values.astype(values.dtype.newbyteorder("="))
    return values


def fits_memory(shape: Sequence[int], dtype: np.dtype[Any], name: str) -> None:
    """Raise a :class:`DataError` when the array is larger than all memory of the machine."""
    needed = math.prod(int(size) for size in shape) * dtype.itemsize
    memory = memory_of_machine()
    if memory is not None and needed > memory:
        raise DataError(
            f"'{name}' holds an array of shape {tuple(shape)} that needs {gigabytes(needed)} of memory, "
            f"this machine has {gigabytes(memory)}: take a part of it"
        )


def memory_of_machine() -> int | None:
    """All memory of this machine in bytes; None where the system does not tell, so that an allocation decides."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return None


def gigabytes(count: int) -> str:
    """A number of bytes for people."""
    return f"{count / 1e9:.1f} GB" if count < 10**18 else "over a billion GB"


def count_missing(values: np.ndarray) -> int:
    """How many of the values are NaN."""
    return int(np.isnan(values).sum()) if values.dtype.kind in "fc" else 0


def nameless(ndim: int) -> tuple[str, ...]:
    """Names for the modes of an array that has none: i, j, k, ..."""
    letters = "ijklmnopqrstuvwxyz"
    return tuple(letters[:ndim]) if ndim <= len(letters) else tuple(f"i{number}" for number in range(ndim))


def choose(shapes: Mapping[str, Sequence[int]], variable: str | None, name: str) -> str:
    """The array that ``variable`` means among those of a file, or the only one there is.

    Raises:
        DataError: there is none, there is no such one, or there are several to choose from; names and shapes
            of those there are stand in the message.
    """
    if not shapes:
        raise DataError(f"'{name}' holds no numeric array")
    if variable is None:
        if len(shapes) == 1:
            return next(iter(shapes))
        raise DataError(f"'{name}' holds several arrays, choose one with variable (--variable NAME): {_listed(shapes)}")
    if variable not in shapes:
        hint = closest(variable, shapes)
        raise DataError(f"'{name}' has no variable '{variable}'{hint}; it holds {_listed(shapes)}")
    return variable


def _listed(shapes: Mapping[str, Sequence[int]]) -> str:
    told = [f"{key} {tuple(int(size) for size in shape)}" for key, shape in sorted(shapes.items())[:_LISTED]]
    more = len(shapes) - len(told)
    return ", ".join(told) + (f" and {more} more" if more else "")


def cast(values: np.ndarray, dtype: str | np.dtype[Any], name: str) -> np.ndarray:
    """The values in ``dtype``: rounded and clipped to the range where it is an integer.

    Raises:
        DataError: the dtype is not one of numbers, complex values would lose their imaginary part, or NaN
            would have to become an integer.
    """
    try:
        target = np.dtype(dtype)
    except TypeError as error:
        raise DataError(f"cannot write '{name}': dtype '{dtype}' is not one it can hold") from error
    if target.kind not in "biufc":
        raise DataError(f"cannot write '{name}': dtype '{dtype}' is not one of numbers")
    if values.dtype.kind == "c" and target.kind != "c":
        raise DataError(f"cannot write '{name}': complex values do not fit dtype {target}")
    if target.kind not in "biu" or values.dtype == target:
        return values.astype(target, copy=False)
    if count_missing(values):
        raise DataError(f"cannot write '{name}': NaN does not fit dtype {target}")
    if target.kind == "b":
        return np.asarray(values >= 0.5)
    low, high = np.iinfo(target).min, np.iinfo(target).max
    if values.dtype.kind in "biu":
        held = np.iinfo(values.dtype) if values.dtype.kind != "b" else np.iinfo(np.uint8)
        return np.asarray(np.clip(values, max(low, held.min), min(high, held.max)).astype(target))
    # In double precision, so that the bounds of all but 64-bit integers are exact; those are set afterwards.
    exact = np.rint(values.astype(np.float64, copy=False))
    inside = np.clip(exact, low, np.nextafter(float(high), 0) if float(high) > high else high).astype(target)
    inside[exact >= float(high)] = high
    return inside
