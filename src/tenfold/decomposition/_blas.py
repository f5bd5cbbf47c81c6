"""Which BLAS multiplies: NumPy's or torch's, whichever is faster here for the thin factors of decompositions."""

from __future__ import annotations

import json
import os
import platform
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Shaped
from platformdirs import user_cache_path
from torch import Tensor

from tenfold._threads import blas_threads
from tenfold.errors import TenfoldError

PROVIDERS = ("numpy", "torch")
_VARIABLE = "TENFOLD_BLAS"
# The products that decide: a matrix of this shape with so many thin columns, from both of its sides.
_ROWS, _COLUMNS, _THIN = 128, 4096, 16
_REAL = {
    torch.float32: torch.float32,
    torch.float64: torch.float64,
    torch.complex64: torch.float32,
    torch.complex128: torch.float64,
}


@dataclass(frozen=True)
class Blas:
    """Which BLAS the decompositions multiply with on the CPU.

    Attributes:
        provider: ``"numpy"`` or ``"torch"``.
        why: ``"measured"``, ``"measured before"`` (kept in the user's cache directory) or the variable that says so.
        dtype: the numbers it is the choice for.
        threads: how many threads it runs with; those of torch, which NumPy's BLAS is given too.
        seconds: for each provider, what two thin products took; empty where nothing was measured.
    """

    provider: str
    why: str
    dtype: str
    threads: int
    seconds: dict[str, float]

    def __str__(self) -> str:
        took = ", ".join(f"{name} {1e3 * seconds:.2f} ms" for name, seconds in self.seconds.items())
        return f"BLAS of {self.provider} for {self.dtype}, threads: {self.threads} ({self.why}{took and ': ' + took})"


def blas(dtype: torch.dtype = torch.float64) -> Blas:
    """The BLAS that decompositions of such numbers use on the CPU.

    It is measured once for each processor, number of threads and version of the two libraries, which takes some
    milliseconds, and kept in the user's cache directory. The environment variable ``TENFOLD_BLAS`` says otherwise:
    ``numpy`` or ``torch``, or ``auto`` for the faster one. Data on other devices, and whatever needs gradients, stays
    with torch.

    Raises:
        TenfoldError: the variable has another value, or there is no BLAS for ``dtype``.
    """
    if dtype not in _REAL:
        raise TenfoldError(f"dtype {dtype} has no BLAS; float32, float64, complex64 and complex128 have")
    real = _REAL[dtype]
    name, threads = str(real).removeprefix("torch."), torch.get_num_threads()
    wanted = os.environ.get(_VARIABLE, "auto") or "auto"
    if wanted in PROVIDERS:
        return Blas(wanted, f"{_VARIABLE}={wanted}", name, threads, {})
    if wanted != "auto":
        raise TenfoldError(f"{_VARIABLE} is '{wanted}'; it can be auto, {' or '.join(PROVIDERS)}")
    return _chosen(real, name, threads)


def product(left: Shaped[Tensor, "m k"], right: Shaped[Tensor, "k n"]) -> Shaped[Tensor, "m n"]:
    """``left @ right``, on the CPU through the BLAS that `blas` names unless it has to be differentiated.

    NumPy takes both without a copy, and sees when ``right`` is the transpose of ``left``: half the work.
    """
    graded = torch.is_grad_enabled() and (left.requires_grad or right.requires_grad)
    if graded or not uses_numpy(left) or left.is_complex():
        return left @ right
    with blas_threads(torch.get_num_threads()):
        return torch.from_numpy(left.detach().numpy() @ right.detach().numpy())


def uses_numpy(tensor: Tensor) -> bool:
    """Whether products with a tensor go through NumPy."""
    return tensor.device.type == "cpu" and tensor.dtype in _REAL and blas(tensor.dtype).provider == "numpy"


@cache
def _chosen(dtype: torch.dtype, name: str, threads: int) -> Blas:
    file = user_cache_path("tenfold") / "blas.json"
    key = f"{_processor()}, {name}, threads {threads}, numpy {np.__version__}, torch {torch.__version__}"
    known = _read(file)
    seconds, why = known.get(key), "measured before"
    if seconds is None:
        seconds, why = _measured(dtype), "measured"
        _write(file, {**known, key: seconds})
    return Blas(min(PROVIDERS, key=seconds.__getitem__), why, name, threads, seconds)


def _measured(dtype: torch.dtype) -> dict[str, float]:
    """The better of two tries for each; the first also wakes the threads."""
    matrix = torch.ones(_ROWS, _COLUMNS, dtype=dtype)
    short, long = torch.ones(_THIN, _ROWS, dtype=dtype), torch.ones(_THIN, _COLUMNS, dtype=dtype)
    arrays = matrix.numpy(), short.numpy(), long.numpy()

    def by_numpy() -> None:
        arrays[1] @ arrays[0]
        arrays[2] @ arrays[0].T

    def by_torch() -> None:
        short @ matrix
        long @ matrix.T

    with torch.no_grad(), blas_threads(torch.get_num_threads()):
        return {name: _time(work) for name, work in (("numpy", by_numpy), ("torch", by_torch))}


def _time(work: Callable[[], None]) -> float:
    times = []
    for _ in range(2):
        started = time.perf_counter()
        work()
        times.append(time.perf_counter() - started)
    return min(times)


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.is_file():
        first = info.read_text(encoding="utf-8", errors="replace").split("\n\n")[0]
        pairs = (line.split(":", 1) for line in first.splitlines() if ":" in line)
        fields = {name.strip(): value.strip() for name, value in pairs}
        told = [fields[name] for name in ("model name", "cpu family", "model", "stepping") if name in fields]
        if told:
            return " ".join(told)
    return platform.processor() or platform.machine()


def _read(file: Path) -> dict[str, dict[str, float]]:
    """What was measured before; a file that is missing or not ours counts as empty."""
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
        return {
            str(key): {name: float(value[name]) for name in PROVIDERS}
            for key, value in found.items()
            if isinstance(value, dict) and set(value) == set(PROVIDERS)
        }
    except (OSError, ValueError, TypeError, AttributeError):
        return {}


def _write(file: Path, known: dict[str, dict[str, float]]) -> None:
    """Replace the file in one step; where it cannot be written the next process measures again."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=file.parent, suffix=".json", delete=False, encoding="utf-8") as part:
            json.dump(known, part, indent=1)
        os.replace(part.name, file)
    except OSError:
        pass
