"""The benchmark of sparse recovery runs in its smallest size and writes what it measured."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import krosbl


def test_every_method_is_measured(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert krosbl.main(["--smoke", "--decibel", "20", "--json", str(tmp_path / "found.json")]) == 0
    found = json.loads((tmp_path / "found.json").read_text(encoding="utf-8"))["results"]
    assert [row["method"] for row in found] == list(krosbl.METHODS)
    told = {row["method"]: row["error"] for row in found}
    assert told["least squares, told the places"] == min(told.values())
    assert "| svd_krosbl | 20 |" in capsys.readouterr().out
