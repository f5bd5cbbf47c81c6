"""Bringing what people observed into coordinates, values and modes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from tenfold._arguments import closest, quoted
from tenfold.errors import DataError
from tenfold.observations import Observations
from tenfold.verbs._arrays import as_names, prepare
from tenfold.verbs._modes import SCALES, Mode

# Precisions below this part of the largest are taken for it: they would be lost in rounding.
_LEAST = 1e-16


@dataclass(frozen=True, eq=False)
class Observed:
    """What was observed, in the units it was given in.

    Attributes:
        modes: one for each column of ``coordinates``.
        coordinates: as `Mode.encode` makes them.
        values: as they were given, in float64.
        weights, attributes: as in `tenfold.completion.Task`; weights one on average, attributes as they were given.
        value: what the values are called.
        attribute_names: what the attributes are called.
        source: where the data came from, for people.
        empty: how many rows of a table were left out as they have no value.
    """

    modes: tuple[Mode, ...]
    coordinates: Float[Tensor, "n N"]
    values: Float[Tensor, " n"]
    weights: Float[Tensor, " n"] | None
    attributes: Float[Tensor, "n D"] | None
    value: str
    attribute_names: tuple[str, ...]
    source: str
    empty: int = 0

    def __len__(self) -> int:
        return len(self.values)


def observed(
    data: Any,
    *,
    value: str | None = None,
    modes: Sequence[str] | None = None,
    continuous: Sequence[str] | None = None,
    weights: Any = None,
    attributes: Any = None,
    dims: Sequence[str] | None = None,
    coordinates: Mapping[str, Any] | None = None,
    source: str | None = None,
) -> Observed:
    """What was observed, whatever it came as; arguments as of `tenfold.complete`.

    Raises:
        DataError: what cannot be completed: no numbers, complex ones, nothing observed, names that are not there.
    """
    name, empty = "value", 0
    kind = "table" if _is_table(data) else "array"
    if _is_table(data):
        data, dims, coordinates, weights, attributes, name, empty = _of_table(data, value, modes, weights, attributes)
    elif value is not None or modes is not None:
        raise DataError(f"value and modes name columns of a table, and data is a {type(data).__name__}; leave them out")
    elif hasattr(data, "dims") and hasattr(data, "source") and hasattr(data, "coordinates"):  # what io.read gives
        weights, attributes = _named(data, weights), _named(data, attributes)
        name = data.name or name
        # Holes of an array are what is to be completed, and none of its rows.
        empty = data.missing if isinstance(data.values, Observations) else 0
        data = data.load()
    if isinstance(data, Observations) and data.continuous:
        return _scattered(data, dims, continuous, weights, attributes, name, source or "observations")
    data = _with_holes(data)
    listed = isinstance(data, Observations) or isinstance(getattr(data, "values", None), Observations)
    ready = prepare(data, weights=None if listed else weights, dims=dims, coordinates=coordinates)
    cells = ready.data
    if isinstance(cells, Tensor):
        cells = Observations.from_masked(cells, observed=torch.ones(cells.shape, dtype=torch.bool))
    if not isinstance(cells, Observations):
        raise DataError(f"data of shape {ready.shape} is too large to be completed in memory; take a part of it")
    if cells.rest == "zero":
        cells = _with_zeros(cells)
    wanted = _continuous(ready.dims, continuous)
    found: list[Mode] = []
    columns: list[np.ndarray] = []
    for place, dim in enumerate(ready.dims):
        labels = ready.coordinates.get(dim)
        is_continuous = (labels is not None and labels.dtype.kind in "fmM") if wanted is None else dim in wanted
        scale = None if wanted is None else wanted.get(dim)
        mode = Mode.over(dim, labels, ready.shape[place], is_continuous, ready.units.get(dim, ""), scale)
        found.append(mode)
        columns.append(mode.positions()[cells.coordinates[:, place].numpy()])
    given = cells.weights if cells.weights is not None else _column("weights", weights if listed else None, len(cells))
    return _weighed(
        tuple(found),
        torch.from_numpy(np.stack(columns, 1)),
        _real(cells.values),
        given,
        _attributes(attributes, len(cells)),
        name,
        _numbered(attributes),
        source or ready.source or kind,
        empty,
    )


def _weighed(
    modes: tuple[Mode, ...],
    coordinates: Tensor,
    values: Tensor,
    weights: Tensor | None,
    attributes: Tensor | None,
    value: str,
    attribute_names: tuple[str, ...],
    source: str,
    empty: int = 0,
) -> Observed:
    """What was observed without what counts for nothing, weights one on average."""
    if weights is not None:
        counts = weights > 0
        if not counts.any():
            raise DataError("weights are all zero: give at least one positive one")
        # By the largest first, as sums of weights may be beyond the doubles.
        weights = weights[counts].double()
        weights = (weights / weights.max()).clamp(min=_LEAST)
        weights = weights / weights.mean()
        coordinates, values = coordinates[counts], values[counts]
        attributes = None if attributes is None else attributes[counts]
    return Observed(modes, coordinates, values, weights, attributes, value, attribute_names, source, empty)


@dataclass(frozen=True, eq=False)
class _Columns:
    """Columns that came with the values, by name."""

    names: tuple[str, ...]
    values: np.ndarray


def _scattered(
    data: Observations,
    dims: Sequence[str] | None,
    continuous: Sequence[str] | None,
    weights: Any,
    attributes: Any,
    name: str,
    source: str,
) -> Observed:
    """Observations at floating coordinates: all modes are continuous, but for those that ``continuous`` leaves out."""
    names = as_names(dims, data.order)
    wanted = _continuous(names, continuous)
    found, columns = [], []
    for dim, column in zip(names, data.coordinates.double().unbind(1), strict=True):
        labels, index = np.unique(column.numpy(), return_inverse=True)
        scale = None if wanted is None else wanted.get(dim)
        mode = Mode.over(dim, labels, len(labels), wanted is None or dim in wanted, scale=scale)
        found.append(mode)
        columns.append(mode.positions()[index])
    given = data.weights if data.weights is not None else _column("weights", weights, len(data))
    return _weighed(
        tuple(found),
        torch.from_numpy(np.stack(columns, 1)),
        _real(data.values),
        given,
        _attributes(attributes, len(data)),
        name,
        _numbered(attributes),
        source,
    )


def _is_table(data: Any) -> bool:
    package = type(data).__module__.split(".")[0]
    return package in ("pandas", "pyarrow") and hasattr(data, "columns")


def _of_table(
    table: Any, value: str | None, modes: Sequence[str] | None, weights: Any, attributes: Any
) -> tuple[Observations, Sequence[str], Mapping[str, Any], Any, Any, str, int]:
    """The rows of a pandas or pyarrow table; rows without a value are what is to be predicted, left out and counted."""
    frame = table if hasattr(table, "iloc") else table.to_pandas()
    columns = [str(column) for column in frame.columns]
    frame = frame.set_axis(columns, axis=1)
    attribute_names = [attributes] if isinstance(attributes, str) else attributes
    named = attribute_names is not None and all(isinstance(one, str) for one in attribute_names)
    extra = [*(attribute_names if named else ()), *([weights] if isinstance(weights, str) else ())]
    if value is None:
        free = [column for column in columns if column not in (modes or ()) and column not in extra]
        if not free:
            raise DataError("every column of the table is a mode, a weight or an attribute: leave one for the values")
        value = "value" if "value" in free else free[-1]
    chosen = [c for c in columns if c != value and c not in extra] if modes is None else list(modes)
    for column in (value, *chosen, *extra):
        if column not in columns:
            raise DataError(
                f"the table has no column '{column}'{closest(column, columns)}; it has {', '.join(columns)}"
            )
    if len({value, *chosen, *extra}) < 1 + len(chosen) + len(extra):
        raise DataError("the same column is named twice: value, modes, weights and attributes must be different ones")
    frame = frame[[value, *chosen, *extra]]
    known = frame[value].notna()
    frame, empty = frame[known], int((~known).sum())
    cells, labels = Observations.from_table(frame, value=value, modes=chosen, levels=True)
    if isinstance(weights, str):
        weights = frame[weights].to_numpy()
    if named and attribute_names is not None:
        try:
            given = frame[list(attribute_names)].to_numpy(dtype=np.float64)
        except (ValueError, TypeError) as cause:
            raise DataError(f"attributes {', '.join(attribute_names)} must be columns of numbers: {cause}") from cause
        attributes = _Columns(tuple(attribute_names), given)
    return cells, chosen, labels, weights, attributes, value, empty


def _named(data: Any, wanted: Any) -> Any:
    """Columns that a file has beside its modes and values, by name."""
    names = [wanted] if isinstance(wanted, str) else wanted
    if names is None or not all(isinstance(name, str) for name in names):
        return wanted
    for name in names:
        if name not in data.columns:
            has = f"it has {', '.join(data.columns)}" if data.columns else "none was read"
            raise DataError(f"'{data.source}' has no column '{name}' beside its modes and values; {has}")
    return _Columns(tuple(names), np.stack([data.columns[name] for name in names], 1).astype(np.float64))


def _with_holes(data: Any) -> Any:
    """NaN in a plain array is what is to be completed."""
    array = data
    if isinstance(array, list | tuple) and not (array and isinstance(array[0], Observations)):
        try:
            array = np.asarray(array)
        except ValueError:
            return data
    if isinstance(array, np.ma.MaskedArray):
        return array
    if isinstance(array, np.ndarray) and array.dtype.kind == "f" and np.isnan(array).any():
        return Observations.from_nan(array)
    if (
        isinstance(array, Tensor)
        and array.is_floating_point()
        and array.layout is torch.strided
        and array.isnan().any()
    ):
        return Observations.from_nan(array)
    return data


def _with_zeros(cells: Observations) -> Observations:
    """A sparse array, whose other cells are zero and count as observed."""
    if cells.size > 10**8:
        raise DataError(
            f"the sparse array has {cells.size:,} cells, which all count as observed: more than can be listed; give "
            f"rest='unknown' where only those listed are known"
        )
    return Observations.from_masked(cells.dense(), observed=torch.ones(cells.shape or (), dtype=torch.bool))


def _continuous(dims: Sequence[str], given: Sequence[str] | None) -> dict[str, str | None] | None:
    """The modes that are continuous, and the scale of those of which one is said, as in ``dose:log``."""
    if given is None:
        return None
    wanted: dict[str, str | None] = {}
    for one in [given] if isinstance(given, str) else given:
        name, colon, scale = str(one).rpartition(":")
        if not colon or scale not in SCALES:
            name, scale = str(one), ""
        if name not in dims:
            raise DataError(f"continuous names '{name}'{closest(name, dims)}, but the modes are {', '.join(dims)}")
        wanted[name] = scale or None
    return wanted


def _real(values: Tensor) -> Float[Tensor, " n"]:
    if values.is_complex():
        raise DataError("values are complex: complete the real and the imaginary part one by one")
    return values.detach().double()


def _column(name: str, given: Any, rows: int) -> Float[Tensor, " n"] | None:
    if given is None:
        return None
    values = given.values[:, 0] if isinstance(given, _Columns) else np.asarray(given)
    if values.dtype.kind not in "biuf" or values.shape != (rows,):
        raise DataError(f"{name} must be {rows} numbers, one for each observation, not {quoted(given)}")
    if not np.isfinite(values).all() or (values < 0).any():
        raise DataError(f"{name} must be finite and not negative; leave out what should not count")
    keep = values.astype(np.float64)
    if not keep.any():
        raise DataError(f"{name} are all zero: give at least one positive one")
    return torch.from_numpy(keep)


def _attributes(given: Any, rows: int) -> Float[Tensor, "n D"] | None:
    if given is None:
        return None
    values = given.values if isinstance(given, _Columns) else np.asarray(given)
    if values.ndim == 1:
        values = values[:, None]
    if values.dtype.kind not in "biuf" or values.ndim != 2 or len(values) != rows:
        raise DataError(f"attributes must be numbers, a row for each of {rows} observations, not {quoted(given)}")
    values = values.astype(np.float64)
    if not np.isfinite(values).all():
        raise DataError("attributes hold NaN or inf: leave such observations out, or fill them in")
    return torch.from_numpy(np.ascontiguousarray(values))


def _numbered(attributes: Any) -> tuple[str, ...]:
    if isinstance(attributes, _Columns):
        return attributes.names
    if attributes is None:
        return ()
    array = np.asarray(attributes)
    return tuple(f"z{k + 1}" for k in range(array.shape[1] if array.ndim > 1 else 1))
