"""Core consistency, Kruskal's condition and degeneracy against closed forms and textbook cases."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import tenfold as tn
from tenfold import components, formats
from tenfold.decomposition import find
from tenfold.errors import DataError, StructureError
from tenfold.network import Network
from tenfold.observations import Observations
from tenfold.structure import Structure


def by_definition(data, factors):
    """Core consistency from the pseudo-inverse of the whole Kronecker product."""
    product = torch.ones(1, 1, dtype=torch.float64)
    for factor in factors:
        product = torch.kron(product, factor)
    rank = factors[0].shape[1]
    core = (torch.linalg.pinv(product) @ data.reshape(-1)).reshape([rank] * len(factors))
    ideal = torch.zeros_like(core)
    for r in range(rank):
        ideal[(r,) * len(factors)] = 1
    return 100 * (1 - float((core - ideal).square().sum()) / rank)


@settings(max_examples=30, deadline=None)
@given(shape=st.lists(st.integers(3, 6), min_size=2, max_size=4), rank=st.integers(1, 3), seed=st.integers(0, 10**6))
def test_core_consistency_is_that_of_its_definition(shape, rank, seed):
    network = Network.random(formats.cp(shape, rank), seed=seed)
    noise = torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    data = network.dense() + 0.1 * noise
    norms = torch.stack([core.norm(dim=0) for core in network.cores]).prod(0)
    first, *others = (core / core.norm(dim=0) for core in network.cores)
    expected = by_definition(data, [first * norms, *others])
    assert components.core_consistency(data, network) == pytest.approx(expected, abs=1e-5, rel=1e-5)
    assert components.core_consistency(network.dense(), network) == pytest.approx(100, abs=1e-4)


@pytest.mark.parametrize("seed", range(4))
def test_core_consistency_falls_above_the_planted_rank(seed):
    planted = Network.random(formats.cp((12, 11, 10), 3), seed=seed).dense()
    noise = torch.randn(12, 11, 10, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    data = planted + 0.05 * planted.norm() / noise.norm() * noise
    found = {}
    for rank in (1, 3, 4, 5):
        structure = formats.cp(data.shape, rank)
        fits = [
            find("cp_als").function(data, structure, init=Network.random(structure, seed=start), max_sweeps=100)
            for start in range(3)
        ]
        found[rank] = components.core_consistency(data, min(fits, key=lambda fit: fit.error).network)
    assert found[1] == pytest.approx(100, abs=1e-6)
    assert found[3] > 95
    assert found[4] < 50
    assert found[5] < 50


def test_core_consistency_of_grouped_complex_scaled_and_missing_data():
    network = Network.random(formats.cp((6, 5, 4), 2), seed=0, dtype=torch.complex128)
    assert components.core_consistency(network.dense(), network) == pytest.approx(100)
    grouped = Network.random(Structure("k r, i r, j r -> (i k) j", i=4, j=5, k=6, r=2), seed=0)
    assert components.core_consistency(grouped.dense(), grouped) == pytest.approx(100)
    network = Network.random(formats.cp((6, 5, 4), 2), seed=0)
    for scale in (1e150, 1e-150):
        scaled = network.replace([network.cores[0] * scale, *network.cores[1:]])
        assert components.core_consistency(scaled.dense(), scaled) == pytest.approx(100)
    data = network.dense()
    known = torch.rand(data.shape, generator=torch.Generator().manual_seed(0)) < 0.7
    holes = Observations.from_masked(data, observed=known)
    assert components.core_consistency(holes, network) == pytest.approx(100)
    wrong = Network.random(formats.cp((6, 5, 4), 2), seed=1)
    assert components.core_consistency(holes, wrong) < 90


def test_core_consistency_says_where_it_means_nothing():
    network = Network.random(formats.cp((6, 5, 2), 3), seed=0)
    assert math.isnan(components.core_consistency(network.dense(), network))
    small = Network.random(formats.cp((6, 5, 4), 3), seed=0)
    assert math.isnan(components.core_consistency(torch.zeros(6, 5, 4), small))
    with pytest.raises(DataError, match=r"data has shape \(6, 5\)"):
        components.core_consistency(torch.zeros(6, 5), small)
    with pytest.raises(StructureError, match="one inner index"):
        components.core_consistency(torch.zeros(6, 5, 4), Network.random(formats.tucker((6, 5, 4), 2)))


def test_core_consistency_takes_arrays_and_datasets(tmp_path):
    network = Network.random(formats.cp((6, 5, 4), 2), seed=0)
    array = network.dense().numpy()
    assert components.core_consistency(array, network) == pytest.approx(100)
    assert components.core_consistency(array.tolist(), network) == pytest.approx(100)
    np.save(tmp_path / "whole.npy", array)
    assert components.core_consistency(tn.io.read(tmp_path / "whole.npy"), network) == pytest.approx(100)
    holes = array.copy()
    holes[0, 0, 0] = np.nan
    np.save(tmp_path / "holes.npy", holes)
    assert components.core_consistency(tn.io.read(tmp_path / "holes.npy"), network) == pytest.approx(100)
    with pytest.raises(DataError, match="data has entries that are NaN or infinite"):
        components.core_consistency(holes, network)
    with pytest.raises(DataError, match="data must be an array of numbers, not str"):
        components.core_consistency("x", network)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_networks_with_nan_are_refused(bad):
    network = Network.random(formats.cp((6, 5, 4), 2), seed=0)
    broken = network.replace([network.cores[0] * bad, *network.cores[1:]])
    for diagnosis in (
        components.kruskal,
        components.degeneracy,
        components.canonical,
        lambda fit: components.factor_match_score(network, fit),
        lambda fit: components.core_consistency(network.dense(), fit),
    ):
        with pytest.raises(DataError, match="core 'core0' of the network has entries that are NaN or infinite"):
            diagnosis(broken)


def cp(*factors):
    factors = [torch.tensor(f, dtype=torch.float64) for f in factors]
    return Network(formats.cp([len(f) for f in factors], factors[0].shape[1]), factors)


EYE = [[1, 0, 0], [0, 1, 0], [0, 0, 1]]
PARALLEL = [[1, 1, 0], [0, 0, 1], [0, 0, 0]]  # its first two columns are one
PLANE = [[1, 0, 1], [0, 1, 1], [0, 0, 0]]  # any two columns independent, the three not


@pytest.mark.parametrize(
    ("network", "k_ranks", "unique"),
    [
        (cp(EYE, EYE, EYE), (3, 3, 3), True),  # 9 >= 8
        (cp(EYE, EYE, PLANE), (3, 3, 2), True),  # 8 >= 8, with equality
        (cp(EYE, PLANE, PLANE), (3, 2, 2), None),  # 7 < 8
        (cp(EYE, EYE, PARALLEL), (3, 3, 1), False),  # two components share a column: a matrix of rank two is left
        (cp(PARALLEL, PARALLEL, EYE), (1, 1, 3), False),
        (cp(EYE, EYE), (3, 3), False),  # a matrix
        (cp([[1], [2]], [[1], [0]]), (1, 1), True),  # of rank one
        (cp(EYE, EYE, [[1, 1, 0], [1, 0, 0], [0, 1, 0]]), (3, 3, 0), False),  # a zero component
        # Four modes: two parallel components in one of them do no harm.
        (cp(EYE, EYE, EYE, PARALLEL), (3, 3, 3, 1), True),  # 10 >= 9
    ],
)
def test_textbook_cases_of_kruskal(network, k_ranks, unique):
    found = components.kruskal(network)
    assert found.exact
    assert found.unique is unique
    if "zero" not in found.why:
        assert tuple(found.k_ranks.values()) == k_ranks
    assert {True: "yes", False: "no", None: "unknown"}[unique] in str(found)


def test_products_of_all_factors_but_one_that_are_dependent():
    # Khatri-Rao products of two 2 x 5 factors have four rows, so five of them are dependent.
    network = Network.random(formats.cp((2, 2, 9), 5), seed=0)
    found = components.kruskal(network)
    assert found.unique is False
    assert "dependent in all modes but k" in found.why


@settings(max_examples=20, deadline=None)
@given(shape=st.lists(st.integers(2, 20), min_size=3, max_size=4), rank=st.integers(2, 14), seed=st.integers(0, 10**6))
def test_k_ranks_of_random_factors_are_full_and_bounds_never_exceed_them(shape, rank, seed):
    network = Network.random(formats.cp(shape, rank), seed=seed)
    found = components.kruskal(network)
    for k, n in zip(found.k_ranks.values(), shape, strict=True):
        full = min(n, rank)
        assert k == full if found.exact else 1 <= k <= full
    assert found.exact == (rank <= 12)
    if found.unique and rank > 1:
        assert sum(found.k_ranks.values()) >= 2 * rank + len(shape) - 1


def test_degeneracy_of_components_that_cancel():
    healthy = Network.random(formats.cp((6, 5, 4), 2), seed=0)
    found = components.degeneracy(healthy)
    assert not found.degenerate
    # The sequence that approaches a tensor of border rank two: n (a + b/n)^3 - n a^3.
    a, b = torch.eye(2, dtype=torch.float64)
    for n, degenerate in ((0.5, False), (1000, True)):
        first, second = n ** (1 / 3) * (a + b / n), n ** (1 / 3) * a
        columns = torch.stack([first, second], 1)
        network = Network(formats.cp((2, 2, 2), 2), [columns, columns, columns * torch.tensor([1.0, -1.0])])
        found = components.degeneracy(network)
        assert found.degenerate is degenerate
        assert found.pair == (0, 1)
    assert found.cosine < -0.999
    assert found.growth > 100
    assert components.degeneracy(healthy, norm=float(healthy.norm()) / 1000).degenerate
    alone = components.degeneracy(Network.random(formats.cp((3, 4), 1)))
    assert alone.pair is None
    assert alone.growth == pytest.approx(1)
