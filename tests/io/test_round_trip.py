"""What is written comes back, in every format."""

import sys
import types
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tenfold.errors import DataError, FileError
from tenfold.io import LazyArray, read, suffixes, write
from tenfold.observations import Observations

QUICK = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
DIMS = ("time", "place", "kind")
LABELS = {"time": np.array([0.5, 2.0]), "place": np.array(["a", "bb", "c"])}


def arrays(dtypes, min_dims=1, max_dims=4):
    return hnp.arrays(
        st.sampled_from(dtypes).map(np.dtype), hnp.array_shapes(min_dims=min_dims, max_dims=max_dims, max_side=4)
    )


def same(got, expected):
    assert got.dtype == expected.dtype
    assert got.shape == expected.shape
    np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize("suffix", [".npy", ".npz", ".safetensors"])
@given(arrays(["u1", "i2", "u4", "i8", "f2", "f4", "f8", "c8", "?"]))
@QUICK
def test_arrays_come_back_in_their_dtype(tmp_path: Path, suffix: str, array: np.ndarray) -> None:
    path = tmp_path / f"x{suffix}"
    write(array, path)
    held = read(path)
    same(held.values, array)
    assert held.dtype == str(array.dtype)
    assert held.missing == (np.isnan(array).sum() if array.dtype.kind in "fc" else 0)


@pytest.mark.parametrize("suffix", [".nc", ".nc4", ".h5", ".hdf5", ".zarr"])
@pytest.mark.parametrize("dtype", ["float64", "float32", "int16", "uint8"])
def test_grids_keep_labels_and_units_and_stay_in_the_file(tmp_path: Path, suffix: str, dtype: str) -> None:
    array = np.arange(24).reshape(2, 3, 4).astype(dtype)
    path = tmp_path / f"x{suffix}"
    write(array, path, dims=DIMS, coordinates=LABELS, units={"time": "s"})
    held = read(path)
    assert isinstance(held.values, LazyArray)
    assert held.lazy
    same(np.asarray(held.values), array)
    same(held.load().values, array)
    same(held.values[1, :, 2:], array[1, :, 2:])
    assert (held.dims, held.dtype, held.units, held.name) == (DIMS, dtype, {"time": "s"}, "values")
    assert set(held.coordinates) == {"time", "place"}
    for mode, labels in LABELS.items():
        np.testing.assert_array_equal(held.coordinates[mode], labels)


@pytest.mark.parametrize("suffix", [".nc", ".zarr"])
def test_datetimes_label_grids(tmp_path: Path, suffix: str) -> None:
    days = np.array(["2020-01-01", "2020-01-03"], "datetime64[ns]")
    write(np.ones((2, 2)), tmp_path / f"x{suffix}", dims=("day", "x"), coordinates={"day": days})
    labels = read(tmp_path / f"x{suffix}").coordinates["day"]
    assert labels.dtype.kind == "M"
    np.testing.assert_array_equal(labels, days)


def test_labelled_npz_keeps_labels(tmp_path: Path) -> None:
    array = np.random.default_rng(0).standard_normal((2, 3, 4))
    write(array, tmp_path / "x.npz", dims=DIMS, coordinates=LABELS, units={"time": "s"})
    held = read(tmp_path / "x.npz")
    same(held.values, array)
    assert (held.dims, held.units) == (DIMS, {"time": "s"})
    for mode, labels in LABELS.items():
        np.testing.assert_array_equal(held.coordinates[mode], labels)


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".webp", ".tif", ".tiff"])
@pytest.mark.parametrize("shape", [(5, 7), (5, 7, 3)])
def test_images_without_loss(tmp_path: Path, suffix: str, shape: tuple[int, ...]) -> None:
    if suffix == ".webp" and len(shape) == 2:
        shape = (*shape, 4)
    image = np.random.default_rng(1).integers(0, 256, shape, np.uint8)
    if suffix == ".webp" and shape[-1] == 4:
        image[..., 3] |= 1  # colours of wholly transparent pixels are not kept by the format
    write(image, tmp_path / f"x{suffix}")
    held = read(tmp_path / f"x{suffix}")
    same(held.values, image)
    assert held.dims == ("y", "x", "channel")[: len(shape)]
    if len(shape) == 3:
        assert list(held.coordinates["channel"]) == ["red", "green", "blue", "alpha"][: shape[2]]


@pytest.mark.parametrize("shape", [(4, 6), (4, 6, 2), (4, 6, 3), (4, 6, 4)])
def test_png_of_16_bits(tmp_path: Path, shape: tuple[int, ...]) -> None:
    image = np.random.default_rng(2).integers(0, 65536, shape, np.uint16)
    write(image, tmp_path / "x.png")
    same(read(tmp_path / "x.png").values, image)


@given(arrays(["u1", "u2", "i2", "f4", "f8"], 2, 4))
@QUICK
def test_tiff_holds_any_numbers(tmp_path: Path, array: np.ndarray) -> None:
    write(array, tmp_path / "x.tiff")
    got = read(tmp_path / "x.tiff").array()
    assert got.dtype == array.dtype
    np.testing.assert_array_equal(got.squeeze(), array.squeeze())  # the format leaves out modes of size one


def test_jpeg_is_near_and_marked(tmp_path: Path) -> None:
    y, x = np.mgrid[:32, :32]
    image = np.stack([4 * x, 4 * y, 2 * (x + y)], -1).astype(np.uint8)
    write(image, tmp_path / "x.jpg")
    held = read(tmp_path / "x.jpg")
    assert np.abs(held.array().astype(int) - image).max() < 12
    assert list(held.coordinates["channel"]) == ["red", "green", "blue"]


def test_images_round_and_clip(tmp_path: Path) -> None:
    write(np.array([[-3.0, 0.6], [254.4, 300.0]]), tmp_path / "x.png")
    np.testing.assert_array_equal(read(tmp_path / "x.png").values, [[0, 1], [254, 255]])


@given(hnp.arrays(np.float64, 5, elements=st.floats(-1e30, 1e30)), st.sampled_from(["i1", "u2", "i4", "i8", "u8"]))
@QUICK
def test_integers_are_the_nearest_in_range(tmp_path: Path, array: np.ndarray, code: str) -> None:
    write(array, tmp_path / "x.npy", dtype=code)
    bounds = np.iinfo(code)
    expected = [min(max(round(value), bounds.min), bounds.max) for value in array.tolist()]
    same(read(tmp_path / "x.npy").values, np.array(expected, code))


def test_wide_integers_clip_exactly(tmp_path: Path) -> None:
    write(np.array([-(2**63), -1, 2**63 - 1]), tmp_path / "x.npy", dtype="uint64")
    same(read(tmp_path / "x.npy").values, np.array([0, 0, 2**63 - 1], np.uint64))
    write(np.array([2**64 - 1, 3], np.uint64), tmp_path / "x.npy", dtype="int64")
    same(read(tmp_path / "x.npy").values, np.array([2**63 - 1, 3], np.int64))


def test_bfloat16_goes_through_torch(tmp_path: Path) -> None:
    write(np.array([[1.0, -2.5]]), tmp_path / "x.safetensors", dtype="bfloat16")
    held = read(tmp_path / "x.safetensors")
    assert held.dtype == "bfloat16"
    same(held.values, np.array([[1.0, -2.5]], np.float32))


def dense(observed: Observations) -> np.ndarray:
    whole = np.full(observed.shape, np.nan)
    whole[tuple(observed.coordinates.numpy().T)] = observed.values.numpy()
    return whole


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".parquet"])
@given(
    hnp.arrays(np.float64, (2, 3, 4), elements=st.floats(-1e9, 1e9) | st.just(np.nan)).filter(
        lambda array: not np.isnan(array).all()
    )
)
@QUICK
def test_tables_of_entries(tmp_path: Path, suffix: str, array: np.ndarray) -> None:
    write(array, tmp_path / f"x{suffix}", dims=DIMS, coordinates=LABELS)
    held = read(tmp_path / f"x{suffix}")
    assert isinstance(held.values, Observations)
    np.testing.assert_array_equal(dense(held.values), array)
    assert (held.dims, held.name, held.missing) == (DIMS, "value", np.isnan(array).sum())
    for mode, labels in (LABELS | {"kind": np.arange(4)}).items():
        np.testing.assert_array_equal(held.coordinates[mode], labels)


def test_table_keeps_duplicates_and_sorts_levels(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("who,n,score,extra\nzoe,10,1,x\nann,9,2,x\nzoe,10,3,y\nann,10,,y\n")
    held = read(tmp_path / "x.csv", value="score", modes=["n", "who"])
    assert list(held.coordinates["n"]) == [9, 10]
    assert list(held.coordinates["who"]) == ["ann", "zoe"]
    assert held.values.coordinates.tolist() == [[1, 1], [0, 0], [1, 1]]
    assert held.values.values.tolist() == [1, 2, 3]
    assert (held.values.shape, held.missing, held.dtype) == ((2, 2), 1, "int64")


@pytest.mark.parametrize("suffix", suffixes(writing=True))
def test_nothing_but_the_file_is_left(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"x{suffix}"
    for _ in range(2):  # the second replaces the first
        write(np.arange(48, dtype=np.uint8).reshape(4, 4, 3), path)
        assert [entry.name for entry in tmp_path.iterdir()] == [path.name]
    assert read(path).shape == (4, 4, 3)


PIPED = [".npy", ".npz", ".png", ".jpg", ".bmp", ".webp", ".tiff", ".safetensors", ".csv", ".parquet", ".nc"]


@pytest.mark.parametrize("suffix", PIPED)
def test_standard_input_is_recognised(tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / f"x{suffix}"
    write(np.arange(48, dtype=np.uint8).reshape(4, 4, 3), path)
    stream = types.SimpleNamespace(buffer=BytesIO(path.read_bytes()), isatty=lambda: False)
    monkeypatch.setattr(sys, "stdin", stream)
    held = read("-")
    assert held.source == "-"
    assert not held.lazy
    expected = read(path).load()
    if suffix in (".csv", ".parquet"):
        np.testing.assert_array_equal(dense(held.values), dense(expected.values))
    else:
        same(held.array(), expected.array())


@pytest.mark.parametrize("content", [b"", b"nothing known\n", b"\0\1\2\3" * 10])
def test_standard_input_that_is_nothing(content: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    stream = types.SimpleNamespace(buffer=BytesIO(content), isatty=lambda: False)
    monkeypatch.setattr(sys, "stdin", stream)
    with pytest.raises(FileError, match="standard input"):
        read("-")


def test_standard_output_is_npy(monkeypatch: pytest.MonkeyPatch) -> None:
    out = BytesIO()
    monkeypatch.setattr(sys, "stdout", types.SimpleNamespace(buffer=out))
    write(np.arange(6.0).reshape(2, 3), "-")
    same(np.load(BytesIO(out.getvalue())), np.arange(6.0).reshape(2, 3))


def test_labels_must_fit() -> None:
    array = np.ones((2, 3))
    for wrong in (
        {"dims": ("a",)},
        {"dims": ("a", "a")},
        {"coordinates": {"z": [1]}},
        {"coordinates": {"i": [1, 2, 3]}},
        {"units": {"z": "m"}},
    ):
        with pytest.raises(DataError, match=r"dims|coordinates|units"):
            write(array, "x.npz", **wrong)
