"""The command search: what it prints and writes, and what it says when something is wrong."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import tenfold as tn
from tenfold.cli.app import _run
from tenfold.network import Network
from tenfold.structure_search.spaces import Point, Ring

PLANTED = Ring((3, 3, 3, 3)).structure(Point((2, 2, 2, 2), (0, 2, 1, 3)))
FAST = ("--method", "random_search", "--max-rank", "2", "--evaluations", "64", "--error", "0.001")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    np.save("x.npy", Network.random(PLANTED, seed=1).dense().numpy())
    return tmp_path


def run(capfd: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    capfd.readouterr()
    code = _run(list(arguments), debug=False)
    out, err = capfd.readouterr()
    return code, out, err


def test_a_structure_is_found_and_written(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capfd, "search", "x.npy", *FAST, "-o", "found.tn", "--report", "page.html", "--plot", "s.png")
    assert (code, err) == (0, "")
    assert "as papers count them" in out
    assert out.endswith("\nwrote found.tn, page.html, s.png\n")
    assert {path.name for path in folder.iterdir()} == {"x.npy", "found.tn", "page.html", "s.png"}
    assert "tenfold show found.tn\n" in (folder / "page.html").read_text()
    fit = tn.load("found.tn")
    assert isinstance(fit, tn.Fit)
    assert fit.structure.key == PLANTED.key
    code, out, _ = run(capfd, "show", "found.tn")
    assert code == 0
    assert "tensor_ring" in out
    code, _, _ = run(capfd, "expand", "found.tn", "-o", "back.npy")
    assert code == 0
    np.testing.assert_allclose(np.load("back.npy"), np.load("x.npy"), atol=1e-3 * np.linalg.norm(np.load("x.npy")))


def test_json_holds_the_numbers(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capfd, "search", "x.npy", *FAST, "--json", "--report", "", "--journal", "j")
    assert (code, err) == (0, "")
    said = json.loads(out)
    assert said["counted"] == 64
    assert said["parameters"] == 48
    assert said["journal"] == "j"
    assert len((folder / "j" / "journal.jsonl").read_text().splitlines()) == said["fits"]
    # The same command has nothing left to do, and says the same.
    again = json.loads(run(capfd, "search", "x.npy", *FAST, "--json", "--report", "", "--journal", "j")[1])
    again["seconds"] = said["seconds"]
    assert again == said


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("nothing.npy",), "nothing.npy"),
        (("x.npy", "--space", "circle"), "space 'circle' is not known; there are any, ring"),
        (("x.npy", "--method", "best"), "searcher 'best' is not known; there are"),
        (("x.npy", "--fold", "3,a"), "--fold takes 'no', a whole number, or the pieces of each axis"),
        (("x.npy", "--fold", "3,3"), "fold must say the pieces of each of the 4 axes"),
        (("x.npy", "--error", "2"), "error must be a relative error"),
        (("x.npy", "--ratio", "2", "--weight", "3"), "ratio and weight are given"),
        (("x.npy", "--evaluations", "0"), "evaluations must be a whole number of at least 1, not 0"),
        (("x.npy", "--workers", "0"), "workers must be a whole number of at least 1, not 0"),
        (("x.npy", "--workers", "100000", "--journal", "j"), "workers must be at most "),
        (("x.npy", "--option", "radius"), "--option takes a name and a value"),
        (("x.npy", "--option", "seconds=3"), "which has an option of its own: --seconds"),
        (("x.npy", "--option", "foo=3", "--method", "random_search"), "'foo' is no argument of search"),
        (("x.npy", "--report", "page.txt"), "is no page"),
        (("x.npy", "-o", "x.npy"), "--output names the data"),
        (("x.npy", "--journal", "x.npy", "--evaluations", "3"), "cannot be used for the search"),
    ],
)
def test_bad_input_is_told_in_one_line(
    arguments: tuple[str, ...], message: str, folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    code, out, err = run(capfd, "search", *arguments)
    assert (code, out) == (1, "")
    assert err.startswith("tenfold: error: ")
    assert message in err
    assert err.count("\n") == 1
    assert {path.name for path in folder.iterdir()} == {"x.npy"}


def test_the_folder_of_another_search_is_refused(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert run(capfd, "search", "x.npy", *FAST, "-q", "--report", "", "--journal", "j")[0] == 0
    before = {path: path.stat().st_mtime_ns for path in (folder / "j").rglob("*")}
    code, _, err = run(capfd, "search", "x.npy", *FAST, "--seed", "1", "--journal", "j")
    assert code == 1
    assert "'j' holds a search with seed 0, not 1; give another folder, or ask the same" in err
    assert {path: path.stat().st_mtime_ns for path in (folder / "j").rglob("*")} == before


def test_a_time_limit_of_its_own_is_said(
    folder: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tenfold.verbs.search.DEFAULT_SECONDS", 0.3)
    code, out, err = run(capfd, "search", "x.npy", "--method", "random_search", "--report", "")
    assert code == 0
    assert "neither evaluations nor seconds are given: the search ends after 0.3 s" in err
    assert "the time was used up" in out


def test_an_interrupt_keeps_what_was_found_and_the_command_goes_on(folder: Path) -> None:
    command = [sys.executable, "-m", "tenfold", "search", "x.npy", "--method", "random_search", "--error", "0.001"]
    command += ["--max-rank", "3", "--journal", "j", "--report", ""]
    command += ["--seconds", "100", "-q"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    lines = folder / "j" / "journal.jsonl"
    limit = time.monotonic() + 90
    while not (lines.exists() and lines.stat().st_size) and time.monotonic() < limit:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=90)
    assert process.returncode == 130, err
    assert err == (
        "tenfold: interrupted: the best that was found so far is in 'found.tn'; the same command goes on from 'j'\n"
    )
    assert isinstance(tn.load("found.tn"), tn.Fit)
    first = lines.read_text().splitlines()
    ends = [*command, "--evaluations", str(json.loads(first[-1])["counted"])]
    again = subprocess.run(ends, capture_output=True, text=True, check=False)
    assert again.returncode == 0, again.stderr
    assert lines.read_text().splitlines()[: len(first)] == first
