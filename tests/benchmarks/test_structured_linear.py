"""The benchmark of structured layers runs, and its rows say what they are."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.structured_linear import families, main

pytestmark = pytest.mark.usefixtures("tensorly_on_torch")


def test_every_family_has_the_size_that_is_asked_for() -> None:
    for family in families(64):
        layer = family.layer()
        assert (layer.in_features, layer.out_features) == (64, 64)


def test_smoke(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "rows.json"
    assert main(["--smoke", "--threads", "1", "--batches", "2", "--only", "train, rank 2", "--json", str(file)]) == 0
    (row, other) = json.loads(file.read_text(encoding="utf-8"))["rows"]
    for one in (row, other):
        assert one["promise"] > 0
        assert one["share"] == pytest.approx(one["dense"] / one["ours"] / one["promise"])
    assert "| tensor train, rank 2 | 2 | 1 |" in capsys.readouterr().out
