"""The verb `fit`: every kind of input, budgets that hold, records that come back, interrupts that lose nothing."""

from __future__ import annotations

import functools
import json
import math
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import tenfold as tn
from tenfold.decomposition import Progress, find
from tenfold.errors import DataError, FileError, StructureError, TenfoldError
from tenfold.structure_search import ladder
from tenfold.structure_search.spaces import Point, Ring
from tenfold.verbs import _searching
from tenfold.verbs import fit as verb


def noisy(shape: tuple[int, ...] = (6, 5, 4), seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape)


@functools.cache
def fit_of_noise() -> tn.Fit:
    """For tests that only read it."""
    return tn.fit(noisy(), error=0.4)


def planted(shape: tuple[int, ...], rank: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    letters = "ijklmn"[: len(shape)]
    factors = [rng.standard_normal((n, rank)) for n in shape]
    full = np.einsum(",".join(f"{c}r" for c in letters) + "->" + letters, *factors)
    return full / full.std()


def plain(data: Any) -> np.ndarray:
    """A copy as a NumPy array, whatever it was."""
    if isinstance(data, torch.Tensor):
        return data.detach().resolve_neg().double().numpy().copy()
    return np.array(data)


def true_error(data: Any, fit: tn.Fit) -> float:
    """|X - N| / |X| in double precision, from the dense array."""
    x = np.asarray(data).astype(np.complex128 if np.iscomplexobj(data) else np.float64)
    n = fit.network.to(torch.complex128 if fit.network.dtype.is_complex else torch.float64).dense().numpy()
    assert n.shape == x.shape
    scale = np.abs(x).max() or 1.0
    x, n = x / scale, n / scale
    total = np.linalg.norm(x)
    return float(np.linalg.norm(x - n) / total) if total else float(np.linalg.norm(n))


# --- input ------------------------------------------------------------------------------------------------------------

WHOLE = (noisy() * 40 + 60).round()
DTYPES = "bool int8 uint8 int16 uint16 int32 uint32 int64 uint64 float16 float32 float64 longdouble >f4 >f8 >i4 >u2 >c8"


@pytest.mark.parametrize("dtype", [*DTYPES.split(), "complex64", "complex128"])
def test_every_dtype_of_numpy(dtype: str) -> None:
    data = (WHOLE > 60) if dtype == "bool" else np.clip(WHOLE, 0, 127).astype(dtype)
    fit = tn.fit(data, "i a, a j k -> i j k", sizes={"a": 6})
    assert fit.error < 1e-3
    assert true_error(data, fit) == pytest.approx(fit.error, abs=1e-6)
    assert fit.source_dtype == str(data.dtype)
    kind = np.dtype(dtype)
    single = kind.kind in "fc" and kind.itemsize // (2 if kind.kind == "c" else 1) <= 4
    assert torch.finfo(fit.network.dtype).bits == (32 if single else 64)
    assert fit.network.dtype.is_complex == (kind.kind == "c")


def xarray_with_labels() -> Any:
    xarray = pytest.importorskip("xarray")
    return xarray.DataArray(WHOLE, dims=("x", "y", "t"), coords={"x": np.arange(6) * 0.5, "t": list("abcd")})


def dask_array() -> Any:
    return pytest.importorskip("dask.array").from_array(WHOLE, chunks=2)


INPUTS: dict[str, Callable[[], Any]] = {
    "lists": lambda: WHOLE.tolist(),
    "read-only": lambda: np.frombuffer(WHOLE.tobytes()).reshape(WHOLE.shape),
    "unaligned": lambda: np.frombuffer(b"x" + WHOLE.tobytes(), offset=1).reshape(WHOLE.shape),
    "negative strides": lambda: WHOLE[::-1, ::-1][::-1, ::-1],
    "Fortran order": lambda: np.asfortranarray(WHOLE),
    "torch": lambda: torch.tensor(WHOLE),
    "torch with gradient": lambda: torch.tensor(WHOLE, requires_grad=True),
    "torch bfloat16": lambda: torch.tensor(WHOLE).bfloat16(),
    "torch integers": lambda: torch.tensor(WHOLE).long(),
    "torch lazily negated": lambda: (torch.tensor(1j * WHOLE).conj() * 1).conj().imag,
    "xarray": xarray_with_labels,
    "dask": dask_array,
    "unmasked numpy.ma": lambda: np.ma.array(WHOLE),
    "fractions of a view": lambda: np.stack([WHOLE, WHOLE])[0],
}


@pytest.mark.parametrize("kind", INPUTS)
def test_every_container(kind: str) -> None:
    data = INPUTS[kind]()
    before = plain(data)
    fit = tn.fit(data, "i a, a j b, b k -> i j k", sizes={"a": 6, "b": 4})
    assert fit.error < 1e-2
    assert np.array_equal(before, plain(data)), "the data were written to"
    assert not any(core.requires_grad for core in fit.network.cores)


def test_names_and_labels_come_from_xarray_and_arguments() -> None:
    fit = tn.fit(xarray_with_labels(), error=0.2)
    assert fit.dims == ("x", "y", "t")
    assert fit.coordinates["x"].tolist() == [0, 0.5, 1, 1.5, 2, 2.5]
    assert fit.coordinates["t"].tolist() == list("abcd")
    named = tn.fit(WHOLE, error=0.2, dims=["größe", "my axis", "3"], coordinates={"3": [1, 2, 3, 4]})
    assert named.dims == ("größe", "my axis", "3")
    assert named.coordinates["3"].tolist() == [1, 2, 3, 4]


def test_a_read_only_negative_or_foreign_view_of_numpy() -> None:
    fit = tn.fit(WHOLE[::-1, ::2].astype(">i4"), error=0.2)
    assert true_error(WHOLE[::-1, ::2], fit) <= 0.2


@pytest.mark.parametrize("kind", ["csr_matrix", "coo_array", "torch", "torch csr", "pydata"])
def test_sparse_arrays_have_zeros_as_data(kind: str) -> None:
    dense = np.zeros((9, 7))
    dense[2, :] = np.arange(7) - 3
    dense[:, 4] += 2
    if kind == "pydata":
        data = pytest.importorskip("sparse").COO.from_numpy(dense)
    elif kind.startswith("torch"):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch calls its CSR layout a beta
            data = torch.tensor(dense).to_sparse_csr() if "csr" in kind else torch.tensor(dense).to_sparse()
    else:
        data = getattr(pytest.importorskip("scipy.sparse"), kind)(dense)
    fit = tn.fit(data, error=0.01)
    assert true_error(dense, fit) <= 0.01
    assert fit.observed == fit.cells == 63


def test_a_sparse_array_is_given_up_where_a_list_of_its_entries_is_smaller() -> None:
    sparse = pytest.importorskip("scipy.sparse")
    noise = sparse.random(400, 300, 0.01, random_state=0)
    with pytest.warns(UserWarning, match=r"no network that takes less than the 3,600 numbers of a list of the entries"):
        found = tn.fit(noise, error=0.1)
    assert found.stopped == "best"
    assert 0.8 < found.error < 1
    assert found.parameters <= 3 * noise.nnz
    assert max(trial.parameters for trial in found.front) <= 3 * noise.nnz
    low = sparse.random(400, 3, 0.2, random_state=0) @ sparse.random(3, 300, 0.2, random_state=1)
    found = tn.fit(low, error=0.1)
    assert found.error <= 0.1
    assert found.parameters <= 3 * (400 + 300)


def test_observations_and_masks() -> None:
    full = planted((8, 7, 6), 2)
    mask = np.random.default_rng(1).random(full.shape) < 0.4
    masked = np.ma.array(np.where(mask, np.nan, full), mask=mask)
    for data in (masked, tn.Observations.from_masked(masked)):
        fit = tn.fit(data, "i r, j r, k r -> i j k", sizes={"r": 2})
        assert fit.observed == (~mask).sum()
        assert true_error(full, fit) < 0.05, "cells that nobody saw are wrong"


def test_fields_of_records_and_variables_are_arrays() -> None:
    records = np.zeros(50, [("flag", "i1"), ("value", "f8")])
    records["value"] = np.sin(np.arange(50))
    assert np.array_equal(tn.fit(records["value"], error=0.0).network.dense().numpy(), records["value"])
    variable = pytest.importorskip("xarray").Variable(("x", "y", "z"), noisy())
    assert tn.fit(variable, error=0.4).dims == ("x", "y", "z")


def test_nan_of_xarray_is_missing_and_of_numpy_an_error() -> None:
    xarray = pytest.importorskip("xarray")
    holes = planted((8, 7), 1)
    holes[3, 3] = np.nan
    assert tn.fit(xarray.DataArray(holes), error=0.01).observed == 55
    with pytest.raises(DataError, match=r"data has 1 NaN; .*from_nan"):
        tn.fit(holes)


def test_weights() -> None:
    data, weights = planted((8, 7, 6), 1) + 0.0, np.ones((8, 7, 6))
    data[0, 0, 0] = 1e3
    weights[0, 0, 0] = 0
    fit = tn.fit(data, "i r, j r, k r -> i j k", sizes={"r": 1}, weights=weights)
    assert fit.error < 1e-5
    assert tn.fit(data, error=0.1, weights=weights.astype(int)).error <= 0.1


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("scale", [1e200, 1e-200, 1e-310, 1e300])
def test_numbers_whose_squares_leave_the_range(scale: float) -> None:
    data = noisy() * scale
    fit = tn.fit(data, error=0.5)
    assert fit.error == pytest.approx(true_error(data, fit), rel=1e-4)
    assert 0.2 < fit.error <= 0.5
    assert np.linalg.norm(np.array(fit.spectra["i"]) / scale) == pytest.approx(np.linalg.norm(data / scale), rel=1e-3)
    given = tn.fit(data, "i r, j r, k r -> i j k", sizes={"r": 3}, init=None)
    assert given.error == pytest.approx(true_error(data, given), rel=1e-4)
    again = tn.fit(data, given.structure, init=given.network, max_sweeps=1)
    assert again.error <= given.error * 1.001


@pytest.mark.parametrize("scale", [1e30, 1e-30, 3e37])
def test_single_precision_near_the_ends_of_its_range(scale: float) -> None:
    data = (noisy() / 4 * scale).astype(np.float32)
    fit = tn.fit(data, parameters=40)
    assert fit.error == pytest.approx(true_error(data, fit), rel=1e-4)
    assert 0.5 < fit.error < 0.9


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (np.zeros((4, 5, 6)), 0.1),
        (np.ones((1, 1, 1)), 0.1),
        (np.array(3.5), 0.1),
        (2.5, 0.1),
        (np.array([7.0]), 0.1),
        (np.arange(9.0), 0.1),
        (np.sin(np.arange(4096.0)), 1e-6),
        (noisy((30, 20)), 0.4),
        (noisy((1, 5, 1, 4)), 0.3),
        (noisy((2,) * 6), 0.5),
        (noisy((3, 2, 2, 1, 2, 2, 3)), 0.5),
        (noisy((2,) * 11), 0.7),
        (noisy() + 1j * noisy(seed=1), 0.3),
        (np.ones((17, 1)), 0.0),
    ],
    ids=lambda v: str(np.shape(v)) if not isinstance(v, float) else f"{v:g}",
)
def test_shapes_and_special_arrays(data: Any, error: float) -> None:
    fit = tn.fit(data, error=error)
    assert fit.shape == np.shape(data)
    assert true_error(data, fit) <= error
    assert fit.parameters <= max(np.size(data), 1)
    assert sum(trial.chosen for trial in fit.front) == 1
    json.dumps(fit.summary(), allow_nan=False)
    str(fit)


def test_a_zero_tensor_is_fitted_by_zero() -> None:
    fit = tn.fit(np.zeros((4, 5, 6)), "i r, j r, k r -> i j k", sizes={"r": 2})
    assert fit.error == 0
    assert not fit.network.dense().any()


# --- structures -------------------------------------------------------------------------------------------------------

F = tn.formats
FORMATS: dict[str, Callable[[tuple[int, ...]], tn.Structure]] = {
    "cp": lambda s: F.cp(s, 3),
    "tucker": lambda s: F.tucker(s, (3, 3, 2, 2)),
    "tensor_train": lambda s: F.tensor_train(s, (3, 4, 2)),
    "tensor_ring": lambda s: F.tensor_ring(s, 2),
    "fully_connected": lambda s: F.fully_connected(s, 2),
    "hierarchical_tucker": lambda s: F.hierarchical_tucker(s, 3),
    "named cores": lambda s: tn.Structure.for_shape("U[i r], V[j r], k r, l r -> i j k l", s, {"r": 2}),
}  # fmt: skip


@pytest.mark.parametrize("name", FORMATS)
def test_each_format_finds_what_was_planted(name: str) -> None:
    structure = FORMATS[name]((5, 4, 4, 3))
    data = tn.Network.random(structure, seed=3).dense()
    fit = tn.fit(data, structure)
    assert fit.structure.shape == structure.shape
    assert fit.error == pytest.approx(true_error(data, fit), abs=1e-9)
    assert fit.error < (0.3 if name in ("fully_connected", "tensor_ring") else 0.02)
    assert fit.target == "the structure given"


@pytest.mark.parametrize("name", ["kronecker", "tensor_train_matrix", "block_tensor_train", "monarch", "phm"])
def test_formats_of_matrices(name: str) -> None:
    _, structure = F.examples()[name]
    data = tn.Network.random(structure, seed=1).dense()
    fit = tn.fit(data, structure, max_sweeps=20 if name != "kronecker" else None)
    assert fit.error == pytest.approx(true_error(data, fit), abs=1e-9)
    assert fit.error < 0.6


def test_a_core_used_twice_gives_a_symmetric_network() -> None:
    half = noisy((6, 2))
    fit = tn.fit(half @ half.T, "U[i r], U[j r] -> i j", sizes={"r": 2})
    assert fit.error < 1e-4
    assert torch.equal(fit.network.dense(), fit.network.dense().T)


def test_methods_by_name_and_by_function() -> None:
    data = planted((6, 5, 4), 2)
    for method in ("als", "cp_als", "adam", "lbfgs"):
        fit = tn.fit(data, "i r, j r, k r -> i j k", sizes={"r": 2}, method=method, max_sweeps=30)
        assert fit.method == method
        assert fit.error == pytest.approx(true_error(data, fit), abs=1e-9)
    fit = tn.fit(data, F.tucker((6, 5, 4), 2), method=find("hooi").function)
    assert fit.method == "hooi"
    assert fit.error < 1e-6


def test_open_bonds_are_found() -> None:
    data = planted((8, 7, 6), 2) + 0.05 * noisy((8, 7, 6))
    pattern = "i a, a j b, b k -> i j k"
    fit = tn.fit(data, pattern, error=0.1)
    assert true_error(data, fit) <= 0.1
    assert fit.structure.sizes["a"] == fit.structure.sizes["b"] == 2
    small = tn.fit(data, pattern, parameters=60)
    assert small.parameters <= 60
    part = tn.fit(data, pattern, sizes={"a": 2}, error=0.3)
    assert part.structure.sizes["a"] <= 2
    assert true_error(data, part) <= 0.3


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"structure": "i a, a j, k -> i j k"}, "index 'a' of"),
        ({"structure": "i r, j r, k r -> i j k", "error": 0.1}, "only ranks of trees can be found"),
        ({"structure": "i j, k -> i j k", "parameters": 50}, "has fixed sizes"),
        ({"structure": "i j -> i j"}, "has 2"),
        ({"structure": 3}, "a Structure or a pattern, not int"),
        ({"structure": F.cp((2, 2), 1)}, "makes shape"),
        ({"structure": F.cp((6, 5, 4), 1), "sizes": {"r": 2}}, "sizes go with a pattern"),
        ({"method": "als"}, "method is given without a structure"),
        ({"max_sweeps": 3}, "max_sweeps is given without a structure"),
        ({"tol": 0.1}, "tol is given without a structure"),
        ({"structure": "i j, k -> i j k", "method": "alz"}, "alz"),
        ({"structure": "i j, k -> i j k", "max_sweeps": 0}, "max_sweeps must be"),
        ({"structure": "i j, k -> i j k", "tol": -1}, "tol must be"),
        ({"structure": "i a, a j k -> i j k", "error": 0.1, "method": "als"}, "bond 'a' has no size; give it one"),
        ({"error": 0.1, "parameters": 3}, "error and parameters are given"),
        ({"error": 1}, "error must be"),
        ({"error": True}, "error must be"),
        ({"error": "0.1"}, "error must be"),
        ({"error": math.nan}, "error must be"),
        ({"parameters": 2.5}, "parameters must be a whole number"),
        ({"parameters": 3}, "is too few: the smallest network for an array of shape (6, 5, 4) has 15"),
        ({"ratio": 0.5}, "ratio must be"),
        ({"ratio": math.inf}, "ratio must be"),
        ({"ratio": 1000}, "leaves no parameter"),
        ({"seed": -1}, "seed must be"),
        ({"seed": 2**63}, "seed must be"),
        ({"seed": 1.5}, "seed must be"),
        ({"dtype": "int8"}, "dtype must be"),
        ({"dims": ["a", "b"]}, "dims must name each of the 3 axes"),
        ({"dims": ["a", "b", "a"]}, "names an axis twice"),
        ({"coordinates": {"z": [1]}}, "coordinates are given for 'z'"),
        ({"coordinates": {"i": [1, 2]}}, "but the axis has size 6"),
        ({"structure": "i r, j r, k r -> i j k", "sizes": {"r": 10**20}}, "entries, more than memory; give less"),
        ({"dims": (1, "1", "k")}, "dims names an axis twice"),
        ({"weights": np.ones(3)}, "weights have shape (3,)"),
        ({"weights": -np.ones((6, 5, 4))}, "weights must be 0 or more"),
        ({"weights": np.zeros((6, 5, 4))}, "weights are all zero"),
        ({"weights": "heavy"}, "weights must be an array of numbers"),
        ({"weights": np.ones((6, 5, 4)) * 1j}, "not complex"),
    ],
    ids=lambda v: None if isinstance(v, dict) else v,
)
def test_bad_arguments(arguments: dict[str, Any], said: str) -> None:
    with pytest.raises(TenfoldError) as caught:
        tn.fit(noisy(), **arguments)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (np.zeros((3, 0)), "data is empty"),
        ([], "data is empty"),
        ([[1, 2], [3]], "no array of numbers"),
        (["a"], "must hold numbers"),
        (None, "must hold numbers"),
        ({"a": 1}, "must hold numbers"),
        ("x.npy", "read it first"),
        (np.array(["2020-01-01"], "M8[D]"), "must hold numbers"),
        (np.array([1.0, math.inf, -math.inf]), "data has 2 infinite entries"),
        (np.ma.masked_all((3, 3)), "no known cell"),
        (tn.Observations(torch.rand(4, 2), torch.rand(4), None), "on_grid"),
    ],
    ids=range(11),
)
def test_bad_data(data: Any, said: str) -> None:
    with pytest.raises(DataError) as caught:
        tn.fit(data)
    assert said in str(caught.value)


def test_an_unreachable_error_is_said_once() -> None:
    with pytest.warns(UserWarning, match=r"the error is .*, above the 0.01 asked for: .*needs larger ranks") as said:
        tn.fit(noisy(), "i r, j r, k r -> i j k", sizes={"r": 2}, error=0.01)
    assert len(said) == 1


# --- budgets ----------------------------------------------------------------------------------------------------------

X, Y, Z = np.meshgrid(np.linspace(-2, 2, 16), np.linspace(-1, 3, 12), np.linspace(0, 2, 9), indexing="ij")
BLOB = np.exp(-(X**2) - Y**2 - Z)
MIXED = BLOB + 0.02 * noisy(BLOB.shape)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("error", [0.5, 0.1, 0.03, 1e-3])
def test_the_error_asked_for_holds_exactly(error: float, dtype: str) -> None:
    data = MIXED.astype(dtype)
    fit = tn.fit(data, error=error)
    assert true_error(data, fit) <= error
    assert np.linalg.norm(data - fit.network.dense().numpy()) <= error * (1 + 1e-6) * np.linalg.norm(data)
    assert fit.error == pytest.approx(true_error(data, fit), rel=1e-6)
    assert fit.stopped == "budget"


@pytest.mark.parametrize("error", [1e-6, 1e-9, 1e-12])
def test_tiny_errors_hold_too(error: float) -> None:
    data = planted((9, 8, 7), 2)
    fit = tn.fit(data, error=error)
    assert true_error(data, fit) <= error
    assert fit.parameters < data.size / 4


@pytest.mark.parametrize("parameters", [37, 60, 100, 333, 1000, 5000])
def test_the_size_asked_for_holds_exactly(parameters: int) -> None:
    fit = tn.fit(MIXED, parameters=parameters)
    assert fit.parameters <= parameters
    assert fit.parameters == sum(core.numel() for core in fit.network.cores)
    assert fit.error == pytest.approx(true_error(MIXED, fit), abs=1e-6)


@pytest.mark.parametrize("ratio", [1, 1.01, 3, 7.3, 40])
def test_the_ratio_asked_for_holds_exactly(ratio: float) -> None:
    fit = tn.fit(MIXED, ratio=ratio)
    assert fit.ratio >= ratio
    assert MIXED.size / fit.parameters >= ratio


def test_more_parameters_never_fit_worse() -> None:
    errors = [tn.fit(MIXED, parameters=n).error for n in (50, 100, 200, 400)]
    assert errors == sorted(errors, reverse=True)


@settings(max_examples=12)
@given(st.data())
def test_any_small_array_and_any_budget(data: st.DataObject) -> None:
    shape = tuple(data.draw(st.lists(st.integers(1, 5), min_size=1, max_size=4)))
    seed = data.draw(st.integers(0, 99))
    kind = data.draw(st.sampled_from(["noise", "rank one", "few values", "zero", "complex"]))
    rng = np.random.default_rng(seed)
    array = rng.standard_normal(shape)
    if kind == "rank one":
        array = planted(shape, 1, seed) if math.prod(shape) > 1 else array
    elif kind == "few values":
        array = rng.integers(0, 2, shape).astype(float)
    elif kind == "zero":
        array = np.zeros(shape)
    elif kind == "complex":
        array = array + 1j * rng.standard_normal(shape)
    if data.draw(st.booleans()):
        error = data.draw(st.floats(0, 0.999))
        fit = tn.fit(array, error=error, seed=seed)
        assert true_error(array, fit) <= error
    else:
        parameters = data.draw(st.integers(1, array.size + 3))
        if parameters < min(sum(shape), array.size):
            with pytest.raises(TenfoldError, match="is too few"):
                tn.fit(array, parameters=parameters, seed=seed)
            return
        fit = tn.fit(array, parameters=parameters, seed=seed)
        assert fit.parameters <= parameters
    assert fit.error == pytest.approx(true_error(array, fit), abs=1e-6)


def test_a_seed_fixes_everything() -> None:
    def key(fit: tn.Fit) -> Any:
        # To nine digits: the order of sums in BLAS depends on where in memory a matrix lies.
        def rounded(value: float | None) -> float | None:
            return None if value is None else float(f"{value:.9g}")

        trials = [replace(t, seconds=0.0, error=rounded(t.error), held_out=rounded(t.held_out)) for t in fit.front]
        return trials, [core.numpy().round(6).tolist() for core in fit.network.cores]

    assert key(tn.fit(MIXED, error=0.1, seed=5)) == key(tn.fit(MIXED, error=0.1, seed=np.int64(5)))
    masked = np.ma.masked_less(MIXED[::2, ::2, ::2], 0.1)
    first, second = (tn.fit(masked, parameters=40, seed=2) for _ in range(2))
    assert key(first) == key(second)
    state = torch.random.get_rng_state()
    tn.fit(MIXED, error=0.3)
    assert torch.equal(state, torch.random.get_rng_state()), "the global seed was touched"


# --- missing cells ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "budget", [{}, *(pytest.param(b, marks=pytest.mark.slow) for b in ({"parameters": 600}, {"error": 0.02}))]
)
def test_held_out_cells_choose_the_model(budget: dict[str, Any]) -> None:
    truth = planted((11, 10, 9), 2)
    noise = 0.1
    seen = truth + noise * noisy(truth.shape, 7)
    mask = np.random.default_rng(2).random(truth.shape) < 0.4
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # an error of 0.02 is below the noise: only a model of the noise has it
        fit = tn.fit(np.ma.array(seen, mask=mask), **budget)
    unseen = np.linalg.norm((fit.network.dense().numpy() - seen)[mask]) / np.linalg.norm(seen[mask])
    assert noise * 0.9 < unseen < 1.4 * noise
    chosen = next(trial for trial in fit.front if trial.chosen)
    assert chosen.held_out == pytest.approx(unseen, rel=0.35)
    assert "held-out error" in str(fit)
    assert fit.observed == (~mask).sum()
    assert budget or fit.why_stopped == "everything was tried"


def test_a_held_out_error_below_the_error_is_explained() -> None:
    array = np.random.default_rng(0).standard_normal((9, 8, 7))
    array[array < -0.5] = np.nan
    found = tn.fit(tn.Observations.from_nan(array), "tucker", ranks=1)
    for held_out, said in ((found.error / 2, True), (2 * found.error, False)):
        front = tuple(replace(trial, held_out=held_out) for trial in found.front)
        assert ("which happen to be easier" in str(replace(found, front=front))) == said


def test_missing_the_error_is_said() -> None:
    seen = np.ma.masked_less(noisy((6, 5, 4)), -0.5)
    with pytest.warns(UserWarning, match="no better at what was left out"):
        fit = tn.fit(seen, error=0.01)
    assert fit.stopped == "best"
    assert "nothing tried is within what was asked for" in str(fit)


def test_two_observations_in_a_large_array() -> None:
    few = tn.Observations(torch.tensor([[1, 2], [3, 4]]), torch.tensor([1.0, 2.0]), (100, 90))
    assert tn.fit(few).parameters <= 190
    line = tn.Observations(torch.tensor([[1], [3]]), torch.tensor([1.0, 2.0]), (10,))
    assert tn.fit(line, parameters=10).error < 1e-6


# --- interrupts -------------------------------------------------------------------------------------------------------


def stop_after(trials: int, monkeypatch: pytest.MonkeyPatch) -> list[ladder.Trial]:
    made: list[ladder.Trial] = []
    original = verb.climb

    def climb(*args: Any, **kwargs: Any) -> Any:
        for trial in original(*args, **kwargs):
            if len(made) == trials:
                raise KeyboardInterrupt
            made.append(trial)
            yield trial

    monkeypatch.setattr(verb, "climb", climb)
    return made


def test_an_interrupted_climb_keeps_the_best_so_far(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    made = stop_after(4, monkeypatch)
    fit = tn.fit(MIXED, error=0.1)
    assert fit.interrupted
    assert len(fit.front) == len(made) == 4
    assert fit.parameters == min(t.parameters for t in made if t.error <= 0.1)
    assert true_error(MIXED, fit) <= 0.1
    assert "interrupted" in str(fit)
    fit.save(tmp_path / "x.tn")
    assert tn.load(tmp_path / "x.tn").interrupted


@pytest.mark.parametrize("trials", [0, 1])
def test_an_interrupt_before_anything_is_found_passes(trials: int, monkeypatch: pytest.MonkeyPatch) -> None:
    stop_after(trials, monkeypatch)  # the first trial is the array itself, which is nothing found
    with pytest.raises(KeyboardInterrupt):
        tn.fit(MIXED, error=0.1)


def test_an_interrupted_method_keeps_its_last_sweep(monkeypatch: pytest.MonkeyPatch) -> None:
    data = planted((8, 7, 6), 3)
    sweeps = []

    def stopping(data: Any, structure: tn.Structure, *, callback: Callable[[Progress], None], **options: Any) -> Any:
        def watch(state: Progress) -> None:
            callback(state)
            sweeps.append(state.error)
            if len(sweeps) == 3:
                raise KeyboardInterrupt

        return find("als").function(data, structure, callback=watch, **options)

    fit = tn.fit(data, "i r, j r, k r -> i j k", sizes={"r": 2}, method=stopping)
    assert fit.interrupted
    assert fit.error == pytest.approx(true_error(data, fit), abs=1e-9)
    assert fit.error < 1

    def refusing(*_: Any, **__: Any) -> Any:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        tn.fit(data, "i r, j r, k r -> i j k", sizes={"r": 2}, method=refusing)


def test_an_interrupt_after_the_fit_loses_the_spectra_only(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(verb, "spectra_of", interrupted)
    fit = tn.fit(MIXED, error=0.2)
    assert fit.interrupted
    assert fit.spectra == {}
    assert true_error(MIXED, fit) <= 0.2


# --- records ----------------------------------------------------------------------------------------------------------


def test_a_fit_comes_back_from_its_file(tmp_path: Path) -> None:
    labels = {
        "x": np.linspace(0, 1, 6),
        "name": np.array(["Köln", "", "漢字", "a\nb", "long " * 9]),
        "day": np.array(["2020-01-01", "2020-02-01", "NaT", "1931-05-06"], "M8[D]"),
    }
    fit = tn.fit(noisy(), error=0.4, dims=list(labels), coordinates=labels, source=Path("a/b.npy"))
    fit.save(tmp_path / "x.tn")
    back = tn.load(tmp_path / "x.tn")
    assert isinstance(back, tn.Fit)
    assert back.summary() == fit.summary()
    assert back.front == fit.front
    assert back.dims == fit.dims
    assert back.spectra == fit.spectra
    assert back.data is None
    assert back.coordinates["x"].tolist() == labels["x"].tolist()
    assert back.coordinates["name"].tolist() == labels["name"].tolist()
    assert np.array_equal(back.coordinates["day"].astype("M8[D]"), labels["day"], equal_nan=True)
    assert all(torch.equal(a, b) for a, b in zip(back.network.cores, fit.network.cores, strict=True))
    assert str(back) == str(fit)


def test_a_network_alone_comes_back_as_a_network(tmp_path: Path) -> None:
    network = tn.Network.random(F.cp((4, 3), 2), dtype=torch.complex128)
    network.save(tmp_path / "x.tn")
    back = tn.load(tmp_path / "x.tn")
    assert isinstance(back, tn.Network)
    assert torch.equal(back.dense(), network.dense())


DAMAGE: dict[str, Callable[[dict[str, Any]], Any]] = {
    "a part is gone": lambda r: r.pop("front"),
    "too few axes": lambda r: r.update(dims=["i"]),
    "an axis twice": lambda r: r.update(dims=["i", "i", "k"]),
    "labels of no axis": lambda r: r.update(coordinates={"z": {"dtype": "<f8", "values": [1]}}),
    "too few labels": lambda r: r.update(coordinates={"i": {"dtype": "<f8", "values": [1]}}),
    "labels of enormous strings": lambda r: r.update(coordinates={"i": {"dtype": "<U999999999", "values": ["a"] * 6}}),
    "labels of objects": lambda r: r.update(coordinates={"i": {"dtype": "O", "values": [1] * 6}}),
    "labels that are none": lambda r: r.update(coordinates=7),
    "an error in words": lambda r: r.update(error="small"),
    "an infinite count": lambda r: r.update(cells=math.inf),
    "a foreign structure": lambda r: r["front"][0].update(pattern="{}"),
    "a spectrum of words": lambda r: r.update(spectra={"i": ["a"]}),
    "a list for a record": lambda r: r.update(front={"a": 1}),
}


@pytest.mark.parametrize(
    "labels",
    [
        np.array(["3000-01-01", "0001-01-01", "1970-01-01", "9999-12-31", "NaT"], "M8[D]"),
        np.arange(5).astype("M8[Y]"),
        np.arange(5).astype("m8[s]"),
        np.arange(5).astype(">i4"),
        np.arange(5).astype(np.longdouble),
    ],
    ids=["far dates", "years", "durations", "big-endian", "long double"],
)
def test_labels_of_any_dtype_come_back_equal(labels: np.ndarray, tmp_path: Path) -> None:
    tn.fit(noisy(), error=0.4, coordinates={"j": labels}).save(tmp_path / "x.tn")
    back = tn.load(tmp_path / "x.tn").coordinates["j"]
    assert np.array_equal(back, labels, equal_nan=labels.dtype.kind == "M")


def test_labels_of_other_kinds_are_text(tmp_path: Path) -> None:
    labels = np.empty(5, object)
    labels[:] = [("a", 1), b"caf\xe9", None, 3, "x"]
    fit = tn.fit(noisy(), error=0.4, coordinates={"j": labels})
    assert fit.coordinates["j"].tolist() == ["('a', 1)", "caf\\xe9", "None", "3", "x"]
    fit.report(tmp_path / "x.html")


@pytest.mark.parametrize("kind", DAMAGE)
def test_a_damaged_record_is_one_error(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tenfold.verbs import result

    fit = fit_of_noise()
    record = json.loads(json.dumps(result._record(fit)))
    DAMAGE[kind](record)
    fit.network.save(tmp_path / "x.tn", record={"fit": record})
    with pytest.raises(FileError, match="damaged record of its fit") as caught:
        tn.load(tmp_path / "x.tn")
    assert "\n" not in str(caught.value)


def test_the_table_says_what_people_ask(tmp_path: Path) -> None:
    fit = tn.fit(MIXED, error=0.1, source="blob.npy", dims=["x", "y", "z"])
    said = str(fit)
    assert "blob.npy: 16 x 12 x 9 float64" in said
    assert "error at most 0.1" in said
    assert f"{fit.error:.8g}" in said
    assert f"{fit.parameters:,} for 1,728 entries" in said
    assert f"the best of {len(fit.front)} networks tried" in said
    assert "within what was asked for" in said
    assert repr(fit) == said
    assert max(map(len, said.splitlines())) <= 100
    plain = json.loads(json.dumps(fit.summary(), allow_nan=False))
    assert plain["parameters"] == fit.parameters
    assert plain["shape"] == [16, 12, 9]


# --- photographs ------------------------------------------------------------------------------------------------------


def photograph(name: str) -> np.ndarray:
    picture = getattr(pytest.importorskip("skimage.data"), name)()
    return np.asarray(picture[:, :, :3])


@pytest.mark.slow
def test_a_photograph_within_five_per_cent() -> None:
    picture = tn.io.read("sample:astronaut").array()
    fit = tn.fit(picture, error=0.05)
    assert true_error(picture, fit) <= 0.05
    assert float(str(fit).split("relative error")[1].split()[0]) == pytest.approx(true_error(picture, fit), abs=1e-7)
    assert fit.ratio > 4


@pytest.mark.slow
@pytest.mark.peer
def test_another_photograph_within_five_per_cent() -> None:
    picture = photograph("coffee")
    fit = tn.fit(picture, error=0.05)
    assert true_error(picture, fit) <= 0.05
    assert fit.error == pytest.approx(true_error(picture, fit), abs=1e-7)


@pytest.mark.slow
@pytest.mark.peer
@pytest.mark.parametrize("name", ["astronaut", "coffee"])
def test_photographs_in_twenty_thousand_numbers(name: str) -> None:
    picture = photograph(name)
    fit = tn.fit(picture, parameters=20_000)
    assert fit.parameters <= 20_000
    assert fit.error == pytest.approx(true_error(picture, fit), abs=1e-7)
    assert fit.error < 0.2


def test_structure_errors_point_into_the_pattern() -> None:
    with pytest.raises(StructureError, match="»"):
        tn.fit(noisy(), "i a, a j -> i j, k")


def test_names_and_labels_that_are_no_text_are_escaped(tmp_path: Path) -> None:
    labels = np.array(["a", "b\udcff", "c", "d", "e", "f"])
    fit = tn.fit(noisy(), error=0.5, dims=("x\udcff", "y", "z"), coordinates={"x\udcff": labels}, source="\udcff.npy")
    assert fit.dims == ("x\\udcff", "y", "z")
    assert fit.coordinates["x\\udcff"][1] == "b\\udcff"
    fit.report(tmp_path / "page.html")
    fit.save(tmp_path / "fit.tn")
    assert tn.load(tmp_path / "fit.tn").dims == fit.dims


def planted_cp(rank: int = 3, shape: tuple[int, ...] = (12, 10, 9)) -> torch.Tensor:
    return tn.Network.random(tn.formats.cp(shape, rank), seed=1).dense()


def test_the_name_of_a_format_with_ranks():
    array = planted_cp()
    for name, ranks in (("tucker", (3, 3, 3)), ("tensor_train", 3), ("cp", 3), ("tensor_ring", (2, 2, 2))):
        found = tn.fit(array, name, ranks=ranks, dims=("x", "y", "z"))
        assert found.structure == tn.formats.for_arrays()[name](array.shape, ranks).name_outputs(["x", "y", "z"])
    with pytest.raises(StructureError, match="rank 70 exceeds mode 'y'"):
        tn.fit(array, "tucker", ranks=(2, 70, 2), dims=("x", "y", "z"))
    with pytest.raises(StructureError, match="is a family of matrices"):
        tn.fit(array, "monarch", ranks=2)


@pytest.mark.parametrize("asked", [{"ranks": 2}, {"error": 0.5}])
def test_a_matrix_is_fitted_by_the_format_that_was_asked_for(asked: dict[str, Any], tmp_path: Path) -> None:
    matrix = np.random.default_rng(0).standard_normal((20, 15))
    for name in ("cp", "tensor_train"):  # the same structure
        found = tn.fit(matrix, name, **asked)
        assert found.format == found.summary()["format"] == name
        assert f"structure  {name.replace('_', ' ')}\n" in str(found)
        found.save(tmp_path / "x.tn")
        assert tn.load(tmp_path / "x.tn").format == name
    assert tn.fit(matrix, "i r, j r -> i j", sizes={"r": 2}).format == "tensor_train"


@pytest.mark.parametrize("name", ["cp", "tensor_ring", "tucker", "tensor_train"])
def test_ranks_of_a_format_are_found_for_a_budget(name: str):
    noise = torch.randn(12, 10, 9, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    array = planted_cp()
    array = array + 0.01 * noise * array.norm() / noise.norm()
    found = tn.fit(array, name, error=0.02)
    assert found.error <= 0.02
    assert tn.formats.name(found.structure) == name
    if name == "cp":
        assert found.structure.sizes["r"] == 3
    small = tn.fit(array, name, parameters=62)
    assert small.parameters <= 62


@pytest.mark.parametrize("scale", [1.0, 1e150])
def test_a_fit_of_counts_says_its_deviance(scale: float, tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    factors = [random.gamma(0.5, size=(extent, 2)) for extent in (12, 11, 10)]
    counts = scale * random.poisson(20 * np.einsum("ir,jr,kr->ijk", *factors))
    found = tn.fit(counts, "cp", ranks=2, method="cp_poisson")
    model = found.network.dense().numpy()
    above = counts > 0
    true = 2 * ((counts[above] * np.log(counts[above] / model[above])).sum() - counts.sum() + model.sum())
    assert found.deviance == pytest.approx(true, rel=1e-6)
    assert f"Poisson deviance  {found.deviance:.8g}" in str(found)
    assert found.summary()["deviance"] == found.deviance
    found.save(tmp_path / "x.tn")
    found.report(tmp_path / "x.html")
    assert tn.load(tmp_path / "x.tn").deviance == found.deviance
    assert "Poisson deviance" in (tmp_path / "x.html").read_text(encoding="utf-8")
    other = tn.fit(counts, "cp", ranks=2, method="cp_hals")
    assert other.deviance is None
    assert "deviance" not in str(other)


def test_axes_of_a_structure_in_another_order_than_the_data_are_refused():
    array = planted_cp()
    dims = ("lat", "lon", "time")
    with pytest.raises(StructureError, match="has 'time' on axis 0, but the data's axes are lat, lon, time"):
        tn.fit(array, "time a, a lat b, b lon -> time lat lon", sizes={"a": 2, "b": 2}, dims=dims)
    with pytest.raises(StructureError, match="write the outputs in the data's order"):
        tn.fit(array, tn.Structure("y r, lat r, lon r -> y lat lon", y=12, lat=10, lon=9, r=2), dims=dims)
    # Letters of data without names are no names.
    assert tn.fit(array, "j a, a i b, b k -> j i k", sizes={"a": 2, "b": 2}).parameters == 24 + 40 + 18


def test_an_option_that_the_method_does_not_have():
    with pytest.raises(TenfoldError, match="'colour' is no argument of fit, nor an option of method 'cp_als'"):
        tn.fit(planted_cp(), "cp", ranks=2, colour="red")


@pytest.mark.parametrize(("dtype", "scale"), [("float32", 1e12), ("float32", 1e-10), ("float64", 1e60), ("float64", 1)])
def test_bounded_factors_keep_their_bounds_at_any_scale(dtype: str, scale: float) -> None:
    rng = np.random.default_rng(0)
    data = (np.einsum("ir,jr,kr->ijk", *(rng.random((n, 2)) for n in (6, 5, 4))) * scale).astype(dtype)
    bounds = {0: "simplex", 1: "simplex"}
    options = {"method": "cp_ao_admm", "constraints": bounds, "max_sweeps": 50}
    fit = tn.fit(data, "cp", ranks=2, **options)
    for core in fit.network.cores[:2]:
        assert torch.allclose(core.sum(0), torch.ones(2, dtype=core.dtype), atol=1e-5)
    assert fit.error < 0.05
    assert true_error(data, fit) == pytest.approx(fit.error, abs=1e-5)
    again = tn.fit(data, "cp", ranks=2, init=fit.network, **options)
    assert again.error <= fit.error * 1.01 + 1e-6


def test_a_scale_that_has_nowhere_to_go_is_refused() -> None:
    data = (np.random.default_rng(0).random((6, 5, 4)) * 1e14).astype(np.float32)
    with pytest.raises(DataError, match="out of range where the constraints bound every mode"):
        tn.fit(data, "cp", ranks=2, method="cp_ao_admm", constraints="simplex")


@pytest.mark.parametrize("method", ["cp_als", "cp_ao_admm", "lbfgs", "als"])
def test_a_start_that_is_none_is_refused(method: str) -> None:
    good = tn.fit(planted_cp(), "cp", ranks=2).network
    spoilt = good.replace([good.cores[0], good.cores[1].index_fill(0, torch.tensor(1), math.nan), good.cores[2]])
    cases = [
        (spoilt, DataError, r"init has 2 entries that are NaN or infinite in core '\w+'; replace them"),
        (good.to(torch.complex128), DataError, "init is torch.complex128, but the data are torch.float64"),
        (3, TenfoldError, "init must be a Network, not int"),
    ]
    for init, error, message in cases:
        with pytest.raises(error, match=message):
            tn.fit(planted_cp(), "cp", ranks=2, method=method, init=init)


@pytest.mark.parametrize(
    ("method", "name", "value", "said"),
    [
        ("als_observed", "ridge", "abc", "a number, not 'abc'"),
        ("als_observed", "holdout", [1], r"a number, not \[1\]"),
        ("als_observed", "starts", 1.5, "a whole number, not 1.5"),
        ("cp_als", "starts", "abc", "a whole number, not 'abc'"),
        ("cp_als", "starts", True, "a whole number, not True"),
        ("cp_als", "accelerate", "no", "true or false, not 'no'"),
        ("cp_als", "accelerate", 0, "true or false, not 0"),
        ("cp_als", "compress", "some", "true or false or 'auto', not 'some'"),
        ("cp_hals", "nonnegative", 0, "a list of texts or whole numbers, not 0"),
        ("cp_hals", "nonnegative", "ij", "a list of texts or whole numbers, not 'ij'"),
        ("cp_hals", "nonnegative", [0.5], r"a list of texts or whole numbers, not \[0.5\]"),
        ("cp_als", "starts", np.zeros((9, 9)), "a whole number, not a value of type ndarray"),
        ("cp_ao_admm", "constraints", 3, "a Mapping or a Constraint or a text, not 3"),
    ],
)
def test_an_option_of_the_wrong_type(method: str, name: str, value: Any, said: str) -> None:
    data: Any = planted_cp()
    if method == "als_observed":
        holes = planted_cp().clone()
        holes[0, 0, 0] = math.nan
        data = tn.Observations.from_nan(holes)
    with pytest.raises(TenfoldError, match=f"^option {name} must be {said}$"):
        tn.fit(data, "cp", ranks=2, method=method, **{name: value})


def test_options_of_the_right_type_pass() -> None:
    absolute = planted_cp().abs()
    assert tn.fit(planted_cp(), "cp", ranks=2, starts=np.int64(1), compress="auto", accelerate=False).error < 1
    assert tn.fit(absolute, "cp", ranks=2, method="cp_hals", nonnegative=(0, "j"), max_sweeps=50).error < 1


def test_a_rank_beyond_memory_a_sparse_array_of_nothing_and_an_array_for_a_method():
    with pytest.raises(StructureError, match="more than memory"):
        tn.fit(planted_cp(), "cp", ranks=10**12)
    with pytest.raises(DataError, match="zero everywhere"):
        tn.fit(torch.zeros(4, 5).to_sparse())
    structure = tn.formats.cp((4, 5, 6), 2)
    for name in ("cp_als", "tree_svd", "als", "cp_hals"):
        with pytest.raises(DataError, match="data is a ndarray; give a torch tensor"):
            find(name).function(
                np.ones((4, 5, 6)), structure if name != "tree_svd" else tn.formats.tucker((4, 5, 6), 2)
            )


# --- with time left ---------------------------------------------------------------------------------------------------


@pytest.fixture
def alike(monkeypatch: pytest.MonkeyPatch) -> None:
    """As many evaluations on a fast machine as on a slow one."""
    run = _searching.run
    monkeypatch.setattr(_searching, "run", lambda plan, seconds, watch: run(plan, evaluations=200, watch=watch))


@pytest.mark.usefixtures("alike")
def test_time_left_is_spent_on_a_search() -> None:
    ring = Ring((3, 3, 3, 3)).structure(Point((2, 2, 2, 2), (0, 2, 1, 3)))
    array = tn.Network.random(ring, seed=1).dense()
    ladder = tn.fit(array, error=1e-3)
    searched = tn.fit(array, error=1e-3, seconds=20.0)
    assert ladder.parameters > 48  # no common format has the modes in this order
    assert searched.parameters == 48
    assert searched.error <= 1e-3
    assert searched.stopped == "budget"
    assert {trial.method for trial in ladder.front} < {trial.method for trial in searched.front}
    assert len({trial.name for trial in ladder.front} - {trial.name for trial in searched.front}) == 0
    assert [trial.structure for trial in searched.front if trial.chosen] == [searched.structure]
    assert (searched.network.dense() - array).norm() / array.norm() <= 1e-3
    assert searched.searched.startswith("rings of 4 modes: ")
    before = min(trial.parameters for trial in ladder.front if trial.error <= 1e-3)
    name = next(trial.name for trial in ladder.front if trial.chosen)
    assert f"the best has 48 parameters, {name}" in searched.searched
    assert searched.searched.endswith(f" {before}")
    assert f"searched  {searched.searched[:30]}" in str(searched)
    assert ladder.searched == ""
    assert "searched" not in str(ladder)


@pytest.mark.usefixtures("alike")
def test_a_search_that_finds_nothing_better_leaves_the_ladders() -> None:
    array = tn.Network.random(tn.formats.cp((4, 4, 4), 1), seed=0).dense()
    ladder, searched = tn.fit(array, error=1e-3), tn.fit(array, error=1e-3, seconds=60.0)
    assert searched.parameters <= ladder.parameters
    assert searched.error <= 1e-3
    assert searched.searched.startswith("rings of 3 modes: ")
    name = next(trial.name for trial in ladder.front if trial.chosen)
    assert searched.searched.endswith(f", none smaller than {name}")


@pytest.mark.usefixtures("alike")
def test_what_was_searched_is_kept_in_the_file(tmp_path: Path) -> None:
    array = tn.Network.random(tn.formats.cp((4, 4, 4), 1), seed=0).dense()
    fit = tn.fit(array, parameters=30, seconds=60.0)
    assert ", none closer than " in fit.searched
    fit.save(tmp_path / "fit.tn")
    assert tn.load(tmp_path / "fit.tn").searched == fit.summary()["searched"] == fit.searched


def test_without_time_left_the_ladders_is_returned() -> None:
    with pytest.warns(UserWarning, match="the common formats took all the seconds"):
        fit = tn.fit(np.random.default_rng(0).standard_normal((4, 4, 4)), error=0.5, seconds=1e-3)
    assert fit.error <= 0.5
    assert fit.searched == "nothing: the common formats took all the seconds"


@pytest.mark.parametrize("data", [np.zeros((3, 3, 3)), np.arange(1.0, 8.0), np.array(3.0)])
def test_what_cannot_be_searched_in_is_left_to_the_ladder(data: np.ndarray) -> None:
    fit = tn.fit(data, seconds=5.0)
    assert fit.stopped == tn.fit(data).stopped
    assert fit.searched.startswith("nothing: data ")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"seconds": 0}, "seconds must be a positive number, not 0"),
        ({"seconds": "60"}, "seconds must be a positive number, not '60'"),
        ({"seconds": 5.0, "structure": "cp", "ranks": 2}, "seconds is given beside a structure"),
        ({"seconds": 5.0, "missing": True}, "seconds is given, but cells are missing"),
    ],
)
def test_seconds_that_mean_nothing_are_refused(options: dict[str, object], message: str) -> None:
    array = np.random.default_rng(0).standard_normal((4, 4, 4))
    data = array
    if options.pop("missing", False):
        data = tn.Observations.from_nan(np.where(array > 1, np.nan, array))
    with pytest.raises(TenfoldError, match=message):
        tn.fit(data, **options)
