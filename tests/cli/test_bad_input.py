"""Whatever is wrong with the input, the command line says it in one line and leaves the files as they were."""

from __future__ import annotations

import errno
import io
import json
import os
import struct
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.sparse
import torch
from PIL import Image
from safetensors.torch import save_file

import tenfold as tn
from tenfold.cli.app import _run
from tenfold.io import write

ARRAY = np.random.default_rng(0).standard_normal((6, 5, 4))
KEPT = ("fit.tn", "report.html")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Good files, to be spoilt in copies."""
    folder = tmp_path_factory.mktemp("store")
    np.save(folder / "x.npy", ARRAY)
    np.savez(folder / "x.npz", a=ARRAY, b=ARRAY[0])
    write((ARRAY[..., :3] * 20 + 99).clip(0, 255).astype(np.uint8), folder / "x.png")
    for suffix in ("nc", "h5", "parquet", "csv", "safetensors", "tiff"):
        write(ARRAY, folder / f"x.{suffix}")
    tn.fit(ARRAY, error=0.5).save(folder / "x.tn")
    tn.Network.random(tn.formats.cp((3, 3, 2, 2, 2), 2)).save(folder / "five.tn")
    tn.Network.random(tn.formats.cp((3, 3), 2), dtype=torch.complex64).save(folder / "complex.tn")
    vast = tn.Structure("i r, j r, k r -> i j k", i=40_000, j=40_000, k=40_000, r=1)
    tn.Network(vast, [torch.ones(40_000, 1)] * 3).save(folder / "vast.tn")
    return folder


@pytest.fixture
def folder(tmp_path: Path, store: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder to work in, with results of before, and a folder for temporary files that must be empty afterwards."""
    place, temporary = tmp_path / "work", tmp_path / "temporary"
    place.mkdir()
    temporary.mkdir()
    for name in KEPT:
        (place / name).write_text("of before")
    monkeypatch.chdir(place)
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    yield place
    assert list(temporary.iterdir()) == [], "temporary files were left"


def complaint(arguments: list[str], capfd: pytest.CaptureFixture[str]) -> tuple[int, str]:
    """Exit code and the one line on standard error; everything that holds for every failure is checked here."""
    before = snapshot()
    capfd.readouterr()
    code = _run(arguments, debug=False)
    out, err = capfd.readouterr()
    assert code != 0
    assert "Traceback" not in err + out
    assert err.endswith("\n"), repr(err)
    assert len(err.splitlines()) == 1, err
    assert err.startswith("tenfold: error: "), err
    assert len(err) < 2000
    assert out == ""
    assert snapshot() == before, "files were changed, made or left"
    return code, err


def snapshot() -> dict[str, bytes | None]:
    return {str(p): p.read_bytes() if p.is_file() else None for p in sorted(Path().rglob("*"))}


def cut(source: Path, target: Path, part: float = 0.6) -> None:
    content = source.read_bytes()
    target.write_bytes(content[: max(1, int(part * len(content)))])


class Trap:
    """Pickled, it would make a folder when it is loaded."""

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.mkdir, ("sprung",)


def header(shape: tuple[int, ...]) -> bytes:
    out = io.BytesIO()
    np.lib.format.write_array_header_1_0(out, {"descr": "<f8", "fortran_order": False, "shape": shape})
    return out.getvalue()


# --- data that cannot be read -----------------------------------------------------------------------------------------

# What is put into the folder under the name of the first argument, and a part of what must be said.
Maker = Callable[[Path, Path], Any]
SOURCES: dict[str, tuple[str, Maker, str]] = {
    "missing file": ("gone.npy", lambda p, s: None, "there is no file 'gone.npy'"),
    "missing file nearly there": ("fit.tm", lambda p, s: None, "did you mean 'fit.tn'?"),
    "missing folder": ("no/where/x.npy", lambda p, s: None, "there is no folder 'no/where'"),
    "folder": ("d", lambda p, s: p.mkdir(), "is a directory"),
    "folder with a suffix": ("d.npy", lambda p, s: p.mkdir(), "is a directory, not"),
    "no suffix": ("bare", lambda p, s: p.write_text("?"), "without a suffix"),
    "unknown suffix": ("x.xyz", lambda p, s: p.write_text("?"), "the suffix '.xyz' is not known; known are"),
    "a network, not an array": (
        "x.tn",
        lambda p, s: cut(s / "x.tn", p, 1),
        "is a fit already, not data",
    ),
    "named pipe": ("pipe.npy", lambda p, s: os.mkfifo(p), "not a regular file"),
    "empty file": ("x.npy", lambda p, s: p.touch(), "is empty"),
    "text as png": ("x.png", lambda p, s: p.write_text("hello\n" * 9), "x.png"),
    "text as npy": ("x.npy", lambda p, s: p.write_text("hello\n" * 9), "x.npy"),
    "text as nc": ("x.nc", lambda p, s: p.write_text("hello\n" * 9), "x.nc"),
    "bytes as csv": ("x.csv", lambda p, s: p.write_bytes(bytes(range(256))), "x.csv"),
    "png as npy": ("x.npy", lambda p, s: cut(s / "x.png", p, 1), "x.npy"),
    **{
        f"truncated {kind}": (f"x.{kind}", lambda p, s, kind=kind: cut(s / f"x.{kind}", p, 0.4), f"x.{kind}")
        for kind in ("npy", "npz", "png", "nc", "h5", "parquet", "safetensors", "tiff")
    },
    "pickled npy": ("x.npy", lambda p, s: np.save(p, np.array([Trap()], object), allow_pickle=True), "never loaded"),
    "pickled npz": ("x.npz", lambda p, s: np.savez(p, a=np.array([Trap()], object)), "never loaded"),
    "absurd npy header": ("x.npy", lambda p, s: p.write_bytes(header((10**6,) * 3) + b"\0" * 64), "the file has 64"),
    "empty array": ("x.npy", lambda p, s: np.save(p, np.zeros(0)), "empty array"),
    "mode of size 0": ("x.npy", lambda p, s: np.save(p, np.zeros((3, 0, 2))), "empty array of shape (3, 0, 2)"),
    "single number": ("x.npy", lambda p, s: np.save(p, np.array(3.0)), "a single number"),
    "strings": ("x.npy", lambda p, s: np.save(p, np.array(["a", "b"])), "strings"),
    "records": ("x.npy", lambda p, s: np.save(p, np.zeros(2, [("a", "f8")])), "records"),
    "datetimes": ("x.npy", lambda p, s: np.save(p, np.array(["2020-01-01"], "M8[D]")), "datetime64"),
    "infinite entries": ("x.npy", lambda p, s: np.save(p, np.array([[1, np.inf], [2, 3]])), "infinite"),
    "nothing but NaN": ("x.npy", lambda p, s: np.save(p, np.full((3, 3), np.nan)), "no known cell"),
    "several arrays": ("x.npz", lambda p, s: cut(s / "x.npz", p, 1), "(--variable NAME): a (6, 5, 4), b"),
    "archive of no arrays": ("x.npz", lambda p, s: zipfile.ZipFile(p, "w").writestr("a.txt", "?"), "x.npz"),
    "csv without rows": ("x.csv", lambda p, s: p.write_text("a,b,value\n"), "no rows"),
    "csv without names": ("x.csv", lambda p, s: p.write_text("1,2,3\n4,5,6\n"), "numbers in its first row"),
    "csv with ragged rows": ("x.csv", lambda p, s: p.write_text("a,b,value\n1,2,3\n1,2\n"), "every row"),
    "csv of words": ("x.csv", lambda p, s: p.write_text("a,b,value\n1,2,x\n"), "does not hold numbers"),
    "csv of one column": ("x.csv", lambda p, s: p.write_text("value\n3\n"), "at least one more"),
    "csv with an infinity": ("x.csv", lambda p, s: p.write_text("a,value\n1,inf\n"), "infinite"),
    "csv with empty cells": ("x.csv", lambda p, s: p.write_text("a,b,value\n,1,2\n"), "is empty in 1 rows"),
    "unknown sample": ("sample:astronout", lambda p, s: None, "did you mean 'astronaut'?"),
    "sample without a name": ("sample:", lambda p, s: None, "there is no sample ''"),
    "name with a line break": ("a\nb.npy", lambda p, s: None, "a b.npy"),
    "name with an escape": ("a\x1b[31mb.npy", lambda p, s: p.write_text("?"), "a\\x1b[31mb.npy"),
    "name in Japanese": ("日本 語.npy", lambda p, s: p.write_text("?"), "日本 語.npy"),
    "name that is no Unicode": ("a\udcffb.npy", lambda p, s: p.write_text("?"), "a\\udcffb.npy"),
    "name with a zero": ("a\0b.npy", lambda p, s: None, "embedded null byte"),
    "name far too long": ("x" * 300 + ".npy", lambda p, s: None, "too long"),
}


@pytest.mark.parametrize("kind", SOURCES)
def test_data_that_cannot_be_read(kind: str, folder: Path, store: Path, capfd: pytest.CaptureFixture[str]) -> None:
    name, make, said = SOURCES[kind]
    if "\0" not in name:
        make(folder / name, store)
    code, err = complaint(["fit", name], capfd)
    assert code == 1
    assert said in err
    assert not (folder / "sprung").exists()


# --- arguments that contradict the data or each other -----------------------------------------------------------------

FIT: list[tuple[str, str]] = [
    # after `tenfold fit`, with x.npy of shape 6 x 5 x 4
    ("x.npy --error 1", "error must be a relative error of at least 0 and below 1, not 1.0"),
    ("x.npy --error 2", "not 2.0"),
    ("x.npy --error -1", "not -1.0"),
    ("x.npy --error nan", "not nan"),
    ("x.npy --error inf", "not inf"),
    ("x.npy --error small", "'--error': 'small' should be a valid number (see 'tenfold fit --help')"),
    ("x.npy --error", "requires an argument"),
    ("x.npy --parameters 0", "parameters must be a whole number of at least 1, not 0"),
    ("x.npy --parameters -1", "not -1"),
    ("x.npy --parameters 3", "too few: the smallest network for an array of shape (6, 5, 4) has 15"),
    ("x.npy --parameters many", "'many' should be a valid integer"),
    ("x.npy --parameters 2.5", "'2.5' should be a valid integer"),
    ("x.npy --ratio 0.5", "ratio must be a number of at least 1, not 0.5"),
    ("x.npy --ratio inf", "not inf"),
    ("x.npy --ratio 1e9", "leaves no parameter"),
    ("x.npy --error 0.1 --parameters 50", "error and parameters are given"),
    ("x.npy --error 0.1 --ratio 3", "error and ratio are given"),
    ("x.npy --structure ia,aj", "neither a pattern (with '->') nor a format; formats are"),
    ("x.npy --structure tukcer --ranks 2", "'tukcer' is neither a pattern"),
    ("x.npy --structure tukcer --ranks 2", "(did you mean 'tucker'?)"),
    ("x.npy --structure '' --ranks 2", "'' is neither a pattern"),
    ("x.npy --structure 'i a, a j k ->'", "has 0 output axes but the data has 3 axes"),
    ("x.npy --structure 'i a, a j k -> i j k l' --size a=2", "has 4 output axes but the data has 3"),
    ("x.npy --structure 'i a a, j k -> i j k' --size a=2", "appears twice in one core"),
    ("x.npy --structure 'i (a, a j k -> i j k' --size a=2", "parentheses group output indices"),
    ("x.npy --structure 'i a, a j k -> i i i' --size a=2", "data has size 5"),
    ("x.npy --structure 'i a, a j k => i j k' --size a=2", "neither a pattern (with '->')"),
    ("x.npy --structure 'i 2, 2 j k -> i j k'", "an index is a letter"),
    ("x.npy --structure 'i a, j k -> i j k' --size a=2", "lies on this core only"),
    ("x.npy --structure 'i a, a j -> i j' --size a=2", "data has 3"),
    ("x.npy --structure 'i a, a j k -> i j k'", "index 'a' of"),
    ("x.npy --structure 'i a, a j k -> i j k' --size b=2", "'b'"),
    ("x.npy --structure 'i a, a j k -> i j k' --size a=2 --size a=3", "--size gives 'a' twice"),
    ("x.npy --structure 'i a, a j k -> i j k' --size a", "--size takes an index and a whole number, as a=8, not 'a'"),
    ("x.npy --structure 'i a, a j k -> i j k' --size a=0", "not 'a=0'"),
    ("x.npy --structure 'i a, a j k -> i j k' --size a=-2", "not 'a=-2'"),
    ("x.npy --structure 'i a, a j k -> i j k' --size a=1.5", "not 'a=1.5'"),
    ("x.npy --structure 'i a, a j k -> i j k' --size =3", "not '=3'"),
    (f"x.npy --structure 'i a, a j k -> i j k' --size a={'9' * 5000}", "--size takes an index"),
    ("x.npy --structure 'i a, a j k -> i j k' --size i=7,a=2", "axis 0 of the data has size 6"),
    ("x.npy --structure tucker", "structure 'tucker' needs ranks"),
    ("x.npy --structure monarch", "is a family of matrices"),
    ("x.npy --structure cp --ranks 2 --option starts", "--option takes a name and a value"),
    ("x.npy --structure cp --ranks 2 --option seed=3", "--seed"),
    ("x.npy --structure cp --ranks 2 --option nonsense=3", "'nonsense' is no argument of fit"),
    ("x.npy --structure cp --ranks 2 --option starts=3 --option starts=4", "--option gives 'starts' twice"),
    ("x.npy --structure cp --ranks 2 --option starts=abc", "option starts must be a whole number, not 'abc'"),
    ("x.npy --structure cp --ranks 2 --option init=3", "'init', which is no option of a method; leave it out"),
    ("x.npy --structure cp --ranks 2 --option source=3", "'source', which is no option of a method"),
    ("x.npy --structure cp --ranks 2 --option max_sweeps=3", "has an option of its own: --max-sweeps"),
    ("x.npy --structure cp --ranks 2 --option sizes=3", "has an option of its own: --size"),
    ("x.npy --report r.pdf", "--report 'r.pdf' is no page"),
    ("x.npy --structure tucker --ranks two", "--ranks takes whole numbers separated by commas, not 'two'"),
    ("x.npy --structure tucker --ranks 2,2", "3"),
    ("x.npy --structure tucker --ranks 0", "at least 1"),
    ("x.npy --structure tucker --ranks 70,2,2", "rank 70 exceeds"),
    ("x.npy --structure tensor_train --ranks 2,2,2", "2"),
    ("x.npy --structure tensor_train --ranks -1", "at least 1"),
    ("x.npy --structure cp --ranks 2,3", "rank"),
    ("x.npy --structure tucker --ranks 2 --size a=2", "sizes go with a pattern"),
    ("x.npy --ranks 2", "ranks go with the name of a format"),
    ("x.npy --structure 'i a, a j k -> i j k' --ranks 2", "ranks go with the name of a format"),
    ("x.npy --structure cp --ranks 2 --parameters 100", "has fixed sizes"),
    ("x.npy --structure cp --ranks 2 --method sorcery", "sorcery"),
    ("x.npy --structure cp --ranks 2 --method cp_hal", "method 'cp_hal' is not known (did you mean 'cp_hals'?)"),
    ("x.npy --memory 0", "memory '0' is too little; give at least 10 MB"),
    ("x.csv --memory 1KB", "memory '1KB' is too little; give at least 10 MB"),
    ("x.npy --memory lots", "memory must be an amount such as '2 GB' or '500MB', not 'lots'"),
    (f"x.npy --memory {'9' * 400}GB", "memory is more than any machine has"),
    ("x.npy --ratio 1e300", "ratio 1e+300 leaves no parameter for an array of 120 entries"),
    ("sample:astronout", "there is no sample 'astronout' (did you mean 'astronaut'?)"),
    ("s.npz --structure cp --ranks 2 --method cp_hals", "of which cp_poisson keeps every entry nonnegative"),
    ("s.npz --structure cp --ranks 2 --method hooi", "cp_poisson, lbfgs do"),
    ("x.npy --structure cp --ranks 2 --method tree_svd", "tree"),
    ("x.npy --structure tucker --ranks 2 --method cp_als", "cp_als"),
    ("x.npy --structure cp --ranks 2 --max-sweeps 0", "max_sweeps must be"),
    ("x.npy --structure cp --ranks 2 --tol 2", "tol must be"),
    ("x.npy --method als", "method is given without a structure"),
    ("x.npy --size a=3", "sizes is given without a structure"),
    ("x.npy --seed -1", "seed must be a whole number of at least 0"),
    ("x.npy --seed 99999999999999999999", "seed must be"),
    ("x.npy --seed lucky", "'lucky' should be a valid integer"),
    ("x.npy --dtype int8", "dtype must be float32, float64, complex64 or complex128, not 'int8'"),
    ("x.npy --dtype nonsense", "not 'nonsense'"),
    ("x.npy --dtype Tensor", "not 'Tensor'"),
    ("x.npy --variable a", "variable='a' means nothing for 'x.npy'"),
    ("x.npy --value a", "value='a' means nothing"),
    ("x.npz --variable c", "has no variable 'c'"),
    ("x.nc --variable temprature", "has no variable 'temprature'"),
    ("x.csv --value vale", "no column 'vale' (did you mean 'value'?)"),
    ("x.csv --modes i,zz", "no column 'zz'"),
    ("x.csv --modes i,i", "must be different columns"),
    ("x.csv --modes ''", "no column ''"),
    ("x.npy -o ''", "--output is empty"),
    ("x.npy -o report.html", "both name 'report.html'"),
    ("x.npy -o ./report.html", "both name './report.html'"),
    ("x.npy -o link.html", "both name 'link.html'"),
    ("x.npy -o x.npy", "--output names the data, 'x.npy'"),
    ("x.npy --report ./x.npy", "--report names the data"),
    ("x.npy -o folder", "'folder': it is a directory"),
    ("x.npy --report folder", "'folder': it is a directory"),
    ("x.npy -o no/where.tn", "there is no folder"),
    ("x.npy --report no/where.html", "there is no folder"),
    ("x.npy -o /dev/full", "not a regular file"),
    ("x.npy -o x.npy/y.tn", "there is no folder"),
    ("x.npy --report -", "--report '-' is not possible"),
    ("x.npy y.npy", "y.npy"),
    ("x.npy --eror 0.1", "--eror"),
    ("", "Missing argument"),
]


@pytest.mark.parametrize(("line", "said"), FIT, ids=[line[:60] for line, _ in FIT])
def test_arguments_of_fit(line: str, said: str, folder: Path, store: Path, capfd: pytest.CaptureFixture[str]) -> None:
    import shlex

    for name in ("x.npy", "x.npz", "x.nc", "x.csv"):
        cut(store / name, folder / name, 1)
    scipy.sparse.save_npz(folder / "s.npz", scipy.sparse.random(30, 20, 0.1, random_state=0))
    (folder / "folder").mkdir()
    (folder / "link.html").symlink_to("report.html")
    _, err = complaint(["fit", *shlex.split(line)], capfd)
    assert said in err


# --- networks that cannot be shown or expanded ------------------------------------------------------------------------


def tampered(store: Path, path: Path, **changes: Any) -> None:
    """A small network with other entries in its header than tenfold writes."""
    structure = tn.formats.cp((3, 3), 2)
    network = tn.Network.random(structure)
    head = {"tenfold": "1", "structure": structure.to_json(), "dtype": "float64", **changes}
    cores = {f"core.{core.name}": tensor for core, tensor in zip(structure.cores, network.cores, strict=True)}
    save_file(cores, path, metadata={key: value for key, value in head.items() if value is not None})


def raw(path: Path, head: dict[str, Any] | bytes, body: bytes = b"") -> None:
    text = head if isinstance(head, bytes) else json.dumps(head).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + body)


VAST = json.dumps({"v": 1, "cores": [{"name": None, "indices": ["i", "r"]}, {"name": None, "indices": ["j", "r"]}],
                   "out": [["i"], ["j"]], "sizes": {"i": 10**30, "j": 3, "r": 2}})  # fmt: skip
NETWORKS: dict[str, tuple[Maker, str]] = {
    "missing": (lambda p, s: None, "does not exist"),
    "folder": (lambda p, s: p.mkdir(), "is a directory"),
    "empty": (lambda p, s: p.touch(), "truncated or is no tenfold file"),
    "text": (lambda p, s: p.write_text("hello\n" * 20), "is no tenfold file"),
    "array": (lambda p, s: cut(s / "x.npy", p, 1), "is no tenfold file"),
    "pickle": (lambda p, s: torch.save({"a": Trap()}, p), "is no tenfold file"),
    "truncated early": (lambda p, s: cut(s / "x.tn", p, 0.01), "truncated or is no tenfold file"),
    "truncated late": (lambda p, s: cut(s / "x.tn", p, 0.95), "truncated or is no tenfold file"),
    "longer than it says": (lambda p, s: p.write_bytes((s / "x.tn").read_bytes() + b"more"), "is no tenfold file"),
    "foreign safetensors": (lambda p, s: save_file({"a": torch.ones(2)}, p), "holds no tenfold network"),
    "newer": (lambda p, s: tampered(s, p, tenfold="2"), "file version '2'"),
    "no structure": (lambda p, s: tampered(s, p, structure="{}"), "damaged"),
    "structure that is no JSON": (lambda p, s: tampered(s, p, structure="}"), "damaged"),
    "nested JSON": (lambda p, s: tampered(s, p, structure="[" * 100_000), "damaged"),
    "nested JSON record": (lambda p, s: tampered(s, p, record="[" * 100_000), "damaged"),
    "record that is a list": (lambda p, s: tampered(s, p, record="[]"), "damaged record"),
    "record that is no JSON": (lambda p, s: tampered(s, p, record="NaN,"), "damaged"),
    "record of a fit that is none": (lambda p, s: tampered(s, p, record='{"fit": 3}'), "damaged record"),
    "dtype of integers": (lambda p, s: tampered(s, p, dtype="int8"), "'int8', which is none for a core"),
    "dtype that is a function": (lambda p, s: tampered(s, p, dtype="save"), "'save', which is none for a core"),
    "other dtype": (lambda p, s: tampered(s, p, dtype="float32"), "not torch.float32"),
    "complex dtype": (lambda p, s: tampered(s, p, dtype="complex128"), "not as pairs"),
    "vast sizes": (lambda p, s: tampered(s, p, structure=VAST), "damaged"),
    "header longer than the file": (lambda p, s: p.write_bytes(struct.pack("<Q", 2**62) + b"{}"), "tenfold file"),
    "header of absurd shapes": (
        lambda p, s: raw(p, {"a": {"dtype": "F64", "shape": [10**9] * 3, "data_offsets": [0, 8]}}, b"\0" * 8),
        "tenfold file",
    ),
    "header that is nested": (lambda p, s: raw(p, b"[" * 100_000), "tenfold file"),
    "header of a lone quote": (lambda p, s: raw(p, b'{"'), "tenfold file"),
}


@pytest.mark.parametrize("command", ["show", "expand"])
@pytest.mark.parametrize("kind", NETWORKS)
def test_networks_that_are_none(
    kind: str, command: str, folder: Path, store: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    make, said = NETWORKS[kind]
    make(folder / "n.tn", store)
    code, err = complaint([command, "n.tn", *(["-o", "y.npy"] if command == "expand" else [])], capfd)
    assert code == 1
    assert said in err
    assert "n.tn" in err
    assert not (folder / "sprung").exists()


EXPAND: list[tuple[list[str], str]] = [
    (["expand", "x.tn"], "Missing option '--output'"),
    (["expand", "x.tn", "-o", "y.xyz"], "the suffix '.xyz' is not known; known are .npy"),
    (["expand", "x.tn", "-o", "y"], "without a suffix"),
    (["expand", "x.tn", "-o", "y.gif"], "'.gif' is not known"),
    (["expand", "x.tn", "-o", "no/y.npy"], "there is no folder"),
    (["expand", "x.tn", "-o", "x.tn"], "'.tn' is not known"),
    (["expand", "x.tn", "-o", "folder.npy"], "directory"),
    (["expand", "five.tn", "-o", "y.png"], "(3, 3, 2, 2, 2)"),
    (["expand", "complex.tn", "-o", "y.png"], "complex"),
    (["expand", "complex.tn", "-o", "y.csv"], "complex"),
    (["expand", "complex.tn", "-o", "y.npy", "--dtype", "float32"], "complex"),
    (["expand", "x.tn", "-o", "y.npy", "--dtype", "nonsense"], "dtype 'nonsense'"),
    (["expand", "x.tn", "-o", "y.npy", "--dtype", "str"], "not one of numbers"),
    (["expand", "x.tn", "-o", "y.jpg", "--dtype", "uint16"], "a JPEG image holds"),
    (["expand", "vast.tn", "-o", "y.npy"], "expands to 40000 x 40000 x 40000, which needs"),
    (["show", "five.tn", "--front"], "without the record of a fit"),
    (["show", "five.tn", "--report", "y.html"], "without the record of a fit"),
    (["show", "x.tn", "--report", "no/y.html"], "there is no folder"),
    (["show"], "Missing argument"),
    (["fitt", "x.npy"], "No such command 'fitt'"),
    (["--nonsense"], "No such option: --nonsense"),
    (["show", "x.tn", "y.tn"], "y.tn"),
]


@pytest.mark.parametrize(("arguments", "said"), EXPAND, ids=lambda v: " ".join(v) if isinstance(v, list) else None)
def test_arguments_of_the_other_commands(
    arguments: list[str], said: str, folder: Path, store: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    for name in ("x.tn", "five.tn", "complex.tn", "vast.tn"):
        cut(store / name, folder / name, 1)
    (folder / "folder.npy").mkdir()
    (folder / "folder.npy" / "kept").write_text("of before")
    _, err = complaint(arguments, capfd)
    assert said in err


# --- the world around -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("place", ["network", "page", "expanded"])
def test_a_full_disk(
    place: str, folder: Path, store: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    np.save("x.npy", ARRAY)
    cut(store / "x.tn", folder / "x.tn", 1)
    real = os.replace

    def full(source: Any, target: Any, **more: Any) -> None:
        if (place == "page") == str(target).endswith(".html"):
            raise OSError(errno.ENOSPC, "No space left on device")
        real(source, target, **more)

    monkeypatch.setattr(os, "replace", full)
    if place == "page":
        assert _run(["fit", "x.npy", "--error", "0.5"], debug=False) == 1
        err = capfd.readouterr().err
        said = "cannot write 'report.html': No space left on device; the network is in 'fit.tn'"
        assert err == f"tenfold: error: {said}\n"
        assert (folder / "report.html").read_text() == "of before"
        assert tn.load("fit.tn").error <= 0.5
        assert {p.name for p in folder.iterdir()} == {"x.npy", "x.tn", *KEPT}
    else:
        arguments = ["fit", "x.npy", "--error", "0.5"] if place == "network" else ["expand", "x.tn", "-o", "y.npy"]
        assert "No space left on device" in complaint(arguments, capfd)[1]


def test_a_disk_that_is_really_full(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    np.save("x.npy", np.random.default_rng(0).standard_normal((60, 60, 4)))
    (folder / "small").mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=16k", "tmpfs", "small"]
    mounted = subprocess.run(mount, capture_output=True, check=False)
    if mounted.returncode:
        pytest.skip("mounting a small file system is not permitted here")
    try:
        (folder / "small" / "fit.tn").write_text("of before")
        _, err = complaint(["fit", "x.npy", "--error", "0.001", "-o", "small/fit.tn"], capfd)
        assert "cannot write 'small/fit.tn'" in err
    finally:
        subprocess.run(["umount", "small"], check=True)


def test_a_folder_that_may_not_be_written_to(
    folder: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    np.save("x.npy", ARRAY)
    (folder / "locked").mkdir()
    real = os.access

    def access(path: Any, mode: int, **more: Any) -> bool:
        return not (str(path).endswith("locked") and mode == os.W_OK) and real(path, mode, **more)

    monkeypatch.setattr(os, "access", access)  # root may write anywhere
    assert "may not be written to" in complaint(["fit", "x.npy", "-o", "locked/fit.tn"], capfd)[1]


@pytest.mark.parametrize(
    ("package", "name", "said"),
    [
        ("xarray", "x.nc", "tenfold[arrays]"),
        ("pyarrow", "x.csv", "tenfold[tables]"),
        ("pyarrow", "x.parquet", "tenfold[tables]"),
        ("h5py", "x.h5", "tenfold[arrays]"),
        ("tifffile", "x.tiff", "tenfold[images]"),
    ],
)
def test_a_package_that_is_not_installed(
    package: str,
    name: str,
    said: str,
    folder: Path,
    store: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cut(store / name, folder / name, 1)
    for module in [module for module in sys.modules if module.split(".")[0] == package]:
        monkeypatch.setitem(sys.modules, module, None)  # what makes an import fail
    monkeypatch.setitem(sys.modules, package, None)
    _, err = complaint(["fit", name], capfd)
    assert said in err
    assert package in err


STDIN: list[tuple[bytes, str]] = [
    (b"", "standard input is empty"),
    (b"hello, this is no array at all\n", "standard input"),
    (bytes(range(256)), "no known format"),
    (header((10, 10)) + b"\0" * 64, "standard input"),
    (b"\x89PNG\r\n\x1a\n", "standard input"),
]


@pytest.mark.parametrize(("content", "said"), STDIN, ids=range(len(STDIN)))
def test_standard_input_that_holds_nothing(
    content: bytes, said: str, folder: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))
    assert said in complaint(["fit", "-"], capfd)[1]


def test_standard_input_that_breaks(
    folder: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Broken(io.RawIOBase):
        def readable(self) -> bool:
            return True

        def readinto(self, buffer: Any) -> int:
            raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BufferedReader(Broken())))
    assert "cannot read standard input: Input/output error" in complaint(["fit", "-"], capfd)[1]


@pytest.mark.parametrize("wrong", [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory")])
def test_too_little_memory(
    wrong: Exception, folder: Path, store: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    cut(store / "x.tn", folder / "x.tn", 1)

    def dense(_: tn.Network) -> torch.Tensor:
        raise wrong

    monkeypatch.setattr(tn.Network, "dense", dense)
    assert "not enough memory" in complaint(["expand", "x.tn", "-o", "y.npy"], capfd)[1]


def test_an_error_of_tenfold_itself_is_one_line_too(
    folder: Path, store: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    cut(store / "x.tn", folder / "x.tn", 1)

    def dense(_: tn.Network) -> torch.Tensor:
        raise IndexError("two\nlines")

    monkeypatch.setattr(tn.Network, "dense", dense)
    assert (
        "IndexError: two lines (an error of tenfold itself; --debug shows where)"
        in complaint(["expand", "x.tn", "-o", "y.npy"], capfd)[1]
    )
    assert _run(["expand", "x.tn", "-o", "y.npy"], debug=True) == 1
    assert "Traceback" in capfd.readouterr().err


def test_a_hostile_record_sends_no_escapes_to_a_terminal(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    fit = tn.fit(ARRAY, error=0.5, source="a\x1b]0;title\x07b.npy", dims=["\x1b[2J", "b", "c"])
    fit.save("x.tn")
    assert _run(["show", "x.tn", "--front", "--cost"], debug=False) == 0
    out, err = capfd.readouterr()
    assert "\x1b" not in out + err
    assert "\x07" not in out


@pytest.mark.parametrize(
    "arguments", [["expand", "x.tn", "-o", "-"], ["formats"], pytest.param(["show", "x.tn"], marks=pytest.mark.slow)]
)
def test_a_closed_pipe_ends_quietly(arguments: list[str], folder: Path, store: Path) -> None:
    cut(store / "x.tn", folder / "x.tn", 1)
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-m", "tenfold", *arguments]
    done = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, check=False)
    os.close(writing)
    assert done.returncode != 0
    assert len(done.stderr.splitlines()) <= 1, done.stderr
    assert b"Traceback" not in done.stderr


def test_a_full_standard_output(folder: Path, store: Path) -> None:
    cut(store / "x.tn", folder / "x.tn", 1)
    command = [sys.executable, "-m", "tenfold", "expand", "x.tn", "-o", "-"]
    with open("/dev/full", "wb") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, check=False)
    assert done.returncode == 1
    assert done.stderr.decode() == "tenfold: error: cannot write standard output: No space left on device\n"


@pytest.mark.parametrize(
    ("closed", "words", "code"),
    [
        ("stdout", ["show", "x.tn"], 0),
        ("stderr", ["expand", "x.tn", "-o", "y.npy"], 0),
        *(
            pytest.param(*case, marks=pytest.mark.slow)
            for case in (
                ("stdout", ["expand", "x.tn", "-o", "y.npy"], 0),
                ("stdout", ["show", "no.tn"], 1),
                ("stderr", ["show", "x.tn"], 0),
                ("stderr", ["show", "no.tn"], 1),
            )
        ),
    ],
)
def test_streams_that_were_closed_at_the_start(
    closed: str, words: list[str], code: int, folder: Path, store: Path
) -> None:
    cut(store / "x.tn", folder / "x.tn", 1)
    number = {"stdout": 1, "stderr": 2}[closed]
    script = f'exec "$0" -m tenfold "$@" {number}>&-'
    done = subprocess.run(["sh", "-c", script, sys.executable, *words], capture_output=True, check=False)
    assert done.returncode == code, done
    assert b"of tenfold itself" not in done.stderr
    assert b"tenfold: error" not in done.stdout
    assert (folder / "y.npy").exists() == (words[0] == "expand")


def test_links_in_a_circle(folder: Path, store: Path, capfd: pytest.CaptureFixture[str]) -> None:
    cut(store / "x.npy", folder / "x.npy", 1)
    (folder / "loop.npy").symlink_to("loop.npy")
    for words in ["fit", "loop.npy"], ["fit", "x.npy", "-o", "loop.npy"], ["expand", "loop.npy", "-o", "y.npy"]:
        code, err = complaint(words, capfd)
        assert code == 1
        assert "loop.npy" in err
        assert "of tenfold itself" not in err


def test_an_image_without_pixels(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    Image.new("RGB", (1, 1)).save("x.png")
    assert _run(["fit", "x.png", "--report", "", "-q"], debug=False) == 0  # one black pixel is an array of zeros
    assert tn.load("fit.tn").error == 0
    capfd.readouterr()
