"""What Ctrl-C does while modules are being loaded, which do not stand being stopped halfway.

An import that ends in a ``KeyboardInterrupt`` leaves broken modules behind, and libraries catch it and go on without
what they wanted. This is loaded before everything else, so it loads little itself.
"""

from __future__ import annotations

import _thread
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType

EXIT_INTERRUPTED = 130
NOTHING_KEPT = "interrupted before there was anything to keep; nothing was written"

# Seconds between two looks at whether imports are done, and after which an import is not waited for any more: what
# is imported may be the user's own file, that does more than define things.
_PAUSE = 0.02
_PATIENCE = 5.0


@contextmanager
def interrupts() -> Iterator[None]:
    """In the block, Ctrl-C ends the process at once until torch is loaded, and waits for imports from then on.

    No command has anything to keep without torch. Nothing changes where interrupts are ignored, or are not ours.
    """
    if (
        threading.current_thread() is not threading.main_thread()
        or signal.getsignal(signal.SIGINT) is not signal.default_int_handler
    ):
        yield
        return
    since: list[float] = []

    def interrupted(number: int, frame: FrameType | None) -> None:
        if not _is_loaded("torch"):
            _end()
        if _is_importing(frame):
            since.append(time.monotonic())
            if since[-1] - since[0] < _PATIENCE:
                later = threading.Timer(_PAUSE, _thread.interrupt_main)
                later.daemon = True
                later.start()
                return
        since.clear()
        raise KeyboardInterrupt

    signal.signal(signal.SIGINT, interrupted)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _is_loaded(name: str) -> bool:
    module = sys.modules.get(name)
    return module is not None and not getattr(module.__spec__, "_initializing", False)


def _is_importing(frame: FrameType | None) -> bool:
    while frame is not None:
        if frame.f_code.co_filename == "<frozen importlib._bootstrap>":
            return True
        frame = frame.f_back
    return False


def _end() -> None:
    """Leave without running anything else; a spinner has hidden the cursor of a terminal."""
    with suppress(OSError):
        shown = b"\r\x1b[2K\x1b[?25h" if os.isatty(2) else b""
        os.write(2, shown + f"tenfold: error: {NOTHING_KEPT}\n".encode())
    os._exit(EXIT_INTERRUPTED)
