"""The benchmark of structured convolutions runs, and its peers have the same ranks."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.structured_conv import families, main, peers

pytestmark = pytest.mark.usefixtures("tensorly_on_torch")


def test_peers_have_as_many_numbers() -> None:
    for family in families(16):
        for other in peers(family, 16).values():
            count = sum(p.numel() for name, p in other.named_parameters() if name != "bias")
            # TensorLy-Torch's CP has a weight for each rank besides, its Tucker a 3 x 3 factor for each axis of space.
            more = {"C": int(family.name.split()[-1]), "T": 18, "t": 0}[family.name[0]]
            assert count in (family.structure.parameters, family.structure.parameters + more)


def test_smoke(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "rows.json"
    assert main(["--smoke", "--threads", "1", "--batches", "2", "--only", "rank 4", "--json", str(file)]) == 0
    rows = json.loads(file.read_text(encoding="utf-8"))["rows"]
    assert [row["family"] for row in rows] == ["Tucker-2, rank 4", "tensor train, rank 4"]
    for one in rows:
        assert one["promise"] > 1
        assert one["share"] == pytest.approx(one["dense"] / one["ours"] / one["promise"])
    assert "| Tucker-2, rank 4 | 2 | 1 |" in capsys.readouterr().out
