"""Bringing whatever people call an array into a tensor or observations, with the names of its axes."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tenfold._arguments import quoted
from tenfold._blocks import Blocks, memory_bytes
from tenfold._scales import power_of, times_power
from tenfold.errors import DataError
from tenfold.observations import Observations

_LETTERS = "ijklmnop"
# How many times its own size an array needs to be decomposed in memory.
_COPIES = 5


@dataclass(frozen=True)
class Prepared:
    """Data that can be fitted, and what people call its parts.

    Attributes:
        data: the numbers, of the size that they were given.
        source: where `tenfold.io.read` had the data from; None for other data.
        scaled: the same divided by ``2**power``, so that their squares stay within the range of their dtype.
    """

    data: Tensor | Observations | Blocks
    scaled: Tensor | Observations | Blocks
    power: int
    shape: tuple[int, ...]
    dims: tuple[str, ...]
    coordinates: Mapping[str, np.ndarray]
    source_dtype: str
    units: Mapping[str, str]
    source: str | None = None

    @property
    def named(self) -> bool:
        """Whether the axes have names of their own, not the letters that stand for none."""
        return self.dims != as_names(None, len(self.shape))

    @property
    def whole(self) -> Tensor | Observations:
        """The scaled data. Raises `DataError` where it is not in memory."""
        if isinstance(self.scaled, Blocks):
            raise DataError(
                f"data of shape {self.shape} is too large to be decomposed in memory, and only fit reads box by box; "
                f"take a part of it"
            )
        return self.scaled

    @property
    def cells(self) -> int:
        return math.prod(self.shape)


def prepare(
    data: Any,
    *,
    weights: Any = None,
    dtype: torch.dtype | str | None = None,
    dims: Sequence[str] | None = None,
    coordinates: Mapping[str, Any] | None = None,
    units: Mapping[str, str] | None = None,
    memory: int | str | None = None,
    in_blocks: bool = False,
) -> Prepared:
    """The data as a floating or complex tensor, or as observations where not all of it is known or is zero.

    Arrays for whose decomposition the memory is too little stay where they are, as `Blocks`; with ``in_blocks`` all
    whole arrays of several axes do.

    Raises:
        DataError: no array of numbers, empty, NaN (where that is not the custom for "missing") or infinite, or
            names and labels that do not fit its shape.
    """
    if isinstance(data, Prepared):
        return data
    origin: str | None = None
    for name, table in (("coordinates", coordinates), ("units", units)):
        if table is not None and not isinstance(table, Mapping):
            raise DataError(f"{name} must be a table whose keys are axes, not {quoted(table)}")
    names, labels, marks = dims, dict(coordinates or {}), dict(units or {})
    missing_is_nan = False
    if _comes_from(data, "xarray"):
        if hasattr(data, "data_vars"):
            raise DataError(f"data is a Dataset; give one of its variables: {', '.join(map(str, data.data_vars))}")
        names = [str(dim) for dim in data.dims] if names is None else names
        known = getattr(data, "coords", {})  # a Variable has none
        labels = {**{str(d): known[d].values for d in data.dims if d in known}, **labels}
        found = {str(d): known[d].attrs.get("units", "") for d in data.dims if d in known}
        marks, missing_is_nan = {**found, **marks}, True
        if getattr(getattr(data, "variable", data), "_in_memory", True) or data.chunks is not None:
            data = data.data  # what is still in a file, and not in a Dask array, would be read by this
    elif _comes_from(data, "tenfold") and hasattr(data, "coordinates") and hasattr(data, "dims"):
        names = data.dims if names is None else names  # what tenfold.io.read gives
        labels, missing_is_nan = {**data.coordinates, **labels}, True
        marks, origin = {**data.units, **marks}, data.source
        data = data.values
    elif isinstance(data, str | os.PathLike):
        raise DataError(f"data is the name of a file, {str(data)!r}; read it first: tn.io.read({str(data)!r})")
    elif isinstance(data, tuple) and data and isinstance(data[0], Observations):
        raise DataError("data is a tuple, as Observations.from_table gives: give its first element, the Observations")
    wanted = as_dtype(dtype)
    data = _in_place(data, memory, in_blocks, wanted)
    ready: Tensor | Observations | Blocks
    if isinstance(data, Blocks):
        ready, source = data, str(data.stored)
    elif isinstance(data, Observations):
        ready, source = data, _plain(data.values.dtype)
    elif isinstance(data, np.ma.MaskedArray):
        ready, source = Observations.from_masked(data), str(data.dtype)
    elif _is_sparse(data):
        ready, source = _sparse(data), _plain(data.dtype)
    else:
        ready, source = _whole(data, missing_is_nan)
    if isinstance(ready, Observations) and ready.shape is None:
        raise DataError("observations at continuous coordinates have no grid; put them on one with on_grid()")
    shape = tuple(ready.shape or ())
    if weights is not None:
        if isinstance(ready, Blocks):
            raise DataError("weights need an array in memory; this one is read box by box")
        ready = _weighted(ready, shape, weights)
    if wanted is not None:
        ready = ready.to(wanted)
    checked = as_names(names, len(shape))
    scaled, power = (ready, 0) if isinstance(ready, Blocks) else _in_range(ready)
    named = {dim: text for dim, mark in marks.items() if dim in checked and (text := as_text(mark).strip())}
    return Prepared(ready, scaled, power, shape, checked, _labels(labels, checked, shape), source, named, origin)


def _in_place(data: Any, memory: int | str | None, in_blocks: bool, dtype: torch.dtype | None) -> Any:
    """Data for which the memory is too little as `Blocks`, other data that is not in memory read into it."""
    there = isinstance(data, np.ndarray | Tensor) and not isinstance(data, np.ma.MaskedArray | np.memmap)
    lazy = not there and hasattr(data, "shape") and hasattr(data, "dtype") and hasattr(data, "__getitem__")
    lazy &= not isinstance(data, Observations | np.ma.MaskedArray) and not _is_sparse(data)
    if not lazy and not (there and (in_blocks or memory is not None) and not _is_sparse(data)):
        if in_blocks:
            raise DataError(f"checkpoint and client are for whole arrays, not {type(data).__name__}; leave them out")
        return data
    if isinstance(data, Tensor) and (data.is_cuda or not data.numel()):
        return data
    if not isinstance(data, Blocks) and (0 in data.shape or np.dtype(_plain(data.dtype)).kind not in "biufc"):
        return data if there else np.asarray(data)  # which says what is wrong with it
    blocks = Blocks.of(data)
    fits = _COPIES * (blocks if dtype is None else blocks.to(dtype)).nbytes <= memory_bytes(memory)
    # Projections leave nothing of an array with one axis to look for networks in.
    if not fits or (in_blocks and blocks.ndim > 1):
        return blocks
    return data if there else data[...] if isinstance(data, Blocks) else np.asarray(data)


def _in_range(data: Tensor | Observations) -> tuple[Tensor | Observations, int]:
    """The data divided by a power of two where squares of its largest entry would leave the range of its dtype."""
    values = data.values if isinstance(data, Observations) else data
    largest = float(values.abs().max())
    far = 1e60 if torch.finfo(values.dtype).bits == 64 else 1e9
    if largest == 0 or 1 / far < largest < far:
        return data, 0
    power = power_of(values)
    scaled = times_power(values, -power)
    return (replace(data, values=scaled) if isinstance(data, Observations) else scaled), power


def _whole(data: Any, missing_is_nan: bool) -> tuple[Tensor | Observations, str]:
    if isinstance(data, Tensor):
        tensor, source = data.detach().resolve_conj().resolve_neg(), _plain(data.dtype)
    else:
        try:
            array = np.asarray(data)
        except ValueError as cause:
            raise DataError(f"data is no array of numbers: {cause}") from None
        if array.dtype.kind not in "biufc":
            table = hasattr(data, "columns") and (_comes_from(data, "pandas") or _comes_from(data, "pyarrow"))
            would = "; rows that say their cell are read by Observations.from_table" if table else ""
            raise DataError(f"data must hold numbers, not {array.dtype} ({type(data).__name__}){would}")
        source = str(array.dtype)
        if array.dtype.kind in "fc" and array.dtype.itemsize > (16 if array.dtype.kind == "c" else 8):
            array = array.astype(np.complex128 if array.dtype.kind == "c" else np.float64)
        # torch shares the memory of arrays that may be written and step forwards by whole entries (fields of records
        # need not); others are copied.
        odd = any(stride < 0 or stride % array.itemsize for stride in array.strides)
        if not array.flags.writeable or not array.dtype.isnative or odd:
            array = np.array(array, dtype=array.dtype.newbyteorder("="))
        if array.dtype.kind in "biu":
            array = array.astype(np.float64)
        tensor = torch.from_numpy(array)
    if not (tensor.is_floating_point() or tensor.is_complex()):
        tensor = tensor.to(torch.float64)
    if tensor.dtype in (torch.float16, torch.bfloat16):
        tensor = tensor.to(torch.float32)  # decompositions need more digits than these have
    if tensor.numel() == 0:
        raise DataError(f"data is empty: its shape is {tuple(tensor.shape)}")
    bad = tensor.numel() - int(torch.isfinite(tensor).sum())
    if bad:
        nan = int(torch.isnan(tensor).sum())
        if bad > nan:
            raise DataError(f"data has {bad - nan} infinite entries; replace them or mark them as missing")
        if not missing_is_nan:
            raise DataError(f"data has {nan} NaN; if they are missing cells, give Observations.from_nan(data)")
        return Observations.from_nan(tensor), source
    return tensor, source


def _weighted(data: Tensor | Observations, shape: tuple[int, ...], weights: Any) -> Observations:
    if isinstance(data, Observations):
        raise DataError("weights are given beside Observations, which have their own: Observations(..., weights=...)")
    try:
        table = torch.as_tensor(weights)
    except (TypeError, ValueError, RuntimeError):
        raise DataError(f"weights must be an array of numbers, not {type(weights).__name__}") from None
    if table.is_complex():
        raise DataError("weights must be real numbers, not complex ones")
    if tuple(table.shape) != shape:
        raise DataError(f"weights have shape {tuple(table.shape)}, but the data has shape {shape}")
    return Observations.from_masked(data, observed=torch.ones(shape, dtype=torch.bool), weights=table)


def as_dtype(dtype: torch.dtype | str | None) -> torch.dtype | None:
    """What numbers are computed in. Raises `DataError` for anything else."""
    if dtype is None:
        return None
    found = getattr(torch, dtype, None) if isinstance(dtype, str) else dtype
    known = (torch.float32, torch.float64, torch.complex64, torch.complex128)
    if not isinstance(found, torch.dtype) or found not in known:
        raise DataError(f"dtype must be float32, float64, complex64 or complex128, not {quoted(dtype)}")
    return found


def as_names(dims: Sequence[str] | None, order: int) -> tuple[str, ...]:
    """The names of so many axes, letters where there are none. Raises `DataError` where they do not fit."""
    if dims is None:
        return tuple(_LETTERS[:order]) if order <= len(_LETTERS) else tuple(f"i{k + 1}" for k in range(order))
    try:
        given = [] if isinstance(dims, str) else list(dims)
    except TypeError:
        given = []
    if len(given) != order:
        raise DataError(f"dims must name each of the {order} axes, not {quoted(dims)}")
    names = tuple(as_text(dim) for dim in given)
    if len(set(names)) != order:
        raise DataError(f"dims names an axis twice: {', '.join(names)}")
    return names


def _labels(labels: Mapping[str, Any], dims: tuple[str, ...], shape: tuple[int, ...]) -> dict[str, np.ndarray]:
    checked = {}
    for key, values in labels.items():
        dim = as_text(key)
        if dim not in dims:
            raise DataError(f"coordinates are given for '{dim}', but the axes are {', '.join(dims)}")
        array = np.asarray(values)
        extent = shape[dims.index(dim)]
        if array.shape != (extent,):
            raise DataError(f"coordinates of '{dim}' have shape {array.shape}, but the axis has size {extent}")
        checked[dim] = array if array.dtype.kind in "biufmM" else np.array([as_text(v) for v in array.tolist()])
    return checked


def as_text(label: Any) -> str:
    """A name or label of any kind (a tuple of a MultiIndex, a category, bytes, a path) as text that can be written."""
    if isinstance(label, bytes):
        return label.decode(errors="backslashreplace")
    return str(label).encode("utf-8", "backslashreplace").decode("utf-8")


def _comes_from(value: Any, package: str) -> bool:
    return type(value).__module__.split(".")[0] == package


def _is_sparse(data: Any) -> bool:
    if isinstance(data, Tensor):
        return data.layout != torch.strided
    return _comes_from(data, "sparse") or (_comes_from(data, "scipy") and hasattr(data, "tocoo"))


def _sparse(data: Any) -> Observations:
    if not (data._nnz() if isinstance(data, Tensor) else data.nnz):
        raise DataError("the sparse array is zero everywhere, so there is nothing to fit")
    return Observations.from_sparse(data)


def _plain(dtype: Any) -> str:
    return str(dtype).removeprefix("torch.")
