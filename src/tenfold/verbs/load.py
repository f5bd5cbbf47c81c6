"""`load`: a file that `Fit.save`, `Posterior.save`, `Compressed.save` or `Network.save` wrote."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from safetensors import SafetensorError, safe_open

from tenfold.errors import FileError
from tenfold.network import load_file
from tenfold.verbs.posterior import holds_posterior, load_posterior

if TYPE_CHECKING:
    from tenfold.network import Network
    from tenfold.verbs.compressed import CompressedFile
    from tenfold.verbs.posterior import Posterior
    from tenfold.verbs.result import Fit


def load(path: str | os.PathLike[str]) -> Fit | Network | Posterior | CompressedFile:
    """The `Fit`, the `Posterior` or the compressed model in a file, or the `Network` where it holds no record of a fit.

    The data is not in the file, so ``data`` of a fit or posterior is None. Nothing in a file is ever executed.

    Raises:
        FileError: no such file, not a tenfold file, truncated, from a newer version, or its parts do not fit.
    """
    if holds_posterior(path):
        return load_posterior(path)
    if _holds_model(path):
        from tenfold.verbs.compressed import load_compressed  # loads what compresses models

        return load_compressed(path)
    from tenfold.verbs.result import from_record  # loads what fits are made with, which a posterior does without

    network, record = load_file(path)
    if record is None or "fit" not in record:
        return network
    try:
        return from_record(network, record["fit"])
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError, IndexError) as cause:
        raise FileError(f"'{path}' has a damaged record of its fit ({cause!r})") from cause


def _holds_model(path: str | os.PathLike[str]) -> bool:
    # Written out here, because the room of layers takes a second to load and most files hold no model.
    try:
        with safe_open(os.fspath(path), framework="pt") as file:
            return "tenfold.model" in (file.metadata() or {})
    except (SafetensorError, OSError, ValueError, UnicodeError):
        return False
