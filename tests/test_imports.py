"""`import tenfold` and the command line answer at once: torch is loaded by the first call that computes."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest


def python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)


@pytest.mark.parametrize("module", ["tenfold", "tenfold.errors", "tenfold.cli"])
def test_import_does_not_load_torch(module: str) -> None:
    done = python(f"import sys, {module}; assert 'torch' not in sys.modules, 'torch was imported'")
    assert done.returncode == 0, done.stderr


def test_help_does_not_load_torch() -> None:
    done = python(
        "import sys\n"
        "from tenfold.cli import main\n"
        "sys.argv = ['tenfold', '--help']\n"
        "try:\n"
        "    code = main()\n"
        "except SystemExit as stop:\n"
        "    code = stop.code\n"
        "assert not code, code\n"
        "assert 'torch' not in sys.modules, 'torch was imported'\n"
    )
    assert done.returncode == 0, done.stderr
    assert "fit" in done.stdout


def test_a_question_loads_only_what_answers_it(tmp_path: Path) -> None:
    import numpy as np

    import tenfold as tn

    r = np.random.default_rng(0)
    array = np.where(r.random((12, 9)) < 0.3, np.nan, r.normal(size=(12, 1)) * r.normal(size=9))
    tn.complete(array, "cp", rank=1).save(tmp_path / "x.tn")
    done = python(
        "import sys\n"
        "from tenfold.cli import main\n"
        f"sys.argv = ['tenfold', 'query', {str(tmp_path / 'x.tn')!r}, 'i=1,j=2']\n"
        "try:\n"
        "    code = main()\n"
        "except SystemExit as stop:\n"
        "    code = stop.code\n"
        "assert not code, code\n"
        "needless = {'matplotlib', 'scipy.stats', 'scipy.optimize', 'pandas', 'tenfold.structure_search'}\n"
        "assert not needless & set(sys.modules), needless & set(sys.modules)\n"
    )
    assert done.returncode == 0, done.stderr
    assert "mean" in done.stdout


def test_public_names_are_those_with_a_home() -> None:
    import tenfold

    assert sorted(tenfold.__all__) == sorted([*tenfold._HOME, *tenfold._ROOMS, "__version__"])


def test_unknown_name_is_an_attribute_error() -> None:
    import tenfold

    with pytest.raises(AttributeError, match="'nothing'"):
        _ = tenfold.nothing


@pytest.mark.slow
def test_import_costs_little_beside_torch() -> None:
    def seconds(code: str) -> float:
        start = time.perf_counter()
        done = python(code)
        took = time.perf_counter() - start
        assert done.returncode == 0, done.stderr
        return took

    # Alternating, and the smallest of each: other work on the machine only ever adds time.
    runs = [(seconds("import torch"), seconds("import torch, tenfold")) for _ in range(5)]
    torch_alone, with_tenfold = (min(column) for column in zip(*runs, strict=True))
    assert with_tenfold - torch_alone <= 0.15, f"{with_tenfold:.3f} s against {torch_alone:.3f} s"
