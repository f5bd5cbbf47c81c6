"""How much memory a process takes for a piece of work, beyond what it held before."""

from __future__ import annotations

import ctypes
import gc
from collections.abc import Callable
from pathlib import Path
from typing import Any

_STATUS, _RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def growth(run: Callable[[], Any]) -> float | None:
    """The peak of the resident memory while it runs, in MB above what was resident before; None except on Linux."""
    gc.collect()
    try:
        # What was freed goes back, so that it counts when it is taken again.
        ctypes.CDLL("libc.so.6").malloc_trim(0)
        # 5 sets the peak of the resident memory to what it is now.
        _RESET.write_text("5", encoding="ascii")
        before = kilobytes("VmRSS")
    except OSError:
        return None
    run()
    return max(kilobytes("VmHWM") - before, 0) / 1024


def kilobytes(field: str) -> int:
    """A line of the status that Linux keeps of this process."""
    for line in _STATUS.read_text(encoding="utf-8").splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1])
    raise OSError(f"{_STATUS} has no {field}")
