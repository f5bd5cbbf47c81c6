"""Arrays that are read box by box: in a file, computed on demand, or simply large."""

from __future__ import annotations

import itertools
import math
import re
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tenfold.errors import DataError, FileError, TenfoldError

Box = tuple[slice, ...]
Read = Callable[[Box], Any]

_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12, "ki": 2**10, "mi": 2**20, "gi": 2**30, "ti": 2**40}
_AMOUNT = re.compile(r"\s*(\d+(?:\.\d+)?|\.\d+)\s*([kmgt]?i?)b?\s*", re.IGNORECASE)
# The part of the memory that is free which is taken when nothing is said.
_FREE = 0.5


class Blocks:
    """An array that is never in memory as a whole.

    ``blocks[3, :, 2:5]`` reads that part as it is stored; `box` reads a part as numbers that can be computed with.

    Args:
        read: takes one slice (with step 1) for each axis, gives that part of the array; for computing on several
            processes it must be something that can be pickled.
        shape: the size of every axis.
        dtype: of the numbers that ``read`` gives, as NumPy names it.
        chunks: for each axis the size of the pieces in which the array is stored, or where these differ the sizes of
            all of them. Boxes are made of whole chunks where these are small enough. Without it any cut is as good as
            any other.
        name: how errors call the array.

    Attributes:
        dtype: the floating or complex dtype that `box` gives: whole numbers become float64.

    Raises:
        DataError: no numbers, no axes, an empty array, or chunks that do not fit the shape.
    """

    def __init__(
        self,
        read: Read,
        shape: Sequence[int],
        dtype: Any,
        *,
        chunks: Sequence[int | Sequence[int]] | None = None,
        name: str = "data",
    ) -> None:
        self.read = read
        self.shape = tuple(int(size) for size in shape)
        self.stored = np.dtype(dtype)
        self.name = name
        if self.stored.kind not in "biufc":
            raise DataError(f"{name} must hold numbers, not {self.stored}")
        if not self.shape or math.prod(self.shape) == 0:
            raise DataError(f"{name} is empty: its shape is {self.shape}")
        self.dtype = _computed(self.stored)
        self.chunked = chunks is not None
        self.edges = _edges(self.shape, chunks, name)

    @classmethod
    def of(cls, array: Any, *, name: str = "data") -> Blocks:
        """The blocks of something array-like: a Dask, Zarr or HDF5 array, a file mapped into memory, a tensor."""
        if isinstance(array, Blocks):
            return array
        if isinstance(array, Tensor):
            array = array.detach().resolve_conj().resolve_neg().cpu().numpy()
        chunks = getattr(array, "chunks", None)
        if isinstance(array, np.memmap) and array.filename is not None and _is_plain(array):
            read: Read = Mapped(str(array.filename), array.dtype, array.shape, array.offset, _order(array))
        elif _comes_from(array, "dask"):
            read = Computed(array)
        else:
            read = Indexed(array)
        if hasattr(array, "open"):  # that of a file; what is not in a group has none
            name = array.name if array.name.strip("/") else "the array"
        return cls(read, array.shape, array.dtype, chunks=chunks, name=name)

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def size(self) -> int:
        """The number of entries."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """The memory that all of it would take in the dtype that is computed with."""
        return self.size * self.dtype.itemsize

    def __repr__(self) -> str:
        return f"Blocks({self.name}, shape={self.shape}, dtype={self.stored})"

    def to(self, dtype: torch.dtype) -> Blocks:
        """The same array, computed with in another dtype."""
        other = Blocks.__new__(Blocks)
        other.__dict__.update(self.__dict__, dtype=dtype)
        return other

    def __getitem__(self, selection: Any) -> np.ndarray:
        """A part of the array as it is stored; what is not in it is read only where a chunk holds both."""
        items = selection if isinstance(selection, tuple) else (selection,)
        place = next((n for n, item in enumerate(items) if item is Ellipsis), len(items))
        rest = (slice(None),) * (self.ndim - len(items) + (place < len(items)))
        items = (*items[:place], *rest, *items[place + 1 :])
        box, inside = [], []
        for item, extent in zip(items, self.shape, strict=True):
            places = range(extent)[item] if isinstance(item, slice) else range(extent)[item : item + 1 or None]
            low, high = min(places, default=0), max(places, default=-1) + 1
            box.append(slice(low, high))
            inside.append(slice(None if places.step > 0 else -1, None, places.step) if isinstance(item, slice) else 0)
        return self._read(tuple(box))[tuple(inside)]

    def box(self, box: Box) -> Tensor:
        """The numbers of a box.

        Raises:
            DataError: one of them is NaN or infinite, or ``read`` gives another shape.
            FileError: ``read`` failed.
        """
        values = self._read(box)
        extent = tuple(part.stop - part.start for part in box)
        if values.shape != extent:
            raise DataError(f"reading {_text(box)} of {self.name} gave shape {values.shape}, not {extent}")
        if values.dtype.kind not in "biufc":
            raise DataError(f"reading {_text(box)} of {self.name} gave {values.dtype}, not numbers")
        native = values.dtype.newbyteorder("=")
        if native.kind in "fc" and native.itemsize > (16 if native.kind == "c" else 8):
            native = np.dtype(np.complex128 if native.kind == "c" else np.float64)
        if native.kind == "u" and native.itemsize > 1:
            native = np.dtype(np.float64)
        odd = any(stride < 0 or stride % values.itemsize for stride in values.strides)
        if values.dtype != native or odd or not values.flags.writeable:
            values = values.astype(native)
        tensor = torch.from_numpy(values)
        if tensor.is_complex() and not self.dtype.is_complex:
            raise DataError(f"{self.name} holds complex numbers, which {_plain(self.dtype)} cannot")
        tensor = tensor.to(self.dtype)
        if not math.isfinite(float(tensor.abs().sum())) and not bool(torch.isfinite(tensor).all()):
            self._refuse(tensor, box)
        return tensor

    def _read(self, box: Box) -> np.ndarray:
        try:
            return np.asarray(self.read(box))
        except (TenfoldError, MemoryError):
            raise
        except Exception as error:  # whatever a library or a function of somebody raises
            why = " ".join(f"{type(error).__name__}: {error}".split())[:200]
            raise FileError(f"reading {_text(box)} of {self.name} failed: {why}") from error

    def _refuse(self, tensor: Tensor, box: Box) -> None:
        wrong = ~torch.isfinite(tensor)
        first = [int(place) + part.start for place, part in zip(wrong.nonzero()[0], box, strict=True)]
        nan = bool(torch.isnan(tensor[wrong][0]))
        what = "a NaN" if nan else "an infinite entry"
        cure = "missing cells cannot be read block by block: fill them, or take a part that fits into memory"
        raise DataError(f"{self.name} has {what} at {tuple(first)}; {cure if nan else 'replace it'}")

    # --- cutting ------------------------------------------------------------------------------------------------------

    def widths(self, whole: Sequence[bool], units: Sequence[int]) -> list[int]:
        """The extents of the smallest boxes of whole chunks; see `cuts`."""
        return [_widest(self._edges(axis, whole[axis], units[axis])) for axis in range(self.ndim)]

    @property
    def chunk(self) -> int:
        """The entries of the largest chunk."""
        return math.prod(_widest(cut) for cut in self.edges)

    def cuts(self, whole: Sequence[bool], units: Sequence[int], entries: int, *, within: bool = False) -> Cuts | None:
        """Boxes of at most ``entries`` numbers that together are the array.

        Args:
            whole: for each axis, whether all of it is in every box.
            units: for each axis, a number that cuts must be multiples of. Where it is not 1, chunks may be cut.
            entries: the most numbers in a box.
            within: whether chunks may be cut where whole ones are too large; they are read once for each part then.

        Returns:
            The boxes, or None where there are none so small.
        """
        edges = [self._edges(axis, whole[axis], units[axis]) for axis in range(self.ndim)]
        widths = [_widest(cut) for cut in edges]
        for axis in range(self.ndim):
            # The first axes first, so that parts lie together; no finer than needed.
            if within and not whole[axis] and units[axis] == 1 and (size := math.prod(widths)) > entries:
                parts = min(-(-size // entries), widths[axis])
                while parts < widths[axis] and -(-widths[axis] // parts) * (size // widths[axis]) > entries:
                    parts += 1
                edges[axis] = _finer(edges[axis], -(-widths[axis] // parts))
                widths[axis] = _widest(edges[axis])
        if math.prod(widths) > entries:
            return None
        # As much as there is room for, on the last axis first: that is how most arrays lie.
        for axis in reversed(range(self.ndim)):
            room = entries // (math.prod(widths) // widths[axis])
            edges[axis] = _merged(edges[axis], room)
            widths[axis] = _widest(edges[axis])
        return Cuts(tuple(tuple(cut) for cut in edges))

    def _edges(self, axis: int, whole: bool, unit: int) -> Sequence[int]:
        extent = self.shape[axis]
        if whole:
            return (0, extent)
        return (*range(0, extent, unit), extent) if unit > 1 else self.edges[axis]


@dataclass(frozen=True)
class Cuts:
    """An array in boxes, numbered in the order of the axes, the last one fastest.

    Attributes:
        edges: for each axis where its boxes begin, and its end.
    """

    edges: tuple[tuple[int, ...], ...]

    def __len__(self) -> int:
        return math.prod(len(cut) - 1 for cut in self.edges)

    def __getitem__(self, number: int) -> Box:
        box = []
        for cut in reversed(self.edges):
            number, place = divmod(number, len(cut) - 1)
            box.append(slice(cut[place], cut[place + 1]))
        return tuple(reversed(box))

    def __iter__(self) -> Iterator[Box]:
        return (self[number] for number in range(len(self)))

    @property
    def largest(self) -> int:
        """The number of entries of the largest box."""
        return math.prod(_widest(cut) for cut in self.edges)


# --- what is read -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Indexed:
    """Something that is indexed by slices as NumPy arrays are."""

    array: Any

    def __call__(self, box: Box) -> np.ndarray:
        return np.asarray(self.array[box])


@dataclass(frozen=True)
class Computed:
    """A Dask array, of which one part at a time is computed, in this thread: so there is no more of it at once."""

    array: Any

    def __call__(self, box: Box) -> np.ndarray:
        return np.asarray(self.array[box].compute(scheduler="synchronous"))


@dataclass(frozen=True)
class Mapped:
    """A plain array in a file. Mapped anew for every part, because pages that were looked at stay in memory."""

    path: str
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    offset: int
    order: str

    def __call__(self, box: Box) -> np.ndarray:
        mapped = np.memmap(self.path, self.dtype, "r", self.offset, self.shape, "F" if self.order == "F" else "C")
        return np.array(mapped[box], order="C")


# --- amounts of memory ------------------------------------------------------------------------------------------------


def memory_bytes(given: Any = None) -> int:
    """An amount of memory in bytes: a number, or text such as "2 GB", "500MB", "1.5 GiB"; None is half of what is free.

    Raises:
        TenfoldError: anything else, or less than ten million bytes.
    """
    if given is None:
        import psutil

        return max(int(_FREE * psutil.virtual_memory().available), 10**7)
    if isinstance(given, str):
        match = _AMOUNT.fullmatch(given)
        if match is None:
            raise TenfoldError(f"memory must be an amount such as '2 GB' or '500MB', not {given!r}")
        count = float(match[1]) * _UNITS[match[2].lower()]
        if not math.isfinite(count):
            raise TenfoldError("memory is more than any machine has; give an amount such as '2 GB'")
    elif isinstance(given, bool) or not isinstance(given, (int, float, np.number)) or not math.isfinite(given):
        raise TenfoldError(f"memory must be an amount such as '2 GB' or a number of bytes, not {given!r}")
    else:
        count = float(given)
    if count < 10**7:
        raise TenfoldError(f"memory {given!r} is too little; give at least 10 MB")
    return int(count)


def memory_text(count: int) -> str:
    """A number of bytes for people."""
    for unit, size in (("TB", 10**12), ("GB", 10**9), ("MB", 10**6)):
        if count >= size:
            return f"{count / size:.3g} {unit}"
    return f"{max(count, 0) / 1000:.3g} kB"


# --- small things -----------------------------------------------------------------------------------------------------


def _computed(stored: np.dtype[Any]) -> torch.dtype:
    """The dtype that is computed with: decompositions need more digits than half precision has."""
    if stored.kind == "c":
        return torch.complex64 if stored.itemsize <= 8 else torch.complex128
    return torch.float32 if stored.kind == "f" and stored.itemsize <= 4 else torch.float64


def _edges(
    shape: tuple[int, ...], chunks: Sequence[int | Sequence[int]] | None, name: str
) -> tuple[Sequence[int], ...]:
    if chunks is None:
        return tuple(range(extent + 1) for extent in shape)
    wrong = DataError(f"chunks {chunks!r} of {name} do not fit its shape {shape}")
    if len(chunks) != len(shape):
        raise wrong
    edges: list[Sequence[int]] = []
    for extent, sizes in zip(shape, chunks, strict=True):
        if isinstance(sizes, (int, np.integer)):
            if sizes < 1:
                raise wrong
            edges.append((*range(0, extent, int(sizes)), extent))
            continue
        cut = tuple(itertools.accumulate((int(size) for size in sizes), initial=0))
        if cut[-1] != extent:
            raise wrong
        edges.append(tuple(dict.fromkeys(cut)))
    return tuple(edges)


def _widest(edges: Sequence[int]) -> int:
    return 1 if isinstance(edges, range) else max(b - a for a, b in itertools.pairwise(edges))


def _finer(edges: Sequence[int], most: int) -> Sequence[int]:
    """The same edges and others between them, none of the parts wider than ``most``."""
    found = [at for low, high in itertools.pairwise(edges) for at in range(low, high, most)]
    return (*found, edges[-1])


def _merged(edges: Sequence[int], room: int) -> Sequence[int]:
    """Edges of which as many are left out as the room allows, the parts as even as they can be."""
    total = edges[-1]
    parts = -(-total // room)
    while True:
        aim = -(-total // parts)
        chosen, at = [0], 0
        while at < total:
            # The last edge within the aim, if that moves on, else the next one; never beyond the room.
            place = bisect_right(edges, at + aim) - 1
            if edges[place] <= at:
                place = bisect_left(edges, at + 1)
            at = edges[place]
            chosen.append(at)
        if _widest(chosen) <= room:
            return chosen
        parts += 1


def _is_plain(array: np.memmap) -> bool:
    """Whether the mapped array is the file from its offset on; parts of it may not be."""
    return bool(array.flags.c_contiguous or array.flags.f_contiguous) and type(array.base).__name__ == "mmap"


def _order(array: np.ndarray) -> str:
    return "C" if array.flags.c_contiguous else "F"


def _comes_from(value: Any, package: str) -> bool:
    return type(value).__module__.split(".")[0] == package


def _plain(dtype: Any) -> str:
    return str(dtype).removeprefix("torch.")


def _text(box: Box) -> str:
    return "[" + ", ".join(f"{part.start}:{part.stop}" for part in box) + "]"
