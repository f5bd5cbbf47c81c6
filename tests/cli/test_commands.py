"""The commands as the documentation shows them, and what an interrupt leaves behind."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import tenfold as tn
from tenfold import __version__
from tenfold.cli.app import _run
from tenfold.io import read, write

ARRAY = np.add.outer(np.add.outer(np.arange(6.0), np.arange(5.0) ** 2), np.arange(4.0))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(capfd: pytest.CaptureFixture[str], *arguments: str) -> tuple[str, str]:
    """Standard output and error of a command that succeeds."""
    capfd.readouterr()
    code = _run(list(arguments), debug=False)
    out, err = capfd.readouterr()
    assert code == 0, err
    return out, err


def error_of(array: np.ndarray, expanded: np.ndarray) -> float:
    return float(np.linalg.norm(array - expanded) / np.linalg.norm(array))


def picture(side: int = 48) -> np.ndarray:
    return np.ascontiguousarray(read("sample:astronaut").array()[100 : 100 + side, 200 : 200 + side])


# --- fit --------------------------------------------------------------------------------------------------------------


def test_fit_a_picture_to_an_error(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    write(picture(), "photo.png")
    out, err = run(capfd, "fit", "photo.png", "--error", "0.1")
    assert err == ""
    assert out.endswith("\nwrote fit.tn, report.html\n")
    assert "photo.png: 48 x 48 x 3 uint8" in out
    assert {p.name for p in folder.iterdir()} == {"photo.png", "fit.tn", "report.html"}
    run(capfd, "expand", "fit.tn", "-o", "back.npy")
    true = error_of(picture().astype(float), np.load("back.npy"))
    assert true <= 0.1
    assert float(out.split("relative error")[1].split()[0]) == pytest.approx(true, abs=1e-7)
    page = Path("report.html").read_text(encoding="utf-8")
    assert "photo.png" in page
    assert "http://" not in page.replace("http://www.w3.org", "")


@pytest.mark.parametrize(("option", "value"), [("--parameters", "900"), ("--ratio", "7.5")])
def test_fit_a_picture_to_a_size(option: str, value: str, folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    write(picture(), "photo.png")
    out, _ = run(capfd, "fit", "photo.png", option, value, "--json", "--report", "")
    result = json.loads(out)
    assert result["parameters"] <= (900 if option == "--parameters" else 48 * 48 * 3 / 7.5)
    assert result["stopped"] == "budget"
    assert result["shape"] == [48, 48, 3]
    assert result["dims"] == ["y", "x", "channel"]
    assert result["source"] == "photo.png"
    assert tn.load("fit.tn").parameters == result["parameters"]


def test_fit_a_grid_with_a_pattern(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    xarray = pytest.importorskip("xarray")
    labels = {"x": np.arange(6) * 0.1, "t": np.datetime64("2020-01-01", "ns") + np.arange(5) * np.timedelta64(1, "D")}
    grid = xarray.Dataset({"wind": (("x", "t", "y"), ARRAY), "rain": (("x",), np.ones(6))}, coords=labels)
    grid.to_netcdf("grid.nc")
    pattern = "x a, a t b, b y -> x t y"
    arguments = ("--variable", "wind", "--structure", pattern, "--size", "a=2", "--size", "b=2", "--report", "")
    out, _ = run(capfd, "fit", "grid.nc", *arguments)
    assert "tensor train" in out
    assert pattern in out
    fit = tn.load("fit.tn")
    assert fit.dims == ("x", "t", "y")
    assert fit.error < 1e-10
    run(capfd, "expand", "fit.tn", "-o", "back.nc")
    back = read("back.nc").load()
    assert back.dims == ("x", "t", "y")
    assert error_of(ARRAY, back.values) < 1e-10
    assert np.array_equal(back.coordinates["t"].astype("M8[ns]"), labels["t"])
    assert np.array_equal(back.coordinates["x"], labels["x"])


def test_fit_a_format_and_method(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    np.save("x.npy", ARRAY)
    arguments = ("--structure", "tucker", "--ranks", "2,2,2", "--method", "hooi", "--max-sweeps", "5", "--tol", "1e-3")
    run(capfd, "fit", "x.npy", *arguments, "--report", "", "-o", "t.tn", "--dtype", "float32", "--seed", "3", "-q")
    fit = tn.load("t.tn")
    assert fit.method == "hooi"
    assert fit.seed == 3
    assert str(fit.network.dtype) == "torch.float32"
    assert fit.error < 1e-3


def test_fit_a_table_with_missing_rows(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(0)
    rows = ["user,item,day,stars,note"]
    u, v, w = rng.random(9) + 0.5, rng.random(8) + 0.5, rng.random(7) + 0.5
    for a, b, c in np.ndindex(9, 8, 7):
        if rng.random() < 0.7:
            rows.append(f"u{a},{b},{c},{u[a] * v[b] * w[c]:.6f},x")
    Path("x.csv").write_text("\n".join(rows))
    out, _ = run(
        capfd, "fit", "x.csv", "--value", "stars", "--modes", "user, item,day", "--error", "0.01", "--report", ""
    )
    assert f"{len(rows) - 1} of 504 cells" in out
    assert "held-out error" in out
    fit = tn.load("fit.tn")
    truth = np.einsum("i,j,k->ijk", u, v, w)
    assert error_of(truth, fit.network.dense().numpy()) < 0.01
    assert fit.coordinates["user"].tolist() == [f"u{n}" for n in range(9)]


def test_fit_counts_of_a_table_whose_other_cells_are_zero(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    rows = [f"{a},{b},{c},{1 + a}" for a, b, c in np.ndindex(4, 5, 3) if b < 2] + ["0,4,0,1", "0,4,0,1"]
    Path("x.csv").write_text("\n".join(["a,b,c,n", *rows]))
    options = ["--structure", "cp", "--ranks", "2", "--method", "cp_poisson", "--report", ""]
    out, _ = run(capfd, "fit", "x.csv", "--rest", "zero", "--duplicates", "sum", *options)
    assert "cp_poisson" in out
    assert "observed" not in out
    truth = np.zeros((4, 3, 3))
    truth[:, :2] = np.arange(1, 5)[:, None, None]
    truth[0, 2, 0] = 2
    fitted = tn.load("fit.tn").network.dense().numpy()
    np.testing.assert_allclose(fitted.sum(), truth.sum(), rtol=1e-6)  # as at every maximum of the likelihood
    assert error_of(truth, fitted) < 0.05


def test_nan_in_a_file_are_missing_cells(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    holes = np.outer(np.arange(1.0, 9), np.arange(1.0, 8))
    holes[2, 3] = np.nan
    np.save("x.npy", holes)
    out, _ = run(capfd, "fit", "x.npy", "--error", "0.01", "--report", "")
    assert "55 of 56 cells" in out
    assert tn.load("fit.tn").network.dense()[2, 3] == pytest.approx(12, rel=0.02)


def test_fit_from_standard_input_to_standard_output(
    folder: Path, capfdbinary: pytest.CaptureFixture[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    buffer = io.BytesIO()
    np.save(buffer, ARRAY)
    buffer.seek(0)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(buffer))
    assert _run(["fit", "-", "-o", "-", "--report", "", "--error", "0.01"], debug=False) == 0
    out, err = capfdbinary.readouterr()
    assert b"relative error" in err
    assert b"wrote" not in err
    Path("x.tn").write_bytes(out)
    assert tn.load("x.tn").error <= 0.01
    assert [p.name for p in folder.iterdir()] == ["x.tn"]
    assert _run(["expand", "x.tn", "-o", "-"], debug=False) == 0
    back = np.load(io.BytesIO(capfdbinary.readouterr().out))
    assert error_of(ARRAY, back) <= 0.01


def test_show_and_expand_from_standard_input(
    folder: Path, capfdbinary: pytest.CaptureFixture[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    tn.fit(ARRAY, error=0.01).save("x.tn")
    for given, arguments in ((b"x", ["show", "-"]), (Path("x.tn").read_bytes()[:-1], ["expand", "-", "-o", "y.npy"])):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(given)))
        assert _run(arguments, debug=False) == 1
        err = capfdbinary.readouterr().err
        assert err.startswith(b"tenfold: error: standard input is truncated or is no tenfold file")
        assert err.count(b"\n") == 1
    for arguments in (["show", "-"], ["expand", "-", "-o", "y.npy"]):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(Path("x.tn").read_bytes())))
        assert _run(arguments, debug=False) == 0
    assert b"relative error" in capfdbinary.readouterr().out
    assert error_of(ARRAY, np.load("y.npy")) <= 0.01


def test_an_error_out_of_reach_is_a_warning(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    np.save("x.npy", np.random.default_rng(0).standard_normal((6, 5, 4)))
    out, err = run(capfd, "fit", "x.npy", "--structure", "cp", "--ranks", "2", "--error", "0.01", "--report", "")
    assert err.startswith("tenfold: warning: the error is ")
    assert err.endswith("needs larger ranks\n")
    assert len(err.splitlines()) == 1
    assert "relative error" in out


def test_odd_file_names(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    name, output = "数 \n\x1b[1m\udcff.npy", "出 力\n.tn"
    np.save(folder / name, ARRAY)
    out, err = run(capfd, "fit", name, "-o", output, "--error", "0.1")
    assert "\x1b" not in out + err
    assert tn.load(output).source == name.replace("\udcff", "\\udcff")
    assert name not in Path("report.html").read_text(encoding="utf-8")
    assert "\x1b" not in run(capfd, "show", output)[0]


# --- ranks ------------------------------------------------------------------------------------------------------------


def test_ranks_prints_a_table_a_picture_and_json(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(0)
    array = np.einsum("ir,jr,kr->ijk", *(rng.random((n, 2)) for n in (9, 8, 7)))
    write(array + 0.02 * rng.normal(size=array.shape), "data.npy")
    out, err = run(capfd, "ranks", "data.npy", "--ranks", "1-3", "--starts", "3", "--plot", "ranks.png")
    assert err == ""
    assert out.splitlines()[0].split() == [
        "rank",
        "error",
        "stability",
        "core",
        "consistency",
        "held",
        "out",
        "BIC",
        "seconds",
    ]
    assert out.splitlines()[2].startswith("*     2")
    assert (folder / "ranks.png").read_bytes().startswith(b"\x89PNG")
    out, _ = run(capfd, "ranks", "data.npy", "--ranks", "2", "--starts", "2", "--criterion", "bic", "--json")
    assert json.loads(out)["chosen"] == 2


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--ranks", "a-b"], "--ranks takes whole numbers, as 1-8 or 1,2,4, not 'a-b'"),
        (["--ranks", "0-3"], "at most 1000 numbers of at least 1, ascending"),
        (["--ranks", "5-3"], "at most 1000 numbers of at least 1, ascending"),
        (["--ranks", "1-1000000"], "at most 1000 numbers"),
        (["--criterion", "aic"], "criterion must be one of stability"),
        (["--starts", "1"], "starts must be a whole number of at least 2"),
        (["--plot", "ranks.txt"], "is no picture"),
        (["--plot", "nowhere/ranks.png"], "nowhere"),
    ],
)
def test_ranks_refuses_in_one_line(
    folder: Path, capfd: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    write(ARRAY, "data.npy")
    assert _run(["ranks", "data.npy", *arguments], debug=False) == 1
    out, err = capfd.readouterr()
    assert out == ""
    assert said in err
    assert err.count("\n") == 1


# --- show, expand, formats --------------------------------------------------------------------------------------------


def test_show(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    fit = tn.fit(ARRAY + np.random.default_rng(0).random(ARRAY.shape), error=0.05, source="x.npy", dims=["x", "y", "t"])
    fit.save("fit.tn")
    plain, _ = run(capfd, "show", "fit.tn")
    assert str(fit) in plain
    for core in fit.structure.cores:
        assert core.name in plain
    front, _ = run(capfd, "show", "fit.tn", "--front")
    assert all(trial.name in front for trial in fit.front)
    assert len([line for line in front.splitlines() if line.startswith("*")]) == 1
    cost, _ = run(capfd, "show", "fit.tn", "--cost")
    assert "peak memory" in cost
    assert json.loads(run(capfd, "show", "fit.tn", "--json")[0]) == json.loads(json.dumps(fit.summary()))
    run(capfd, "show", "fit.tn", "--report", "again.html")
    assert "x.npy" in Path("again.html").read_text(encoding="utf-8")


def test_show_a_network_without_a_record(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    network = tn.Network.random(tn.formats.cp((4, 3, 2), 2))
    network.save("n.tn")
    assert "Network(cp: " in run(capfd, "show", "n.tn")[0]
    assert json.loads(run(capfd, "show", "n.tn", "--json")[0])["shape"] == [4, 3, 2]
    run(capfd, "expand", "n.tn", "-o", "n.npy")
    assert np.allclose(np.load("n.npy"), network.dense().numpy())


def test_expand_a_picture_as_it_was(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    write(picture(), "photo.png")
    run(capfd, "fit", "photo.png", "--error", "0.02", "--report", "", "-q")
    _, err = run(capfd, "expand", "fit.tn", "-o", "back.png")
    assert err == "wrote back.png: 48 x 48 x 3\n"
    back = read("back.png").array()
    assert back.dtype == np.uint8
    assert error_of(picture().astype(float), back.astype(float)) < 0.025
    run(capfd, "expand", "fit.tn", "-o", "back.npy", "--dtype", "uint8")
    assert np.array_equal(np.load("back.npy"), back)


@pytest.mark.parametrize("suffix", [".npz", ".h5", ".zarr", ".tiff", ".csv", ".parquet", ".safetensors"])
def test_expand_to_every_format(suffix: str, folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    tn.fit(ARRAY, error=1e-9).save("fit.tn")
    run(capfd, "expand", "fit.tn", "-o", f"back{suffix}")
    held = read(f"back{suffix}").load()
    assert held.shape == ARRAY.shape
    if isinstance(held.values, np.ndarray):
        assert error_of(ARRAY, held.values) < 1e-9


def test_formats_and_papers_list_what_there_is(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "120")  # tables keep to the terminal
    out, _ = run(capfd, "formats")
    for word in ("tensor_train", "i a, a j b, b k c, c l -> i j k l", ".npy", "sample:astronaut", "512 x 512 x 3"):
        assert word in out
    out, _ = run(capfd, "papers")
    assert "cp_als" in out


@pytest.mark.parametrize("command", ["fit", "ranks", "show", "expand", "formats", "claims", "papers"])
def test_every_command_has_help(command: str, capfd: pytest.CaptureFixture[str]) -> None:
    out, err = run(capfd, command, "--help")
    assert f"Usage: tenfold {command}" in out
    assert err == ""


def test_no_arguments_print_the_help(capfd: pytest.CaptureFixture[str]) -> None:
    out, _ = run(capfd)
    assert "Usage: tenfold" in out
    assert all(command in out for command in ("fit", "show", "expand"))


# --- processes --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["fit", "--help"]])
def test_help_and_version_do_not_import_torch(arguments: list[str]) -> None:
    command = [sys.executable, "-X", "importtime", "-m", "tenfold", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    imported = {line.rsplit("|", 1)[-1].strip().split(".")[0] for line in done.stderr.splitlines()}
    assert "typer" in imported
    assert not imported & {"torch", "numpy", "scipy", "matplotlib", "xarray", "opt_einsum"}
    if arguments == ["--version"]:
        assert done.stdout == f"tenfold {__version__}\n"


def interrupted(arguments: list[str], ready: str, folder: Path) -> tuple[int, str, str]:
    """Exit code, output and errors of a command that gets SIGINT once a module tells that it is ready."""
    script = folder / "start.py"
    script.write_text(ready + "\nfrom tenfold.cli import main\nmain(sys.argv[1:])\n")
    process = subprocess.Popen(
        [sys.executable, str(script), *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=folder
    )
    deadline = time.monotonic() + 60
    while not (folder / "now").exists():
        assert process.poll() is None, process.stderr.read() if process.stderr else ""
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    return process.returncode, out, err


@pytest.mark.parametrize(
    ("module", "entry"),
    [
        ("typer", "from tenfold.cli import main; main()"),
        ("numpy.linalg", "import runpy; runpy.run_module('tenfold', run_name='__main__')"),
        pytest.param("torch.nn", "from tenfold.cli import main; main()", marks=pytest.mark.slow),
        pytest.param("scipy.linalg", "from tenfold.cli import main; main()", marks=pytest.mark.slow),
    ],
)
def test_an_interrupt_while_modules_are_loaded_ends_in_one_line(folder: Path, module: str, entry: str) -> None:
    np.save("x.npy", np.ones((4, 4)))
    Path("start.py").write_text(
        "import os, signal, sys\n"
        "class Finder:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        f"        if name == {module!r}:\n"
        "            os.kill(os.getpid(), signal.SIGINT)\n"
        "sys.meta_path.insert(0, Finder())\n"
        "sys.argv = ['tenfold', 'fit', 'x.npy']\n"
        f"{entry}\n"
    )
    done = subprocess.run([sys.executable, "start.py"], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (130, "")
    assert done.stderr == "tenfold: error: interrupted before there was anything to keep; nothing was written\n"
    assert not Path("fit.tn").exists()


def test_an_interrupt_keeps_the_best_so_far(folder: Path) -> None:
    np.save("x.npy", np.random.default_rng(0).standard_normal((40, 40, 40)))
    told = """
import sys, pathlib
from tenfold.decomposition import als
import tenfold.decomposition._iterate
import tenfold.verbs._progress as progress
shown = progress.Bar.sweep
def sweep(self, method, number, total, error):
    shown(self, method, number, total, error)
    if number == 2:
        pathlib.Path("now").touch()
progress.Bar.sweep = sweep
"""
    arguments = ["--structure", "cp", "--ranks", "30", "--method", "als", "--max-sweeps", "1000000", "--tol", "0"]
    code, out, err = interrupted(["fit", "x.npy", "--report", "", *arguments], told, folder)
    assert code == 130
    assert err == "tenfold: interrupted: the best that was found so far is in 'fit.tn'\n"
    assert "interrupted; this is the best until then" in out
    fit = tn.load("fit.tn")
    assert fit.interrupted
    assert fit.error == pytest.approx(error_of(np.load("x.npy"), fit.network.dense().numpy()), abs=1e-9)
    assert fit.error < 1
    assert {p.name for p in folder.iterdir()} == {"x.npy", "start.py", "now", "fit.tn"}


def test_an_interrupt_before_anything_is_found_writes_nothing(folder: Path) -> None:
    np.save("x.npy", ARRAY)
    told = """
import sys, pathlib, time
import tenfold.structure_search.ladder as ladder
def forever(*_, **__):
    pathlib.Path("now").touch()
    time.sleep(60)
ladder._dense_rungs = forever
"""
    code, out, err = interrupted(["fit", "x.npy"], told, folder)
    assert code == 130
    assert err == "tenfold: error: interrupted before there was anything to keep; nothing was written\n"
    assert out == ""
    assert {p.name for p in folder.iterdir()} == {"x.npy", "start.py", "now"}


def test_an_interrupt_while_the_page_is_written_keeps_the_network(
    folder: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    np.save("x.npy", ARRAY)

    def report(self: tn.Fit, path: str, *, saved: str | None) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(10)

    monkeypatch.setattr(tn.Fit, "report", report)
    assert _run(["fit", "x.npy", "--error", "0.1"], debug=False) == 130
    err = capfd.readouterr().err
    assert err == "tenfold: interrupted: the network is in 'fit.tn', not everything else was written\n"
    assert tn.load("fit.tn").error <= 0.1
    assert not Path("report.html").exists()
