"""A library that works in a process of its own, asked for one piece of work."""

from __future__ import annotations

import json
import selectors
import subprocess
import sys
from pathlib import Path
from types import TracebackType

import numpy as np

from benchmarks.rotations.questions import Question

_WORKER = Path(__file__).with_name("worker.py")
# Compilers need minutes for some functions of high degree; what takes longer is told.
_PATIENCE = 300.0


class Peer:
    """One library at one question: its process, kept until it is closed.

    Attributes:
        name: as tables show it.
        missing: why it cannot do this; empty if it can.
        results: what it returned, channels last.
    """

    def __init__(
        self, python: str, library: str, variant: str, question: Question, numbers: Path, threads: int
    ) -> None:
        self.name = f"{library.replace('_', '-')} {variant}".strip()
        self.results: list[np.ndarray] = []
        written = numbers.with_name(f"{library}{variant}.npz")
        told = {
            "question": question.as_json(),
            "numbers": str(numbers),
            "results": str(written),
            "variant": variant,
            "threads": str(threads),
        }
        quiet = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
        try:
            self._process = subprocess.Popen([python, str(_WORKER), library], text=True, **quiet)
        except OSError as cause:
            self.missing = f"no {python}: {cause.strerror}"
            return
        answer = self._ask(json.dumps(told), _PATIENCE)
        self.missing = "" if answer == "ready" else answer.removeprefix("missing ") or "its process ended"
        if not self.missing:
            with np.load(written) as found:
                self.results = [found[name] for name in found.files]
            written.unlink()

    def seconds(self) -> float:
        """Do it once more."""
        return float(self._ask(""))

    def _ask(self, line: str, patience: float | None = None) -> str:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(line + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            return ""
        with selectors.DefaultSelector() as selector:
            selector.register(self._process.stdout, selectors.EVENT_READ)
            if not selector.select(patience):
                return f"missing not ready within {patience:g} s"
        return self._process.stdout.readline().strip()

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
