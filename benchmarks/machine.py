"""The machine: how many threads each library may use, and how fast it multiplies matrices."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np
import torch
from threadpoolctl import threadpool_info, threadpool_limits


def cores() -> int:
    """How many this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Let every library use ``count`` threads: torch with its MKL, and each OpenBLAS, MKL and OpenMP that is loaded.

    One that is loaded later does not know of it: load everything before, and `check` afterwards.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        with threadpool_limits(limits=count):
            check(count)
            yield
    finally:
        torch.set_num_threads(before)


def check(count: int) -> None:
    """Raise RuntimeError if a library that is loaded would use another number of threads."""
    used = [(pool["filepath"], pool["num_threads"]) for pool in threadpool_info()]
    other = [(name, number) for name, number in [*used, ("torch", torch.get_num_threads())] if number != count]
    if other:
        shown = ", ".join(f"{Path(name).name} {number}" for name, number in other)
        raise RuntimeError(f"{count} threads were asked for, but these use others: {shown}")


def gemm_gflops(size: int = 1500, rounds: int = 3) -> float:
    """The best rate of a square product in double precision, of NumPy's and torch's, with the threads as they are."""
    left = np.random.default_rng(0).standard_normal((size, size))
    tensor = torch.from_numpy(left)
    best = float("inf")
    for _ in range(rounds + 1):
        for product in (lambda: left @ left, lambda: tensor @ tensor):
            started = time.perf_counter()
            product()
            best = min(best, time.perf_counter() - started)
    return 2 * size**3 / best / 1e9


def description(count: int) -> dict[str, str | int]:
    """Processor, threads, and versions of what is measured."""
    packages = ("tenfold", "torch", "numpy", "tensorly", "pyttb", "tntorch", "torchTT")
    return {
        "processor": _processor(),
        "threads": count,
        "python": platform.python_version(),
        **{package: _version(package) for package in packages},
    }


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def _version(package: str) -> str:
    if package == "tenfold":
        import tenfold

        return tenfold.__version__
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"
