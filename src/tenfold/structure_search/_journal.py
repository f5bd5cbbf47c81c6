"""The record of a search on disk: what was asked, one line for each fit, one file for each network.

A fit is kept by whoever made it, under its number, before anybody hears of it; the lines are written in the order of
the numbers. So what is on disk after a search was killed is what it had done, and the same call goes on from there: it
asks for the same fits again and finds them.
"""

from __future__ import annotations

import errno
import json
import math
import os
import sys
import weakref
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from tenfold._arguments import quoted
from tenfold.errors import FileError, TenfoldError
from tenfold.network import Network, load_file
from tenfold.structure import Structure
from tenfold.structure_search.targets import Fitted

if sys.platform != "win32":
    import fcntl

_VERSION = 2
_HEADER, _LINES, _NETWORKS = "search.json", "journal.jsonl", "networks"


def keep(path: Path, structure: Structure, fitted: Fitted, seconds: float) -> None:
    """Write a fit to its file, whole or not at all."""
    record = {
        "structure": structure.to_json(),
        "error": fitted.error,
        "sweeps": fitted.sweeps,
        "finished": fitted.finished,
        "inside": fitted.inside,
        "seconds": seconds,
    }
    fitted.network.save(path, record=record)


class Journal:
    """A folder that a search is kept in.

    Args:
        folder: made if it is not there.
        asked: what makes the search what it is; a folder of another search is refused.
        words: the same for people, as far as there are shorter words for it.

    Raises:
        TenfoldError: the folder holds another search, or something else, or cannot be written to, or a search that
            is still under way keeps itself in it.
    """

    def __init__(
        self, folder: str | os.PathLike[str], asked: Mapping[str, Any], words: Mapping[str, str] | None = None
    ) -> None:
        self.folder = Path(folder)
        wanted = {"version": _VERSION, **asked, "words": dict(words or {})}
        header = self.folder / _HEADER
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            part = header.with_suffix(".part")
            if header.exists():
                self._check(json.loads(header.read_text(encoding="utf-8")), wanted)
            elif any(entry.name not in (_NETWORKS, part.name) for entry in self.folder.iterdir()):
                raise TenfoldError(f"'{folder}' is no folder of a search; give an empty or a new one")
            (self.folder / _NETWORKS).mkdir(exist_ok=True)
            self._unlock = self._locked()
            self._clear()
            if not header.exists():
                part.write_text(json.dumps(wanted, indent=1), encoding="utf-8")
                os.replace(part, header)
            self._lines = self._readable()
            # Unbuffered: what a full disk did not take is not tried again when the file is closed.
            self._file = (self.folder / _LINES).open("ab", buffering=0)
        except OSError as cause:
            raise TenfoldError(f"'{folder}' cannot be used for the search: {cause.strerror or cause}") from cause
        except TenfoldError:
            raise
        except ValueError as cause:
            raise TenfoldError(f"'{header}' is no record of a search: {cause}") from cause

    def _locked(self) -> weakref.finalize[..., Journal]:
        """Keep other searches out of the folder until this is called, or the process ends."""
        folder = os.open(self.folder / _NETWORKS, os.O_RDONLY) if sys.platform != "win32" else -1
        unlock = weakref.finalize(self, _closed, folder)
        if sys.platform != "win32":
            try:
                fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                unlock()
                raise TenfoldError(
                    f"another search is under way in '{self.folder}': wait for its end, or give another folder"
                ) from None
            except OSError:  # a file system without locks
                pass
        return unlock

    def _check(self, found: Any, wanted: Mapping[str, Any]) -> None:
        if not isinstance(found, dict):
            raise ValueError("it holds no names and values")
        version = found.get("version")
        if version != _VERSION:
            raise TenfoldError(
                f"'{self.folder}' holds a search that another version of tenfold began (its record is of kind "
                f"{quoted(version)}, this version knows {_VERSION}); give another folder, or take that version"
            )
        asked = json.loads(json.dumps(wanted))
        there, here = (record.pop("words", {}) for record in (found, asked))
        other = [name for name, value in asked.items() if found.get(name) != value]
        if other:
            told = (_difference(name, found.get(name), asked[name], there, here) for name in other)
            raise TenfoldError(
                f"'{self.folder}' holds a search with {', and '.join(told)}; give another folder, or ask the same"
            )

    def _clear(self) -> None:
        """Remove what was half written by somebody who was killed."""
        for left in (self.folder / _NETWORKS).glob(".*.part.tn"):
            left.unlink(missing_ok=True)

    def _readable(self) -> list[dict[str, Any]]:
        """The lines there are; one that was cut off while it was written is removed from the file."""
        path = self.folder / _LINES
        if not path.exists():
            return []
        lines: list[dict[str, Any]] = []
        good = 0
        with path.open("rb") as file:
            for line in file:
                try:
                    if not line.endswith(b"\n"):
                        break
                    found = json.loads(line)
                    if not (found["number"] == len(lines) and math.isfinite(found["elapsed"])):
                        break
                    lines.append(found)
                except (ValueError, TypeError, KeyError):
                    break
                good += len(line)
        os.truncate(path, good)
        return lines

    @property
    def elapsed(self) -> float:
        """Seconds that the search had taken when its last line was written."""
        return float(self._lines[-1].get("elapsed", 0.0)) if self._lines else 0.0

    def elapsed_at(self, number: int) -> float | None:
        """Seconds that the search had taken when the line of this fit was written, if it was."""
        return float(self._lines[number]["elapsed"]) if number < len(self._lines) else None

    def path(self, number: int) -> Path:
        """The file of a fit."""
        return self.folder / _NETWORKS / f"{number:06d}.tn"

    def found(self, number: int, structure: Structure) -> tuple[Fitted, float] | None:
        """The fit of this number and how long it took, if it was made before."""
        path = self.path(number)
        if not path.exists():
            return None
        try:
            network, record = load_file(path)
        except FileError:  # the machine stopped before all of it was on disk: it is made again
            return None
        if record is None or record["structure"] != structure.to_json():
            raise TenfoldError(
                f"'{path}' is another fit than the search asks for: it was changed, or made by another version; "
                f"give another folder"
            )
        fitted = Fitted(
            network, float(record["error"]), int(record["sweeps"]), bool(record["finished"]), record.get("inside")
        )
        return fitted, float(record["seconds"])

    @property
    def first(self) -> tuple[Network, float] | None:
        """The first network and its error, if there is one."""
        try:
            network, record = load_file(self.path(0))
        except FileError:
            return None
        return None if record is None else (network, float(record["error"]))

    def write(self, line: Mapping[str, Any]) -> None:
        """Append a line, unless it was there already."""
        if int(line["number"]) < len(self._lines):
            return
        self._lines.append(dict(line))
        try:
            text = json.dumps(line).encode() + b"\n"
            if self._file.write(text) != len(text):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            os.fsync(self._file.fileno())
        except OSError as cause:
            raise TenfoldError(
                f"'{self.folder}' cannot be written to: {cause.strerror or cause}; the same call goes on from there"
            ) from cause

    def close(self) -> None:
        self._file.close()
        with suppress(OSError):  # left for the next time
            self._clear()
        self._unlock()


def _difference(name: str, found: Any, wanted: Any, there: Any, here: Mapping[str, str]) -> str:
    """In what a search that was kept is another than the one that is asked for."""
    before, now = there.get(name) if isinstance(there, dict) else None, here.get(name)
    if before is None or now is None:
        before, now = quoted(found), quoted(wanted)
    return f"{name} {before}, not {now}" if before != now else f"other {name} that reads the same, {now}"


def _closed(folder: int) -> None:
    if folder >= 0:
        os.close(folder)
