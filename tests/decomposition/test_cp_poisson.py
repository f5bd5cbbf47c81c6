"""cp_poisson: planted factors of counts, rows against a general solver, sparse as dense, what is refused."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

from tenfold import formats
from tenfold.claims.cp_recovery import match
from tenfold.decomposition._cp_layout import Canonical
from tenfold.decomposition._poisson_rows import dense_rows, sparse_rows
from tenfold.decomposition.cp_poisson import _Counts, _Whole, cp_poisson, poisson_deviance
from tenfold.errors import DataError, StructureError
from tenfold.network import Network
from tenfold.observations import Observations
from tenfold.structure import Structure


def counts(shape: tuple[int, ...], rank: int, total: float, seed: int = 0) -> tuple[torch.Tensor, Network]:
    """Poisson counts, and the network of their means."""
    random = np.random.default_rng(seed)
    factors = [torch.from_numpy(random.gamma(0.5, size=(extent, rank))) for extent in shape]
    means = Network(formats.cp(shape, rank), factors).dense()
    factors[0] = factors[0] * (total / float(means.sum()))
    planted = Network(formats.cp(shape, rank), factors)
    return torch.from_numpy(random.poisson(planted.dense().numpy()).astype(float)), planted


def deviance(x: torch.Tensor, m: torch.Tensor) -> float:
    return 2 * float((torch.xlogy(x, x) - torch.xlogy(x, m) - x + m).sum())


def listed(data: torch.Tensor) -> Observations:
    where = data.nonzero()
    return Observations(where, data[tuple(where.T)], tuple(data.shape), rest="zero")


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("total", [30_000, 1_000_000])
def test_planted_factors_are_found(total, seed):
    data, planted = counts((30, 31, 32), 3, total, seed)
    result = cp_poisson(data, planted.structure, seed=seed)
    assert match(planted, result.network) > 0.98
    assert all((core >= 0).all() for core in result.network.cores)
    assert poisson_deviance(data, result.network) < poisson_deviance(data, planted)
    assert result.error == pytest.approx(float((data - result.network.dense()).norm() / data.norm()), rel=1e-9)


def test_counts_without_noise_are_fitted():
    _, planted = counts((9, 10, 11), 2, 5000)
    result = cp_poisson(planted.dense(), planted.structure, tol=1e-9, max_sweeps=2000)
    assert result.error < 1e-4
    assert match(planted, result.network) > 0.9999


@pytest.mark.parametrize("total", [300, 20_000])
def test_sparse_is_dense(total):
    data, planted = counts((12, 13, 14), 3, total)
    structure = planted.structure
    one, other = cp_poisson(data, structure, seed=1), cp_poisson(listed(data), structure, seed=1)
    assert one.error == pytest.approx(other.error, rel=1e-3)
    dense = _Whole(data, 1.0)
    sparse = _Counts.of(listed(data), Canonical.of(structure))
    state = [torch.rand(3, n, generator=torch.Generator().manual_seed(n), dtype=torch.float64) for n in data.shape]
    for _ in range(3):
        first, objective, error = dense.sweep(state)
        second, same_objective, same_error = sparse.sweep(state)
        assert objective == pytest.approx(same_objective, rel=1e-10)
        assert error == pytest.approx(same_error, rel=1e-10)
        model = torch.einsum("ri,rj,rk->ijk", *first)
        assert objective**2 * data.sum() == pytest.approx(deviance(data, model), rel=1e-9)
        for a, b in zip(first, second, strict=True):
            torch.testing.assert_close(a, b)
        state = first


@settings(max_examples=30, deadline=None)
@given(
    shape=st.lists(st.integers(1, 6), min_size=1, max_size=4),
    rank=st.integers(1, 6),
    seed=st.integers(0, 1000),
    level=st.sampled_from([0.2, 3.0, 100.0]),
)
def test_no_sweep_lowers_the_likelihood(shape, rank, seed, level):
    data = torch.from_numpy(np.random.default_rng(seed).poisson(level, size=shape).astype(float))
    structure = formats.cp(shape, rank)
    result = cp_poisson(data, structure, max_sweeps=10)
    assert all((core >= 0).all() and torch.isfinite(core).all() for core in result.network.cores)
    if not data.any():
        assert result.error == 0
        return
    problem = _Counts.of(data, Canonical.of(structure))
    state = [
        torch.rand(rank, n, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) for n in problem.shape
    ]
    objectives = []
    for _ in range(8):
        state, objective, _ = problem.sweep(state)
        objectives.append(objective)
    assert all(b <= a * (1 + 1e-9) + 1e-7 for a, b in pairwise(objectives))
    # A constant network is one of these, and the most likely constant is the mean.
    constant = deviance(data, data.mean().expand(data.shape))
    assert poisson_deviance(data, result.network) <= constant * (1 + 1e-6) + 1e-6


@pytest.mark.parametrize("seed", range(4))
def test_rows_end_at_the_minimum_and_every_pass_goes_down(seed):
    random = np.random.default_rng(seed)
    rank, entries = 4, 30
    p = random.gamma(0.5, size=(rank, entries))
    x = random.poisson(3 * random.random(entries), size=(1, entries)).astype(float)
    s = p.sum(1)

    def objective(b):
        return s @ b - x[0] @ np.log(np.maximum(b @ p, 1e-300))

    b = np.full((1, rank), 0.5)
    values = [objective(b[0])]
    for _ in range(300):
        dense_rows(b, s, x, p, 1, False)
        values.append(objective(b[0]))
    assert all(after <= before + 1e-12 * abs(before) for before, after in pairwise(values))
    best = minimize(
        objective,
        np.full(rank, 0.5),
        jac=lambda b: s - p @ (x[0] / np.maximum(b @ p, 1e-300)),
        bounds=[(0, None)] * rank,
        options={"ftol": 1e-15, "gtol": 1e-12},
    )
    assert values[-1] <= best.fun + 1e-7 * abs(best.fun)
    slope = s - p @ (x[0] / np.maximum(b[0] @ p, 1e-300))
    assert (slope > -1e-6 * s).all()
    np.testing.assert_allclose(b[0] * slope, 0, atol=1e-6 * s.sum())
    listed_b = np.full((1, rank), 0.5)
    places = np.arange(entries)[:, None]
    for _ in range(300):
        logs, overlap = sparse_rows(listed_b, s, np.array([0, entries]), places, x[0], p.T.copy(), 1, True)
    np.testing.assert_allclose(listed_b, b, rtol=1e-8, atol=1e-12)
    assert logs == pytest.approx(x[0] @ np.log(b[0] @ p))
    assert overlap == pytest.approx(x[0] @ (b[0] @ p))


def test_likelier_than_least_squares():
    data, planted = counts((30, 31, 32), 4, 10_000)
    own = cp_poisson(data, planted.structure)
    from tenfold.decomposition.cp_hals import cp_hals

    squares = cp_hals(data, planted.structure)
    assert poisson_deviance(data, own.network) < poisson_deviance(data, squares.network)
    assert squares.error < own.error


def test_deviance_of_all_kinds_of_data():
    data, planted = counts((5, 6, 7), 2, 300)
    wanted = deviance(data, planted.dense())
    assert poisson_deviance(data, planted) == pytest.approx(wanted)
    assert poisson_deviance(listed(data), planted) == pytest.approx(wanted)
    assert poisson_deviance(Observations.from_nan(data), planted) == pytest.approx(wanted)
    assert poisson_deviance(data, Network(planted.structure, [0 * core for core in planted.cores])) == math.inf
    train = formats.tensor_train((5, 6, 7), 2)
    cores = [torch.rand(core.shape, generator=torch.Generator().manual_seed(0)) for core in train.cores]
    network = Network(train, [core.double() for core in cores])
    assert poisson_deviance(listed(data), network) == pytest.approx(deviance(data, network.dense()))
    with pytest.raises(DataError, match="negative entries"):
        poisson_deviance(-data, planted)


def test_init_seed_callback_error_and_other_structures():
    data, planted = counts((12, 13, 14), 3, 20_000)
    structure = planted.structure
    seen = []
    first = cp_poisson(data, structure, seed=2, callback=lambda p: seen.append((p.error, p.network().dense())))
    second = cp_poisson(data, structure, seed=2)
    assert all(torch.equal(a, b) for a, b in zip(first.network.cores, second.network.cores, strict=True))
    assert tuple(error for error, _ in seen) == first.errors
    for error, dense in seen:
        assert error == pytest.approx(float((data - dense).norm() / data.norm()), rel=1e-6)
    again = cp_poisson(data, structure, init=first.network, max_sweeps=2)
    assert poisson_deviance(data, again.network) <= poisson_deviance(data, first.network) * (1 + 1e-9)
    assert cp_poisson(data, structure, error=0.9).stopped == "error"
    other = Structure("r k, w[r], i r, j l r -> i (j k) l", i=4, j=3, k=5, l=2, r=2)
    cores = [torch.rand(core.shape, generator=torch.Generator().manual_seed(1)) for core in other.cores]
    means = 20 * Network(other, [core.double() for core in cores]).dense()
    drawn = torch.from_numpy(np.random.default_rng(0).poisson(means.numpy()).astype(float))
    for form in (drawn, listed(drawn)):
        result = cp_poisson(form, other)
        assert poisson_deviance(drawn, result.network) < deviance(drawn, means)


def test_scale_dtype_and_refusals():
    data, planted = counts((6, 7, 8), 2, 2000)
    structure = planted.structure
    usual = cp_poisson(data, structure)
    for scale in (1e-150, 1e150):
        for form in (data * scale, listed(data * scale)):
            assert cp_poisson(form, structure).error == pytest.approx(usual.error, rel=1e-2)
    assert cp_poisson(data.float(), structure).network.dtype == torch.float32
    assert cp_poisson(torch.zeros(6, 7, 8), structure).error == 0
    assert cp_poisson(data, formats.cp((6, 7, 8), 20), max_sweeps=30).error < usual.error
    with pytest.raises(DataError, match=r"data has 2 negative entries \(down to -3\), but counts have none"):
        cp_poisson(torch.tensor([[1.0, -3.0], [-1.0, 0.0]]), formats.cp((2, 2), 1))
    with pytest.raises(DataError, match="negative entries"):
        cp_poisson(listed(-data), structure)
    with pytest.raises(DataError, match="NaN or infinite"):
        cp_poisson(data / 0, structure)
    with pytest.raises(DataError, match="counts are real"):
        cp_poisson(data.to(torch.complex128), structure)
    with pytest.raises(DataError, match="takes no missing cells"):
        cp_poisson(Observations.from_nan(data), structure)
    where = listed(data)
    weighted = Observations(where.coordinates, where.values, where.shape, torch.ones(len(where)).double(), "zero")
    with pytest.raises(DataError, match="takes no weights"):
        cp_poisson(weighted, structure)
    with pytest.raises(StructureError, match="cp_poisson needs one inner index"):
        cp_poisson(data, formats.tucker((6, 7, 8), 2))
    with pytest.raises(StructureError, match="init has structure"):
        cp_poisson(data, structure, init=counts((6, 7, 8), 3, 100)[1])


@pytest.mark.peer
def test_as_likely_as_pyttb():
    pyttb = pytest.importorskip("pyttb")
    data, planted = counts((14, 15, 16), 3, 10_000)
    np.random.seed(0)  # noqa: NPY002
    peer, *_ = pyttb.cp_apr(pyttb.tensor(data.numpy()), 3, printitn=0, maxiters=100)
    model = torch.from_numpy(np.ascontiguousarray(peer.full().data))
    own = poisson_deviance(data, cp_poisson(data, planted.structure, tol=1e-7).network)
    assert own <= deviance(data, model) * (1 + 1e-5)


@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("zero", [[0], [1, 2], [0, 1, 2]])
def test_a_start_of_zeros(sparse: bool, zero: list[int]) -> None:
    structure = formats.cp((6, 5, 4), 2)
    generator = torch.Generator().manual_seed(0)
    data = torch.poisson(torch.full((6, 5, 4), 0.2 if sparse else 5.0, dtype=torch.float64), generator)
    init = Network(structure, [torch.rand(n, 2, generator=generator, dtype=torch.float64) for n in (6, 5, 4)])
    init = init.replace([core * (number not in zero) for number, core in enumerate(init.cores)])
    found = cp_poisson(data, structure, init=init)
    assert math.isfinite(poisson_deviance(data, found.network))
    assert found.error < 1
    mean = data.sum() / found.network.dense().sum()
    assert float(mean) == pytest.approx(1, abs=1e-3)
