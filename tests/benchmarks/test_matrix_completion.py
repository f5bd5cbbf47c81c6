"""The benchmark of matrix completion: each library completes the matrix, and the table says so."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.matrix_completion import SMALL, main, measured, planted


@pytest.mark.peer
def test_all_of_them_complete_the_matrix() -> None:
    found = measured(SMALL["60 × 60, rank 2, 50 % known"], 1, 300)
    assert list(found) == ["tenfold", "tensorly, svd", "tensorly, random"]
    assert found["tenfold"]["hidden error"] < 0.06
    assert min(one["hidden error"] for one in found.values()) < 0.06
    assert all(one["seconds"] > 0 for one in found.values())


def test_what_is_planted() -> None:
    matrix, noisy, known = planted(80, 3, 0.4, 0.1)
    assert float(matrix.square().mean()) == pytest.approx(1, rel=0.3)
    assert float((noisy - matrix).std()) == pytest.approx(0.1, rel=0.05)
    assert float(known.double().mean()) == pytest.approx(0.4, abs=0.03)


@pytest.mark.peer
def test_the_command(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["--smoke", "--rounds", "1", "--sweeps", "50", "--json", str(tmp_path / "found.json")]) == 0
    assert "| 60 × 60, rank 2, 50 % known |" in capsys.readouterr().out
    assert "results" in json.loads((tmp_path / "found.json").read_text(encoding="utf-8"))
