"""The bundled data: what it says it is, free, small, and the numbers of its source."""

import subprocess
import sys
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest

from tenfold.errors import FileError
from tenfold.io import read, samples

FOLDER = Path(str(files("tenfold"))) / "samples"


def test_together_under_two_megabytes() -> None:
    assert 0 < sum(path.stat().st_size for path in FOLDER.rglob("*") if path.is_file()) < 2_000_000


@pytest.mark.parametrize("sample", samples(), ids=lambda sample: sample.name)
def test_each_is_what_the_catalogue_says(sample) -> None:
    held = read(f"sample:{sample.name}")
    assert held.shape == sample.shape
    assert len(held.dims) == len(held.shape)
    assert (held.note, held.licence, held.origin) == (sample.description, sample.licence, sample.origin)
    assert all((held.note, held.licence, held.origin))
    assert held.source == f"sample:{sample.name}"
    for mode, labels in held.coordinates.items():
        assert len(labels) == held.shape[held.dims.index(mode)]
    assert f"## {sample.name}" in (FOLDER / "README.md").read_text()


def test_every_file_is_in_the_catalogue() -> None:
    listed = {sample.path.name for sample in samples()} | {"README.md", "samples.toml"}
    assert {path.name for path in FOLDER.iterdir()} == listed


def test_unknown_sample() -> None:
    with pytest.raises(FileError, match=r"no sample 'astronaught' \(did you mean 'astronaut'\?\); there are"):
        read("sample:astronaught")


def test_nothing_heavy_is_loaded_before_it_is_needed() -> None:
    code = "import sys, tenfold.io; tenfold.io.read('sample:il2'); print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert "tenfold.io.tables" in loaded
    assert not {"torch", "xarray", "pyarrow", "h5py", "zarr", "tifffile"} & set(loaded)


@pytest.mark.peer
def test_numbers_of_tensorly() -> None:
    datasets = pytest.importorskip("tensorly.datasets")
    pines, source = read("sample:indian_pines"), datasets.load_indian_pines()
    np.testing.assert_array_equal(pines.array(), np.asarray(source.tensor)[14:78, 4:68])
    assert pines.dtype == "uint16"
    np.testing.assert_array_equal(pines.coordinates["band"], source.ticks[1])
    il2, source = read("sample:il2"), datasets.load_IL2data()
    np.testing.assert_array_equal(il2.array(), np.asarray(source.tensor))
    assert il2.missing == 192
    for mode, labels in zip(il2.dims, source.ticks, strict=True):
        np.testing.assert_array_equal(il2.coordinates[mode], labels)


@pytest.mark.peer
def test_pixels_of_scikit_image() -> None:
    data = pytest.importorskip("skimage.data")
    np.testing.assert_array_equal(read("sample:astronaut").array(), data.astronaut())
