"""A library that works in a process of its own, asked for one piece of work."""

from __future__ import annotations

import contextlib
import json
import selectors
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType

import numpy as np

from benchmarks.rotations.questions import Question

_WORKER = Path(__file__).with_name("worker.py")


class Peer:
    """One library: its process, kept until it is closed, and its answer to the last question.

    Attributes:
        name: as tables show it.
        missing: why it cannot do what it was asked; empty if it can.
        late: whether that is because it was not ready in time; nothing more is asked of it then.
        results: what it returned, channels last.
        memory: MB that its work takes beyond its input; None where nobody knows.
    """

    def __init__(self, python: str, library: str, variant: str, threads: int, patience: float) -> None:
        self.name = f"{library.replace('_', '-')} {variant}".strip()
        self.results: list[np.ndarray] = []
        self.memory: float | None = None
        self.missing, self.late = "", False
        self._told = {"variant": variant, "threads": str(threads)}
        self._patience = patience
        self._written: Path | None = None
        quiet = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
        try:
            self._process = subprocess.Popen([python, str(_WORKER), library], text=True, **quiet)
        except OSError as cause:
            self.missing, self.late = f"no {python}: {cause.strerror}", True

    def ask(self, question: Question, numbers: Path) -> None:
        """Begin with a question; `answer` waits for what comes of it."""
        if self.late:
            return
        self.missing, self.results, self.memory = "", [], None
        self._written = numbers.with_name(f"{self.name.replace(' ', '')}.npz")
        told = {
            "question": question.as_json(),
            "numbers": str(numbers),
            "results": str(self._written),
            **self._told,
        }
        self._asked = time.perf_counter()
        self._say(json.dumps(told))

    def answer(self) -> None:
        """Wait until it is ready, or cannot be."""
        if self.late or self._written is None:
            return
        assert self._process.stdout is not None
        with selectors.DefaultSelector() as selector:
            selector.register(self._process.stdout, selectors.EVENT_READ)
            if not selector.select(max(0.1, self._patience - (time.perf_counter() - self._asked))):
                self.missing, self.late = f"not ready within {self._patience:g} s", True
                self._process.kill()
                return
        kind, _, rest = self._process.stdout.readline().strip().partition(" ")
        if kind != "ready":
            self.missing = rest or "its process ended"
            self.late = not rest
            return
        self.memory = float(rest) if rest else None
        with np.load(self._written) as found:
            self.results = [found[name] for name in found.files]
        self._written.unlink()

    def seconds(self) -> float:
        """Do it once more."""
        assert self._process.stdout is not None
        self._say("")
        return float(self._process.stdout.readline())

    def _say(self, line: str) -> None:
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(line + "\n")
            self._process.stdin.flush()

    def __enter__(self) -> Peer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if hasattr(self, "_process"):
            self._process.kill()
            self._process.wait()


def python_of(environment: Path) -> str:
    """The interpreter of an environment; this one's, where there is no such environment."""
    found = environment / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")
    return str(found) if found.exists() else sys.executable
