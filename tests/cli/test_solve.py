"""``tenfold solve``, as people type it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import tenfold as tn
from tenfold.cli.app import main

TEXT = """
domain: {x: [0, 1]}
grid: 60
equation: u_xx = -900*sin(30*x)
boundary: sin(30*x)
solution: sin(30*x)
"""


def run(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as exit_:
        main(words)
    said = capsys.readouterr()
    return int(exit_.value.code or 0), said.out, said.err


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "problem.yaml").write_text(TEXT)
    return tmp_path


def test_a_file_becomes_a_solution_and_a_page(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capsys, "solve", "problem.yaml", "-o", "out.npz", "--report", "page.html", "--plot", "p.png")
    assert (code, err) == (0, "")
    assert "relative L2 error" in out
    assert "wrote out.npz, page.html, p.png" in out
    solution = tn.Solution.load(folder / "out.npz")
    assert solution.error is not None
    assert solution.error < 1e-4
    assert "problem.yaml" in (folder / "page.html").read_text()
    assert (folder / "p.png").stat().st_size > 1000


def test_as_json_with_another_grid_and_method(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ("--method", "adam", "--option", "steps=5", "--grid", "30", "--json", "--report", "")
    code, out, _ = run(capsys, "solve", "problem.yaml", *words)
    assert code == 0
    told = json.loads(out)
    assert told["grid"] == [30]
    assert told["method"] == "adam"
    assert told["best_step"] == 5
    assert not (folder / "solution.html").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("none.yaml",), "cannot read 'none.yaml'"),
        (("sample:poisson",), "there is no sample problem 'poisson'"),
        (("sample:poisson_sin100", "--grid", "50"), "too coarse"),
        (("problem.yaml", "--grid", "a"), "--grid takes whole numbers"),
        (("problem.yaml", "--method", "newton"), "no method 'newton'"),
        (("problem.yaml", "--option", "width=3"), "'width' is no argument of solve"),
        (("problem.yaml", "--option", "peaks=many"), "option peaks must be a whole number"),
        (("problem.yaml", "-o", "problem.yaml"), "names the data"),
        (("bad.yaml",), "has no 'eqation' (did you mean 'equation'?)"),
        (("evil.yaml",), "no arithmetic"),
    ],
)
def test_errors_are_one_line(
    folder: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], said: str
) -> None:
    (folder / "bad.yaml").write_text(TEXT.replace("equation", "eqation"))
    (folder / "evil.yaml").write_text(TEXT.replace("boundary: ", "boundary: ().__class__ + "))
    code, out, err = run(capsys, "solve", *words)
    assert code == 1
    assert out == ""
    assert said in err
    assert err.count("\n") == 1
    assert not (folder / "solution.npz").exists()


def test_interrupted_writes_what_there_is(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from tenfold.verbs._progress import Bar

    def stop(bar: Bar, what: str, step: int, total: int, residual: float) -> None:
        if step == 8:
            raise KeyboardInterrupt

    monkeypatch.setattr(Bar, "residual", stop)
    words = ("--method", "adam", "--option", "steps=20", "--checkpoint", "state.npz", "-q")
    code, _, err = run(capsys, "solve", "problem.yaml", *words)
    assert code == 130
    assert "what there was until then is in 'solution.npz'; the same command goes on from 'state.npz'" in err
    assert tn.Solution.load(folder / "solution.npz").interrupted
    assert (folder / "state.npz").exists()
