"""`load`: a file that `Fit.save`, `Posterior.save` or `Network.save` wrote."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from tenfold.errors import FileError
from tenfold.network import load_file
from tenfold.verbs.posterior import holds_posterior, load_posterior

if TYPE_CHECKING:
    from tenfold.network import Network
    from tenfold.verbs.posterior import Posterior
    from tenfold.verbs.result import Fit


def load(path: str | os.PathLike[str]) -> Fit | Network | Posterior:
    """The `Fit` or the `Posterior` in a file, or the `Network` where the file holds no record of a fit.

    The data is not in the file, so ``data`` of a fit or posterior is None. Nothing in a file is ever executed.

    Raises:
        FileError: no such file, not a tenfold file, truncated, from a newer version, or its parts do not fit.
    """
    if holds_posterior(path):
        return load_posterior(path)
    from tenfold.verbs.result import from_record  # loads what fits are made with, which a posterior does without

    network, record = load_file(path)
    if record is None or "fit" not in record:
        return network
    try:
        return from_record(network, record["fit"])
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError, IndexError) as cause:
        raise FileError(f"'{path}' has a damaged record of its fit ({cause!r})") from cause
