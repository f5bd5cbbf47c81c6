"""Going through an array box by box: in this process or on a cluster, from where an interrupted run stopped.

Boxes are taken in segments. What a segment adds is summed in the segment's own order, and segments are added in theirs,
whoever worked on them and whenever: the result is the same for any number of workers (to rounding where their BLAS
differs from ours) and for any number of interruptions (bit by bit).
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from tenfold._blocks import Blocks, Box, Cuts, Mapped
from tenfold._files import atomic
from tenfold._scales import times_power
from tenfold.errors import FileError, TenfoldError

# A pass has at most about this many segments: each brings a sum to the checkpoint or over the network.
_SEGMENTS = 64
# Segments that a cluster works on ahead of the one that is due, for each of its threads.
_AHEAD = 2
# Writing a checkpoint may take this part of the time.
_WRITING = 0.05
# Entries of a file that are looked at together.
_AT_ONCE = 2**20
# How far the sums of the same squares in different orders may differ.
_SAME = {"rel_tol": 1e-10, "abs_tol": 1e-290}

# By name; pieces of an array by their place in it, a pair of ends for each axis.
Sums = dict[Any, Tensor]
Watch = Callable[[str, int, int], None]


@dataclass(frozen=True)
class View:
    """An array whose axes are groups of indices.

    Attributes:
        indices: all indices in order.
        groups: the sizes of the indices of each axis.
    """

    indices: tuple[str, ...]
    groups: tuple[tuple[int, ...], ...]

    @property
    def units(self) -> tuple[int, ...]:
        """Multiples at which an axis may be cut so that its parts are boxes of its indices."""
        return tuple(math.prod(group[1:]) for group in self.groups)

    @property
    def sizes(self) -> dict[str, int]:
        flat = [size for group in self.groups for size in group]
        return dict(zip(self.indices, flat, strict=True))

    @property
    def first(self) -> dict[str, int]:
        """The index of each axis that a box may cut, and that axis."""
        found, place = {}, 0
        for axis, group in enumerate(self.groups):
            found[self.indices[place]] = axis
            place += len(group)
        return found

    def places(self, box: Box) -> tuple[slice, ...]:
        """A box of the axes as a box of the indices."""
        found: list[slice] = []
        for part, group, unit in zip(box, self.groups, self.units, strict=True):
            found.append(slice(part.start // unit, part.stop // unit))
            found.extend(slice(0, size) for size in group[1:])
        return tuple(found)


class Work(Protocol):
    """What a pass does to each box; it can be pickled."""

    def add(self, sums: Sums, values: Tensor, places: tuple[slice, ...]) -> None:
        """Add what the box at ``places`` (of indices) gives. ``values`` may be overwritten."""
        ...


def _read(blocks: Blocks, power: int, view: View, box: Box) -> tuple[Tensor, tuple[slice, ...]]:
    """A box in double precision, scaled, with an axis for each index."""
    values = blocks.box(box)
    values = values.to(torch.complex128 if values.is_complex() else torch.float64)
    if power:
        values = times_power(values, -power)
    places = view.places(box)
    return values.reshape([part.stop - part.start for part in places]), places


def _segment(blocks: Blocks, power: int, view: View, cuts: Cuts, first: int, last: int, work: Work) -> Sums:
    """The sums of some boxes; what a worker does."""
    sums: Sums = {}
    for number in range(first, last):
        work.add(sums, *_read(blocks, power, view, cuts[number]))
    return sums


@dataclass
class Passes:
    """Runs passes over arrays.

    Attributes:
        checkpoint: keeps sums on the way.
        client: a `dask.distributed.Client` to work on, else this process.
        watch: told the name of a pass, the boxes done and how many there are.
    """

    checkpoint: Checkpoint | None = None
    client: Any = None
    watch: Watch | None = None

    def total(self, key: str, label: str, blocks: Blocks, power: int, view: View, cuts: Cuts, work: Work) -> Sums:
        """The sums over all boxes. Entries whose names begin with ``max`` are maxima instead."""
        done, sums = (0, {}) if self.checkpoint is None else self.checkpoint.load(key)
        bounds = _segments(len(cuts))
        for number, partial in self._partials(label, blocks, power, view, cuts, work, bounds, done):
            for name, value in partial.items():
                if name not in sums:
                    sums[name] = value
                elif str(name).startswith("max"):
                    sums[name] = torch.maximum(sums[name], value)
                else:
                    sums[name] += value
            if self.checkpoint is not None:
                self.checkpoint.offer(key, number + 1, sums, last=number + 1 == len(bounds))
        return sums

    def fill(
        self, key: str, label: str, blocks: Blocks, power: int, view: View, cuts: Cuts, work: Work, target: Target
    ) -> float:
        """Write what each box gives to its place in ``target``, which its name says; the sum of all squares."""
        done, sums = (0, {}) if self.checkpoint is None else self.checkpoint.load(key)
        if done and self.checkpoint is not None and not target.there:
            raise self.checkpoint.damaged(f"{target.name} is missing or short")
        target.make()
        square = sums.get("square", torch.zeros((), dtype=torch.float64))
        bounds = _segments(len(cuts))
        for number, partial in self._partials(label, blocks, power, view, cuts, work, bounds, done):
            for place, piece in partial.items():
                square = square + torch.linalg.vector_norm(piece) ** 2
                target.put(tuple(slice(*ends) for ends in place), piece)
            if self.checkpoint is not None:
                last = number + 1 == len(bounds)
                self.checkpoint.offer(key, number + 1, {"square": square}, last=last, before=target.flush)
        if done and self.checkpoint is not None and not math.isclose(target.square(), square, **_SAME):
            raise self.checkpoint.damaged(f"{target.name} is not what was written to it")
        return float(square)

    # --- who does it --------------------------------------------------------------------------------------------------

    def _partials(
        self,
        label: str,
        blocks: Blocks,
        power: int,
        view: View,
        cuts: Cuts,
        work: Work,
        bounds: Sequence[tuple[int, int]],
        start: int,
    ) -> Iterator[tuple[int, Sums]]:
        """The number of a segment and its sums, in order."""
        if start == len(bounds):
            return
        self._tell(label, bounds[start][0], len(cuts))
        if self.client is not None:
            for number, partial in self._of_workers(blocks, power, view, cuts, work, bounds, start):
                self._tell(label, bounds[number][1], len(cuts))
                yield number, partial
            return
        todo = iter(range(bounds[start][0], len(cuts)))
        # The next box is read while one is worked on.
        with ThreadPoolExecutor(1) as reader:
            ahead = deque([reader.submit(_read, blocks, power, view, cuts[next(todo)])])
            for number in range(start, len(bounds)):
                sums: Sums = {}
                for box in range(*bounds[number]):
                    values, places = ahead.popleft().result()
                    following = next(todo, None)
                    if following is not None:
                        ahead.append(reader.submit(_read, blocks, power, view, cuts[following]))
                    work.add(sums, values, places)
                    del values
                    self._tell(label, box + 1, len(cuts))
                yield number, sums

    def _of_workers(
        self,
        blocks: Blocks,
        power: int,
        view: View,
        cuts: Cuts,
        work: Work,
        bounds: Sequence[tuple[int, int]],
        start: int,
    ) -> Iterator[tuple[int, Sums]]:
        threads = max(1, sum(self.client.nthreads().values()))
        waiting: deque[Any] = deque()
        following = start
        try:
            for number in range(start, len(bounds)):
                while following < len(bounds) and len(waiting) < _AHEAD * threads + 1:
                    first, last = bounds[following]
                    # Work whose worker dies goes to another one by itself.
                    waiting.append(
                        self.client.submit(_segment, blocks, power, view, cuts, first, last, work, pure=False)
                    )
                    following += 1
                future = waiting.popleft()
                try:
                    sums = future.result()
                except TenfoldError:
                    raise
                except Exception as error:
                    raise TenfoldError(
                        f"the cluster could not work on boxes {bounds[number][0]} to {bounds[number][1] - 1}: "
                        f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
                    ) from error
                finally:
                    future.release()
                yield number, sums
        finally:
            for future in waiting:
                future.cancel()

    def _tell(self, label: str, done: int, total: int) -> None:
        if self.watch is not None:
            self.watch(label, done, total)


def _segments(boxes: int) -> list[tuple[int, int]]:
    step = -(-boxes // _SEGMENTS)
    return [(first, min(first + step, boxes)) for first in range(0, boxes, step)]


# --- where a smaller array goes ---------------------------------------------------------------------------------------


class Target:
    """An array that is written piece by piece: in memory, or in a file of which little is in memory at a time."""

    def __init__(self, shape: tuple[int, ...], dtype: torch.dtype, path: Path | None) -> None:
        self.shape, self.path = shape, path
        self.stored = np.dtype(np.complex128 if dtype.is_complex else np.float64)
        self.values = np.empty(shape if path is None else 0, self.stored)

    @property
    def name(self) -> str:
        return "memory" if self.path is None else self.path.name

    @property
    def bytes(self) -> int:
        return math.prod(self.shape) * self.stored.itemsize

    @property
    def there(self) -> bool:
        """Whether there is a file to go on with."""
        return self.path is not None and self.path.exists() and self.path.stat().st_size == self.bytes

    def make(self) -> None:
        """Take the room, where that is not done."""
        if self.path is None or self.there:
            return
        try:
            with self.path.open("wb") as handle:
                # Room is taken at once: writing to a mapped file on a full disk kills the process.
                if hasattr(os, "posix_fallocate"):
                    os.posix_fallocate(handle.fileno(), 0, self.bytes)
                else:
                    handle.truncate(self.bytes)
        except OSError as error:
            self.path.unlink(missing_ok=True)
            raise FileError(f"cannot write '{self.path}' of {self.bytes:,} bytes: {error.strerror or error}") from error

    def put(self, place: tuple[slice, ...], piece: Tensor) -> None:
        if self.path is None:
            self.values[place] = piece.numpy()
        else:
            np.memmap(self.path, self.stored, "r+", 0, self.shape)[place] = piece.numpy()

    def flush(self) -> None:
        """Have the disk hold all that was put here."""
        if self.path is None:
            return
        try:
            with self.path.open("r+b") as handle:
                os.fsync(handle.fileno())
        except OSError as error:
            raise FileError(f"cannot write '{self.path}': {error.strerror or error}") from error

    def square(self) -> float:
        """The sum of the squares of all that is here."""
        if self.path is None:
            return float(torch.linalg.vector_norm(torch.from_numpy(self.values)) ** 2)
        square = 0.0
        with self.path.open("rb") as handle:
            while (part := np.fromfile(handle, self.stored, _AT_ONCE)).size:
                square += float(torch.linalg.vector_norm(torch.from_numpy(part)) ** 2)
        return square

    def load(self) -> Tensor:
        values = self.values if self.path is None else np.fromfile(self.path, self.stored).reshape(self.shape)
        return torch.from_numpy(values)

    def blocks(self, name: str) -> Blocks:
        if self.path is not None:
            return Blocks(Mapped(str(self.path), self.stored, self.shape, 0, "C"), self.shape, self.stored, name=name)
        return Blocks.of(self.values, name=name)


# --- checkpoints ------------------------------------------------------------------------------------------------------


@dataclass
class Checkpoint:
    """A folder with the sums of the passes that are done or begun.

    Attributes:
        about: what a run that goes on must agree with.
        chosen: what it takes over from the first run.

    Raises:
        FileError: the folder cannot be written, or holds something else.
        TenfoldError: it is of another run: of other data, or with other settings.
    """

    folder: Path
    about: Mapping[str, Any]
    chosen: Mapping[str, Any]
    _written: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.folder = Path(self.folder).expanduser()
        said = {"about": json.loads(json.dumps(dict(self.about))), "chosen": dict(self.chosen)}
        place = self.folder / "about.json"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            if not place.exists():
                if any(not entry.name.startswith(".") for entry in self.folder.iterdir()):
                    raise FileError(f"checkpoint '{self.folder}' is a folder with other things; give an empty one")
                with atomic(place) as path:
                    path.write_text(json.dumps(said))
                return
            found = json.loads(place.read_text())
            was, self.chosen = found["about"], {name: found["chosen"][name] for name in self.chosen}
        except OSError as error:
            raise FileError(f"cannot use checkpoint '{self.folder}': {error.strerror or error}") from error
        except FileError:
            raise
        except (ValueError, TypeError, KeyError) as error:
            raise FileError(f"checkpoint '{self.folder}' is damaged; remove it, or give another folder") from error
        for name in dict.fromkeys((*said["about"], *was)):
            before, now = was.get(name), said["about"].get(name)
            if before != now:
                raise TenfoldError(
                    f"checkpoint '{self.folder}' is of another run: {name} was {_short(before)}, now it is "
                    f"{_short(now)}; give the same again, or another folder"
                )

    def load(self, key: str) -> tuple[int, Sums]:
        """Segments done, and their sums."""
        path = self.folder / f"{key}.npz"
        if not path.exists():
            return 0, {}
        try:
            with np.load(path, allow_pickle=False) as held:
                arrays = {name: torch.from_numpy(held[name]) for name in held.files if name != "done"}
                return int(held["done"]), arrays
        except Exception as error:  # whatever a damaged archive raises
            raise FileError(f"'{path}' is damaged: {' '.join(str(error).split())}; remove it") from error

    def damaged(self, what: str) -> FileError:
        return FileError(f"checkpoint '{self.folder}' is damaged: {what}; remove the folder and start again")

    def offer(self, key: str, done: int, sums: Sums, *, last: bool, before: Callable[[], None] | None = None) -> None:
        """Save at the end, and on the way as often as that takes little of the time; first do what comes ``before``."""
        now = time.monotonic()
        if last or now >= self._written.get(key, 0.0):
            if before is not None:
                before()
            self.save(key, done, sums)
            self._written[key] = time.monotonic() + (time.monotonic() - now) / _WRITING

    def save(self, key: str, done: int, sums: Sums) -> None:
        with atomic(self.folder / f"{key}.npz") as path, path.open("wb") as handle:
            arrays: dict[str, Any] = {name: value.numpy() for name, value in sums.items()}
            np.savez(handle, done=np.int64(done), **arrays)


def digest(blocks: Blocks) -> str:
    """A few numbers of an array, so that another one of its shape is noticed."""
    box = tuple(slice(0, min(size, max(1, round(4096 ** (1 / blocks.ndim))))) for size in blocks.shape)
    return hashlib.blake2b(np.ascontiguousarray(blocks[box]).tobytes(), digest_size=8).hexdigest()


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 80 else text[:77] + "..."
