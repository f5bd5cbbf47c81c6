"""Files made by others: layouts of every family, what is lazy, what is chosen."""

import shutil
import warnings
import zipfile
from pathlib import Path

import h5py
import numpy as np
import png
import pyarrow.csv
import pyarrow.parquet
import pytest
import scipy.sparse
import tifffile
import torch
import xarray
import zarr
from PIL import Image
from safetensors.torch import save_file

import tenfold as tn
from tenfold.errors import DataError, FileError, TenfoldError
from tenfold.io import LazyArray, read
from tenfold.observations import Observations


def test_npz_of_several_needs_a_choice(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", first=np.ones((2, 3)), second=np.zeros(4))
    with pytest.raises(DataError, match=r"variable \(--variable NAME\): first \(2, 3\), second \(4,\)"):
        read(tmp_path / "x.npz")
    with pytest.raises(DataError, match=r"no variable 'secon' \(did you mean 'second'\?\)"):
        read(tmp_path / "x.npz", variable="secon")
    assert read(tmp_path / "x.npz", variable="second").shape == (4,)


def test_safetensors_of_several_needs_a_choice(tmp_path: Path) -> None:
    save_file({"a": torch.ones(2, 3), "b": torch.zeros(4, dtype=torch.float16)}, tmp_path / "x.safetensors")
    with pytest.raises(DataError, match=r"a \(2, 3\), b \(4,\)"):
        read(tmp_path / "x.safetensors")
    assert read(tmp_path / "x.safetensors", variable="b").dtype == "float16"


@pytest.mark.parametrize("dtype", [">f4", ">i2", "g"])
def test_foreign_numbers_become_native(tmp_path: Path, dtype: str) -> None:
    np.save(tmp_path / "x.npy", np.arange(5).astype(dtype))
    values = read(tmp_path / "x.npy").array()
    assert values.dtype.isnative
    torch.from_numpy(values)  # takes neither other byte orders nor long doubles
    np.testing.assert_array_equal(values, np.arange(5))


def test_palette_transparency_animation_and_orientation(tmp_path: Path) -> None:
    colours = np.zeros((3, 4, 3), np.uint8)
    colours[0, :, 0] = 255
    palette = Image.fromarray(colours).quantize(4)
    palette.save(tmp_path / "p.png")
    np.testing.assert_array_equal(read(tmp_path / "p.png").values, colours)
    palette.save(tmp_path / "t.png", transparency=0)
    assert read(tmp_path / "t.png").shape == (3, 4, 4)

    frames = [Image.new("L", (4, 3), shade) for shade in (10, 200)]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    assert (read(tmp_path / "a.gif").array() == 10).all()

    exif = Image.Exif()
    exif[0x0112] = 6  # turned by a quarter
    Image.fromarray(colours).save(tmp_path / "o.jpg", exif=exif)
    assert read(tmp_path / "o.jpg").shape == (4, 3, 3)


def test_gray_with_alpha_one_bit_and_cmyk(tmp_path: Path) -> None:
    Image.new("LA", (4, 3)).save(tmp_path / "la.png")
    assert list(read(tmp_path / "la.png").coordinates["channel"]) == ["gray", "alpha"]
    Image.new("1", (4, 3), 1).save(tmp_path / "b.png")
    assert (read(tmp_path / "b.png").array() == 255).all()
    Image.new("CMYK", (4, 3)).save(tmp_path / "c.jpg")
    assert list(read(tmp_path / "c.jpg").coordinates["channel"]) == ["cyan", "magenta", "yellow", "black"]


def test_png_of_16_bits_written_by_others(tmp_path: Path) -> None:
    rows = np.arange(24, dtype=np.uint16).reshape(2, 12) * 2000
    with (tmp_path / "x.png").open("wb") as handle:
        png.Writer(4, 2, greyscale=False, bitdepth=16, interlace=True).write(handle, rows)
    np.testing.assert_array_equal(read(tmp_path / "x.png").values, rows.reshape(2, 4, 3))


def test_tiff_stacks_name_their_modes(tmp_path: Path) -> None:
    stack = np.arange(2 * 3 * 4 * 5, dtype=np.uint16).reshape(2, 3, 4, 5)
    tifffile.imwrite(tmp_path / "x.tif", stack, ome=True, metadata={"axes": "TZYX"}, compression="zlib")
    held = read(tmp_path / "x.tif")
    assert held.dims == ("time", "z", "y", "x")
    np.testing.assert_array_equal(held.values, stack)


def test_netcdf_fill_values_become_nan_and_labels_come_along(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "x.nc", "w") as file:
        file["lat"] = [10.0, 20.0]
        file["lat"].make_scale("lat")
        file["lat"].attrs["units"] = "degrees_north"
        file["step"] = [0, 1, 2]
        file["step"].make_scale("step")
        packed = file.create_dataset("air", data=np.array([[1, 2, -9], [4, 5, 6]], np.int16))
        packed.dims[0].attach_scale(file["lat"])
        packed.dims[1].attach_scale(file["step"])
        packed.attrs.update({"_FillValue": np.int16(-9), "scale_factor": 0.5, "units": "K"})
        file["station"] = 3.0
    held = read(tmp_path / "x.nc")
    assert (held.name, held.dims, held.unit, held.units) == ("air", ("lat", "step"), "K", {"lat": "degrees_north"})
    assert held.missing is None
    loaded = held.load()
    assert loaded.missing == 1
    np.testing.assert_array_equal(loaded.values, [[0.5, 1, np.nan], [2, 2.5, 3]])
    with pytest.raises(DataError, match="single number"):
        read(tmp_path / "x.nc", variable="station")
    with pytest.raises(DataError, match=r"no variable 'aire' \(did you mean 'air'\?\); it holds air \(2, 3\)"):
        read(tmp_path / "x.nc", variable="aire")


def test_netcdf_of_the_classic_format_and_several_variables(tmp_path: Path) -> None:
    data = xarray.Dataset({"u": (("t", "x"), np.arange(6.0).reshape(2, 3)), "v": ("x", np.ones(3))})
    data.to_netcdf(tmp_path / "x.nc", engine="scipy")
    with pytest.raises(DataError, match=r"u \(2, 3\), v \(3,\)"):
        read(tmp_path / "x.nc")
    held = read(tmp_path / "x.nc", variable="u")
    np.testing.assert_array_equal(held.array(), np.arange(6.0).reshape(2, 3))
    assert held.dims == ("t", "x")


def test_netcdf_groups(tmp_path: Path) -> None:
    data = xarray.Dataset({"u": (("t", "x"), np.ones((2, 3)))}, {"x": [1, 2, 4]})
    data.to_netcdf(tmp_path / "x.nc", group="model/run", engine="h5netcdf")
    held = read(tmp_path / "x.nc")
    assert held.name == "model/run/u"
    assert list(held.coordinates["x"]) == [1, 2, 4]
    np.testing.assert_array_equal(held.array(), np.ones((2, 3)))


def test_plain_hdf5(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["deep/er"] = np.arange(6, dtype=">i4").reshape(2, 3)
        file["deep/er"].dims[0].label = "depth"
        file["text"] = "words"
    held = read(tmp_path / "x.h5")
    assert (held.name, held.dims, held.missing) == ("deep/er", ("i", "j"), 0)
    values = held.array()
    assert values.dtype.isnative
    np.testing.assert_array_equal(values, np.arange(6).reshape(2, 3))
    with h5py.File(tmp_path / "s.h5", "w") as file:
        file["words"] = ["a", "b"]
    with pytest.raises(DataError, match="not numbers"):
        read(tmp_path / "s.h5", variable="words")


def test_zarr_plain_array_group_and_zip(tmp_path: Path) -> None:
    array = np.arange(6.0).reshape(2, 3)
    zarr.save(str(tmp_path / "plain.zarr"), array)
    np.testing.assert_array_equal(read(tmp_path / "plain.zarr").array(), array)

    group = xarray.Dataset({"u": (("t", "x"), array)}, {"x": [1, 2, 4]})
    for version in (2, 3):
        path = tmp_path / f"v{version}.zarr"
        group.to_zarr(path, zarr_format=version, consolidated=False)
        held = read(path)
        assert (held.name, held.dims) == ("u", ("t", "x"))
        assert list(held.coordinates["x"]) == [1, 2, 4]
        np.testing.assert_array_equal(held.array(), array)

    zipped = shutil.make_archive(str(tmp_path / "z"), "zip", tmp_path / "v3.zarr")
    for name in ("z.zarr.zip", "zz.zarr"):
        shutil.copy(zipped, tmp_path / name)
        np.testing.assert_array_equal(read(tmp_path / name).values[1], array[1])


def test_a_part_is_read_without_the_rest(tmp_path: Path) -> None:
    # Chunks that are no valid deflate stream: whoever touches them fails, so reading beside them touches only its own.
    with h5py.File(tmp_path / "x.h5", "w") as file:
        data = file.create_dataset("a", (4, 1000), "f8", chunks=(1, 1000), compression="gzip")
        data[0] = 7.0
        for row in (1, 2, 3):
            data.id.write_direct_chunk((row, 0), b"no deflate stream")
    lazy = read(tmp_path / "x.h5").values
    assert isinstance(lazy, LazyArray)
    assert (lazy[0] == 7).all()
    with pytest.raises(Exception, match=r"x\.h5"):
        np.asarray(lazy)


def test_files_are_closed(tmp_path: Path) -> None:
    xarray.Dataset({"u": ("x", np.ones(3))}).to_netcdf(tmp_path / "x.nc", engine="h5netcdf")
    lazy = read(tmp_path / "x.nc").values
    np.asarray(lazy)
    with h5py.File(tmp_path / "x.nc", "r+") as file:  # refused while anybody holds it open for reading
        file["u"][...] = 5.0
    np.testing.assert_array_equal(np.asarray(lazy), [5.0, 5.0, 5.0])


def test_an_ordinary_zip_is_no_zarr(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "x.zarr.zip", "w") as archive:
        archive.writestr("hello", "world")
    with pytest.raises(ValueError, match=r"x\.zarr\.zip"):
        read(tmp_path / "x.zarr.zip")


COUNTS = "who,what,value\n" + "".join(f"{n},{(7 * n) % 200},{n % 5}\n" for n in range(200))


@pytest.mark.parametrize(
    ("duplicates", "values"), [("sum", [5.0, 2.0, 1.0]), ("mean", [2.5, 2.0, 1.0]), ("max", [4.0, 2.0, 1.0])]
)
@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_cells_that_a_table_does_not_list_may_be_zero(
    tmp_path: Path, suffix: str, duplicates: str, values: list[float]
) -> None:
    (tmp_path / "x.csv").write_text("a,b,value\nu,1,1\nv,2,1\nu,1,4\nu,2,2\n")
    if suffix == ".parquet":
        pyarrow.parquet.write_table(pyarrow.csv.read_csv(tmp_path / "x.csv"), tmp_path / "x.parquet")
    held = read(tmp_path / f"x{suffix}", rest="zero", duplicates=duplicates).values
    assert isinstance(held, Observations)
    assert (held.rest, held.shape, held.weights) == ("zero", (2, 2), None)
    assert held.coordinates.tolist() == [[0, 0], [0, 1], [1, 1]]
    assert held.values.tolist() == values
    assert len(read(tmp_path / f"x{suffix}", duplicates=duplicates).values) == 3
    assert len(read(tmp_path / f"x{suffix}", rest="unknown").values) == 4


def test_a_table_that_looks_like_counts_warns_of_its_zeros(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text(COUNTS)
    with pytest.warns(UserWarning, match=r"0\.005 of its cells.*rest='zero' \(fit --rest zero\)") as caught:
        assert read(path).values.rest == "unknown"
    assert caught[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        read(path, rest="unknown")
        assert read(path, rest="zero").values.rest == "zero"
        for other in (COUNTS + "0,0,0.5\n", COUNTS + "0,1,-1\n", "a,b,value\n0,0,1\n1,1,2\n"):
            path.write_text(other)
            read(path)


def test_a_method_for_sparse_arrays_says_how_to_read_a_table_as_one(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("a,b,c,value\n0,0,0,1\n1,1,1,2\n")
    with pytest.raises(TenfoldError, match=r"arrays with missing cells; .*rest='zero' \(fit --rest zero\)$"):
        tn.fit(read(tmp_path / "x.csv"), "cp", ranks=1, method="cp_poisson")
    with pytest.raises(TenfoldError, match=r"does not take arrays with missing cells; [a-z_, 0-9]* do$"):
        tn.fit(read(tmp_path / "x.csv"), "tucker", ranks=1, method="tree_svd")
    fit = tn.fit(read(tmp_path / "x.csv", rest="zero"), "cp", ranks=2, method="cp_poisson")
    assert fit.method == "cp_poisson"


@pytest.mark.parametrize(
    ("header", "column"),
    [
        ("x,y,z,v", "v"),
        ("x,Y,val,z", "val"),
        ("x,y,z", "z"),
        ("y,Value,v", "Value"),
        ("a,y,b", "y"),
        ("y,a,X", "X"),
        ("a,b,c", "c"),
    ],
)
def test_the_column_of_values_is_known_by_its_name(tmp_path: Path, header: str, column: str) -> None:
    width = header.count(",") + 1
    rows = [",".join(str(10 * row + n) for n in range(width)) for row in range(3)]
    (tmp_path / "x.csv").write_text("\n".join([header, *rows]))
    dataset = read(tmp_path / "x.csv")
    assert column not in dataset.dims
    assert set(dataset.dims) == set(header.split(",")) - {column}


def test_tables_in_memory_are_shown_the_way() -> None:
    table = pyarrow.table({"a": ["x", "y"], "b": ["u", "v"], "value": [1.0, 2.0]})
    for given in (table, table.to_pandas()):
        with pytest.raises(DataError, match=r"not object \((Table|DataFrame)\); .*Observations\.from_table$"):
            tn.fit(given)
    with pytest.raises(DataError, match=r"must hold numbers, not object \(list\)$"):
        tn.fit([object()])
    both = Observations.from_table(table, value="value", modes=["a", "b"])
    with pytest.raises(DataError, match="give its first element"):
        tn.fit(both)
    assert tn.fit(both[0], "cp", ranks=1).shape == (2, 2)


@pytest.mark.parametrize("format", ["csr", "csc", "coo", "bsr", "dia"])
@pytest.mark.parametrize("kind", ["array", "matrix"])
def test_sparse_arrays_of_scipy(tmp_path: Path, format: str, kind: str) -> None:
    whole = np.zeros((4, 6), np.float32)
    whole[[0, 1, 3], [5, 2, 2]] = [1, -2, 3]
    scipy.sparse.save_npz(tmp_path / "x.npz", getattr(scipy.sparse, f"{format}_{kind}")(whole))
    held = read(tmp_path / "x.npz")
    assert isinstance(held.values, Observations)
    assert (held.values.rest, held.shape, held.dtype, held.missing) == ("zero", (4, 6), "float32", 0)
    found = np.zeros((4, 6), np.float32)
    found[tuple(held.values.coordinates.T.numpy())] = held.values.values.numpy()
    np.testing.assert_array_equal(found, whole)
    assert read(tmp_path / "x.npz", variable="data").array().ndim >= 1


def test_damaged_or_empty_sparse_arrays_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    good = {"data": np.ones(2), "indices": [0, 1], "indptr": [0, 1, 2], "shape": [2, 2], "format": b"csr"}
    np.savez(path, **good)
    assert read(path).shape == (2, 2)
    bad = ({"indices": [0, 9]}, {"indptr": [0, 9, 2]}, {"format": b"abc"}, {"indices": [0, -1]}, {"shape": [5, 5]})
    for wrong in bad:
        np.savez(path, **{**good, **wrong})
        with pytest.raises(FileError, match=r"'x\.npz' is truncated, damaged or not"):
            read(path)
    scipy.sparse.save_npz(path, scipy.sparse.csr_array((3, 2)))
    with pytest.raises(DataError, match=r"shape \(3, 2\) without an entry"):
        read(path)
    scipy.sparse.save_npz(path, scipy.sparse.csr_array([[1.0, np.nan]]))
    with pytest.raises(DataError, match="nan"):
        read(path)


def test_a_dataset_is_shown_without_its_numbers_and_labels(tmp_path: Path) -> None:
    assert repr(read("sample:il2")) == (
        "Dataset('sample:il2': ligand 13 x time 4 x dose 12 x cell 8; float64; "
        "labels of ligand, time, dose, cell; 192 missing)"
    )
    np.save(tmp_path / "x.npy", np.ones(3))
    assert repr(read(tmp_path / "x.npy")) == f"Dataset('{tmp_path / 'x.npy'}': i 3; float64; 0 missing)"
    (tmp_path / "x.csv").write_text("a,n\n" + "".join(f"{n},{n}.5\n" for n in range(5000)))
    shown = repr(read(tmp_path / "x.csv"))
    assert "n of a 5000; float64; labels of a; Observations(" in shown
    assert "4999" not in shown


def test_a_fit_knows_where_its_data_came_from(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.ones((3, 2)))
    held = read(tmp_path / "x.npy")
    fit = tn.fit(held, "cp", ranks=1)
    assert fit.source == str(tmp_path / "x.npy")
    assert tn.fit(held, "cp", ranks=1, source="mine").source == "mine"
    assert tn.fit(np.ones((3, 2)), "cp", ranks=1).source is None
    assert "sample:il2: 13 x 4" in str(tn.fit(read("sample:il2"), "cp", ranks=1))
