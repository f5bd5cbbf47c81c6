"""Fits in several processes of this machine, and in this one until they are there.

Each process hears of its tasks through a pipe of its own, from a thread of this process that does nothing else. They
share no lock and no queue: whichever is killed, at whatever moment, leaves nothing behind and nobody waiting.
"""

from __future__ import annotations

import atexit
import multiprocessing
import os
import pickle
import signal
import threading
import traceback
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import Any

import torch

from tenfold._arguments import whole_number
from tenfold.errors import TenfoldError
from tenfold.structure_search._workers import Done, Task, work
from tenfold.structure_search.targets import Target

# How often a process may be lost over one task, or while it starts, before it is said that something is wrong.
_TRIES = 3
# A process takes seconds to start, nearly all of it to import torch: none is started for searches that end before this.
_WORTH = 1.0
# More processes than these, for each core and at least, would only have less memory each.
_FOR_EACH_CORE, _ALWAYS = 4, 8
# Some systems do not interrupt who waits for others: so long at most is waited at a time.
_MOMENT = 1.0

_NEVER_BEGUN = (
    "worker processes end before they begin: each runs the script again up to where it would search, so that must "
    "stand in a file, below if __name__ == '__main__'"
)
_KILLED = "worker processes keep being killed: give fewer workers, or see whether memory runs out"


def check_workers(count: Any) -> int:
    """How many processes there are to be, as an int.

    Raises:
        TenfoldError: it is no whole number from 1 to four times the number of cores (or 8), or this is itself a process
            that was started for a search and has got no further than into the script that searches.
    """
    count = whole_number("workers", count, 1)
    cores = os.cpu_count() or 1
    most = max(_ALWAYS, _FOR_EACH_CORE * cores)
    if count > most:
        raise TenfoldError(f"workers must be at most {most} on a machine of {cores} cores, not {count:,}")
    here = multiprocessing.current_process()
    if count > 1 and getattr(here, "_inheriting", False):
        raise TenfoldError(_NEVER_BEGUN)
    if count > 1 and here.daemon:
        raise TenfoldError(f"workers must be 1 in a process that may have none of its own, not {count}")
    return count


class _Lost(Exception):
    """A process ended before it should have.

    Args:
        code: what it ended with, minus the signal that killed it.
    """

    def __init__(self, code: int | None) -> None:
        super().__init__(code)
        self.code = code


class _Batch:
    """Tasks that are asked for together."""

    def __init__(self, tasks: Sequence[Task]) -> None:
        self.tasks = tasks
        self.pending = deque(range(len(tasks)))
        self.answers: dict[int, Done | Exception] = {}
        self.lost = [0] * len(tasks)


class Processes:
    """Several processes of this machine. Each keeps what it found before it says so.

    They start while this process makes the first fits itself, and only where those take longer than a moment. Those
    that are killed are replaced.

    Raises:
        TenfoldError: as `check_workers` does.
    """

    def __init__(self, target: Target, count: int) -> None:
        self._target, self._count = target, check_workers(count)
        self._sent = b""  # the target, for those who come
        self._threads: list[threading.Thread] = []
        self._closed = threading.Event()
        # What follows is read and changed under this only.
        self._changed = threading.Condition()
        self._processes: list[SpawnProcess] = []
        self._batch: _Batch | None = None
        self._begun = False
        self._failed: BaseException | None = None

    def run(self, tasks: Sequence[Task]) -> Generator[Done, None, None]:
        batch = _Batch(tasks)
        with self._changed:
            self._batch = batch
            self._changed.notify_all()
        self._engage(min(self._count, len(tasks)))
        try:
            for place in range(len(tasks)):
                answer = self._answer(batch, place)
                if isinstance(answer, Exception):
                    raise answer
                yield answer
        finally:  # whoever asked may have heard enough
            with self._changed:
                self._batch = None
                batch.pending.clear()

    def close(self) -> None:
        """End all processes, whatever they are at."""
        atexit.unregister(self.close)
        self._closed.set()
        with self._changed:
            for process in self._processes:
                process.kill()
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()

    # --- in the thread that asks --------------------------------------------------------------------------------------

    def _engage(self, count: int) -> None:
        """Let there be so many processes, a moment from now; one alone would be of no use."""
        if count < 2 or count <= len(self._threads):
            return
        if not self._threads:
            self._sent = pickle.dumps(self._target)
            atexit.register(self.close)
            if os.name == "posix":  # by who starts it, interrupts are heard afterwards: that must be no other thread
                resource_tracker.ensure_running()
        while len(self._threads) < count:
            self._threads.append(threading.Thread(target=self._attend, daemon=True))
            self._threads[-1].start()

    def _answer(self, batch: _Batch, place: int) -> Done | Exception:
        """What came of one task. This process makes itself useful until the first of the others is there."""
        while True:
            with self._changed:
                while place not in batch.answers and self._failed is None and (self._begun or not batch.pending):
                    self._changed.wait(_MOMENT)
                if self._failed is not None:
                    raise self._failed
                if place in batch.answers:
                    return batch.answers.pop(place)
                mine = batch.pending.popleft()
            answer = _attempted(self._target, batch.tasks[mine])
            with self._changed:
                batch.answers[mine] = answer

    # --- in the threads that attend to a process each -----------------------------------------------------------------

    def _attend(self) -> None:
        """Keep one process busy until all is over, and start another where it is lost."""
        if hasattr(signal, "pthread_sigmask"):  # processes that are started here never hear an interrupt
            signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        self._closed.wait(_WORTH)
        lost = 0
        while not self._over():
            try:
                with self._process() as pipe:
                    self._greet(pipe)
                    lost = 0
                    self._serve(pipe)
            except _Lost as end:
                lost += 1
                if end.code == 1 and not self._begun:  # by an error of the script, since it has come to nothing else
                    self._fail(TenfoldError(_NEVER_BEGUN))
                elif lost == _TRIES:
                    self._fail(TenfoldError(_KILLED))
            except OSError as error:
                self._fail(TenfoldError(f"no process can be started: {error.strerror or error}; give fewer workers"))
            except Exception as error:  # whoever waits must hear of it
                self._fail(error)

    def _over(self) -> bool:
        with self._changed:
            return self._closed.is_set() or self._failed is not None

    def _fail(self, error: Exception) -> None:
        """Let whoever waits hear of an error."""
        with self._changed:
            self._failed = self._failed or error
            self._changed.notify_all()

    @contextmanager
    def _process(self) -> Iterator[Connection]:
        """A new process, seen from this side of its pipe; it ends with the block."""
        context = multiprocessing.get_context("spawn")
        here, there = context.Pipe()
        process = context.Process(target=_begin, args=(there,))
        process.start()
        there.close()  # held by the process alone, so that its end is heard of
        with self._changed:
            self._processes.append(process)
            if self._closed.is_set():
                process.kill()
        try:
            yield here
        except (EOFError, ConnectionError):  # somebody killed it, perhaps for its memory
            process.join(_MOMENT)
            raise _Lost(process.exitcode) from None
        finally:
            process.kill()
            process.join()
            here.close()
            with self._changed:
                self._processes.remove(process)

    def _greet(self, pipe: Connection) -> None:
        """Wait until a process has begun."""
        pipe.send_bytes(self._sent)
        refused = pickle.loads(pipe.recv_bytes())
        if refused is not None:
            raise refused
        with self._changed:
            self._begun = True
            self._changed.notify_all()

    def _serve(self, pipe: Connection) -> None:
        """Hand one task after the other to a process."""
        while (given := self._next()) is not None:
            batch, place = given
            try:
                pipe.send_bytes(pickle.dumps(batch.tasks[place]))
                answer = pickle.loads(pipe.recv_bytes())
            except (EOFError, ConnectionError):
                self._lose(batch, place)
                raise
            with self._changed:
                batch.answers[place] = answer
                self._changed.notify_all()

    def _next(self) -> tuple[_Batch, int] | None:
        """A task that nobody has taken, once there is one; None when all is over."""
        with self._changed:
            while not self._closed.is_set() and self._failed is None:
                if self._batch is not None and self._batch.pending:
                    return self._batch, self._batch.pending.popleft()
                self._changed.wait()
        return None

    def _lose(self, batch: _Batch, place: int) -> None:
        """Give a task back whose process was lost."""
        with self._changed:
            batch.lost[place] += 1
            if batch is self._batch:
                batch.pending.appendleft(place)
        if batch.lost[place] == _TRIES:
            self._fail(TenfoldError(_KILLED))


# --- in the processes -------------------------------------------------------------------------------------------------


def _begin(pipe: Connection) -> None:
    """What a new process does until nobody wants it any more."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent is told, and decides
    threading.Thread(target=_die_with_parent, daemon=True).start()
    torch.set_num_threads(1)
    try:
        try:
            target = pickle.loads(pipe.recv_bytes())
        except (AttributeError, ImportError) as error:
            words = f"worker processes cannot find what they are to fit: {error}; define it in a file"
            pipe.send_bytes(pickle.dumps(TenfoldError(words)))
            return
        pipe.send_bytes(pickle.dumps(None))
        while True:
            pipe.send_bytes(_packed(_attempted(target, pickle.loads(pipe.recv_bytes()))))
    except (EOFError, ConnectionError):
        pass


def _die_with_parent() -> None:
    """Processes whose parent was killed would end their fits for nobody."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)


def _attempted(target: Target, task: Task) -> Done | Exception:
    """What comes of a task: errors are told when it is its turn."""
    try:
        return work(target, task)
    except Exception as error:
        return error


def _packed(answer: Done | Exception) -> bytes:
    """An answer to be sent; errors with where they happened, in words where they cannot be sent as they are."""
    if isinstance(answer, Done):
        return pickle.dumps(answer)
    where = "".join(traceback.format_exception(answer))
    answer.add_note(f"in a worker process:\n{where}")
    try:
        packed = pickle.dumps(answer)
        pickle.loads(packed)
    except Exception:  # what cannot go through a pipe is told in words
        return pickle.dumps(RuntimeError(f"{type(answer).__name__}: {answer}"))
    return packed
