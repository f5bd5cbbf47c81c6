"""The benchmark of products: its numbers, its peers' absence, its table."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.rotations import ours
from benchmarks.rotations.__main__ import main, markdown
from benchmarks.rotations.layout import from_mul_ir, to_mul_ir
from benchmarks.rotations.questions import MODES, Question, filter_scale, gaunt_factor, numbers, sorted_paths
from tenfold.so3 import Irreps, gaunt, relayout


def test_paths_are_sorted_as_irreps_are() -> None:
    irreps = Irreps.harmonics(3)
    found = [path.ir for path in irreps.paths(irreps) if path.ir.l <= 3]
    assert [(ir.l, ir.p) for ir in sorted(found)] == [(l3, (-1) ** (l1 + l2)) for l1, l2, l3 in sorted_paths(3, 3, 3)]


def test_factors_are_those_of_gaunt_integrals() -> None:
    for degrees in ((1, 1, 2), (2, 2, 2), (3, 1, 4)):
        assert gaunt_factor(*degrees) == pytest.approx(float(gaunt(*degrees).norm()), rel=1e-12)
    assert filter_scale(Question("filter", 0), 0) == pytest.approx(4 * np.pi, rel=1e-12)


def test_layouts_are_those_of_irreps() -> None:
    array = np.random.default_rng(0).standard_normal((2, 9, 3)).astype(np.float32)
    flat = to_mul_ir(array, [0, 1, 2])
    expected = relayout(torch.from_numpy(array.reshape(2, -1)), "3x0e+3x1o+3x2e", "ir_mul", "mul_ir")
    assert np.array_equal(flat, expected.numpy())
    assert np.array_equal(from_mul_ir(flat, [0, 1, 2], 3), array)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("work", ["full", "summed", "edges", "filter", "contraction", "harmonics"])
def test_every_work_is_done(work: str, mode: str) -> None:
    edges = 7 if work in ("edges", "filter") else 0
    question = Question(work, 1, channels=2, rows=5, edges=edges, filter_degree=1 if edges else 0, mode=mode)
    given = numbers(question)
    run, results = ours.prepare(question, given)
    assert ours.moved(question, given) > 0
    wanted = 1 if mode == "forward" else sum(name.startswith("input_") for name in given) + (mode == "double")
    assert len(results) == len(run()) == wanted
    assert all(np.isfinite(result).all() for result in results)


def test_peers_that_are_not_there_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "record.json"
    arguments = ["--smoke", "--works", "contraction", "--modes", "forward", "--threads", "1", "--json", str(file)]
    assert main([*arguments, "--peers", str(tmp_path / "nowhere")]) == 0
    table = capsys.readouterr().out
    assert "contraction L=2, 20 x 3, forward" in table
    assert "| mace |" in table
    record = json.loads(file.read_text())
    assert markdown(record) == table
    assert record["cases"][0]["rows"][1]["note"]


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["--smoke", "--device", "cuda"])
    assert caught.value.code == 2
    assert "--device cuda: torch finds no GPU here" in capsys.readouterr().err
