"""cp_als_sparse: planted sparse factors, the dense method's results, true errors, shapes beyond any memory."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sparse_arrays import noise, planted, true_error

import tenfold as tn
from tenfold import formats
from tenfold.decomposition import choose, cp_als, cp_als_sparse
from tenfold.decomposition._cp_sparse import SparseProblem
from tenfold.errors import DataError, StructureError, TenfoldError
from tenfold.network import Network
from tenfold.observations import Observations
from tenfold.structure import Structure

DTYPES = [torch.float64, torch.complex128, torch.float32, torch.complex64]


def falls(errors: tuple[float, ...]) -> bool:
    return all(b <= a for a, b in pairwise(errors))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(
    ("shape", "rank", "entries"), [((40, 50), 3, 8), ((40, 50, 60), 5, 8), ((20, 30, 25, 15), 4, 5)], ids=str
)
def test_planted_sparse_factors_are_found(shape, rank, entries, dtype):
    data = planted(shape, rank, entries, dtype)
    result = cp_als_sparse(data, formats.cp(shape, rank))
    assert result.network.dtype == dtype
    assert falls(result.errors)
    limit = 1e-5 if dtype.to_real() == torch.float64 else 2e-3
    assert true_error(data, result.network) < limit
    assert result.error < limit


@pytest.mark.parametrize(
    "structure",
    [
        Structure("r k, w[r], i r, j l r -> i (j k) l", i=14, j=3, k=25, l=4, r=3),
        Structure("k r, i r, j r -> i j k", i=14, j=15, k=16, r=3),
        formats.cp((40,), 2),
        formats.cp((30, 2, 20), 2),
    ],
    ids=str,
)
def test_any_cp_structure(structure):
    found = Network.random(structure, seed=3)
    generator = torch.Generator().manual_seed(0)
    cores = [core * (torch.rand(core.shape, generator=generator) < 0.6) for core in found.cores]
    dense = Network(structure, cores).dense()
    cells = dense.nonzero()
    data = Observations(cells, dense[tuple(cells.T)], tuple(dense.shape), rest="zero")
    result = cp_als_sparse(data, structure, tol=1e-9, max_sweeps=500)
    assert result.network.structure == structure
    assert true_error(data, result.network) < 1e-6
    start = cp_als_sparse(data, structure, init=result.network)
    assert start.error < 1e-6
    assert start.sweeps <= 3


@settings(max_examples=20, deadline=None)
@given(
    shape=st.lists(st.integers(1, 7), min_size=1, max_size=4),
    count=st.integers(1, 40),
    rank=st.integers(1, 6),
    seed=st.integers(0, 1000),
)
def test_any_sparse_array_has_a_true_and_falling_error(shape, count, rank, seed):
    data = noise(shape, count, seed=seed)
    result = cp_als_sparse(data, formats.cp(shape, rank), max_sweeps=30)
    assert falls(result.errors)
    assert result.sweeps <= 30
    assert result.error == pytest.approx(true_error(data, result.network), rel=1e-6, abs=1e-12)
    assert result.error <= 1 + 1e-9


@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128], ids=str)
def test_a_sweep_is_textbook_alternating_least_squares(dtype):
    shape = (8, 9, 7, 6)
    data = noise(shape, 700, dtype)
    structure = formats.cp(shape, 3)
    problem = SparseProblem.of(data, structure, "cp_als_sparse")
    begin = Network.random(structure, dtype=dtype, seed=2)
    found, error = problem.sweep(problem.start(begin))
    network = problem.network(found)
    dense, plain = data.dense(), list(begin.cores)
    for mode in range(4):
        design = torch.ones(1, 3, dtype=dtype)
        for other in (m for m in range(4) if m != mode):
            design = (design[:, None] * plain[other][None]).reshape(-1, 3)
        plain[mode] = torch.linalg.lstsq(design, dense.movedim(mode, 0).flatten(1).T).solution.T
    wanted = torch.einsum("ar,br,cr,dr->abcd", *plain)
    torch.testing.assert_close(network.dense(), wanted)
    assert error == pytest.approx(true_error(data, network), rel=1e-9)


def test_the_dense_method_finds_the_same_from_the_same_start():
    shape = (20, 25, 30)
    data = noise(shape, 2000)
    structure = formats.cp(shape, 4)
    init = Network.random(structure, seed=5)
    mine = cp_als_sparse(data, structure, init=init, tol=1e-10, max_sweeps=1000)
    dense = cp_als(data.dense(), structure, init=init, tol=1e-10, max_sweeps=1000)
    assert mine.error == pytest.approx(dense.error, rel=1e-5)


@pytest.mark.parametrize("shape", [(20_000, 10_000, 5_000), (10**6, 10**6, 10**6), (10**6, 2, 10**7, 10**6)], ids=str)
def test_huge_shapes(shape):
    data = planted(shape, 3, 12)
    fit = tn.fit(data, formats.cp(shape, 3))
    assert fit.method == "cp_als_sparse"
    assert fit.error < 1e-6
    torch.testing.assert_close(fit.network.at(data.coordinates), data.values, rtol=1e-4, atol=1e-5)
    outside = torch.stack([torch.arange(0, n, n // 9)[:9] for n in shape[:1]] + [torch.zeros(9).long()] * 3, 1)
    assert float(fit.network.at(outside[:, : len(shape)]).abs().max()) < 1e-5
    assert str(fit)


_MEASURE = """
import tenfold as tn
from benchmarks.resident import growth
from sparse_arrays import planted
def fit(shape):
    data, structure = planted(shape, 3, 12), tn.formats.cp(shape, 3)
    return 2**20 * growth(lambda: tn.fit(data, structure)) / 8 / structure.parameters
fit((30, 40, 50))
print(fit((10**6, 10**6, 10**6)))
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="counts memory in KiB, as Linux does")
def test_memory_is_that_of_the_factors():
    here = {"PYTHONPATH": os.pathsep.join([*sys.path, str(Path(__file__).parents[1])])}
    done = subprocess.run(
        [sys.executable, "-c", _MEASURE], capture_output=True, text=True, check=True, env={**os.environ, **here}
    )
    assert float(done.stdout) < 4


def test_scales_zeros_and_single_cells():
    shape = (30, 40, 50)
    data = planted(shape, 3, 6)
    structure = formats.cp(shape, 3)
    for scale in (1e150, 1e-150, 1e300, 1e-300):
        scaled = Observations(data.coordinates, data.values * scale, shape, rest="zero")
        result = cp_als_sparse(scaled, structure)
        assert result.error < 1e-6
        found = result.network.at(data.coordinates) / scale
        torch.testing.assert_close(found, data.values, rtol=1e-5, atol=1e-5)
    nothing = Observations(data.coordinates, torch.zeros_like(data.values), shape, rest="zero")
    result = cp_als_sparse(nothing, structure)
    assert result.error == 0
    assert not any(core.any() for core in result.network.cores)
    single = Observations(torch.tensor([[3, 4, 5]]), torch.tensor([-2.0]), shape, rest="zero")
    result = cp_als_sparse(single, structure)
    assert result.error < 1e-6
    assert float(result.network.at(torch.tensor([[3, 4, 5]]))) == pytest.approx(-2)


def test_same_seed_same_bits_and_callback():
    shape = (20, 25, 30)
    data = noise(shape, 2000)
    structure = formats.cp(shape, 4)
    seen = []
    first = cp_als_sparse(
        data, structure, seed=3, callback=lambda p: seen.append((p.error, p.sweep, true_error(data, p.network())))
    )
    second = cp_als_sparse(data, structure, seed=3)
    assert all(torch.equal(a, b) for a, b in zip(first.network.cores, second.network.cores, strict=True))
    assert tuple(error for error, _, _ in seen) == first.errors
    assert [sweep for _, sweep, _ in seen] == list(range(1, first.sweeps + 1))
    assert all(error == pytest.approx(true, rel=1e-6) for error, _, true in seen)


def test_stops_at_an_error():
    data = planted((40, 50, 60), 5, 8)
    result = cp_als_sparse(data, formats.cp((40, 50, 60), 5), error=0.3)
    assert result.stopped == "error"
    assert result.error <= 0.3


def test_weights_count():
    shape = (6, 7, 8)
    data = noise(shape, 60)
    structure = formats.cp(shape, 2)
    ones = Observations(data.coordinates, data.values, shape, torch.ones_like(data.values), "zero")
    assert cp_als_sparse(ones, structure).error == cp_als_sparse(data, structure).error
    weights = 1 + 9 * torch.rand(len(data), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    heavy = Observations(data.coordinates, data.values, shape, weights, "zero")
    result = cp_als_sparse(heavy, structure)
    table = torch.ones(shape, dtype=torch.float64)
    table[tuple(data.coordinates.T)] = weights
    residual = table * (data.dense() - result.network.dense()) ** 2
    expected = math.sqrt(float(residual.sum()) / float((table * data.dense() ** 2).sum()))
    assert result.error == pytest.approx(expected, rel=1e-9)
    unweighted = table * (data.dense() - cp_als_sparse(data, structure).network.dense()) ** 2
    assert float(residual.sum()) < float(unweighted.sum())


def test_what_is_refused():
    shape = (3, 4, 5)
    structure = formats.cp(shape, 2)
    data = noise(shape, 20)
    with pytest.raises(DataError, match="rest is zero, not a whole array"):
        cp_als_sparse(torch.ones(shape), structure)
    with pytest.raises(DataError, match="rest is unknown"):
        cp_als_sparse(Observations(data.coordinates, data.values, shape), structure)
    with pytest.raises(DataError, match=r"shape \(3, 4, 5\)"):
        cp_als_sparse(data, formats.cp((3, 5, 4), 2))
    with pytest.raises(StructureError, match="cp_als_sparse needs one inner index"):
        cp_als_sparse(data, formats.tucker(shape, 2))
    with pytest.raises(StructureError, match="init has structure"):
        cp_als_sparse(data, structure, init=Network.random(formats.cp(shape, 3)))
    with pytest.raises(TenfoldError, match="starts must be from 0 to 1000"):
        cp_als_sparse(data, structure, starts=-1)
    with pytest.raises(TenfoldError, match="starts must be from 0 to 1000"):
        cp_als_sparse(data, structure, starts=10**7)
    assert choose(structure, data).name == "cp_als_sparse"
    assert choose(structure, data.dense()).name == "cp_als"


@pytest.mark.peer
def test_agrees_with_pyttb():
    ttb = pytest.importorskip("pyttb")
    shape = (20, 25, 30)
    data = noise(shape, 3000)
    start = Network.random(formats.cp(shape, 4), seed=1)
    tensor = ttb.sptensor(data.coordinates.numpy(), data.values.numpy()[:, None], shape)
    model, _, _ = ttb.cp_als(
        tensor, 4, stoptol=0, maxiters=5, init=ttb.ktensor([core.numpy().copy() for core in start.cores]), printitn=0
    )
    problem = SparseProblem.of(data, formats.cp(shape, 4), "cp_als_sparse")
    state = problem.start(start)
    for _ in range(5):
        state, error = problem.sweep(state)
    expected = np.linalg.norm(data.dense().numpy() - model.full().data) / math.sqrt(problem.norm2 * 4**problem.power)
    assert error == pytest.approx(expected, rel=1e-8)
