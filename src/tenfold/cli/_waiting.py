"""A sign of life before there is anything to tell."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from tenfold.cli._output import printable


@contextmanager
def waiting(text: str, *, quiet: bool) -> Iterator[None]:
    """A spinner with ``text`` on standard error for the block, where that is a terminal and nobody wants it quiet.

    Loading PyTorch takes a second or more, in which people would look at nothing.
    """
    if quiet or sys.stderr is None or not sys.stderr.isatty():
        yield
        return
    from rich.console import Console
    from rich.text import Text

    with Console(stderr=True).status(Text(printable(text), no_wrap=True, overflow="ellipsis")):
        yield
