"""Where fits are made: here, or on a cluster, or in processes beside this one. The results are the same."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from tenfold._threads import threads_for
from tenfold.errors import TenfoldError
from tenfold.network import Network
from tenfold.structure import Structure
from tenfold.structure_search._journal import keep
from tenfold.structure_search.targets import Fitted, Target


@dataclass(frozen=True)
class Task:
    """One fit to make, and the file that its result is kept in, if any.

    Attributes:
        until: when it is of no use to go on, in seconds as `time.time` counts them, which is the same in all processes.
    """

    number: int
    structure: Structure
    near: Network | None
    seed: int
    sweeps: int | None
    within: float
    path: Path | None
    until: float | None = None


@dataclass(frozen=True)
class Done:
    """One fit made.

    Attributes:
        cut: whether the end of the time cut it off; it is not kept in a file then.
    """

    fitted: Fitted
    seconds: float
    cut: bool = False


class Workers(Protocol):
    """What makes fits."""

    def run(self, tasks: Sequence[Task]) -> Generator[Done, None, None]:
        """The results, in the order of the tasks, as they come."""
        ...

    def close(self) -> None: ...


def work(target: Target, task: Task) -> Done:
    """Make one fit, with one thread, so that it is the same wherever it is made."""
    started = time.perf_counter()
    clock = _Clock(task.until)
    with threads_for(0):
        fitted = target.fit(
            task.structure, near=task.near, seed=task.seed, sweeps=task.sweeps, within=task.within, stop=clock
        )
    # As it would be read from its file: sums over axes that lie otherwise in memory are rounded otherwise.
    cores = [core.contiguous() for core in fitted.network.cores]
    fitted = replace(fitted, network=Network(fitted.network.structure, cores))
    done = Done(fitted, time.perf_counter() - started, clock.over)
    if task.path is not None and not done.cut:
        keep(task.path, task.structure, fitted, done.seconds)
    return done


class _Clock:
    """Says whether it is too late to go on, and remembers that it said so."""

    def __init__(self, until: float | None) -> None:
        self._until = until
        self.over = False

    def __call__(self) -> bool:
        self.over = self.over or (self._until is not None and time.time() >= self._until)
        return self.over


class Here:
    """One fit after the other in this process."""

    def __init__(self, target: Target) -> None:
        self._target = target

    def run(self, tasks: Sequence[Task]) -> Generator[Done, None, None]:
        for task in tasks:
            yield work(self._target, task)

    def close(self) -> None:
        pass


class Cluster:
    """The workers of a ``dask.distributed.Client``; those that die are replaced by others, as Dask does.

    Raises:
        TenfoldError: the client is closed, or has no workers.
    """

    def __init__(self, target: Target, client: Any) -> None:
        if getattr(client, "status", "running") == "closed":
            raise TenfoldError("client is closed; give one that is connected")
        self._client = client
        try:
            self._target = client.scatter(target, broadcast=True)
        except TimeoutError as cause:
            raise TenfoldError(f"client has no workers that answer: {cause}") from cause

    def run(self, tasks: Sequence[Task]) -> Generator[Done, None, None]:
        # Files of this machine are not those of the cluster: results are kept here, as they come.
        away = [replace(task, path=None) for task in tasks]
        with _of_cluster():
            waiting = [self._client.submit(work, self._target, task, pure=False) for task in away]
        try:
            for task, future in zip(tasks, waiting, strict=True):
                with _of_cluster():
                    done = future.result()
                if task.path is not None and not done.cut:
                    keep(task.path, task.structure, done.fitted, done.seconds)
                yield done
        finally:  # whoever asked may have heard enough
            with suppress(Exception):  # closed by now
                self._client.cancel([future for future in waiting if not future.done()])

    def close(self) -> None:
        pass


@contextmanager
def _of_cluster() -> Iterator[None]:
    """Errors of a cluster, told in a line; those of what it was to do are passed on as they are."""
    try:
        yield
    except (KeyboardInterrupt, GeneratorExit):
        raise
    except BaseException as error:  # what was cancelled is no Exception for asyncio
        kind = type(error).__name__
        if type(error).__module__.split(".")[0] == "distributed" or kind in ("CancelledError", "FutureCancelledError"):
            raise TenfoldError(f"client was closed, or lost its workers, while it was at work ({kind})") from error
        raise
