"""The benchmark of products: its numbers, its peers' absence, its table."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.resident import growth
from benchmarks.rotations import ours, report
from benchmarks.rotations.__main__ import main
from benchmarks.rotations.layout import from_mul_ir, to_mul_ir
from benchmarks.rotations.process import Peer
from benchmarks.rotations.questions import MODES, Question, filter_scale, gaunt_factor, numbers, sorted_paths
from benchmarks.rotations.report import markdown
from tenfold.so3 import Irreps, gaunt, relayout

ROOT = Path(__file__).parents[2]


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


@pytest.mark.parametrize("mode", [m if m == "backward" else pytest.param(m, marks=pytest.mark.slow) for m in MODES])
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
    arguments += ["--peers", str(tmp_path / "nowhere")]
    assert main(arguments) == 0
    table = capsys.readouterr().out
    assert "`SymmetricContraction`, 20 × 3 channels." in table
    record = json.loads(file.read_text())
    assert markdown(record) == table
    assert record["cases"][0]["rows"][1]["name"] == "mace"
    assert record["cases"][0]["rows"][1]["note"]
    assert {point["axis"] for point in record["growth"]} == {"channels", "rows"}
    if Path("/proc/self/clear_refs").exists():
        assert record["cases"][0]["rows"][0]["memory"] >= 0

    # What is there stays; what is not is measured.
    record["growth"].pop()
    record["cases"][0]["rows"][0]["seconds"] = 12.5
    file.write_text(json.dumps(record))
    assert main([*arguments, "--continue"]) == 0
    out, said = capsys.readouterr()
    assert "12.5 s" in out
    assert said.splitlines() == ["contraction L=2, 10 x 4, forward, growing rows"]

    record["machine"]["processor"] = "another"
    file.write_text(json.dumps(record))
    with pytest.raises(SystemExit):
        main([*arguments, "--continue"])
    assert "another machine" in capsys.readouterr().err


@pytest.mark.peer
def test_a_peer_answers_question_after_question_in_one_process(tmp_path: Path) -> None:
    pytest.importorskip("e3nn")
    with Peer(sys.executable, "e3nn", "", 1, patience=120) as peer:
        for mode in MODES:
            question = Question("harmonics", 1, channels=1, rows=5, mode=mode)
            given = numbers(question)
            np.savez(tmp_path / "numbers.npz", **given)
            peer.ask(question, tmp_path / "numbers.npz")
            peer.answer()
            assert peer.missing == ""
            _, results = ours.prepare(question, given)
            for one, other in zip(peer.results, results, strict=True):
                assert np.allclose(one, other, atol=1e-5)
            assert peer.seconds() > 0
        peer.ask(Question("contraction", 1, rows=5), tmp_path / "numbers.npz")
        peer.answer()
        assert "contraction" in peer.missing or "KeyError" in peer.missing
        assert not peer.late


@pytest.mark.peer
def test_what_is_not_ready_in_time_is_asked_no_more(tmp_path: Path) -> None:
    pytest.importorskip("e3nn")
    question = Question("harmonics", 1, channels=1, rows=5)
    np.savez(tmp_path / "numbers.npz", **numbers(question))
    with Peer(sys.executable, "e3nn", "", 1, patience=0.0) as peer:
        peer.ask(question, tmp_path / "numbers.npz")
        peer.answer()
        assert (peer.missing, peer.late) == ("not ready within 0 s", True)


def test_memory_is_what_the_work_takes() -> None:
    if not Path("/proc/self/clear_refs").exists():
        pytest.skip("peaks are reset on Linux only")
    taken = growth(lambda: np.ones(2**24))
    assert taken is not None
    assert 120 < taken < 160


def test_exponents_are_those_of_powers() -> None:
    assert report.exponent([1, 2, 4], [3.0, 24.0, 192.0]) == pytest.approx(3)
    with pytest.raises(ValueError, match="two sizes"):
        report.exponent([2], [1.0])


def test_tables_show_ratios_notes_memory_and_growth() -> None:
    question = Question("full", 2).as_json()
    rows = [
        {"name": "tenfold", "seconds": 0.002, "fastest": 0.001, "memory": 3.0, "note": ""},
        {"name": "e3nn", "seconds": 0.02, "fastest": 0.01, "memory": 40.0, "ratio": 10.4, "note": ""},
        {"name": "e3nn-jax", "note": "ValueError: no."},
        {"name": "cuequivariance", "seconds": 0.001, "ratio": 0.5, "note": ""},
    ]
    points = [
        {"axis": "rows", "question": {**question, "rows": rows}, "seconds": rows / 1e5, "memory": 1.0}
        for rows in (100, 400)
    ]
    text = markdown(
        {
            "machine": {"processor": "Abacus", "threads": 2, "e3nn": "0.6.0", "torch": "not installed"},
            "bandwidth": 1e10,
            "cases": [{"question": question, "label": "", "bytes": 10**7, "rows": rows}],
            "growth": points,
        }
    )
    assert "Abacus, 2 threads, single precision; e3nn 0.6.0. A copy moves 10 GB/s." in text
    assert "| degrees to | | tenfold | e3nn | e3nn-jax | cuequivariance |" in text
    assert "| 2 | forward | 2.0 ms (2.0) | 10 | – [1] | **0.5** |" in text
    assert "[1] ValueError: no." in text
    assert "| `ClebschGordan`, degree 2 | forward | 3.0 | 40 |  |  |" in text
    assert "| `ClebschGordan` | forward | batch | 100: 1.0 ms, 400: 4.0 ms | 1.00 |" in text


def test_the_documentation_shows_the_measured_numbers(tmp_path: Path) -> None:
    file, page = ROOT / "benchmarks" / "results" / "rotations.json", ROOT / "docs" / "products.md"
    text = page.read_text(encoding="utf-8")
    assert report.put(markdown(json.loads(file.read_text(encoding="utf-8"))), text) == text
    copy = tmp_path / "page.md"
    copy.write_text(text.replace("A copy moves", "A copy moved"), encoding="utf-8")
    assert main(["--table", str(file), "--into", str(copy)]) == 0
    assert copy.read_text(encoding="utf-8") == text
    with pytest.raises(ValueError, match="no '<!-- measured: begin -->'"):
        report.put("text", "a page")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["--smoke", "--device", "cuda"])
    assert caught.value.code == 2
    assert "--device cuda: torch finds no GPU here" in capsys.readouterr().err
