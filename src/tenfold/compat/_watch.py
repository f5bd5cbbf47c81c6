"""The stopping rule that scripts were written for, around the methods of `tenfold.decomposition`."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Protocol

from tenfold.compat._arrays import Kind
from tenfold.decomposition import Data, find
from tenfold.network import Network
from tenfold.structure import Structure

# Sweeps in a row that leave the error as it was: extrapolations that failed, or nothing left to gain.
_IDLE = 2


class Standing(Protocol):
    """What every callback of `tenfold.decomposition` is given, as far as it is read here."""

    @property
    def error(self) -> float: ...

    @property
    def sweep(self) -> int: ...


class _Stopped(Exception):
    """Unwinds a method that has done enough."""


class Watch:
    """Collects errors, tells the script's callback, and stops once a sweep changes the error by less than ``tol``.

    The change is absolute. Sweeps that change nothing at all are extrapolations that were thrown away: they are not
    counted, unless two follow one another. ``make`` turns what a sweep knows into what the callback gets;
    of ``every`` so many sweeps one is noted.
    """

    def __init__(
        self,
        kind: Kind,
        *,
        tol: float | None,
        criterion: str = "abs_rec_error",
        verbose: Any = False,
        callback: Callable[..., Any] | None = None,
        make: Callable[[Any], Any] = lambda known: known,
        every: int = 1,
    ) -> None:
        if criterion not in ("abs_rec_error", "rec_error"):
            raise TypeError(f"cvg_criterion is {criterion!r}; it can be 'abs_rec_error' or 'rec_error'")
        self.kind, self.tol, self.verbose, self.callback, self.make = kind, tol or 0.0, verbose, callback, make
        self.every, self.sweeps = every, 0
        self.values: list[float] = []
        self.idle, self.patience = 0, _IDLE
        self.known: Callable[[], Any] | None = None

    @property
    def errors(self) -> list[Any]:
        return [self.kind.number(value) for value in self.values]

    def first(self, error: float, known: Any) -> None:
        """Tell the callback of the start, which counts as no sweep."""
        if self.callback is not None:
            self.callback(self.make(known), self.kind.number(error))

    def add(self, error: float, known: Callable[[], Any]) -> None:
        """Note a sweep. Raises what `run` catches if it was the last."""
        self.sweeps += 1
        if self.sweeps % self.every:
            return
        change = self.values[-1] - error if self.values else math.inf
        if change == 0:
            self.idle += 1
            if self.idle >= self.patience:
                self.known = known
                raise _Stopped
            return
        self.idle = 0
        self.values.append(error)
        if self.verbose:
            print(f"iteration {len(self.values)}: reconstruction error {error:.6g}")
        if self.callback is not None and self.callback(self.make(known()), self.kind.number(error)) is True:
            self.known = known
            raise _Stopped
        if abs(change) < self.tol:
            self.known = known
            raise _Stopped

    def run(self, work: Callable[[], Any]) -> Any:
        """What the work returns, or where it stood when it had done enough."""
        try:
            return work()
        except _Stopped:
            assert self.known is not None
            return self.known()

    def fit(
        self, name: str, data: Data, structure: Structure, *, sweeps: int, tol: float = 0.0, **options: Any
    ) -> Network:
        """Run a method by its name for at most so many sweeps; with ``tol`` it ends by its own, relative rule."""
        if tol:
            self.tol, self.patience = 0.0, sweeps

        def report(progress: Any) -> None:
            # Sweeps of starts that compete are numbered 0.
            if progress.sweep > 0:
                self.add(progress.error, progress.network)

        def work() -> Network:
            found = find(name).function(data, structure, max_sweeps=sweeps, tol=tol, callback=report, **options)
            if not self.values:
                self.values.append(found.error)
            return found.network

        return self.run(work)
