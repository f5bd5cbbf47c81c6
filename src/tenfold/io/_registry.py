"""The formats: each family registers its own, reading and writing choose among what is registered."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tenfold.errors import FileError
from tenfold.io.dataset import Dataset


@dataclass(frozen=True)
class Content:
    """What is to be written: numbers, labels, and the dtype that was asked for (None: as they are)."""

    values: np.ndarray
    dtype: str | None
    dims: tuple[str, ...]
    coordinates: Mapping[str, np.ndarray]
    units: Mapping[str, str]


@dataclass(frozen=True)
class Format:
    """One kind of file.

    Attributes:
        name: as a sentence would say it, "a PNG image".
        suffixes: in lower case, with the dot.
        read: ``read(path, name, **options)`` gives the dataset; ``name`` is how errors call the file.
        options: the names of the options of ``read`` that this format understands.
        write: ``write(content, path, name)`` creates ``path``; None when tenfold does not write the format.
        sniff: whether a file without a name is of this format, told from its content.
        directory: whether a file of this format may be a directory.
        picture: whether people look at it, so that numbers go into it as they came out of one.
    """

    name: str
    suffixes: tuple[str, ...]
    read: Callable[..., Dataset]
    options: tuple[str, ...] = ()
    write: Callable[[Content, Path, str], None] | None = None
    sniff: Callable[[Path], bool] | None = None
    directory: bool = False
    picture: bool = False


_FORMATS: list[Format] = []


def register(format: Format) -> None:
    """Make a format known to ``read`` and ``write``."""
    _FORMATS.append(format)


def find(name: str, *, writing: bool = False) -> Format:
    """The format that the suffix of a file name means.

    Raises:
        FileError: no format has that suffix; the known ones stand in the message.
    """
    known = [format for format in _FORMATS if format.write is not None or not writing]
    lower = name.lower()
    # The longest suffix wins: x.zarr.zip is no plain zip.
    matching = [(len(suffix), format) for format in known for suffix in format.suffixes if lower.endswith(suffix)]
    if matching:
        return max(matching, key=lambda pair: pair[0])[1]
    suffix = Path(name).suffix
    if suffix.lower() == ".tn" and not writing:
        raise FileError(f"'{name}' is a fit already, not data: look at it with 'tenfold show', or 'tenfold expand' it")
    what = f"the suffix '{suffix}' is not known" if suffix else "a file name without a suffix says no format"
    verb = "write" if writing else "read"
    raise FileError(f"cannot {verb} '{name}': {what}; known are {', '.join(suffixes(writing=writing))}")


def check_format(name: str) -> None:
    """Raise a `FileError` when the suffix of a file name is of no format that can be written."""
    find(Path(name).name, writing=True)


def is_picture(name: str) -> bool:
    """Whether the suffix of a file name means a picture."""
    lower = name.lower()
    return any(format.picture and lower.endswith(format.suffixes) for format in _FORMATS)


def suffixes(*, writing: bool = False) -> tuple[str, ...]:
    """The file suffixes that ``read`` knows, or those that ``write`` knows."""
    return tuple(suffix for format in _FORMATS if format.write or not writing for suffix in format.suffixes)


def sniff(path: Path) -> Format | None:
    """The format that the content of a file shows, or None."""
    return next((format for format in _FORMATS if format.sniff is not None and format.sniff(path)), None)


def starts_with(*beginnings: bytes) -> Callable[[Path], bool]:
    """A sniffer that knows a format by its first bytes; a ``?`` stands for any byte."""

    def matches(path: Path) -> bool:
        with path.open("rb") as handle:
            head = handle.read(max(map(len, beginnings)))
        return any(
            len(head) >= len(beginning)
            and all(want in (ord("?"), have) for want, have in zip(beginning, head, strict=False))
            for beginning in beginnings
        )

    return matches
