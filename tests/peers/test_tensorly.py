"""TensorLy's own tests pass on tenfold, but for those that are listed with the reason."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
@pytest.mark.peer
@pytest.mark.parametrize("backend", ["numpy", "pytorch"])
def test_tensorlys_own_tests(backend: str) -> None:
    pytest.importorskip("tensorly")
    script = Path(__file__).with_name("tensorly_tests.py")
    done = subprocess.run(
        [sys.executable, str(script), "--backend", backend], capture_output=True, text=True, timeout=1800, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
