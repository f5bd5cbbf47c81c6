"""The commands complete and query: a table in, answers out, and what they say when something is wrong."""

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

pandas = pytest.importorskip("pandas")

FAST = ("--model", "alternating_minimization", "--rank", "2", "--report", "")


def _table(rows: int = 30, columns: int = 20, seed: int = 0) -> pandas.DataFrame:
    generator = np.random.default_rng(seed)
    truth = generator.normal(size=(rows, 2)) @ generator.normal(size=(2, columns))
    place, number = np.indices(truth.shape).reshape(2, -1)
    table = pandas.DataFrame({"place": [f"P{k}" for k in place], "number": number - 3, "value": truth.ravel()})
    table["precision"] = 1.0
    return table.sample(frac=0.7, random_state=seed)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    _table().to_csv("x.csv", index=False)
    return tmp_path


def run(capfd: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    capfd.readouterr()
    code = _run(list(arguments), debug=False)
    out, err = capfd.readouterr()
    return code, out, err


def complete(capfd: pytest.CaptureFixture[str], *more: str) -> tuple[int, str, str]:
    return run(capfd, "complete", "x.csv", "--modes", "place,number", "--value", "value", *FAST, *more)


def test_a_table_is_completed_and_asked(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    code, out, err = complete(capfd, "--holdout", "0.1", "-o", "x.tn")
    assert (code, err) == (0, "")
    for word in ("RMSE", "MAE", "50 % intervals", "90 % intervals", "wide on average", "held out for a test"):
        assert word in out
    code, out, err = run(capfd, "query", "x.tn", "place=P3,number=-2", "number=5,place=P7")
    assert (code, err) == (0, "")
    assert out.splitlines()[0].split() == ["place", "number", "mean", "std", "5", "%", "50", "%", "95", "%"]
    expected = tn.load("x.tn").mean({"place": ["P3", "P7"], "number": [-2, 5]})
    assert [float(line.split()[2]) for line in out.splitlines()[1:3]] == pytest.approx(expected, rel=1e-4)


def test_rows_without_a_value_are_told_wherever_the_result_is(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    table = _table()
    table.loc[table.index[:13], "value"] = np.nan
    table.to_csv("x.csv", index=False)
    table.to_parquet("x.parquet")
    said = "13 rows without a value left out"
    more = ("--modes", "place,number", "--value", "value", "--model", "alternating_minimization", "--rank", "2")
    code, out, _ = run(capfd, "complete", "x.csv", *more, "-o", "x.tn", "--report", "x.html")
    assert code == 0
    assert said in out
    assert said in Path("x.html").read_text(encoding="utf-8")
    assert said in run(capfd, "show", "x.tn")[1]
    code, out, _ = run(capfd, "complete", "x.parquet", *more, "-o", "x.tn", "--report", "", "--json")
    assert code == 0
    assert json.loads(out)["rows_without_value"] == 13


def test_a_mode_that_is_left_out_runs_over_its_levels(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    complete(capfd, "-o", "x.tn")
    code, out, _ = run(capfd, "query", "x.tn", "place=P3", "--json")
    assert code == 0
    rows = json.loads(out)
    assert [row["number"] for row in rows] == list(range(-3, 17))
    assert rows[0]["5 %"] < rows[0]["mean"] < rows[0]["95 %"]


def test_points_of_a_file_and_answers_to_one(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    complete(capfd, "-o", "x.tn")
    pandas.DataFrame({"number": [0, 1], "place": ["P1", "P2"], "more": [1, 2]}).to_csv("points.csv", index=False)
    for name in ("answers.csv", "answers.parquet"):
        code, _, err = run(
            capfd, "query", "x.tn", "--points", "points.csv", "-o", name, "--quantiles", "0.25,0.75", "--sample", "0"
        )
        assert code == 0
        assert "wrote" in err
        found = pandas.read_csv(name) if name.endswith("csv") else pandas.read_parquet(name)
        assert list(found.columns) == ["place", "number", "mean", "std", "25 %", "75 %"]
        assert found["mean"].to_numpy() == pytest.approx(tn.load("x.tn").mean([["P1", 0], ["P2", 1]]))


@pytest.mark.parametrize("command", [("query", "x.csv", "place=P3"), ("show", "x.csv")])
def test_a_table_that_was_not_completed_cannot_be_asked(
    folder: Path, capfd: pytest.CaptureFixture[str], command: tuple[str, ...]
) -> None:
    code, out, err = run(capfd, *command)
    assert (code, out) == (1, "")
    assert err.startswith("tenfold: error: 'x.csv' holds data, no posterior or network: 'tenfold complete' makes a")
    assert err.count("\n") == 1


def test_draws(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    complete(capfd, "-o", "x.tn")
    code, out, _ = run(capfd, "query", "x.tn", "place=P3,number=1", "--sample", "3", "--json")
    assert code == 0
    assert set(json.loads(out)[0]) == {"place", "number", "sample 1", "sample 2", "sample 3"}


def test_show_and_expand_know_a_posterior(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    complete(capfd, "-o", "x.tn", "--weights", "precision")
    code, out, _ = run(capfd, "show", "x.tn")
    assert code == 0
    assert "alternating_minimization, rank 2" in out
    code, out, _ = run(capfd, "show", "x.tn", "--json")
    assert json.loads(out)["rank"] == 2
    code, _, err = run(capfd, "show", "x.tn", "--cost")
    assert (code, "leave these options out" in err) == (1, True)
    code, _, _ = run(capfd, "expand", "x.tn", "-o", "whole.csv")
    assert code == 0
    assert len(pandas.read_csv("whole.csv")) == 30 * 20


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("query", "x.tn", "plce=P1,number=1"), "did you mean 'place'"),
        (("query", "x.tn", "place=P1,number=99"), "no level '99'"),
        (("query", "x.tn", "place=P1,place=P2"), "gives 'place' twice"),
        (("query", "x.tn", "place=P1,number"), "'number' has no value in the point"),
        (("query", "x.tn"), "give points"),
        (("query", "x.tn", "place=P1\n,number=1"), "line break outside of quotes"),
        (("query", "x.tn", "place=P1", "--quantiles", "half"), "--quantiles takes numbers"),
        (("query", "x.tn", "place=P1", "--quantiles", "2"), "between 0 and 1"),
        (("query", "x.tn", "--points", "nowhere.csv"), "no file 'nowhere.csv'"),
        (("query", "x.tn", "place=P1", "-o", "x.docx"), "is no table"),
        (("query", "x.csv", "place=P1"), "x.csv"),
        (("complete", "x.csv", "--value", "valu"), "did you mean 'value'"),
        (("complete", "x.csv", "--continuous", "nummber"), "did you mean 'number'"),
        (("complete", "x.csv", "--continuous", "place"), "levels are text"),
        (("complete", "x.csv", "--counts"), "counts are whole numbers"),
        (("complete", "x.csv", "--holdout", "2"), "below 1"),
        (("complete", "x.csv", "--weights", "place"), "does not hold numbers|is a mode"),
        (("complete", "x.csv", "--model", "funny"), "model 'funny' is not known"),
        (("complete", "x.csv", "-o", "no/such/x.tn"), "no folder"),
    ],
)
def test_mistakes_are_told_in_one_line(
    folder: Path, capfd: pytest.CaptureFixture[str], arguments: tuple[str, ...], says: str
) -> None:
    import re

    if arguments[0] == "query":
        assert complete(capfd, "-o", "x.tn")[0] == 0
    code, out, err = run(capfd, *arguments)
    assert code in (1, 2)
    assert out == ""
    assert len(err.splitlines()) == 1
    assert re.search(says, err)


def test_an_interrupted_command_goes_on_from_its_checkpoint(folder: Path) -> None:
    generator = np.random.default_rng(0)
    array = generator.normal(size=(400, 8)) @ generator.normal(size=(8, 300))
    array[generator.random(array.shape) < 0.4] = np.nan
    np.save("large.npy", array)
    command = [sys.executable, "-m", "tenfold", "complete", "large.npy", *FAST[:2], "--rank", "8", "--report", ""]
    command += ["--epochs", "100000", "--tol", "0", "--checkpoint", "kept"]
    first = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    until = time.monotonic() + 60
    while not list(Path("kept").glob("*.safetensors")):
        assert first.poll() is None
        assert time.monotonic() < until
        time.sleep(0.1)
    first.send_signal(signal.SIGINT)
    _, err = first.communicate(timeout=60)
    assert first.returncode == 130
    assert "goes on from" in err
    assert list(Path("kept").glob("*.safetensors"))


def test_modes_may_have_any_name(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    table = _table()[["place", "number", "value"]].set_axis(["mean", "a=b, c", "value"], axis=1)
    table["mean"] = [f'{"x" * 5000}"{name}' for name in table["mean"]]
    table.to_csv("named.csv", index=False)
    assert run(capfd, "complete", "named.csv", *FAST, "-o", "x.tn")[0] == 0
    level = f'{"x" * 5000}""P3'
    code, out, _ = run(capfd, "query", "x.tn", f'"mean={level}","a=b, c=5"', "--json")
    assert code == 0
    row = json.loads(out)[0]
    assert row["mean"].endswith('"P3')
    expected = tn.load("x.tn").mean({"mean": level.replace('""', '"'), "a=b, c": 5})
    assert row["predicted mean"] == pytest.approx(expected[0])
    code, out, err = run(capfd, "query", "x.tn", "mean=P3")
    assert (code, out) == (1, "")
    assert "has no level 'P3'" in err
    assert len(err) < 1000
