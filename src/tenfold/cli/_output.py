"""Where a command's result goes."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from tenfold.errors import FileError


def to_file_or_standard_output(place: str, write: Callable[[str], None]) -> None:
    """Let ``write`` make the file ``place``; for '-' it makes a temporary one that is copied to standard output."""
    if place != "-":
        write(place)
        return
    if sys.stdout.isatty():
        raise FileError("standard output is a terminal; give -o FILE, or send it into a file or pipe")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "out.tn"
        write(str(path))
        sys.stdout.buffer.write(path.read_bytes())
        sys.stdout.buffer.flush()
