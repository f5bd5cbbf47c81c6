"""The benchmark of scaling runs, and writes what it printed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import layer_scaling


@pytest.mark.slow
def test_exponents_are_printed_and_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "scaling.json"
    assert layer_scaling.main(["--smoke", "--json", str(file)]) == 0
    found = json.loads(file.read_text())
    assert set(found["tasks"]) == {"teacher", "pixels"}
    said = capsys.readouterr().out
    for task, families in found["tasks"].items():
        for name, each in families.items():
            assert f"{task:8} {name:10} exponent {each['exponent']:.3f}" in said
            assert each["products"] == sorted(each["products"])
            assert all(0 < error < 2 for error in each["errors"])
