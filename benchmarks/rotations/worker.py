"""One library in its own process: told what to do on standard input, it answers with seconds.

    python worker.py e3nn

The first line is a question, the file of its numbers and the file for the results, and how many threads to use. It is
answered by ``ready``, once the work has been done three times and its results are written, or by ``missing`` and why.
Every further line is answered by the seconds that doing it once more took.
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
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))


def main(library: str) -> int:
    """Serve until the input ends."""
    told = json.loads(sys.stdin.readline())
    os.environ.update(dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), told["threads"]))
    # Libraries that print while they load would be taken for answers.
    talk = sys.stdout
    try:
        with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import numpy as np

            from benchmarks.rotations.questions import Question

            peer = importlib.import_module(f"benchmarks.rotations.peer_{library}")
            question = Question(**told["question"])
            run = peer.prepare(question, dict(np.load(told["numbers"])), told["variant"], int(told["threads"]))
            for _ in range(3):
                results = run()
            np.savez(told["results"], *peer.arrays(question, results))
            del results
    except Exception as cause:  # whatever keeps a library from doing it is the note of its row
        line = str(cause).strip().partition("\n")[0]
        print("missing", f"{type(cause).__name__}: {line}"[:200], file=talk, flush=True)
        return 1
    print("ready", file=talk, flush=True)
    for _ in sys.stdin:
        before = time.perf_counter()
        run()
        print(time.perf_counter() - before, file=talk, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
