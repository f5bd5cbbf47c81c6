"""One library in its own process: told what to do on standard input, it answers with seconds.

    python worker.py e3nn

A line that is not empty is a question, the file of its numbers, the file for the results, and how many threads to use.
It is answered by ``ready`` and the MB that the work takes, once it has been done three times and its results are
written, or by ``missing`` and why. An empty line is answered by the seconds that the last question takes once more,
when it has just been done.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import json
import os
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))


def main(library: str) -> int:
    """Serve until the input ends."""
    # Libraries that print while they load would be taken for answers.
    talk = sys.stdout
    run: Callable[[], Any] | None = None
    for line in sys.stdin:
        if line.strip():
            run = None
            try:
                with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    run, taken = _prepared(library, json.loads(line))
                print("ready", taken, file=talk, flush=True)
            except Exception as cause:  # whatever keeps a library from doing it is the note of its row
                said = str(cause).strip().partition("\n")[0]
                print("missing", f"{type(cause).__name__}: {said}"[:200], file=talk, flush=True)
        elif run is not None:
            run()  # as it is for us: threads are awake, and what others left in the caches is gone
            before = time.perf_counter()
            run()
            print(time.perf_counter() - before, file=talk, flush=True)
    return 0


def _prepared(library: str, told: dict[str, Any]) -> tuple[Callable[[], Any], str]:
    os.environ.update(dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), told["threads"]))
    import numpy as np

    from benchmarks.resident import growth
    from benchmarks.rotations.questions import Question

    peer = importlib.import_module(f"benchmarks.rotations.peer_{library}")
    question = Question(**told["question"])
    run = peer.prepare(question, dict(np.load(told["numbers"])), told["variant"], int(told["threads"]))
    for _ in range(3):
        results = run()
    np.savez(told["results"], *peer.arrays(question, results))
    del results
    taken = growth(run)
    return run, "" if taken is None else f"{taken:.2f}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
