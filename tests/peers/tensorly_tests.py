"""TensorLy's own tests of its decompositions, run on `tenfold.compat.tensorly`.

Run it as ``python tests/peers/tensorly_tests.py``.

The tests are those inside the installed TensorLy. Before they are imported, the functions and classes that tenfold has
take the places of TensorLy's in the modules that define them; everything else in the tests stays TensorLy's. A test
that uses none of them is not run. Prints a table and ends with status 1 if a test fails that is not in ``EXPECTED``,
or if one passes that is (but for those in ``SOMETIMES``).
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import inspect
import io
import json
import os
import pkgutil
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import pytest

BACKENDS = ("numpy", "pytorch")
FILES = (
    "test_cp",
    "test_tucker",
    "test_tt_decomposition",
    "test_tr_svd",
    "test_tr_als",
    "test_parafac2",
    "test_constrained_parafac",
)
# Tests that fail, by the beginning of their names, and why what tenfold does is right.
_PENALTY = (
    "refused: with nothing that bounds the other factors a penalty's weight means nothing, because the scale of the "
    "penalised factor can go elsewhere for free; the message names cp_ao_admm, which takes it with a bound"
)
EXPECTED: dict[str, str] = {
    "test_constrained_parafac_l1": _PENALTY,
    "test_constrained_parafac_l2": _PENALTY,
    "test_constrained_parafac_squared_l2": _PENALTY,
    "test_constrained_parafac_group_lasso": _PENALTY,
    "test_constrained_parafac_smoothness": _PENALTY,
    "test_constrained_parafac_normalize": "refused: factors over their own largest entry are no set to project on",
    "test_constrained_parafac_normalized_sparsity": "refused: sparse factors of norm one in all modes cannot fit data "
    "of any norm",
}
# The same for tests that draw their data without a seed, and so may pass as well.
SOMETIMES: dict[str, str] = {
    "test_constrained_parafac_hard_sparsity": "at most five entries are asked for; the test wants exactly five, which "
    "a factor with fewer useful ones does not have",
}


@dataclass(eq=False)
class Plugin:
    """Leaves out tests that do not touch tenfold, and keeps what became of the others."""

    replaced: dict[str, Any]
    outcomes: dict[str, str] = field(default_factory=dict)
    messages: dict[str, str] = field(default_factory=dict)
    foreign: Counter[str] = field(default_factory=Counter)

    def pytest_collection_modifyitems(self, items: list[pytest.Function]) -> None:
        kept = []
        for item in items:
            parameters = getattr(item, "callspec", None)
            used = {*item.function.__code__.co_names, *(name for name in _closure(item.function))}
            given = [] if parameters is None else list(parameters.params.values())
            if used & set(self.replaced) or any(value in self.replaced.values() for value in given if callable(value)):
                kept.append(item)
            else:
                self.foreign[item.module.__name__.rsplit(".", 1)[1]] += 1
        items[:] = kept

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        name = report.nodeid.rsplit("/", 1)[-1]
        if report.when == "call" or report.failed:
            self.outcomes[name] = report.outcome
            if report.failed:
                crash = getattr(report.longrepr, "reprcrash", None)
                self.messages[name] = str(report.longrepr if crash is None else crash.message).strip().splitlines()[0]


def _closure(function: Any) -> list[str]:
    """Names that functions of the test's own module use which the test calls: helpers in the same file."""
    names: list[str] = []
    for name in function.__code__.co_names:
        helper = function.__globals__.get(name)
        if inspect.isfunction(helper) and helper.__module__ == function.__module__:
            names.extend(helper.__code__.co_names)
    return names


def replace() -> dict[str, Any]:
    """Put tenfold's functions and classes where TensorLy defines its own; returns them by name."""
    from tenfold.compat import tensorly as ours

    peer = importlib.import_module("tensorly.decomposition")
    mine = {
        name: value
        for name, value in vars(ours).items()
        if not name.startswith("_") and getattr(value, "__module__", "") == ours.__name__
    }
    replaced = {}
    for found in pkgutil.iter_modules(peer.__path__):
        if found.ispkg:
            continue
        module = importlib.import_module(f"{peer.__name__}.{found.name}")
        for name, value in mine.items():
            if getattr(getattr(module, name, None), "__module__", "") == module.__name__:
                setattr(module, name, value)
                setattr(peer, name, value)
                replaced[name] = value
    return replaced


def run(backend: str, only: str = "") -> dict[str, Any]:
    """All tests with one backend, in this process, which TensorLy has not been imported in."""
    os.environ["TENSORLY_BACKEND"] = backend
    plugin = Plugin(replace())
    arguments = [f"tensorly.decomposition.tests.{name}" for name in FILES]
    root = os.path.dirname(importlib.import_module("tensorly").__file__ or "")
    options = [
        "-q",
        "--rootdir",
        root,
        "--pyargs",
        "-p",
        "no:cacheprovider",
        "-p",
        "no:xdist",
        "-c",
        os.devnull,
        "--import-mode=prepend",
    ]
    with contextlib.redirect_stdout(io.StringIO()):
        status = pytest.main([*options, *(["-k", only] if only else []), *arguments], plugins=[plugin])
    if status not in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED):
        raise RuntimeError(f"pytest ended with {status}")
    return {"outcomes": plugin.outcomes, "messages": plugin.messages, "foreign": plugin.foreign}


def reason(test: str) -> str | None:
    """Why a test is expected to fail, or None."""
    name = test.split("::", 1)[1]
    return next((why for beginning, why in {**EXPECTED, **SOMETIMES}.items() if name.startswith(beginning)), None)


def main(arguments: list[str] | None = None) -> int:
    """Run and print; returns the exit status."""
    parser = argparse.ArgumentParser(description="Run TensorLy's tests on tenfold.compat.tensorly.")
    parser.add_argument("--backend", choices=BACKENDS, help="one of TensorLy's; both, if left out")
    parser.add_argument("--only", default="", metavar="EXPRESSION", help="tests that pytest's -k would choose")
    parser.add_argument("--json", action="store_true", help=argparse.SUPPRESS)
    chosen = parser.parse_args(arguments)
    if chosen.json:
        print(json.dumps(run(chosen.backend, chosen.only)))
        return 0
    wrong = 0
    for backend in [chosen.backend] if chosen.backend else BACKENDS:
        command = [sys.executable, __file__, "--backend", backend, "--only", chosen.only, "--json"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            print(done.stderr, file=sys.stderr)
            return 1
        found = json.loads(done.stdout.strip().splitlines()[-1])
        wrong += _table(backend, found)
    return 1 if wrong else 0


def _table(backend: str, found: dict[str, Any]) -> int:
    """Print what one backend gave; returns how many tests did not do as expected."""
    print(f"{backend:26} passed  expected to fail  failed  skipped  not ours")
    wrong = []
    for file in FILES:
        mine = {test: outcome for test, outcome in found["outcomes"].items() if test.startswith(f"{file}.py")}
        failed = [test for test, outcome in mine.items() if outcome == "failed"]
        surprising = [test for test in failed if reason(test) is None]
        wrong += [f"{test}: {found['messages'].get(test, '')}" for test in surprising]
        wrong += [
            f"{test}: passes, but is expected to fail"
            for test in mine
            if mine[test] == "passed" and reason(test) in EXPECTED.values()
        ]
        counts = Counter(mine.values())
        print(
            f"{file:26} {counts['passed']:6} {len(failed) - len(surprising):17} {len(surprising):7} "
            f"{counts['skipped']:8} {found['foreign'].get(file, 0):9}"
        )
    for line in wrong:
        print(f"  {line}")
    print()
    return len(wrong)


if __name__ == "__main__":
    sys.exit(main())
