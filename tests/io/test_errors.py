"""Every failure is one line that names the file and says what is wrong; no failed write leaves anything behind."""

import builtins
import errno
import json
import os
import struct
import sys
import zipfile
import zlib
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from tenfold._files import atomic
from tenfold.errors import DataError, FileError, MissingExtra, TenfoldError
from tenfold.io import _checks, read, suffixes, write


def complaint(path: Path | str, **options: object) -> str:
    with pytest.raises(TenfoldError) as caught:
        read(path, **options).load()
    text = str(caught.value)
    assert "\n" not in text
    return text


def test_missing_file_suggests_close_names(tmp_path: Path) -> None:
    (tmp_path / "measured.npy").write_bytes(b"x")
    assert "did you mean 'measured.npy'?" in complaint(tmp_path / "mesured.npy")
    assert "no folder" in complaint(tmp_path / "nowhere" / "x.npy")


def test_directories_suffixes_and_empty_files(tmp_path: Path) -> None:
    (tmp_path / "a.npy").touch()
    assert "is a directory: give a file in it, such as 'a.npy'" in complaint(tmp_path)
    assert "is empty" in complaint(tmp_path / "a.npy")
    (tmp_path / "d.npy").mkdir()
    assert "is a directory, not a NumPy array" in complaint(tmp_path / "d.npy")
    (tmp_path / "a.xyz").write_text("?")
    assert "the suffix '.xyz' is not known; known are .npy" in complaint(tmp_path / "a.xyz")
    (tmp_path / "bare").write_text("?")
    assert "without a suffix" in complaint(tmp_path / "bare")


def test_permission_denied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x.npy"
    np.save(path, np.ones(3))

    def refuse(self: Path, *args: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    assert complaint(path) == f"cannot read '{path}': Permission denied"


@pytest.mark.parametrize(
    "suffix", [".npy", ".npz", ".safetensors", ".png", ".jpg", ".tiff", ".nc", ".h5", ".parquet", ".bmp", ".webp"]
)
@pytest.mark.parametrize("part", [0.03, 0.5, 0.9])
def test_truncated(tmp_path: Path, suffix: str, part: float) -> None:
    path = tmp_path / f"x{suffix}"
    write(np.random.default_rng(0).integers(0, 256, (40, 40, 3), np.uint8), path)
    content = path.read_bytes()
    path.write_bytes(content[: max(1, int(part * len(content)))])
    assert path.name in complaint(path)


@pytest.mark.parametrize(
    "suffix",
    [".npy", ".npz", ".safetensors", ".png", ".jpg", ".gif", ".bmp", ".webp", ".tif", ".nc", ".h5", ".zarr",
     ".zarr.zip", ".parquet", ".csv"],
)  # fmt: skip
def test_foreign(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"x{suffix}"
    path.write_bytes(b"this is none of those\nformats, surely, not\n" + bytes(range(256)))
    assert path.name in complaint(path)


def test_pickled_objects_are_never_loaded(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return (os.mkdir, (str(tmp_path / "sprung"),))

    np.save(tmp_path / "x.npy", np.array([Trap()], dtype=object), allow_pickle=True)
    np.savez(tmp_path / "x.npz", a=np.array([Trap()], dtype=object))
    assert "never loaded" in complaint(tmp_path / "x.npy")
    assert "never loaded" in complaint(tmp_path / "x.npz")
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize(
    ("array", "said"),
    [
        (np.array(["a", "b"]), "strings"),
        (np.array(3.0), "single number"),
        (np.empty((3, 0)), "empty array of shape (3, 0)"),
        (np.zeros(2, [("a", "f8")]), "records"),
        (np.array(["2020-01-01"], "datetime64[D]"), "datetime64"),
    ],
)
def test_what_is_no_array_of_numbers(tmp_path: Path, array: np.ndarray, said: str) -> None:
    np.save(tmp_path / "x.npy", array)
    assert said in complaint(tmp_path / "x.npy")
    with pytest.raises(DataError):
        write(array, tmp_path / "y.npy")


def header(shape: tuple[int, ...]) -> bytes:
    out = BytesIO()
    np.lib.format.write_array_header_1_0(out, {"descr": "<f8", "fortran_order": False, "shape": shape})
    return out.getvalue()


def test_absurd_headers_allocate_nothing(tmp_path: Path) -> None:
    huge = header((10**6, 10**6, 10**6)) + b"\0" * 64
    (tmp_path / "x.npy").write_bytes(huge)
    assert "takes 8000000000000000000 bytes, the file has 64" in complaint(tmp_path / "x.npy")
    with zipfile.ZipFile(tmp_path / "x.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.npy", huge)
    assert "takes 8000000000000000000 bytes" in complaint(tmp_path / "x.npz")
    head = json.dumps({"a": {"dtype": "F64", "shape": [10**9, 10**9], "data_offsets": [0, 8 * 10**18]}}).encode()
    (tmp_path / "x.safetensors").write_bytes(struct.pack("<Q", len(head)) + head + b"\0" * 8)
    assert "x.safetensors" in complaint(tmp_path / "x.safetensors")


def test_more_than_the_memory_is_refused_before_reading(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "x.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.npy", header((10**14,)))
    # The directory of the archive claims a size that fits the array.
    content = bytearray((tmp_path / "x.npz").read_bytes())
    at = content.rindex(b"PK\1\2") + 24
    content[at : at + 4] = struct.pack("<I", 2**32 - 2)
    (tmp_path / "x.npz").write_bytes(content)
    assert "beyond what compression can do" in complaint(tmp_path / "x.npz")
    with pytest.raises(DataError, match=r"needs 8000000\.0 GB of memory"):
        _checks.fits_memory((10**15,), np.dtype("f8"), "x")


def test_lazy_arrays_beyond_memory_are_refused_but_give_parts(tmp_path: Path) -> None:
    import h5py

    with h5py.File(tmp_path / "x.h5", "w") as file:
        file.create_dataset("a", (10**7, 10**7), "f8", chunks=(1, 1000), fillvalue=2.0)
    assert "GB of memory" in complaint(tmp_path / "x.h5")
    assert (read(tmp_path / "x.h5").values[5, :10] == 2).all()


def test_decompression_bombs(tmp_path: Path) -> None:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    for depth in (8, 16):
        size = struct.pack(">IIBBBBB", 60000, 60000, depth, 2, 0, 0, 0)
        body = chunk(b"IHDR", size) + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
        (tmp_path / "x.png").write_bytes(b"\x89PNG\r\n\x1a\n" + body)
        assert "more pixels than an image may" in complaint(tmp_path / "x.png")


TABLES = {
    "": "is empty",
    "a,b,value\n": "no rows",
    "a,b,value\n1,2,3\n1,2\n": "as many cells in every row",
    "a,b,value\n1,2,3\n1,2,3,4\n": "as many cells in every row",
    "a,b,c\n1,2,x\n": "does not hold numbers (string): value= may be a or b",
    "a,b\nx,y\n": "no other column does either",
    "value\n3\n": "at least one more must say which cell",
    "1,2,3\n4,5,6\n": "numbers in its first row",
    "a,a,value\n1,2,3\n": "several columns called 'a'",
    "a,value\n1,\n2,\n": "no value in any row",
    "a,b,value\n,1,2\n3,1,4\n": "empty in 1 rows",
    "a,value\n1,inf\n": "column 'value' of 'x.csv' holds infinite values",
}


@pytest.mark.parametrize(("text", "said"), TABLES.items())
def test_tables_that_are_none(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "x.csv").write_text(text)
    assert said in complaint(tmp_path / "x.csv")


@pytest.mark.parametrize("text", ["größe,value\n1,2\n", "ort,value\nKöln,2\n"])
def test_tables_in_other_encodings(tmp_path: Path, text: str) -> None:
    (tmp_path / "x.csv").write_text(text, encoding="latin-1")
    said = complaint(tmp_path / "x.csv")
    assert "x.csv" in said
    assert "utf" in said.lower()


@pytest.mark.parametrize("suffix", [suffix for suffix in suffixes(writing=True) if suffix != ".zarr"])
@given(st.data())
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_damage_is_told_in_one_line_or_read(
    tmp_path: Path, suffix: str, capfd: pytest.CaptureFixture[str], data: st.DataObject
) -> None:
    path = tmp_path / f"x{suffix}"
    if not path.exists() or not (tmp_path / "whole").exists():
        write(np.random.default_rng(0).integers(0, 256, (6, 6, 3), np.uint8), path)
        (tmp_path / "whole").write_bytes(path.read_bytes())
    content = bytearray((tmp_path / "whole").read_bytes())
    at = data.draw(st.lists(st.integers(0, min(len(content), 600) - 1), min_size=1, max_size=4))
    for position in at:
        content[position] = data.draw(st.integers(0, 255))
    path.write_bytes(content)
    said = ""
    try:
        read(path).load()
    except TenfoldError as error:
        said = str(error)
    assert "\n" not in said
    assert capfd.readouterr().err == ""


def test_unknown_columns_and_options(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("place,time,value\n1,2,3\n")
    assert "no column 'vale' (did you mean 'value'?)" in complaint(tmp_path / "x.csv", value="vale")
    assert "no column 'tim' (did you mean 'time'?)" in complaint(tmp_path / "x.csv", modes=["tim"])
    assert "'value' holds the values" in complaint(tmp_path / "x.csv", value="value", modes=["time", "value"])
    assert "variable='a' means nothing for 'x.csv'" in complaint(tmp_path / "x.csv", variable="a")
    np.save(tmp_path / "x.npy", np.ones(3))
    assert "value='a' means nothing" in complaint(tmp_path / "x.npy", value="a")
    assert complaint(tmp_path / "x.npy", rest="zero").startswith("rest='zero' means nothing for 'x.npy', a NumPy array")
    assert complaint(tmp_path / "x.csv", rest="zeros") == "rest is 'zeros': give 'unknown' or 'zero'"
    assert "duplicates is 'add': give 'sum' or" in complaint(tmp_path / "x.csv", duplicates="add")
    (tmp_path / "x.csv").write_text("place,time,value\n1,2,3\n1,2,4\n")
    for options in ({"rest": "zero"}, {"duplicates": "error"}):
        assert "2 rows for 1 cells: give duplicates 'sum'" in complaint(tmp_path / "x.csv", **options)
    (tmp_path / "x.csv").write_text("place,time,value\n1,2,3\n1,3,\n")
    assert "empty in 1 rows, which rest 'zero' would make" in complaint(tmp_path / "x.csv", rest="zero")


@pytest.mark.parametrize(
    ("package", "name", "extra"),
    [
        ("xarray", "x.nc", "arrays"),
        ("zarr", "x.zarr", "arrays"),
        ("pyarrow", "x.csv", "tables"),
        ("tifffile", "x.tiff", "images"),
        ("png", "x.png", "images"),
    ],
)
def test_absent_packages_name_their_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, package: str, name: str, extra: str
) -> None:
    image = np.arange(48, dtype=np.uint16).reshape(4, 4, 3)
    write(image, tmp_path / name)
    for module in [module for module in sys.modules if module.split(".")[0] == package]:
        monkeypatch.delitem(sys.modules, module)
    real = builtins.__import__

    def hide(wanted: str, *args: object, **kwargs: object) -> object:
        if wanted.split(".")[0] == package:
            raise ImportError(wanted)
        return real(wanted, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", hide)
    monkeypatch.setitem(sys.modules, package, None)
    for use in (lambda: read(tmp_path / name), lambda: write(image, tmp_path / name)):
        with pytest.raises(MissingExtra, match=rf"pip install 'tenfold\[{extra}\]'"):
            use()


@pytest.mark.parametrize(
    ("shape", "name", "dtype", "said"),
    [
        ((2, 2, 2, 2, 2), "x.png", None, "shape (2, 2, 2, 2, 2): .npy or .tiff"),
        ((2, 2, 5), "x.png", None, "2 or 3 or 4 channels"),
        ((2, 2, 4), "x.jpg", None, "3 channels"),
        ((2, 2), "x.jpg", "uint16", "holds uint8, not uint16"),
        ((2,), "x.tiff", None, "two modes"),
        ((2, 2), "x.gif", None, "the suffix '.gif' is not known"),
        ((2, 2), "x.xyz", None, "known are .npy"),
        ((2, 2), "x.npy", "bfloat16", "dtype 'bfloat16'"),
        ((2, 2), "x.npy", "str", "not one of numbers"),
    ],
)
def test_what_a_format_cannot_hold(
    tmp_path: Path, shape: tuple[int, ...], name: str, dtype: str | None, said: str
) -> None:
    with pytest.raises(TenfoldError) as caught:
        write(np.ones(shape), tmp_path / name, dtype=dtype)
    assert said in str(caught.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("suffix", [".png", ".nc", ".csv", ".jpg"])
def test_complex_and_nan_are_refused_where_they_have_no_place(tmp_path: Path, suffix: str) -> None:
    with pytest.raises(TenfoldError, match=r"complex"):
        write(np.ones((2, 2), complex), tmp_path / f"x{suffix}")
    with pytest.raises(DataError, match="NaN does not fit dtype uint8"):
        write(np.full((2, 2), np.nan), tmp_path / f"x{suffix}", dtype="uint8")
    assert list(tmp_path.iterdir()) == []


TARGETS = {
    ".npy": (np.lib.format, "write_array"),
    ".npz": (np, "savez_compressed"),
    ".png": (Image.Image, "save"),
    ".jpg": (Image.Image, "save"),
    ".nc": ("xarray", "DataArray.to_netcdf"),
    ".zarr": ("xarray", "Dataset.to_zarr"),
    ".csv": ("pyarrow.csv", "write_csv"),
    ".parquet": ("pyarrow.parquet", "write_table"),
    ".tiff": ("tifffile", "imwrite"),
    ".safetensors": ("safetensors.torch", "save_file"),
}


@pytest.mark.parametrize("suffix", TARGETS)
@pytest.mark.parametrize(
    "failure", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt(), RuntimeError("odd")], ids=repr
)
def test_a_failed_write_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str, failure: BaseException
) -> None:
    import importlib

    path = tmp_path / f"x{suffix}"
    old = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)
    write(old, path)
    before = read(path).load()

    def fail(*args: object, **kwargs: object) -> None:
        # Half a file is there when it happens.
        temporary = [entry for entry in tmp_path.iterdir() if ".part" in entry.name]
        target = temporary[0] if temporary else next(iter(args[:2]), None)
        if isinstance(target, Path) and not target.is_dir():
            target.write_bytes(b"half")
        raise failure

    owner, name = TARGETS[suffix]
    if isinstance(owner, str):
        owner = importlib.import_module(owner)
        *outer, name = name.split(".")
        for part in outer:
            owner = getattr(owner, part)
    with monkeypatch.context() as patched:
        patched.setattr(owner, name, fail)
        expected = KeyboardInterrupt if isinstance(failure, KeyboardInterrupt) else FileError
        with pytest.raises(expected) as caught:
            write(old + 1, path)
    if expected is FileError:
        assert str(path) in str(caught.value)
        assert (failure.strerror if isinstance(failure, OSError) else "odd") in str(caught.value)
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]
    after = read(path).load()
    kept = before.values.values if suffix in (".csv", ".parquet") else before.values
    still = after.values.values if suffix in (".csv", ".parquet") else after.values
    np.testing.assert_array_equal(np.asarray(still), np.asarray(kept))


def test_atomic_replaces_keeps_modes_and_writes_through_links(tmp_path: Path) -> None:
    path, link = tmp_path / "x.bin", tmp_path / "link.bin"
    path.write_bytes(b"old")
    path.chmod(0o640)
    link.symlink_to(path)
    with atomic(link) as temporary:
        temporary.write_bytes(b"new")
        assert path.read_bytes() == b"old"
    assert path.read_bytes() == b"new"
    assert link.is_symlink()
    assert path.stat().st_mode & 0o777 == 0o640


def test_atomic_refuses_at_once(tmp_path: Path) -> None:
    for path, said in ((tmp_path / "no" / "x", "no folder"), (Path("/dev/null"), "not a regular file")):
        with pytest.raises(FileError, match=said), atomic(path):
            pytest.fail("the block must not run")
    assert not Path("/dev/null").is_file()


def test_atomic_directories(tmp_path: Path) -> None:
    target = tmp_path / "x.zarr"
    for content in ("one", "two"):
        with atomic(target) as temporary:
            temporary.mkdir()
            (temporary / "a").write_text(content)
        assert (target / "a").read_text() == content

    def begin_and_break() -> None:
        with atomic(target) as temporary:
            temporary.mkdir()
            raise RuntimeError

    with pytest.raises(RuntimeError):
        begin_and_break()
    assert (target / "a").read_text() == "two"
    assert [entry.name for entry in tmp_path.iterdir()] == ["x.zarr"]
