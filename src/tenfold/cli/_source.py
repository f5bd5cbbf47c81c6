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
    from tenfold.verbs.compressed import CompressedFile
    from tenfold.verbs.posterior import Posterior
    from tenfold.verbs.result import Fit


def load_from(file: str) -> Fit | Network | Posterior | CompressedFile:
    """What a file that tenfold wrote holds; '-' is standard input, which goes through a temporary file."""
    from tenfold.verbs.load import load

    if file != "-":
        try:
            return load(file)
        except FileError as cause:
            from tenfold.io import suffixes

            data = tuple(suffix for suffix in suffixes() if suffix != ".safetensors")
            if Path(file).is_file() and file.lower().endswith(data):
                raise FileError(
                    f"'{file}' holds data, no posterior or network: 'tenfold complete' makes a posterior of it, which "
                    f"can be asked, 'tenfold fit' a network"
                ) from cause
            raise
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
