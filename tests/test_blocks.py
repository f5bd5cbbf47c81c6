"""Arrays that are read box by box."""

from __future__ import annotations

import pickle
from pathlib import Path

import dask.array
import h5py
import numpy as np
import pytest
import torch
import zarr
from hypothesis import given
from hypothesis import strategies as st

import tenfold as tn
from tenfold._blocks import memory_bytes
from tenfold.errors import DataError, FileError, TenfoldError

ARRAY = np.arange(4 * 30 * 7, dtype=np.float64).reshape(4, 30, 7)


def kinds(folder: Path) -> dict[str, object]:
    np.save(folder / "a.npy", ARRAY)
    stored = zarr.create_array(str(folder / "a.zarr"), shape=ARRAY.shape, dtype=ARRAY.dtype, chunks=(2, 8, 7))
    stored[...] = ARRAY
    with h5py.File(folder / "a.h5", "w") as file:
        file.create_dataset("a", data=ARRAY, chunks=(1, 10, 7))
    return {
        "memory": ARRAY,
        "tensor": torch.from_numpy(ARRAY),
        "map": np.load(folder / "a.npy", mmap_mode="r"),
        "dask": dask.array.from_array(ARRAY, chunks=((1, 3), (10, 20), 7)),
        "zarr": zarr.open_array(str(folder / "a.zarr"), mode="r"),
        "hdf5": h5py.File(folder / "a.h5")["a"],
        "read": tn.Blocks(lambda box: ARRAY[box], ARRAY.shape, ARRAY.dtype),
    }


@pytest.mark.parametrize("kind", ["memory", "tensor", "map", "dask", "zarr", "hdf5", "read"])
def test_every_kind_of_array_is_read_alike(kind: str, tmp_path: Path) -> None:
    blocks = tn.Blocks.of(kinds(tmp_path)[kind])
    assert (blocks.shape, blocks.dtype) == (ARRAY.shape, torch.float64)
    box = (slice(1, 3), slice(5, 22), slice(0, 7))
    assert np.array_equal(blocks.box(box).numpy(), ARRAY[box])
    assert np.array_equal(blocks[2, ::-3, 1:6:2], ARRAY[2, ::-3, 1:6:2])
    assert np.array_equal(blocks[-1], ARRAY[-1])
    assert np.array_equal(blocks[..., 2], ARRAY[..., 2])


@pytest.mark.parametrize("kind", ["map", "dask", "zarr"])
def test_workers_can_be_sent_what_is_not_in_memory(kind: str, tmp_path: Path) -> None:
    blocks = pickle.loads(pickle.dumps(tn.Blocks.of(kinds(tmp_path)[kind])))
    assert np.array_equal(blocks[...], ARRAY)


@given(st.data())
def test_boxes_are_small_and_together_the_array(data: st.DataObject) -> None:
    shape = tuple(data.draw(st.lists(st.integers(1, 14), min_size=1, max_size=3)))
    chunks = data.draw(st.none() | st.tuples(*(st.integers(1, n) for n in shape)))
    whole = data.draw(st.tuples(*(st.booleans() for _ in shape)))
    entries = data.draw(st.integers(1, 400))
    blocks = tn.Blocks.of(np.zeros(shape))
    blocks = tn.Blocks(blocks.read, shape, float, chunks=chunks)
    cuts = blocks.cuts(whole, [1] * len(shape), entries)
    sizes = [n if w else min(n, c) for n, w, c in zip(shape, whole, chunks or [1] * len(shape), strict=True)]
    if cuts is None:
        assert np.prod(sizes) > entries
        return
    seen = np.zeros(shape, dtype=int)
    for box in cuts:
        assert 0 < seen[box].size <= cuts.largest <= entries
        for part, extent, full, chunk in zip(box, shape, whole, chunks or [1] * len(shape), strict=True):
            assert part.start % chunk == 0 or full
            assert part.stop % chunk == 0 or part.stop == extent
            assert not full or part == slice(0, extent)
        seen[box] += 1
    assert (seen == 1).all()
    assert len(list(cuts)) == len(cuts)


def test_cuts_keep_units_together() -> None:
    cuts = tn.Blocks.of(np.zeros((24, 5))).cuts([False, False], [4, 1], 20)
    assert cuts is not None
    assert all(box[0].start % 4 == 0 and box[0].stop % 4 == 0 for box in cuts)
    assert len(cuts) > 1


@pytest.mark.parametrize("entries", [7, 100, 3000, 10_000])
def test_chunks_that_are_too_large_are_cut(entries: int) -> None:
    blocks = tn.Blocks(lambda box: np.zeros(1), (7, 50, 60), float, chunks=(5, (20, 30), 40))
    assert entries > 7 * 20 * 40 or blocks.cuts([True, False, False], [1, 1, 1], entries) is None
    cuts = blocks.cuts([True, False, False], [1, 1, 1], entries, within=True)
    assert cuts is not None
    assert cuts.largest <= entries
    seen = np.zeros(blocks.shape, dtype=int)
    for box in cuts:
        assert box[0] == slice(0, 7)
        seen[box] += 1
    assert (seen == 1).all()


def test_a_read_that_fails_says_where() -> None:
    def read(box: tuple[slice, ...]) -> np.ndarray:
        raise RuntimeError("no such\nchunk")

    blocks = tn.Blocks(read, (6, 7), float, name="a.zarr")
    said = r"^reading \[3:6, 2:7\] of a.zarr failed: RuntimeError: no such chunk$"
    with pytest.raises(FileError, match=said):
        blocks.box((slice(3, 6), slice(2, 7)))
    with pytest.raises(FileError, match=said):
        blocks[3:6, 2:7]


def test_an_array_without_a_name_is_the_array() -> None:
    assert tn.Blocks.of(zarr.create_array({}, shape=(3,), dtype=float)).name == "the array"
    assert tn.Blocks.of(zarr.create_array({}, name="a", shape=(3,), dtype=float)).name == "/a"


@pytest.mark.parametrize(
    ("dtype", "computed"),
    [
        ("uint8", torch.float64),
        ("bool", torch.float64),
        (">i4", torch.float64),
        ("uint64", torch.float64),
        ("float16", torch.float32),
        (">f4", torch.float32),
        ("complex64", torch.complex64),
        ("longdouble", torch.float64),
    ],
)
def test_numbers_of_every_dtype(dtype: str, computed: torch.dtype) -> None:
    array = np.array([[0, 1], [1, 0]], dtype=dtype)
    found = tn.Blocks.of(array).box((slice(0, 2), slice(1, 2)))
    assert found.dtype == computed
    assert found.flatten().tolist() == [1, 0]


def test_what_cannot_be_computed_with_is_refused() -> None:
    holes = np.zeros((6, 7))
    holes[4, 5] = np.nan
    with pytest.raises(DataError, match=r"NaN at \(4, 5\); missing cells"):
        tn.Blocks.of(holes).box((slice(3, 6), slice(2, 7)))
    holes[4, 5] = -np.inf
    with pytest.raises(DataError, match=r"infinite entry at \(4, 5\)"):
        tn.Blocks.of(holes).box((slice(0, 6), slice(0, 7)))
    with pytest.raises(DataError, match=r"gave shape \(2,\), not \(3,\)"):
        tn.Blocks(lambda box: np.zeros(2), (3,), float).box((slice(0, 3),))
    with pytest.raises(DataError, match="must hold numbers"):
        tn.Blocks(lambda box: box, (3,), "U5")
    with pytest.raises(DataError, match="empty"):
        tn.Blocks(lambda box: box, (3, 0), float)
    with pytest.raises(DataError, match="do not fit"):
        tn.Blocks(lambda box: box, (3,), float, chunks=((1, 1),))


def test_amounts_of_memory() -> None:
    assert memory_bytes("2 GB") == memory_bytes("2gb") == memory_bytes(2e9) == 2 * 10**9
    assert memory_bytes("500MB") == 5 * 10**8
    assert memory_bytes("1.5 GiB") == 3 * 2**29
    assert memory_bytes() > 10**7
    for wrong in ("two", "2 XB", "", -1, True, float("nan"), "1 MB", [2]):
        with pytest.raises(TenfoldError, match="memory"):
            memory_bytes(wrong)
