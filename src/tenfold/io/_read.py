"""Reading: find the source, choose the format, say clearly what is wrong."""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from tenfold.errors import DataError, FileError
from tenfold.io import samples
from tenfold.io._registry import Format, find, sniff
from tenfold.io.dataset import Dataset

_SAMPLE = "sample:"


def read(
    source: str | Path,
    *,
    variable: str | None = None,
    value: str | None = None,
    modes: Sequence[str] | None = None,
    rest: str | None = None,
    duplicates: str | None = None,
    columns: Sequence[str] | None = None,
) -> Dataset:
    """The array, or the table of entries, that a file holds.

    Args:
        source: a path whose suffix says the format (``tenfold.io.suffixes()`` lists them), ``"-"`` for
            standard input (the format is then told from the first bytes), or ``"sample:NAME"`` for one of
            ``tenfold.io.samples()``.
        variable: which array, in formats that hold several; not needed where there is one.
        value: which column of a table holds the values; else one called value, values, val or v, or y
            where there is no x, else the last.
        modes: which columns of a table are modes, in order; else all the others.
        rest: what the cells are that no row of a table names: ``"unknown"``, as when it is left out, or ``"zero"``,
            as those of counts are.
        duplicates: what becomes of rows of a table that name the same cell: ``"sum"``, ``"mean"``, ``"max"`` or
            ``"error"``; else they are repeated measurements, which there are none of with ``rest="zero"``.
        columns: further columns of a table, of numbers, to keep as ``Dataset.columns``; they are no modes.

    Returns:
        A :class:`Dataset`. Arrays of NetCDF, HDF5 and Zarr files, and large ones of .npy files, stay in the file
        until they are used.

    Warns:
        UserWarning: a table looks like counts (whole numbers, few of its cells) and ``rest`` is left out.

    Raises:
        FileError: the file is missing, unreadable, truncated, or of no known format.
        DataError: the file holds no numbers, none of that name, or several arrays and no choice was made; or an
            option has no meaning for it.
        MissingExtra: the format needs an optional package.
    """
    chosen = {
        "variable": variable,
        "value": value,
        "modes": modes,
        "rest": rest,
        "duplicates": duplicates,
        "columns": columns,
    }
    options = {key: given for key, given in chosen.items() if given is not None}
    if isinstance(source, str) and source.startswith(_SAMPLE):
        sample = samples.find(source.removeprefix(_SAMPLE))
        held = _read_path(sample.path, options)
        return replace(held, source=source, note=sample.description, licence=sample.licence, origin=sample.origin)
    if source == "-":
        return _read_standard_input(options)
    return replace(_read_path(Path(source).expanduser(), options), source=str(source))


def _read_path(path: Path, options: dict[str, Any]) -> Dataset:
    name = path.name
    try:
        if not path.exists():
            raise FileError(f"there is no file '{path}'{_similar(path)}")
        directory = path.is_dir()
        if directory and path.suffix == "":
            raise FileError(f"'{path}' is a directory: give a file{_inside(path)}")
        format = find(name)
        if directory and not format.directory:
            raise FileError(f"'{path}' is a directory, not {format.name}: give a file{_inside(path)}")
        if not directory:
            if not path.is_file():
                raise FileError(f"'{path}' is not a regular file: pipe it in and read '-'")
            with path.open("rb") as handle:
                if not handle.read(1):
                    raise FileError(f"'{path}' is empty")
    except OSError as error:
        raise FileError(f"cannot read '{path}': {error.strerror or error}") from error
    except ValueError as error:  # a name with a zero byte; a FileError from above is one already
        raise error if isinstance(error, FileError) else FileError(f"cannot read '{path}': {error}") from error
    return _with_options(format, path, name, options)


def _read_standard_input(options: dict[str, Any]) -> Dataset:
    name = "standard input"
    if sys.stdin is None or sys.stdin.isatty():
        raise FileError("nothing is piped into standard input: give a file name, or pipe data into '-'")
    with tempfile.TemporaryDirectory(prefix="tenfold-") as folder:
        # On disk, because several formats are read from paths only, and so that memory holds the data once.
        path = Path(folder) / "input"
        try:
            with path.open("wb") as handle:
                shutil.copyfileobj(sys.stdin.buffer, handle)
            if path.stat().st_size == 0:
                raise FileError("standard input is empty")
            format = sniff(path)
        except OSError as error:
            raise FileError(f"cannot read standard input: {error.strerror or error}") from error
        if format is None:
            raise FileError("the first bytes of standard input show no known format: give a file name")
        held = _with_options(format, path, name, options)
        return replace(held.load(), source="-")


def _with_options(format: Format, path: Path, name: str, options: dict[str, Any]) -> Dataset:
    for key, given in options.items():
        if key not in format.options:
            raise DataError(f"{key}={given!r} means nothing for '{name}', {format.name}: leave it out")
    return format.read(path, name, **options)


def _similar(path: Path) -> str:
    if not path.parent.is_dir():
        return f": there is no folder '{path.parent}'"
    close = get_close_matches(path.name, [entry.name for entry in path.parent.iterdir()], n=3)
    return ": did you mean " + " or ".join(f"'{name}'" for name in close) + "?" if close else ""


def _inside(folder: Path) -> str:
    files = sorted(entry.name for entry in folder.iterdir() if entry.is_file() and not entry.name.startswith("."))
    return f" in it, such as '{files[0]}'" if files else ""
