"""What an import costs, each in an interpreter of its own."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator

from benchmarks.harness import Case, Contender

TITLE = "Import, in a new interpreter"
STATEMENTS = {
    "import tenfold": "import tenfold",
    "import tenfold, then tenfold.Network (loads torch)": "import tenfold; tenfold.Network",
    "import torch": "import torch",
    "import tensorly (numpy)": "import tensorly",
    "import pyttb": "import pyttb",
    "nothing": "",
}


def cases(smoke: bool) -> Iterator[Case]:
    """`import tenfold` loads torch only once something computes, so that is a row of its own."""
    chosen = dict(list(STATEMENTS.items())[:1]) if smoke else STATEMENTS
    yield Case("", 0, [Contender(name, _interpreter(code)) for name, code in chosen.items()])


def _interpreter(code: str) -> Callable[[], None]:
    def run() -> None:
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(done.stderr.strip().splitlines()[-1])

    return run
