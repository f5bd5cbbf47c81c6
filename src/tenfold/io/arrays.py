"""Plain arrays: .npy, .npz and .safetensors.

An .npz that holds ``values`` and ``dims`` is one labelled array: ``dims`` names its modes,
``coordinates/MODE`` labels a mode, ``units`` has one unit per mode. An .npz that ``scipy.sparse.save_npz`` wrote is one
sparse array. Any other .npz is a collection of arrays.
Pickled objects are never loaded.
"""

from __future__ import annotations

import math
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import IO, Any

import numpy as np

from tenfold.errors import DataError, FileError
from tenfold.io._checks import cast, choose, count_missing, fits_memory, nameless, native, numeric, parsing
from tenfold.io._registry import Content, Format, register, starts_with
from tenfold.io.dataset import Dataset
from tenfold.io.lazy import LazyArray

# Arrays in .npy files of so many bytes stay there until they are used.
_LARGE = 16 * 2**20
# Deflate cannot shrink anything by more than this factor.
_DEFLATE_LIMIT = 1032
_LABELLED = {"values", "dims"}
_COORDINATES = "coordinates/"
# What scipy.sparse.save_npz writes for every format, and what each format has besides.
_SPARSE = {"data", "shape", "format"}
_SPARSE_INDICES = ({"indices", "indptr"}, {"row", "col"}, {"coords"}, {"offsets"})
# Floats that torch and safetensors have and NumPy has not.
_TORCH_ONLY = ("bfloat16", "float8_e4m3fn", "float8_e5m2")


def _plain(values: np.ndarray, name: str, key: str = "") -> Dataset:
    numeric(values.dtype, values.shape, name)
    return Dataset(native(values), nameless(values.ndim), {}, str(values.dtype), name, count_missing(values), key)


def _npy_header(handle: IO[bytes], name: str) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """Shape and dtype, of which nothing has been allocated yet."""
    version = np.lib.format.read_magic(handle)
    if version == (1, 0):
        shape, _, dtype = np.lib.format.read_array_header_1_0(handle)
    elif version == (2, 0):
        shape, _, dtype = np.lib.format.read_array_header_2_0(handle)
    else:  # version 3 is for records with names beyond Latin-1
        raise DataError(f"'{name}' holds records, not numbers")
    if any(size < 0 for size in shape):
        raise FileError(f"'{name}' is damaged: its header gives the shape {shape}")
    return shape, dtype


def _npy_checked(
    handle: IO[bytes], stored: int, name: str, *, labels: bool = False
) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """Shape and dtype of an .npy stream of ``stored`` bytes, header included, that can be what it says."""
    shape, dtype = _npy_header(handle, name)
    if dtype.hasobject:
        raise DataError(f"'{name}' holds pickled Python objects, which are never loaded: save numbers")
    if not labels:
        numeric(dtype, shape, name)
    needed, there = math.prod(shape) * dtype.itemsize, stored - handle.tell()
    if needed > there:
        raise FileError(
            f"'{name}' is truncated or damaged: an array of shape {shape} and dtype {dtype} takes {needed} bytes, "
            f"the file has {there}"
        )
    return shape, dtype


def _npy_values(handle: IO[bytes], stored: int, name: str, *, labels: bool = False) -> np.ndarray:
    """The array of an .npy stream of ``stored`` bytes, header included."""
    shape, dtype = _npy_checked(handle, stored, name, labels=labels)
    fits_memory(shape, dtype, name)
    handle.seek(0)
    return np.asarray(np.lib.format.read_array(handle, allow_pickle=False))


def _read_npy(path: Path, name: str) -> Dataset:
    with parsing(name, "a NumPy array"), path.open("rb") as handle:
        stored = path.stat().st_size
        if stored < _LARGE:
            return _plain(_npy_values(handle, stored, name), name)
        shape, dtype = _npy_checked(handle, stored, name)
    given = native(np.empty(0, dtype)).dtype
    lazy = LazyArray(partial(_mapped, path), shape, given, name)
    return Dataset(lazy, nameless(len(shape)), {}, str(dtype), name, None)


@contextmanager
def _mapped(path: Path) -> Iterator[np.ndarray]:
    # Mapped anew for every part, because pages that were looked at stay in memory.
    yield np.load(path, mmap_mode="r", allow_pickle=False)


def _write_npy(content: Content, path: Path, name: str) -> None:
    values = content.values if content.dtype is None else cast(content.values, content.dtype, name)
    with path.open("wb") as handle:
        np.lib.format.write_array(handle, values, allow_pickle=False)


def _entry(archive: zipfile.ZipFile, key: str, name: str) -> zipfile.ZipInfo:
    entry = archive.getinfo(f"{key}.npy")
    if entry.file_size > _DEFLATE_LIMIT * entry.compress_size + 4096 and entry.compress_type in (0, 8):
        raise FileError(f"'{name}' is damaged: '{key}' says to expand beyond what compression can do")
    return entry


def _member(archive: zipfile.ZipFile, key: str, name: str, *, labels: bool = False) -> np.ndarray:
    entry = _entry(archive, key, name)
    with archive.open(entry) as handle:
        return _npy_values(handle, entry.file_size, f"{name}:{key}", labels=labels)


def _members(archive: zipfile.ZipFile, name: str) -> dict[str, tuple[int, ...]]:
    """Name and shape of every array, from the headers alone."""
    shapes: dict[str, tuple[int, ...]] = {}
    for entry in archive.infolist():
        if entry.filename.endswith(".npy"):
            with archive.open(entry) as handle:
                shapes[entry.filename.removesuffix(".npy")] = _npy_header(handle, name)[0]
    return shapes


def _read_npz(path: Path, name: str, variable: str | None = None) -> Dataset:
    with parsing(name, "a NumPy archive"), zipfile.ZipFile(path) as archive:
        shapes = _members(archive, name)
        if set(shapes) >= _LABELLED and variable in (None, "values"):
            return _labelled(archive, shapes, name)
        if variable is None and any(set(shapes) >= _SPARSE | indices for indices in _SPARSE_INDICES):
            return _sparse(path, archive, shapes, name)
        key = choose(shapes, variable, name)
        return _plain(_member(archive, key, name), f"{name}:{key}", key)


def _sparse(path: Path, archive: zipfile.ZipFile, shapes: Mapping[str, tuple[int, ...]], name: str) -> Dataset:
    import scipy.sparse

    from tenfold.observations import Observations

    for key, shape in shapes.items():
        _entry(archive, key, name)
        fits_memory(shape, np.dtype(np.int64), f"{name}:{key}")
    stored = scipy.sparse.load_npz(path)
    numeric(stored.dtype, stored.shape, name)
    if stored.format in ("csr", "csc", "bsr"):
        stored.check_format(full_check=True)  # SciPy reads past the ends of arrays where indices do not fit
    if not stored.nnz:
        raise DataError(f"'{name}' holds a sparse array of shape {stored.shape} without an entry: nothing is in it")
    observed = Observations.from_sparse(stored)
    return Dataset(observed, nameless(len(stored.shape)), {}, str(stored.dtype), name, 0)


def _labelled(archive: zipfile.ZipFile, shapes: Mapping[str, tuple[int, ...]], name: str) -> Dataset:
    held = _plain(_member(archive, "values", name), name)
    dims = tuple(str(mode) for mode in _member(archive, "dims", name, labels=True).ravel())
    coordinates = {
        key.removeprefix(_COORDINATES): _member(archive, key, name, labels=True)
        for key in shapes
        if key.startswith(_COORDINATES)
    }
    units = [str(unit) for unit in _member(archive, "units", name, labels=True)] if "units" in shapes else []
    if len(dims) != len(held.shape) or any(
        mode not in dims or given.shape != (held.shape[dims.index(mode)],) for mode, given in coordinates.items()
    ):
        raise DataError(f"'{name}' is damaged: its labels do not fit its array of shape {held.shape}")
    named = {mode: unit for mode, unit in zip(dims, units, strict=False) if unit}
    return Dataset(held.values, dims, coordinates, held.dtype, name, held.missing, units=named)


def _write_npz(content: Content, path: Path, name: str) -> None:
    values = content.values if content.dtype is None else cast(content.values, content.dtype, name)
    members: dict[str, Any] = {"values": values, "dims": np.array(content.dims)}
    for mode, given in content.coordinates.items():
        members[_COORDINATES + mode] = given.astype(str) if given.dtype.kind in "OT" else given
    if content.units:
        members["units"] = np.array([content.units.get(mode, "") for mode in content.dims])
    with path.open("wb") as handle:
        np.savez_compressed(handle, **members)


def _is_npz(path: Path) -> bool:
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any(member.endswith(".npy") for member in archive.namelist())


def _read_safetensors(path: Path, name: str, variable: str | None = None) -> Dataset:
    from safetensors import safe_open

    with parsing(name, "a safetensors file"):
        with safe_open(path, framework="np") as tensors:
            heads = {key: tensors.get_slice(key) for key in tensors.keys()}  # noqa: SIM118 - no iterator of its own
            key = choose({key: head.get_shape() for key, head in heads.items()}, variable, name)
            kind = str(heads[key].get_dtype())
            if not kind.startswith(("BF", "F8")):
                return _plain(tensors.get_tensor(key), f"{name}:{key}", key)
        with safe_open(path, framework="pt") as tensors:  # NumPy has no such floats, torch does
            tensor = tensors.get_tensor(key)
        held = _plain(tensor.float().numpy(), f"{name}:{key}", key)
        original = str(tensor.dtype).removeprefix("torch.")
        return Dataset(held.values, held.dims, {}, original, name, held.missing, key)


def _write_safetensors(content: Content, path: Path, name: str) -> None:
    import torch
    from safetensors.torch import save_file

    dtype = getattr(torch, content.dtype) if content.dtype in _TORCH_ONLY else None
    values = content.values if content.dtype is None or dtype else cast(content.values, content.dtype, name)
    if dtype and values.dtype.kind == "c":
        raise DataError(f"cannot write '{name}': complex values do not fit dtype {content.dtype}")
    tensor = torch.from_numpy(np.array(native(values), order="C"))
    save_file({"values": tensor.to(dtype) if dtype else tensor}, path)


def _is_safetensors(path: Path) -> bool:
    with path.open("rb") as handle:
        head = handle.read(9)
    return len(head) == 9 and head[8:] == b"{" and 2 <= int.from_bytes(head[:8], "little") <= path.stat().st_size - 8


register(Format("a NumPy array", (".npy",), _read_npy, (), _write_npy, starts_with(b"\x93NUMPY")))
register(Format("a NumPy archive", (".npz",), _read_npz, ("variable",), _write_npz, _is_npz))
register(
    Format(
        "a safetensors file",
        (".safetensors",),
        _read_safetensors,
        ("variable",),
        _write_safetensors,
        _is_safetensors,
    )
)
