"""The progress bar of a verb, on standard error."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from tenfold._arguments import quoted
from tenfold.errors import TenfoldError

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from tenfold.structure_search import Trial
    from tenfold.structure_search.session import Session

# Seconds between two lines of a search.
_OFTEN = 0.2


class Bar:
    """What a verb tells while it works; without a terminal it says nothing."""

    def __init__(self, progress: Progress | None, task: TaskID | None) -> None:
        self._progress = progress
        self._task = task
        self._next = 0.0
        self._best: tuple[int, float] | None = None
        self._front: list[tuple[int, float]] = []
        self._seen = 0

    def rung(self, label: str, number: int, total: int) -> None:
        self._show(f"{self._said()}trying {label}", number, total)

    def sweep(self, method: str, sweep: int, total: int, error: float) -> None:
        self._show(f"{method}, sweep {sweep}, error {error:.4g}", sweep, total)

    def epoch(self, model: str, epoch: int, total: int, error: float) -> None:
        self._show(f"{model}, epoch {epoch}, error {error:.4g}", epoch, total)

    def residual(self, what: str, step: int, total: int, residual: float) -> None:
        self._show(f"{what} {step:,} of {total:,}, residual {residual:.3g}", step, total)

    def note(self, text: str) -> None:
        self._show(text, 0, None)

    def boxes(self, label: str, done: int, total: int) -> None:
        self._show(f"{label}, box {done:,} of {total:,}", done, total)

    def trials(self, steps: Iterable[Trial], rank: Callable[[Trial], Any]) -> Iterator[Trial]:
        """The same trials, the best so far by ``rank`` told in the lines that follow."""
        least: Any = None
        for trial in steps:
            if least is None or rank(trial) < least:
                least, self._best = rank(trial), (trial.parameters, trial.error)
            self._add(trial.parameters, trial.error)
            yield trial

    def starting(self, kinds: str, seconds: float | None) -> None:
        """A search begins; nothing of it is fitted yet."""
        self._until(seconds)
        self._show(f"{self._said()}looking at {kinds}", 0, None)

    def search(self, session: Session) -> None:
        now = time.monotonic()
        if self._progress is None or now < self._next:
            return
        self._next = now + _OFTEN
        rank = session.objective.rank
        for found in session.history[self._seen :]:
            pair = found.evaluation.parameters, found.evaluation.error
            self._best = pair if self._best is None else min(self._best, pair, key=lambda one: rank(*one))
            self._add(*pair)
        self._seen = len(session.history)
        text = f"{self._said()}{session.fits:,} fitted, front of {len(self._front)}"
        if session.seconds is not None:
            self._until(session.seconds - session.elapsed)
            self._show(text, min(session.elapsed, session.seconds), session.seconds)
        else:
            self._show(text, session.counted, session.evaluations)

    def _said(self) -> str:
        if self._best is None:
            return ""
        parameters, error = self._best
        return f"{parameters:,} parameters, error {error:.3g}; "

    def _add(self, parameters: int, error: float) -> None:
        """Keep what no other beats in both size and error."""
        if not any(size <= parameters and other <= error for size, other in self._front):
            self._front = [one for one in self._front if one[0] < parameters or one[1] < error]
            self._front.append((parameters, error))

    def _until(self, seconds: float | None) -> None:
        if self._progress is not None and self._task is not None and seconds is not None:
            self._progress.update(self._task, end=time.monotonic() + seconds)

    def _show(self, text: str, done: float, total: float | None) -> None:
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
    from rich.progress import BarColumn, Progress, ProgressColumn, SpinnerColumn, Task, TextColumn
    from rich.table import Column
    from rich.text import Text

    class Clock(ProgressColumn):
        """The time that is left, or, where no end is known, the time that it took so far."""

        def render(self, task: Task) -> Text:
            end = task.fields.get("end")
            if end is not None:
                return Text(f"{max(0.0, end - time.monotonic()):.0f} s left")
            return Text(f"{task.elapsed or 0.0:.0f} s")

    # On a narrow terminal the words are cut, and neither the bar nor the time.
    words = TextColumn("{task.description}", table_column=Column(no_wrap=True, overflow="ellipsis", ratio=1))
    columns = (SpinnerColumn(), words, BarColumn(bar_width=12), Clock(table_column=Column(no_wrap=True)))
    with Progress(*columns, console=Console(stderr=True), transient=True, expand=True) as progress:
        yield Bar(progress, progress.add_task("reading", total=None))
