"""The data sets that come with tenfold, each with its licence and origin."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from tenfold._arguments import closest
from tenfold.errors import FileError


@dataclass(frozen=True)
class Sample:
    """A bundled data set; ``tenfold.io.read("sample:NAME")`` reads it.

    Attributes:
        name: as in ``sample:NAME``.
        shape: the size of every mode.
        description: a sentence on what was measured.
        licence: the terms of use.
        origin: who made the data, and what was done to them since.
        path: the file.
    """

    name: str
    shape: tuple[int, ...]
    description: str
    licence: str
    origin: str
    path: Path


def samples() -> tuple[Sample, ...]:
    """All bundled data sets, by name."""
    folder = Path(str(files("tenfold"))) / "samples"
    catalogue = tomllib.loads((folder / "samples.toml").read_text(encoding="utf-8"))
    return tuple(
        Sample(
            name,
            tuple(entry["shape"]),
            entry["description"],
            entry["licence"],
            entry["origin"],
            folder / entry["file"],
        )
        for name, entry in sorted(catalogue.items())
    )


def find(name: str) -> Sample:
    """The bundled data set of that name.

    Raises:
        FileError: there is none; the names of those there are stand in the message.
    """
    known = {sample.name: sample for sample in samples()}
    if name not in known:
        raise FileError(f"there is no sample '{name}'{closest(name, known)}; there are {', '.join(known)}")
    return known[name]
