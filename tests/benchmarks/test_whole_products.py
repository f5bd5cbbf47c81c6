from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.whole_products import main


def test_smoke(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "rows.json"
    assert main(["--smoke", "--seconds", "0.01", "--json", str(file)]) == 0
    rows = json.loads(file.read_text(encoding="utf-8"))["rows"]
    assert [row["layer"].split()[0] for row in rows] == ["384", "32"]
    assert all(row["error"] < 0.03 for row in rows)
    assert "| 384 to 384 | 1 |" in capsys.readouterr().out
