"""Scientific grids: NetCDF (.nc .nc4), HDF5 (.h5 .hdf5) and Zarr (.zarr, a directory or a zip), read lazily.

Arrays whose file names their dimensions are read through xarray, with coordinates, units, fill values (as NaN) and
packed numbers decoded. Arrays of a plain HDF5 or Zarr file are read as they are.
"""

from __future__ import annotations

import warnings
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from tenfold.errors import DataError, FileError, missing_extra
from tenfold.io._checks import cast, choose, nameless, native, numeric, parsing
from tenfold.io._registry import Content, Format, register, starts_with
from tenfold.io.dataset import Dataset
from tenfold.io.lazy import LazyArray

_VALUES = "values"


@dataclass(frozen=True)
class _Entry:
    """An array of a file that has been listed, not read."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    labelled: bool  # whether the file names its dimensions
    open: Callable[[], AbstractContextManager[Any]]


def _need(package: str, name: str) -> Any:
    import importlib

    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise missing_extra(package, "arrays", f"'{name}'") from error


@contextmanager
def _labelled(path: Path, engine: str, key: str) -> Iterator[Any]:
    """An array that names its dimensions, as an xarray.DataArray whose values are still in the file."""
    import xarray

    group, _, variable = key.rpartition("/")
    options: dict[str, Any] = {} if engine == "scipy" else {"group": group or None}
    if engine == "h5netcdf":
        options["phony_dims"] = "access"
    if engine == "zarr":
        options["consolidated"] = False
    with (
        _zarr_store(path) if engine == "zarr" else _itself(path) as source,
        xarray.open_dataset(
            source, engine=engine, cache=False, decode_coords="all", decode_timedelta=False, **options
        ) as opened,
    ):
        yield opened[variable]


@contextmanager
def _itself(path: Path) -> Iterator[Path]:
    yield path


@contextmanager
def _zarr_store(path: Path) -> Iterator[Any]:
    from zarr.storage import LocalStore, ZipStore

    store = LocalStore(path, read_only=True) if path.is_dir() else ZipStore(path, mode="r")
    with store:
        yield store


@contextmanager
def _plain_hdf5(path: Path, key: str) -> Iterator[Any]:
    import h5py

    with h5py.File(path, "r") as file:
        yield file[key]


@contextmanager
def _plain_zarr(path: Path, key: str) -> Iterator[Any]:
    import zarr

    with _zarr_store(path) as store:
        root: Any = zarr.open(store, mode="r")
        yield root[key] if key else root


def _hdf5_entries(path: Path) -> dict[str, _Entry]:
    import h5py

    entries: dict[str, _Entry] = {}

    def visit(key: str, item: Any) -> None:
        # A dimension scale labels the arrays; it is none of them.
        if not isinstance(item, h5py.Dataset) or item.shape is None or item.attrs.get("CLASS") == b"DIMENSION_SCALE":
            return
        labelled = "DIMENSION_LIST" in item.attrs
        opener = partial(_labelled, path, "h5netcdf", key) if labelled else partial(_plain_hdf5, path, key)
        entries[key] = _Entry(item.shape, item.dtype, labelled, opener)

    with h5py.File(path, "r") as file:
        file.visititems(visit)
    return entries


def _netcdf3_entries(path: Path) -> dict[str, _Entry]:
    import xarray

    with xarray.open_dataset(path, engine="scipy", decode_coords="all", decode_timedelta=False) as opened:
        return {
            str(key): _Entry(held.shape, held.dtype, True, partial(_labelled, path, "scipy", str(key)))
            for key, held in opened.data_vars.items()
        }


def _zarr_entries(path: Path) -> dict[str, _Entry]:
    import zarr

    entries: dict[str, _Entry] = {}
    with _zarr_store(path) as store:
        root = zarr.open(store, mode="r")
        members = [("", root)] if isinstance(root, zarr.Array) else sorted(root.members(max_depth=None))
        for key, item in members:
            if not isinstance(item, zarr.Array):
                continue
            dims: Any = getattr(item.metadata, "dimension_names", None) or item.attrs.get("_ARRAY_DIMENSIONS")
            labelled = bool(dims) and None not in dims and key != ""
            if labelled and tuple(dims) == (key.rpartition("/")[2],):
                continue  # the coordinate of a dimension
            opener = partial(_labelled, path, "zarr", key) if labelled else partial(_plain_zarr, path, key)
            entries[key] = _Entry(item.shape, np.dtype(item.dtype), labelled, opener)
    return entries


def _read_hdf5(path: Path, name: str, variable: str | None = None) -> Dataset:
    with path.open("rb") as handle:
        classic = handle.read(3) == b"CDF"
    for package in ("xarray",) if classic else ("h5py", "xarray", "h5netcdf"):
        _need(package, name)
    entries = _netcdf3_entries if classic else _hdf5_entries
    return _read_entry(path, name, variable, entries, "a NetCDF or HDF5 file")


def _read_zarr(path: Path, name: str, variable: str | None = None) -> Dataset:
    for package in ("zarr", "xarray"):
        _need(package, name)
    return _read_entry(path, name, variable, _zarr_entries, "a Zarr store")


def _read_entry(
    path: Path, name: str, variable: str | None, listing: Callable[[Path], dict[str, _Entry]], kind: str
) -> Dataset:
    with parsing(name, kind):
        entries = listing(path)
        arrays = {key: entry for key, entry in entries.items() if entry.dtype.kind in "biufc" and entry.shape}
        # One that is asked for may be something that is not offered: the check below says what it holds.
        offered = entries if variable in entries else arrays
        key = choose({key: entry.shape for key, entry in offered.items()}, variable, name)
        with entries[key].open() as held:
            return _described(held, entries[key], f"{name}:{key}" if key else name, key)


def _described(held: Any, entry: _Entry, name: str, key: str) -> Dataset:
    dtype = np.dtype(held.dtype)
    numeric(dtype, held.shape, name)
    dtype = native(np.empty(0, dtype)).dtype
    values = LazyArray(entry.open, tuple(held.shape), dtype, name, _chunks(held, entry))
    missing = None if dtype.kind in "fc" else 0
    if not entry.labelled:
        names = [dim.label for dim in held.dims] if hasattr(held, "dims") else []
        named = len(names) == len(set(names)) > 0 and all(names)
        dims = tuple(names) if named else nameless(len(held.shape))
        return Dataset(values, dims, {}, str(held.dtype), name, missing, key)
    dims = tuple(str(mode) for mode in held.dims)
    coordinates = {mode: _labels(held.coords[mode].values) for mode in dims if mode in held.coords}
    units = {mode: str(held.coords[mode].attrs["units"]) for mode in coordinates if "units" in held.coords[mode].attrs}
    unit = str(held.attrs.get("units", ""))
    return Dataset(values, dims, coordinates, str(held.dtype), name, missing, key, unit, units)


def _chunks(held: Any, entry: _Entry) -> tuple[int, ...] | None:
    """The pieces that the file keeps the array in."""
    if not entry.labelled:
        return held.chunks
    found = held.encoding.get("chunksizes") or held.encoding.get("chunks")
    return None if found is None else tuple(int(size) for size in found)


def _labels(values: np.ndarray) -> np.ndarray:
    """Coordinates as numbers, datetimes or strings; calendars that NumPy lacks become strings."""
    if values.dtype.kind == "S":
        return np.char.decode(values, "utf-8", "replace")
    return np.array([str(label) for label in values]) if values.dtype.kind in "OT" else native(values)


def _data_array(content: Content, name: str) -> Any:
    xarray = _need("xarray", name)
    values = content.values if content.dtype is None else cast(content.values, content.dtype, name)
    if _VALUES in content.dims:
        raise DataError(f"cannot write '{name}': a mode is called '{_VALUES}', as the array itself is")
    # Strings as objects: both libraries store those with variable length, which every reader knows.
    coordinates = {
        mode: (mode, given.astype(object) if given.dtype.kind == "U" else given, _units(content.units, mode))
        for mode, given in content.coordinates.items()
    }
    return xarray.DataArray(values, dims=content.dims, coords=coordinates, name=_VALUES)


def _units(units: Mapping[str, str], mode: str) -> dict[str, str]:
    return {"units": units[mode]} if mode in units else {}


def _write_hdf5(content: Content, path: Path, name: str) -> None:
    for package in ("xarray", "h5netcdf"):
        _need(package, name)
    array = _data_array(content, name)
    if array.dtype.kind == "c" or array.dtype == np.float16:
        raise FileError(f"cannot write '{name}': NetCDF does not define {array.dtype}: .npy or .zarr would do")
    array.to_netcdf(path, engine="h5netcdf")


def _write_zarr(content: Content, path: Path, name: str) -> None:
    for package in ("zarr", "xarray"):
        _need(package, name)
    with warnings.catch_warnings():
        # Strings of variable length work, but the third version of the format calls them unsettled.
        warnings.filterwarnings("ignore", message=".*does not have a Zarr V3 specification.*")
        _data_array(content, name).to_dataset().to_zarr(path, mode="w", consolidated=False)


def _is_zarr_zip(path: Path) -> bool:
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return bool({"zarr.json", ".zgroup", ".zarray"} & set(archive.namelist()))


register(
    Format(
        "a NetCDF or HDF5 file",
        (".nc", ".nc4", ".h5", ".hdf5"),
        _read_hdf5,
        ("variable",),
        _write_hdf5,
        starts_with(b"\x89HDF\r\n\x1a\n", b"CDF\x01", b"CDF\x02"),
    )
)
register(
    Format(
        "a Zarr store",
        (".zarr",),
        _read_zarr,
        ("variable",),
        _write_zarr,
        directory=True,
    )
)
register(
    Format("a zipped Zarr store", (".zarr.zip",), _read_zarr, ("variable",), None, _is_zarr_zip),
)
