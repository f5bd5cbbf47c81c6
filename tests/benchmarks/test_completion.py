"""The comparison of predictions runs, and both sides predict better than a constant."""

from __future__ import annotations

import json

import pytest


@pytest.mark.peer
def test_both_sides_predict_cells_of_a_small_array(tmp_path, capsys):
    pytest.importorskip("tensorly")
    from benchmarks import completion

    assert (
        completion.main(["--smoke", "--model", "funbat_cp", "--threads", "1", "--json", str(tmp_path / "c.json")]) == 0
    )
    rows = json.loads((tmp_path / "c.json").read_text())["rows"]
    assert [row["who"] for row in rows] == ["tenfold funbat_cp", "TensorLy CP", "TensorLy Tucker"]
    deviation = 0.219  # of the cells for the test, which a constant would be off by
    assert all(row["rmse"] < 0.7 * deviation for row in rows)
    assert len(capsys.readouterr().out.splitlines()) == 3
