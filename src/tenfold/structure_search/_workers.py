"""Where fits are made: in this process, in several, or on a cluster. The results are the same."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache
from multiprocessing import get_context, parent_process
from multiprocessing.connection import wait
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any, Protocol

import torch

from tenfold._threads import threads_for
from tenfold.errors import TenfoldError
from tenfold.network import Network
from tenfold.structure import Structure
from tenfold.structure_search._journal import keep
from tenfold.structure_search.targets import Fitted, Target

# How often lost processes are replaced before it is said that something is wrong.
_TRIES = 3


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


class Processes:
    """Several processes of this machine. Each keeps what it found before it says so."""

    def __init__(self, target: Target, count: int) -> None:
        self._target, self._count = target, count
        self._pool: ProcessPoolExecutor | None = None

    def run(self, tasks: Sequence[Task]) -> Generator[Done, None, None]:
        found: dict[int, Done] = {}
        for _ in range(_TRIES):
            pool = self._pool or self._started()
            waiting: dict[int, Future[Done]] = {}
            try:
                with _uninterrupted():
                    for place, task in enumerate(tasks):
                        if place not in found:
                            waiting[place] = pool.submit(_in_process, task)
                for place in range(len(tasks)):
                    if place not in found:
                        found[place] = waiting[place].result()
                        yield found[place]
                return
            except BrokenProcessPool:  # somebody killed one, perhaps for its memory
                self.close()
                if not _begun().is_set():
                    raise TenfoldError(
                        "worker processes end before they begin: each runs the script again up to where it would "
                        "search, so that must stand in a file, below if __name__ == '__main__'"
                    ) from None
            finally:  # whoever asked may have heard enough
                for future in waiting.values():
                    future.cancel()
        raise TenfoldError("worker processes keep being killed: give fewer workers, or see whether memory runs out")

    def _started(self) -> ProcessPoolExecutor:
        self._pool = ProcessPoolExecutor(
            self._count, mp_context=get_context("spawn"), initializer=_begin, initargs=(self._target, _begun())
        )
        return self._pool

    def close(self) -> None:
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)
            self._pool = None


@cache
def _begun() -> Event:
    """Set by the first worker that begins; kept until this process ends, since one may begin after its search."""
    return get_context("spawn").Event()


@contextmanager
def _uninterrupted() -> Iterator[None]:
    """Processes that are started here never hear an interrupt; this one hears it afterwards."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


_mine: Target | None = None


def _begin(target: Target, begun: Event) -> None:
    """What a new process does first."""
    global _mine
    _mine = target
    begun.set()
    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent is told, and decides
    threading.Thread(target=_die_with_parent, daemon=True).start()


def _die_with_parent() -> None:
    """Processes whose parent was killed would wait for work for ever."""
    parent = parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)


def _in_process(task: Task) -> Done:
    assert _mine is not None
    return work(_mine, task)


class Cluster:
    """The workers of a ``dask.distributed.Client``; those that die are replaced by others, as Dask does."""

    def __init__(self, target: Target, client: Any) -> None:
        self._client = client
        self._target = client.scatter(target, broadcast=True)

    def run(self, tasks: Sequence[Task]) -> Generator[Done, None, None]:
        # Files of this machine are not those of the cluster: results are kept here, as they come.
        away = [replace(task, path=None) for task in tasks]
        waiting = [self._client.submit(work, self._target, task, pure=False) for task in away]
        try:
            for task, future in zip(tasks, waiting, strict=True):
                done = future.result()
                if task.path is not None and not done.cut:
                    keep(task.path, task.structure, done.fitted, done.seconds)
                yield done
        finally:  # whoever asked may have heard enough
            self._client.cancel([future for future in waiting if not future.done()])

    def close(self) -> None:
        pass
