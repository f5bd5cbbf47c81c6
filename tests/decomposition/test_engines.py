"""The general methods, als, lbfgs and adam: any structure, any data."""

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import structures

import tenfold.decomposition as decomposition
from tenfold import formats
from tenfold.decomposition._environments import environments
from tenfold.decomposition._iterate import is_tree
from tenfold.decomposition._loss import Loss
from tenfold.decomposition.adam import adam
from tenfold.decomposition.als import _row_update, _sweeps, _update, als
from tenfold.decomposition.lbfgs import lbfgs
from tenfold.errors import DataError, StructureError, TenfoldError
from tenfold.network import Network
from tenfold.observations import Observations
from tenfold.structure import Structure

METHODS = [als, lbfgs, adam]
PLANTED = {
    "cp": formats.cp((5, 6, 7), 3),
    "tucker": formats.tucker((5, 6, 7), (2, 3, 4)),
    "tensor_train": formats.tensor_train((4, 5, 6, 4), 3),
    "tensor_ring": formats.tensor_ring((4, 5, 6, 4), (2, 3, 2, 3)),
    "fully_connected": formats.fully_connected((4, 5, 4), 2),
    "hierarchical_tucker": formats.hierarchical_tucker((4, 4, 4, 4), 2),
    "kronecker": formats.kronecker((3, 4), (2, 5), 3),
    "tensor_train_matrix": formats.tensor_train_matrix((3, 3, 3), (2, 2, 2), 3),
    "block_tensor_train": formats.block_tensor_train((4, 5), (6, 3), 2),
    "monarch": formats.monarch((4, 5), (6, 3)),
    "phm": formats.phm(12, 8, 4),
}
SYMMETRIC = Structure("U[i r], U[j r], w[r] -> i j", i=8, j=8, r=3)


def planted(structure, seed=1, dtype=torch.float64, std=1.0):
    return Network.random(structure, seed=seed, dtype=dtype, std=std).dense()


def noise(shape, seed=0, dtype=torch.float64):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def distance(data, network):
    """The relative error by subtraction, in NumPy."""
    dense = einsum(network)
    return np.linalg.norm((data.numpy() - dense).ravel()) / np.linalg.norm(data.numpy().ravel())


def solve_one(loss, cores, place):
    """The squared distance after the update of one core only."""
    for at, operands, gram in environments(loss, cores, range(len(cores))):
        if at == place:
            if loss.gram_weights is None:
                return _update(loss, cores, place, operands, gram)
            return _row_update(loss, cores, place, gram, 0.0)
    raise AssertionError


def einsum(network):
    structure = network.structure
    operands = [network.cores[number].numpy() for number in structure.term_core]
    return np.einsum(structure.einsum(), *operands).reshape(structure.shape)


def part_of(data, share, seed=0, weights=False, rest="unknown"):
    """Observations of a random part of the cells of ``data``, and the data with all other cells zero."""
    generator = torch.Generator().manual_seed(seed)
    known = torch.rand(data.shape, generator=generator) < share
    known.view(-1)[0] = True
    values = data[known]
    w = torch.rand(len(values), generator=generator, dtype=values.dtype.to_real()) + 0.1 if weights else None
    return Observations(known.nonzero(), values, tuple(data.shape), w, rest), torch.where(known, data, 0)


# --- planted networks are found again ---------------------------------------------------------------------------------


@pytest.mark.parametrize("family", PLANTED)
@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128])
def test_als_finds_what_was_planted(family, dtype):
    data = planted(PLANTED[family], dtype=dtype)
    found = als(data, PLANTED[family], max_sweeps=400, tol=1e-8)
    assert found.error < 1e-9
    assert found.network.dtype == dtype
    assert found.error == pytest.approx(distance(data, found.network), rel=0.1, abs=1e-14)


@pytest.mark.parametrize("family", PLANTED)
def test_lbfgs_finds_what_was_planted(family):
    data = planted(PLANTED[family])
    found = lbfgs(data, PLANTED[family], error=1e-5)
    assert found.error <= 1e-5
    assert found.stopped == "error"
    assert distance(data, found.network) <= 1.01e-5


def test_lbfgs_is_exact_for_complex_data():
    data = planted(PLANTED["tensor_ring"], dtype=torch.complex128)
    assert lbfgs(data, PLANTED["tensor_ring"]).error < 1e-8


def test_adam_descends_to_what_was_planted():
    structure = PLANTED["kronecker"]
    found = adam(planted(structure, std=1e3), structure, max_sweeps=10)
    assert found.error < 0.05
    assert found.errors[-1] < found.errors[0]


@pytest.mark.parametrize("method", [als, lbfgs])
@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128])
def test_a_core_used_twice(method, dtype):
    weights = torch.tensor([3.0, -2.0, 1.0], dtype=dtype)
    data = Network(SYMMETRIC, [noise((8, 3), 5, dtype), weights]).dense()
    found = method(data, SYMMETRIC)
    assert found.error < 1e-6
    every = torch.ones(8, 8).nonzero()
    for rest in ("unknown", "zero"):
        listed = Observations(every, data.reshape(-1), (8, 8), rest=rest)
        assert method(listed, SYMMETRIC).error < 1e-6


def test_a_core_used_three_times_beside_none():
    structure = Structure("U[i r], U[j r], U[k r] -> i j k", i=6, j=6, k=6, r=2)
    assert als(planted(structure, seed=2), structure).error < 1e-6


def test_a_square_that_no_square_can_be_is_zero():
    structure = Structure("U[i r], U[j r] -> i j", i=5, j=5, r=2)
    for method in METHODS:
        found = method(-torch.eye(5, dtype=torch.float64), structure, max_sweeps=4)
        assert found.error == pytest.approx(1, abs=1e-2)
        assert found.error <= 1


# --- each step is what it says ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pattern", "sizes", "place"),
    [
        ("i a, a j b, b k -> i j k", dict(i=5, j=4, k=6, a=2, b=3), 1),
        ("i r, j r, k r -> i j k", dict(i=5, j=4, k=6, r=3), 0),
        ("i j a, j k a, k i -> (i k) j", dict(i=3, j=4, k=2, a=2), 1),
        ("[], i a, a -> i", dict(i=4, a=2), 0),
    ],
)
@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128])
def test_one_core_is_the_least_squares_solution(pattern, sizes, place, dtype):
    structure = Structure(pattern, sizes)
    start = Network.random(structure, seed=3, dtype=dtype)
    data = noise(structure.shape, dtype=dtype)
    # Columns of the design matrix: the network of each unit core.
    core = start.cores[place]
    columns = []
    for n in range(core.numel()):
        unit = torch.zeros_like(core).view(-1).index_fill(0, torch.tensor(n), 1).view(core.shape)
        columns.append(
            start.replace([unit if c == place else x for c, x in enumerate(start.cores)]).dense().reshape(-1)
        )
    design = torch.stack(columns, 1)
    best = torch.linalg.lstsq(design, data.reshape(-1, 1), driver="gelsd").solution
    want = float((design @ best - data.reshape(-1, 1)).norm()) ** 2

    loss = Loss(data, structure)
    cores = [core / loss.scale ** (1 / len(structure.terms)) for core in start.cores]
    for listed in (
        loss,
        Loss(Observations(torch.ones(data.shape).nonzero(), data.reshape(-1), tuple(data.shape)), structure),
        Loss(
            Observations(torch.ones(data.shape).nonzero(), data.reshape(-1), tuple(data.shape), rest="zero"), structure
        ),
    ):
        square = solve_one(listed, list(cores), place) / listed.total
        assert square * float(data.norm()) ** 2 == pytest.approx(want, rel=1e-8)


@pytest.mark.parametrize("family", PLANTED)
def test_als_never_goes_up(family):
    structure = PLANTED[family]
    data = planted(structure) + 0.3 * noise(structure.shape)
    loss = Loss(data, structure)
    sweep = _sweeps(loss, loss.start(Network.random(structure, seed=7)))
    errors = [sweep()[1] for _ in range(15)]
    assert all(after <= before * (1 + 1e-12) for before, after in itertools.pairwise(errors))


def test_a_large_core_is_solved_without_its_gram_matrix():
    structure = formats.tucker((9, 8, 8), (8, 7, 7))
    data = noise(structure.shape)
    found = als(data, structure, max_sweeps=30, tol=1e-10)
    # Every projection of every mode is at best the leading singular vectors: the error of HOSVD bounds from above.
    squares = sum(
        float((torch.linalg.svdvals(data.movedim(m, 0).reshape(data.shape[m], -1))[r:] ** 2).sum())
        for m, r in enumerate((8, 7, 7))
    )
    assert found.error <= math.sqrt(squares) / float(data.norm())
    assert found.error == pytest.approx(distance(data, found.network), rel=1e-10)


# --- data of every kind -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", [als, lbfgs])
@pytest.mark.parametrize("weights", [False, True])
def test_missing_cells_are_found_again(method, weights):
    structure = formats.tensor_train((8, 9, 10), 3)
    data = planted(structure)
    known, _ = part_of(data, 0.4, weights=weights)
    found = method(known, structure, error=1e-7)
    assert found.error <= 1e-7
    assert distance(data, found.network) < 1e-5


def test_missing_cells_of_complex_data():
    structure = formats.cp((7, 8, 9), 2)
    data = planted(structure, dtype=torch.complex128)
    found = als(part_of(data, 0.5)[0], structure, error=1e-8)
    assert distance(data, found.network) < 1e-6


@pytest.mark.parametrize("method", [als, lbfgs])
@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128])
def test_a_sparse_array_is_its_dense_self(method, dtype):
    structure = formats.tensor_ring((5, 6, 4), 2)
    sparse, dense = part_of(noise(structure.shape, dtype=dtype), 0.3, rest="zero")
    a, b = method(sparse, structure, tol=1e-4), method(dense, structure, tol=1e-4)
    assert a.error == pytest.approx(b.error, rel=1e-5)
    assert a.error == pytest.approx(distance(dense, a.network), rel=1e-6)


@pytest.mark.parametrize("method", [als, lbfgs])
def test_weights_of_a_sparse_array(method):
    structure = formats.block_tensor_train((3, 4), (2, 3), 2)
    sparse, dense = part_of(noise(structure.shape), 0.3, weights=True, rest="zero")
    all_weights = torch.ones(dense.shape, dtype=torch.float64)
    all_weights[tuple(sparse.coordinates.T)] = sparse.weights
    listed = Observations(
        torch.ones(dense.shape).nonzero(), dense.reshape(-1), tuple(dense.shape), all_weights.reshape(-1)
    )
    start = Network.random(structure, seed=4)
    a, b = method(sparse, structure, init=start), method(listed, structure, init=start)
    assert a.error == pytest.approx(b.error, rel=1e-5)


def test_weights_decide():
    # One cell, seen twice: the fit is the weighted mean.
    cells = torch.tensor([[0], [0], [1]])
    values = torch.tensor([1.0, 5.0, 2.0], dtype=torch.float64)
    weights = torch.tensor([3.0, 1.0, 1.0], dtype=torch.float64)
    found = als(Observations(cells, values, (2,), weights), Structure("i -> i", i=2))
    assert torch.allclose(found.network.dense(), torch.tensor([2.0, 2.0], dtype=torch.float64), rtol=1e-9)


def test_a_sparse_array_too_large_to_be_dense():
    shape = (10**5, 10**5, 10**5)
    cells = torch.tensor([[5, 7, 11], [99_999, 3, 2], [4, 4, 4]])
    data = Observations(cells, torch.tensor([3.0, 2.0, 1.0], dtype=torch.float64), shape, rest="zero")
    found = als(data, formats.cp(shape, 3), max_sweeps=40, error=1e-6)
    assert found.error <= 1e-6
    assert torch.allclose(found.network.at(cells), data.values, rtol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.complex64])
def test_the_dtype_is_kept(dtype):
    structure = PLANTED["tensor_train"]
    data = planted(structure, dtype=torch.complex64 if dtype.is_complex else torch.float32).to(dtype)
    found = als(data, structure)
    assert found.network.dtype == dtype
    assert found.error < 20 * torch.finfo(dtype).eps


def test_large_single_precision_data_is_multiplied_in_single_precision(monkeypatch):
    monkeypatch.setattr("tenfold.decomposition._loss._SMALL", 0)
    structure = PLANTED["tucker"]
    data = planted(structure).float()
    loss = Loss(data, structure)
    assert loss.coarse
    assert loss.data.dtype == torch.float32
    assert als(data, structure).error < 1e-5


# --- manners ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
def test_edges(method):
    structure = formats.tensor_train((2, 3), 2)
    zero = method(torch.zeros(2, 3), structure)
    assert (zero.error, zero.stopped, zero.sweeps) == (0, "exact", 0)
    assert not zero.network.dense().any()
    one = method(torch.full((1, 1), -7.0, dtype=torch.float64), formats.tensor_train((1, 1), 1), max_sweeps=30)
    assert one.error < 1e-3
    scalar = method(torch.tensor(3.0, dtype=torch.float64), Structure("[] ->"), max_sweeps=30)
    assert scalar.error < 1e-3
    for bad in (math.nan, math.inf):
        data = torch.ones(2, 3)
        data[1, 2] = bad
        with pytest.raises(DataError, match=r"holds (nan|inf) at \(1, 2\)"):
            method(data, structure)
    with pytest.raises(DataError, match="shape"):
        method(torch.ones(3, 2), structure)
    with pytest.raises(DataError, match="floating"):
        method(torch.ones(2, 3, dtype=torch.int64), structure)
    points = Observations(torch.rand(4, 2), torch.rand(4), None)
    with pytest.raises(DataError, match="on_grid"):
        method(points, structure)
    with pytest.raises(StructureError, match="init"):
        method(torch.ones(2, 3), structure, init=Network.random(formats.tensor_train((2, 3), 1)))
    for wrong in (dict(error=-1.0), dict(max_sweeps=0), dict(tol=-1.0)):
        with pytest.raises(TenfoldError, match=next(iter(wrong))):
            method(torch.ones(2, 3), structure, **wrong)


@pytest.mark.parametrize("magnitude", [1e-250, 1e-30, 1e30, 1e250])
@pytest.mark.parametrize("listed", [False, True])
def test_numbers_of_any_size(magnitude, listed):
    structure = formats.tensor_train((4, 5, 3), 2)
    data = planted(structure) * magnitude
    if listed:
        data = Observations(torch.ones(data.shape).nonzero(), data.reshape(-1), tuple(data.shape))
    assert als(data, structure).error < 1e-9


@pytest.mark.parametrize("method", METHODS)
def test_reports_every_sweep_and_repeats_itself(method):
    structure = formats.tensor_ring((4, 4, 4), 2)
    data = noise(structure.shape)
    seen = []
    most = 3 if method is adam else 12
    found = method(data, structure, seed=3, max_sweeps=most, tol=0, callback=seen.append)
    assert [p.sweep for p in seen] == list(range(1, most + 1))
    assert all(p.max_sweeps == most for p in seen)
    assert tuple(p.error for p in seen) == found.errors
    assert found.stopped == "max_sweeps"
    for progress in seen:
        assert distance(data, progress.network()) == pytest.approx(progress.error, rel=1e-9)
    again = method(data, structure, seed=3, max_sweeps=most, tol=0)
    assert all(torch.equal(a, b) for a, b in zip(found.network.cores, again.network.cores, strict=True))
    other = method(data, structure, seed=4, max_sweeps=1, tol=0)
    assert not torch.equal(found.network.cores[0], other.network.cores[0])


@pytest.mark.parametrize("method", METHODS)
def test_goes_on_from_where_it_was(method):
    structure = formats.cp((6, 6, 6), 3)
    data = noise(structure.shape)
    first = als(data, structure, max_sweeps=10)
    kept = [core.clone() for core in first.network.cores]
    then = method(data, structure, init=first.network, max_sweeps=3)
    assert then.error <= first.error * (1 + 1e-3)
    assert all(torch.equal(a, b) for a, b in zip(kept, first.network.cores, strict=True))


def test_stops_at_the_error_asked_for():
    structure = PLANTED["cp"]
    found = als(planted(structure), structure, error=0.05)
    assert found.stopped == "error"
    assert found.error <= 0.05


def test_methods_are_found_by_name():
    for name, function in (("als", als), ("lbfgs", lbfgs), ("adam", adam)):
        assert getattr(decomposition, name) is function
        assert decomposition.find(name).takes == ("array", "sparse", "missing")
    with pytest.raises(AttributeError, match="there are adam, als"):
        _ = decomposition.nothing


@pytest.mark.parametrize(
    ("pattern", "tree"),
    [
        ("i a, a j -> i j", True),
        ("i, j -> i j", True),
        ("i a b, a b j -> i j", False),
        ("i r, j r, k r -> i j k", False),
        ("i j, j k -> i j k", False),
        ("U[i a], U[j a] -> i j", False),
    ],
)
def test_is_tree(pattern, tree):
    sizes = dict.fromkeys({*pattern.replace("->", " ").replace(",", " ")} & set("ijkabr"), 2)
    assert is_tree(Structure(pattern, sizes)) is tree


# --- any structure ----------------------------------------------------------------------------------------------------


@given(structures(), st.sampled_from([torch.float64, torch.complex128]), st.integers(0, 99))
@settings(max_examples=100)
def test_any_network_agrees_with_einsum(tmp_path_factory, structure, dtype, seed):
    network = Network.random(structure, seed=seed, dtype=dtype)
    dense = einsum(network)
    np.testing.assert_allclose(network.dense().numpy(), dense, rtol=1e-9, atol=1e-12)
    assert float(network.norm()) == pytest.approx(np.linalg.norm(dense.ravel()), rel=1e-9, abs=1e-9)
    if structure.order:
        cells = np.stack([c.ravel() for c in np.indices(structure.shape)], 1)
        np.testing.assert_allclose(network.at(torch.from_numpy(cells)).numpy(), dense.ravel(), rtol=1e-9, atol=1e-12)
    path = tmp_path_factory.mktemp("any") / "network.tn"
    network.save(path)
    again = Network.load(path)
    assert again.structure == structure
    assert all(torch.equal(a, b) for a, b in zip(again.cores, network.cores, strict=True))


@given(structures(), st.sampled_from([torch.float64, torch.complex128]), st.integers(0, 99))
@settings(max_examples=50)
def test_als_fits_any_structure(structure, dtype, seed):
    data = noise(structure.shape, seed, dtype)
    found = als(data, structure, seed=seed, max_sweeps=6)
    assert found.error == pytest.approx(distance(data, found.network), rel=1e-6, abs=1e-12)
    assert found.error <= 1 + 1e-9
    assert all(b <= a for a, b in itertools.pairwise(found.errors))
    loss = Loss(data, structure)
    sweep = _sweeps(loss, loss.start(Network.random(structure, seed=seed, dtype=dtype)))
    errors = [sweep()[1] for _ in range(5)]
    assert all(b <= a * (1 + 1e-9) + 1e-12 for a, b in itertools.pairwise(errors))


@given(structures(), st.booleans(), st.sampled_from(["unknown", "zero"]), st.integers(0, 99))
@settings(max_examples=40)
def test_als_fits_any_structure_to_listed_cells(structure, weights, rest, seed):
    if not structure.order:
        return
    listed, dense = part_of(noise(structure.shape, seed), 0.5, seed, weights, rest)
    found = als(listed, structure, seed=seed, max_sweeps=6)
    w = torch.zeros(dense.shape, dtype=torch.float64) + (rest == "zero")
    w[tuple(listed.coordinates.T)] = 1 if listed.weights is None else listed.weights
    square = float((w * (torch.from_numpy(einsum(found.network)) - dense) ** 2).sum())
    assert found.error == pytest.approx(math.sqrt(square / float((w * dense**2).sum())), rel=1e-6, abs=1e-7)
    assert found.error <= 1 + 1e-9


@given(structures(terms=3, indices=4), st.integers(0, 99))
@settings(max_examples=15)
def test_lbfgs_fits_any_structure(structure, seed):
    data = noise(structure.shape, seed)
    found = lbfgs(data, structure, seed=seed, max_sweeps=2)
    assert found.error == pytest.approx(distance(data, found.network), rel=1e-6, abs=1e-12)
    assert found.error <= 1 + 1e-9
