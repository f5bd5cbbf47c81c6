"""Tables of entries: .csv .tsv and .parquet.

Every column but the one of the values is a mode, and its different entries, sorted, are the labels of that mode: a row
says which cell and what stands there. Cells that no row names are unknown, or zero where ``rest`` says so.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import numpy as np

from tenfold._arguments import closest
from tenfold._files import atomic
from tenfold.errors import DataError, FileError, missing_extra
from tenfold.io._checks import cast, native, parsing
from tenfold.io._registry import Content, Format, register, starts_with
from tenfold.io.dataset import Dataset

if TYPE_CHECKING:
    from tenfold.observations import Observations, Policy, Rest

# What columns of values are called; y is one too, but a coordinate where there is an x beside it.
_VALUE_NAMES = ("value", "values", "val", "v")
_SEPARATORS = (",", "\t", ";")
# Whole numbers in fewer of the cells than this look like counts, whose zeros nobody lists.
_FEW = 0.01


def _pyarrow(name: str) -> Any:
    try:
        import pyarrow
        import pyarrow.csv
        import pyarrow.parquet
    except ImportError as error:
        raise missing_extra("pyarrow", "tables", f"'{name}'") from error
    return pyarrow


def _read_text(path: Path, name: str, **options: Any) -> Dataset:
    arrow = _pyarrow(name)
    with parsing(name, "a table with as many cells in every row as in the first"):
        parse = arrow.csv.ParseOptions(delimiter=_separator(path))
        strings = arrow.csv.ConvertOptions(strings_can_be_null=True)
        table = arrow.csv.read_csv(path, parse_options=parse, convert_options=strings)
        columns = table.column_names  # decoded only now, so that other encodings than UTF-8 fail here
    if all(_is_number(column) for column in columns):
        raise DataError(f"'{name}' has numbers in its first row, where the names of the columns belong")
    return _entries(table, name, **options)


def _separator(path: Path) -> str:
    """Of those that stand in the first row, the first of comma, tabulator and semicolon."""
    with path.open(encoding="utf-8-sig", errors="replace") as handle:
        first = handle.readline(1 << 16)
    return next((separator for separator in _SEPARATORS if separator in first), ",")


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _read_parquet(path: Path, name: str, **options: Any) -> Dataset:
    arrow = _pyarrow(name)
    with parsing(name, "a Parquet table"):
        # Not read_table(path), which takes folder names above the file (key=value) for columns.
        table = arrow.parquet.ParquetFile(path).read()
    return _entries(table, name, **options)


def _entries(
    table: Any,
    name: str,
    value: str | None = None,
    modes: Sequence[str] | None = None,
    rest: Rest | None = None,
    duplicates: Policy | None = None,
    columns: Sequence[str] = (),
) -> Dataset:
    import torch

    from tenfold.observations import Observations, Policy, Rest

    _one_of("rest", rest, get_args(Rest))
    _one_of("duplicates", duplicates, get_args(Policy))
    names = list(table.column_names)
    repeated = sorted({column for column in names if names.count(column) > 1})
    if repeated:
        raise DataError(f"'{name}' has several columns called '{repeated[0]}': rename all but one")
    if table.num_rows == 0:
        raise DataError(f"'{name}' has no rows below the names of its columns")
    value = _value_column(names, value, [*(modes or ()), *columns], name)
    chosen = [c for c in names if c != value and c not in columns] if modes is None else list(modes)
    for column in (*chosen, *columns):
        _known(column, names, name)
    if not chosen:
        raise DataError(f"'{name}' has no column but '{value}': at least one more must say which cell each row is")
    if value in chosen or len(set(chosen)) < len(chosen):
        raise DataError(f"modes {tuple(chosen)} must be different columns, and '{value}' holds the values")
    for column in columns:
        if column in chosen or column == value:
            raise DataError(
                f"column '{column}' of '{name}' is a mode or holds the values: it can be nothing else besides"
            )

    values, missing = _values(table, value, name)
    if np.isinf(values).any():
        raise DataError(f"column '{value}' of '{name}' holds infinite values: leave those cells empty")
    coordinates, indices = {}, []
    for column in chosen:
        coordinates[column], index = _labels(table, column, name)
        indices.append(index)
    present = ~missing
    if not present.any():
        raise DataError(f"column '{value}' of '{name}' has no value in any row")
    if rest == "zero" and missing.any():
        raise DataError(
            f"column '{value}' of '{name}' is empty in {int(missing.sum())} rows, which rest 'zero' would make zeros: "
            f"write 0 there, or leave these rows or rest out"
        )
    numbers = values[present] if values.dtype.kind == "f" else values[present].astype(np.float64)
    observed = Observations(
        torch.from_numpy(np.stack(indices, axis=1, dtype=np.int64)[slice(None) if present.all() else present]),
        torch.from_numpy(np.ascontiguousarray(numbers)),
        tuple(len(coordinates[column]) for column in chosen),
    )
    if observed.distinct < len(observed) and (duplicates == "error" or (duplicates is None and rest == "zero")):
        raise DataError(
            f"'{name}' has {len(observed)} rows for {observed.distinct} cells: give duplicates 'sum', 'mean' or 'max' "
            f"(--duplicates sum)"
        )
    further = {column: _complete(table, column, name)[present] for column in columns}
    if further and (duplicates is not None or rest == "zero"):
        raise DataError(
            f"columns {', '.join(columns)} belong to the rows of '{name}', which duplicates and rest 'zero' change"
        )
    if duplicates is not None or rest == "zero":
        observed = Observations.from_coo(
            observed.coordinates, observed.values, observed.shape, rest=rest or "unknown", duplicates=duplicates
        )
    if rest is None and _look_like_counts(observed):
        warnings.warn(
            f"'{name}' holds whole numbers in {observed.density:.2g} of its cells and the others are read as unknown: "
            f"if they are zero, as with counts, say rest='zero' (fit --rest zero), else rest='unknown'",
            stacklevel=6,  # the caller of read
        )
    return Dataset(
        observed, tuple(chosen), coordinates, str(values.dtype), name, int(missing.sum()), value, columns=further
    )


def _complete(table: Any, column: str, name: str) -> np.ndarray:
    """The numbers of a column that has one in every row."""
    values, missing = _values(table, column, name)
    if missing.any() or not np.isfinite(values).all():
        rows = int((missing | ~np.isfinite(values)).sum())
        raise DataError(f"column '{column}' of '{name}' has no finite number in {rows} rows: leave these rows out")
    return values


def _one_of(option: str, given: str | None, known: Sequence[str]) -> None:
    if given is not None and given not in known:
        raise DataError(f"{option} is {given!r}: give {' or '.join(map(repr, known))}")


def _look_like_counts(observed: Observations) -> bool:
    values = observed.values
    return bool((values >= 0).all() and (values == values.round()).all()) and observed.density < _FEW


def _value_column(columns: list[str], value: str | None, modes: Sequence[str] | None, name: str) -> str:
    if value is not None:
        return _known(value, columns, name)
    free = [column for column in columns if column not in (modes or ())]
    if not free:
        raise DataError(f"modes takes every column of '{name}': leave one for the values")
    named = {column.lower(): column for column in reversed(free)}
    grid = "x" in {column.lower() for column in columns}
    likely = _VALUE_NAMES if grid else (*_VALUE_NAMES, "y")
    return next((named[known] for known in likely if known in named), free[-1])


def _known(column: str, columns: list[str], name: str) -> str:
    if column not in columns:
        raise DataError(f"'{name}' has no column '{column}'{closest(column, columns)}; it has {', '.join(columns)}")
    return column


def _is_numeric(arrow: Any, kind: Any) -> bool:
    types = arrow.types
    return bool(types.is_integer(kind) or types.is_floating(kind) or types.is_boolean(kind) or types.is_decimal(kind))


def _values(table: Any, column: str, name: str) -> tuple[np.ndarray, np.ndarray]:
    """The numbers of a column, and where there is none."""
    arrow = _pyarrow(name)
    cells = table.column(column).combine_chunks()
    if arrow.types.is_null(cells.type):
        raise DataError(f"column '{column}' of '{name}' has no value in any row")
    if not _is_numeric(arrow, cells.type):
        numbers = [field.name for field in table.schema if _is_numeric(arrow, field.type)]
        would = f"value= may be {' or '.join(numbers)}" if numbers else "no other column does either"
        raise DataError(f"column '{column}' of '{name}' does not hold numbers ({cells.type}): {would}")
    if arrow.types.is_decimal(cells.type):
        cells = cells.cast(arrow.float64())
    missing = np.asarray(cells.is_null(nan_is_null=True).to_numpy(zero_copy_only=False), dtype=bool)
    if cells.null_count:
        cells = cells.fill_null(False if arrow.types.is_boolean(cells.type) else 0)
    return native(np.asarray(cells.to_numpy(zero_copy_only=False))), missing


def _labels(table: Any, column: str, name: str) -> tuple[np.ndarray, np.ndarray]:
    """The different cells of a column, sorted (numbers, datetimes or strings), and where in them each row is."""
    arrow = _pyarrow(name)
    cells = table.column(column).combine_chunks()
    if arrow.types.is_dictionary(cells.type):
        cells = cells.dictionary_decode()
    if arrow.types.is_decimal(cells.type):
        cells = cells.cast(arrow.float64())
    empty = int(np.sum(cells.is_null(nan_is_null=True).to_numpy(zero_copy_only=False)))
    if empty:
        raise DataError(f"column '{column}' of '{name}' is empty in {empty} rows: every row must say its cell")
    if arrow.types.is_nested(cells.type) or arrow.types.is_binary(cells.type):
        raise DataError(
            f"column '{column}' of '{name}' holds {cells.type} (or text that is not UTF-8), which labels no mode"
        )
    # Sorting the few different labels, not all rows, makes a column of text ten times as fast.
    encoded = cells.dictionary_encode()
    labels = np.asarray(encoded.dictionary.to_numpy(zero_copy_only=False))
    labels, places = np.unique(labels.astype(str) if labels.dtype.kind == "O" else labels, return_inverse=True)
    return labels, places[encoded.indices.to_numpy(zero_copy_only=False)]


def _table(content: Content, name: str) -> Any:
    """One row per cell: the labels of its modes (or their indices), then the value."""
    arrow = _pyarrow(name)
    values = content.values if content.dtype is None else cast(content.values, content.dtype, name)
    if values.dtype.kind == "c":
        raise FileError(f"cannot write '{name}': a table holds no complex numbers: .npy would do")
    if "value" in content.dims:
        raise DataError(f"cannot write '{name}': a mode is called 'value', as the column of the values is")
    columns = {}
    for axis, (mode, size) in enumerate(zip(content.dims, values.shape, strict=True)):
        labels = content.coordinates.get(mode, np.arange(size))
        inner = math.prod(values.shape[axis + 1 :])
        columns[mode] = arrow.array(np.tile(np.repeat(labels, inner), values.size // (size * inner)))
    flat = native(np.ascontiguousarray(values).ravel())
    columns["value"] = arrow.array(flat, from_pandas=values.dtype.kind == "f")  # NaN is an empty cell
    return arrow.table(columns)


def _write_text(content: Content, path: Path, name: str) -> None:
    arrow = _pyarrow(name)
    table = _table(content, name)
    if arrow.types.is_float16(table.schema.field("value").type):
        table = table.set_column(table.num_columns - 1, "value", table.column("value").cast(arrow.float32()))
    separator = "\t" if name.lower().endswith(".tsv") else ","
    arrow.csv.write_csv(table, path, arrow.csv.WriteOptions(delimiter=separator))


def _write_parquet(content: Content, path: Path, name: str) -> None:
    arrow = _pyarrow(name)
    arrow.parquet.write_table(_table(content, name), path)


def read_columns(path: str, wanted: Sequence[str]) -> dict[str, list[Any]]:
    """Some columns of a table in a file, each as a list.

    Raises:
        FileError: the file is missing or is no table. DataError: it lacks a column, or a column has empty cells.
    """
    arrow = _pyarrow(path)
    place = Path(path).expanduser()
    if not place.is_file():
        raise FileError(f"there is no file '{path}'")
    with parsing(path, "a table with as many cells in every row as in the first"):
        if path.lower().endswith(".parquet"):
            table = arrow.parquet.ParquetFile(place).read()
        else:
            table = arrow.csv.read_csv(place, parse_options=arrow.csv.ParseOptions(delimiter=_separator(place)))
        names = table.column_names
    for column in wanted:
        _known(column, names, path)
        if table.column(column).null_count:
            raise DataError(f"column '{column}' of '{path}' has empty cells: every row must say its point")
    if not table.num_rows:
        raise DataError(f"'{path}' has no rows below the names of its columns")
    return {column: table.column(column).to_numpy().tolist() for column in wanted}


def write_columns(columns: dict[str, list[Any]], path: str) -> None:
    """Write columns as a table in the format of the suffix; the file appears whole or not at all.

    Raises:
        FileError: the file cannot be written.
    """
    arrow = _pyarrow(path)
    table = arrow.table(columns)
    with atomic(path) as beside:
        if path.lower().endswith(".parquet"):
            arrow.parquet.write_table(table, beside)
        else:
            separator = "\t" if path.lower().endswith(".tsv") else ","
            arrow.csv.write_csv(table, beside, arrow.csv.WriteOptions(delimiter=separator))


def _is_text_table(path: Path) -> bool:
    """Text whose first row has several cells."""
    with path.open("rb") as handle:
        head = handle.read(1 << 16)
    first = head.split(b"\n", 1)[0]
    try:
        text = first.decode("utf-8-sig")
    except UnicodeDecodeError:
        return False
    return text.rstrip("\r").replace("\t", " ").isprintable() and any(mark in text for mark in _SEPARATORS)


register(
    Format(
        "a table of entries",
        (".csv", ".tsv"),
        _read_text,
        ("value", "modes", "rest", "duplicates", "columns"),
        _write_text,
        _is_text_table,
    )
)
register(
    Format(
        "a Parquet table",
        (".parquet",),
        _read_parquet,
        ("value", "modes", "rest", "duplicates", "columns"),
        _write_parquet,
        starts_with(b"PAR1"),
    )
)
