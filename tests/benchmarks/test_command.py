"""The command: small runs, threads that are kept to, JSON and the page made from it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from threadpoolctl import threadpool_info

from benchmarks import data, machine, peers, report
from benchmarks.__main__ import main
from benchmarks.tasks import tasks
from tenfold import formats

ROOT = Path(__file__).parent.parent.parent
RESULTS = ROOT / "benchmarks" / "results"


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "benchmarks", *arguments],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), *sys.path])},
    )


@pytest.mark.slow  # `make test` runs this command itself
@pytest.mark.peer
def test_smoke_runs_every_task_and_agrees_with_peers(tmp_path: Path) -> None:
    file = tmp_path / "out" / "numbers.json"
    done = run("--smoke", "--threads", "1", "--json", str(file))
    assert done.returncode == 0, done.stderr
    found = json.loads(file.read_text(encoding="utf-8"))
    assert set(found["tasks"]) == set(tasks())
    assert found["machine"]["threads"] == 1
    assert done.stdout == report.markdown(found)
    for name in ("tucker", "cp", "tensor_train"):
        (outcome,) = found["tasks"][name]["outcomes"]
        assert outcome["rounds"] == 2
        # Peers that are no dependency of the benchmarks may be absent.
        rows = [row for row in outcome["rows"] if not row["name"].startswith(("tntorch", "torchTT"))]
        assert [row["note"] for row in rows] == [""] * len(rows)
        assert all(row["ratio"] > 0 for row in rows)


def test_only_one_task() -> None:
    done = run("--smoke", "--only", "import_time")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("### ") == 1
    assert "import tenfold" in done.stdout


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="peaks are reset on Linux only")
def test_memory_is_measured_in_processes_of_their_own() -> None:
    done = run("--smoke", "--memory", "--only", "tucker", "--threads", "1")
    assert done.returncode == 0, done.stderr
    lines = [line for line in done.stdout.splitlines() if line.startswith("| ")]
    assert lines[1].startswith("| 20^3, ranks 4 | tenfold tree_svd | ")
    assert " MB |" in lines[1]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [(["--only", "nothing"], "nothing"), (["--threads", "0"], "--threads 0"), (["--rounds", "0"], "--rounds 0")],
)
def test_wrong_arguments(arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["--smoke", *arguments])
    assert stopped.value.code == 2
    assert said in capsys.readouterr().err.splitlines()[-1]


def test_threads_are_those_asked_for_and_put_back() -> None:
    before = torch.get_num_threads(), [pool["num_threads"] for pool in threadpool_info()]
    with machine.threads(1):
        assert torch.get_num_threads() == 1
        assert {pool["num_threads"] for pool in threadpool_info()} == {1}
    assert (torch.get_num_threads(), [pool["num_threads"] for pool in threadpool_info()]) == before


def test_a_library_with_other_threads_is_found() -> None:
    with machine.threads(1):
        machine.check(1)
        torch.set_num_threads(2)
        with pytest.raises(RuntimeError, match=r"1 threads were asked for, but these use others: .*torch 2"):
            machine.check(1)


def test_absent_peer_is_a_row_that_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyttb", None)
    (row,) = peers.pyttb("hosvd", torch.ones(2, 2, dtype=torch.float64), lambda ttb, x: x, np.asarray)
    assert row.missing == "cannot import pyttb: ModuleNotFoundError"
    for package, peer in (("tntorch", peers.tntorch), ("torchtt", peers.torchtt)):
        monkeypatch.setitem(sys.modules, package, None)
        (row,) = peer("Tensor", torch.ones(2, 2, dtype=torch.float64), lambda module, x: x)
        assert row.missing == f"cannot import {package}: ModuleNotFoundError"


def test_planted_data_has_the_noise_it_says() -> None:
    tensor, network = data.planted(formats.cp((6, 7, 8), 2))
    dense = network.dense()
    assert float((tensor - dense).norm() / dense.norm()) == pytest.approx(data.NOISE)
    near = data.nearby(network, distance=0.5)
    for mine, other in zip(network.cores, near.cores, strict=True):
        assert float((mine - other).norm() / mine.norm()) == pytest.approx(0.5)


def test_a_page_shows_times_ratios_refusals_and_growth() -> None:
    def rows(seconds: float) -> list[dict]:
        own = {"name": "own", "seconds": seconds, "fastest": seconds, "ratio": 1.0, "error": 0.1, "note": ""}
        peer = {**own, "name": "peer", "ratio": None, "error": 0.2, "note": "no ratio: error 0.2 against 0.1"}
        return [own, peer]

    outcomes = [
        {"label": f"size {n}", "entries": n, "rounds": 3, "rows": rows(n / 100), "gflops": 20.0} for n in (10, 1000)
    ]
    text = report.markdown(
        {
            "machine": {"processor": "Abacus", "threads": 2, "python": "3.11"},
            "gemm_gflops": 80.0,
            "tasks": {"t": {"title": "A task", "outcomes": outcomes}},
        }
    )
    assert "Abacus, 2 threads; python 3.11. A product of large matrices runs at 80 Gflop/s." in text
    assert "| size 10 | own | 100.0 ms | 100.0 ms | 1.00 | 0.10000 | 25% of the rate of a product |" in text
    assert "|  | peer | 10.00 s | 10.00 s |  | 0.20000 | no ratio: error 0.2 against 0.1 |" in text
    assert "own 1.00, peer 1.00." in text


def test_the_documentation_shows_the_measured_numbers() -> None:
    file = RESULTS / "two_core_cpu.json"
    page = (ROOT / "docs" / "benchmarks.md").read_text(encoding="utf-8")
    assert report.markdown(json.loads(file.read_text(encoding="utf-8"))) in page
