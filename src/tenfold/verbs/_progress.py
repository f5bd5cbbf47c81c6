"""The progress bar of a verb, on standard error."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np

from tenfold._arguments import quoted
from tenfold.errors import TenfoldError

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from tenfold.structure_search.session import Session

# Seconds between two lines of a search.
_OFTEN = 0.2


class Bar:
    """What a verb tells while it works; without a terminal it says nothing."""

    def __init__(self, progress: Progress | None, task: TaskID | None) -> None:
        self._progress = progress
        self._task = task
        self._next = 0.0

    def rung(self, label: str, number: int, total: int) -> None:
        self._show(f"trying {label}", number, total)

    def sweep(self, method: str, sweep: int, total: int, error: float) -> None:
        self._show(f"{method}, sweep {sweep}, error {error:.4g}", sweep, total)

    def boxes(self, label: str, done: int, total: int) -> None:
        self._show(f"{label}, box {done:,} of {total:,}", done, total)

    def search(self, session: Session) -> None:
        now = time.monotonic()
        best = None if self._progress is None or now < self._next else session.best
        if best is None:
            return
        self._next = now + _OFTEN
        text = (
            f"{best.parameters:,} parameters, error {best.error:.3g}; front of {len(session.front)}; "
            f"{session.counted:,} asked, {session.fits:,} fitted"
        )
        if session.seconds is not None:
            text += f"; {max(0.0, session.seconds - session.elapsed):.0f} s left"
            self._show(text, int(min(session.elapsed, session.seconds)), max(1, int(session.seconds)))
        else:
            self._show(text, session.counted, session.evaluations or session.counted)

    def _show(self, text: str, done: int, total: int) -> None:
        if self._progress is not None and self._task is not None:
            self._progress.update(self._task, description=text, completed=done, total=total)


@contextmanager
def progress_bar(show: bool | None) -> Iterator[Bar]:
    """A bar for the block; ``None`` shows it where standard error is a terminal."""
    if not (show is None or isinstance(show, bool | np.bool_)):
        raise TenfoldError(f"progress must be true or false, not {quoted(show)}")
    if show is None:
        show = sys.stderr is not None and sys.stderr.isatty()  # None where it was closed at the start
    if not show:
        yield Bar(None, None)
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(bar_width=30), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        yield Bar(progress, progress.add_task("reading", total=None))
