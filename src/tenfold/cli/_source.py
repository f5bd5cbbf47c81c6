"""Where a command has a network or a posterior from."""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from tenfold.errors import FileError

if TYPE_CHECKING:
    from tenfold.network import Network
    from tenfold.verbs.posterior import Posterior
    from tenfold.verbs.result import Fit


def load_from(file: str) -> Fit | Network | Posterior:
    """What a file that tenfold wrote holds; '-' is standard input, which goes through a temporary file."""
    from tenfold.verbs.load import load

    if file != "-":
        return load(file)
    if sys.stdin is None or sys.stdin.isatty():
        raise FileError("nothing is piped into standard input: give a file name, or pipe a network into '-'")
    with tempfile.TemporaryDirectory(prefix="tenfold-") as folder:
        path = Path(folder) / "input.tn"
        try:
            with path.open("wb") as handle:
                shutil.copyfileobj(sys.stdin.buffer, handle)
        except OSError as error:
            raise FileError(f"cannot read standard input: {error.strerror or error}") from error
        try:
            return load(path)
        except FileError as error:
            raise FileError(str(error).replace(f"'{path}'", "standard input")) from error
