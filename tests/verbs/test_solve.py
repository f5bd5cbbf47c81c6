"""The verb `solve` and what it returns."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import tenfold as tn
from tenfold.errors import FileError, TenfoldError

PROBLEM: dict[str, Any] = {
    "title": "a <b>sine</b>",
    "domain": {"x": [0, 1]},
    "grid": 60,
    "equation": "u_xx = -900*sin(30*x)",
    "boundary": "sin(30*x)",
    "solution": "sin(30*x)",
}
FLAT: dict[str, Any] = {
    "domain": {"x": [0, 1], "t": [0, 2]},
    "grid": {"x": 20, "t": 16},
    "equation": "u_t + u_x = 0",
    "boundary": "sin(4*x - 4*t)",
}


@pytest.fixture(scope="module")
def solution() -> tn.Solution:
    return tn.solve(PROBLEM, progress=False)


def test_a_solution_is_a_function(solution: tn.Solution) -> None:
    points = [0.1, 0.55, 1.0]
    np.testing.assert_allclose(solution(points), np.sin(30 * np.array(points)), atol=1e-4)
    assert solution.error is not None
    assert solution.error < 1e-4
    assert not solution.doubtful
    flat = tn.solve(FLAT, progress=False)
    assert flat.error is None
    x, t = np.array([0.2, 0.7]), np.array([0.5, 1.0, 1.9])
    np.testing.assert_allclose(flat(x, t), np.sin(4 * x[:, None] - 4 * t), atol=5e-3)


def test_points_that_it_does_not_know(solution: tn.Solution) -> None:
    with pytest.raises(TenfoldError, match="from 0 to 1"):
        solution([1.2])
    with pytest.raises(TenfoldError, match="from 0 to 1"):
        solution([float("nan")])
    with pytest.raises(TenfoldError, match="2 coordinates were given; the solution has 1"):
        solution([0.2], [0.3])
    with pytest.raises(TenfoldError, match="must be numbers"):
        solution(["a"])


def test_saved_and_loaded(solution: tn.Solution, tmp_path: Path) -> None:
    solution.save(tmp_path / "s.npz")
    again = tn.Solution.load(tmp_path / "s.npz")
    points = [0.1, 0.2, 0.77]
    torch.testing.assert_close(again(points), solution(points), rtol=0, atol=0)
    assert again.summary() == solution.summary()
    assert again.steps == solution.steps
    with np.load(tmp_path / "s.npz") as archive:  # by anybody
        np.testing.assert_array_equal(archive["values"], solution.process.values.numpy())
        assert len(archive["x"]) == 60


def test_files_that_hold_no_solution(solution: tn.Solution, tmp_path: Path) -> None:
    with pytest.raises(FileError, match="cannot read"):
        tn.Solution.load(tmp_path / "none.npz")
    np.savez(tmp_path / "other.npz", a=np.zeros(3))
    (tmp_path / "text.npz").write_text("x")
    solution.save(tmp_path / "s.npz")
    whole = (tmp_path / "s.npz").read_bytes()
    (tmp_path / "half.npz").write_bytes(whole[: len(whole) // 2])
    np.savez(tmp_path / "objects.npz", solution=np.array([{}], dtype=object))
    for name in ("other", "text", "half", "objects"):
        with pytest.raises(FileError, match="holds no solution"):
            tn.Solution.load(tmp_path / f"{name}.npz")
    with zipfile.ZipFile(tmp_path / "s.npz") as archive:
        assert "solution.npy" in archive.namelist()


def test_summary_and_table(solution: tn.Solution) -> None:
    assert json.loads(json.dumps(solution.summary()))["error"] == solution.error
    assert "u_xx = -900*sin(30*x)" in str(solution)
    assert "relative L2 error" in str(solution)
    assert "relative L2 error" not in str(tn.solve(FLAT, progress=False))


def test_pages_and_pictures(solution: tn.Solution, tmp_path: Path) -> None:
    solution.report(tmp_path / "one.html", saved="s.npz")
    page = (tmp_path / "one.html").read_text()
    assert "a &lt;b&gt;sine&lt;/b&gt;" in page
    assert "<b>sine" not in page
    assert page.count("<svg") == 4
    assert "http" not in page.replace("http://www.w3.org", "").replace("http-equiv", "")
    flat = tn.solve(FLAT, progress=False)
    flat.report(tmp_path / "two.html")
    page = (tmp_path / "two.html").read_text()
    assert page.count("<svg") == 2  # nothing to be compared with, and a view from near would be of the whole
    assert "From near" not in page
    assert "single periods" not in page
    assert len(solution.plot().axes) == 3
    assert len(flat.plot().axes) == 3  # an image, its bar and the spectrum
    waves = {
        "domain": {"x": [0, 1], "y": [0, 1]},
        "grid": 40,
        "parameters": {"k": 40},
        "equation": "u_xx + u_yy + u = sin(k*x)*cos(k*y)",
        "boundary": 0,
    }
    fine = tn.solve(waves, progress=False)
    fine.report(tmp_path / "three.html")
    assert "From near" in (tmp_path / "three.html").read_text()
    assert len(fine.plot().axes) == 5  # two images have a bar each


def test_adam_reports_its_last_step_and_the_best_apart(tmp_path: Path) -> None:
    found = tn.solve(PROBLEM, method="adam", grid=24, steps=40, checkpoints=4, progress=False)
    assert found.best is not None
    assert found.error == pytest.approx(found.steps[-1].error)
    assert found.summary()["best_error"] == min(step.error for step in found.steps if step.error is not None)
    assert "nothing was chosen by it" in str(found)
    assert found.doubtful
    assert "take more steps" in str(found)
    found.report(tmp_path / "adam.html")
    assert (tmp_path / "adam.html").read_text().count("<svg") == 5


def test_checkpoint_goes_on(tmp_path: Path) -> None:
    place = tmp_path / "state.npz"
    options: dict[str, Any] = {"method": "adam", "grid": 24, "progress": False, "checkpoints": 2, "steps": 20}
    whole = tn.solve(PROBLEM, **options)
    tn.solve(PROBLEM, **options | {"steps": 10, "checkpoints": 1}, checkpoint=place)
    resumed = tn.solve(PROBLEM, **options, checkpoint=place)
    torch.testing.assert_close(resumed.process.values, whole.process.values, rtol=0, atol=0)
    # Nothing is left to do for as many steps.
    again = tn.solve(PROBLEM, **options, checkpoint=place)
    torch.testing.assert_close(again.process.values, whole.process.values, rtol=0, atol=0)
    with pytest.raises(TenfoldError, match="more than steps=5"):
        tn.solve(PROBLEM, **options | {"steps": 5}, checkpoint=place)
    with pytest.raises(TenfoldError, match="another problem"):
        tn.solve(PROBLEM, **options | {"grid": 30}, checkpoint=place)
    place.write_text("x")
    with pytest.raises(FileError, match="no checkpoint"):
        tn.solve(PROBLEM, **options, checkpoint=place)


def test_arguments_that_cannot_be_used() -> None:
    with pytest.raises(TenfoldError, match="no method 'adan' \\(did you mean 'adam'"):
        tn.solve(PROBLEM, method="adan")
    with pytest.raises(TenfoldError, match="'steps' is no argument of solve"):
        tn.solve(PROBLEM, steps=3)
    with pytest.raises(TenfoldError, match="grid must be"):
        tn.solve(PROBLEM, grid="20")  # type: ignore[arg-type]
    with pytest.raises(TenfoldError, match="2 numbers for 1 axes"):
        tn.solve(PROBLEM, grid=[20, 30])
    with pytest.raises(TenfoldError, match="whole number of at least 8"):
        tn.solve(PROBLEM, grid=3)
    with pytest.raises(TenfoldError, match="has no checkpoint"):
        tn.solve(PROBLEM, checkpoint="x.npz")
