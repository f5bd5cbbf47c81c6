"""Where a command's result goes."""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from tenfold._files import atomic, check_writable
from tenfold.errors import FileError

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def printable(text: str) -> str:
    """The text with control characters (a file name may hold any) written out, so that none reaches a terminal."""
    return "".join(
        c if c.isprintable() or c == "\n" or "\ud800" <= c <= "\udfff" else c.encode("unicode_escape").decode()
        for c in text
    )


def say(text: str, *, aside: bool = False) -> None:
    """Print text for people: on standard output, or ``aside`` on standard error."""
    stream = sys.stderr if aside else sys.stdout
    if stream is not None:  # a closed one hears nothing; print(file=None) would take the other
        print(printable(text), file=stream)


def place_of(output: str) -> Path | None:
    """The absolute path of a file that is to be written, None for '-'.

    Raises:
        FileError: no file can be written there: a directory, a folder that does not exist or may not be written to.
    """
    if output == "-":
        return None
    path = check_writable(output)
    if path.is_dir():
        raise FileError(f"cannot write '{output}': it is a directory; give the name of a file in it")
    return path


def to_file_or_standard_output(place: str, write: Callable[[str], None]) -> None:
    """Let ``write`` make the file ``place``; for '-' it makes a temporary one that is copied to standard output."""
    if place != "-":
        write(place)
        return
    if sys.stdout is None:
        raise FileError("standard output is closed; give -o FILE, or send it into a file or pipe")
    if sys.stdout.isatty():
        raise FileError("standard output is a terminal; give -o FILE, or send it into a file or pipe")
    with tempfile.TemporaryDirectory(prefix="tenfold-") as folder:
        path = Path(folder) / "out.tn"
        write(str(path))
        try:
            with path.open("rb") as file:
                shutil.copyfileobj(file, sys.stdout.buffer)
            sys.stdout.buffer.flush()
        except BrokenPipeError:
            raise
        except OSError as error:
            raise FileError(f"cannot write standard output: {error.strerror or error}") from error


def save_figure(figure: Figure, place: str) -> None:
    """Write a figure in the format of the file's suffix, beside and then renamed."""
    with atomic(place) as beside:
        figure.savefig(beside, dpi=150)
