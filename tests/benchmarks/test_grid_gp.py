"""The comparison with GPyTorch: both compute the same, and what is told is what was reached."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import pytest

pytest.importorskip("gpytorch")

from benchmarks import grid_gp

pytestmark = pytest.mark.peer


def test_both_have_one_likelihood_and_one_posterior() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made = grid_gp.steps(6, 2, 1)
        found = grid_gp.predictions(5, 2, 1, peer=True)
    ours = float(made["gave"]["tenfold"])
    for name in ("GPyTorch, bare GridKernel, Toeplitz off", "GPyTorch, ScaleKernel(GridKernel)"):
        assert float(made["gave"][name]) == pytest.approx(ours, abs=1e-4)
    for mean, variance in found["largest differences"].values():
        assert mean < 1e-4
        assert variance < 1e-4


def test_the_command_tells_residuals_and_writes_numbers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "numbers.json"
    assert grid_gp.main(["--smoke", "--only", "holes", "--json", str(file)]) == 0
    (numbers,) = json.loads(file.read_text("utf-8"))["numbers"]
    assert numbers["residuals"]["tenfold"] <= grid_gp.TOL
    assert "residual" in capsys.readouterr().out
