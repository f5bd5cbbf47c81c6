"""Sparse Bayesian learning with Kronecker structure: the factored posterior is the whole one, what is recovered."""

from __future__ import annotations

from functools import partial
from itertools import pairwise
from statistics import median

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tenfold.claims._sparse_recovery import dense_posterior, kronecker, kronecker_omp, nmse, on_support, planted
from tenfold.claims.krosbl_irs import channel
from tenfold.completion._krosbl import along, posterior, product
from tenfold.completion.am_krosbl import am_krosbl
from tenfold.completion.pc_krosbl import pc_krosbl
from tenfold.completion.svd_krosbl import svd_krosbl
from tenfold.errors import DataError, TenfoldError

METHODS = [am_krosbl, svd_krosbl, pc_krosbl]


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.tuples(st.integers(1, 5), st.integers(1, 6)), min_size=1, max_size=3),
    st.booleans(),
    st.integers(0, 99),
)
def test_the_factored_posterior_is_the_whole_one(sizes: list[tuple[int, int]], real: bool, seed: int) -> None:
    g = torch.Generator().manual_seed(seed)
    dtype = torch.float64 if real else torch.complex128
    matrices = [torch.randn(*size, generator=g, dtype=dtype) for size in sizes]
    scales = [torch.rand(columns, generator=g, dtype=torch.float64) + 0.01 for _, columns in sizes]
    measured = torch.randn([rows for rows, _ in sizes], generator=g, dtype=dtype)
    found = posterior(measured, matrices, scales, 0.3)
    mean, variance, cost = dense_posterior(measured, kronecker(matrices), product(scales).reshape(-1), 0.3)
    torch.testing.assert_close(found.mean.reshape(-1), mean, rtol=1e-9, atol=1e-10)
    torch.testing.assert_close(found.variance.reshape(-1), variance, rtol=1e-9, atol=1e-10)
    assert found.cost == pytest.approx(cost, rel=1e-9, abs=1e-9)


def test_the_cost_of_alternating_minimisation_never_rises() -> None:
    for seed in range(5):
        one = planted(seed, 10, size=8, rows=(5, 6, 7), nonzeros=2)
        costs = am_krosbl(one.measured, one.dictionaries, noise=one.noise, prune=0, tol=0, iterations=60).costs
        assert all(after <= before + 1e-9 * abs(before) for before, after in pairwise(costs))
        assert costs[-1] < costs[0]


@pytest.mark.parametrize("method", [am_krosbl, svd_krosbl, partial(pc_krosbl, coupling=0)])
@pytest.mark.parametrize("known", [True, False])
def test_planted_tensors_come_back(method, known: bool) -> None:
    errors, levels = [], []
    for seed in range(10):
        one = planted(seed, 25)
        found = method(one.measured, one.dictionaries, noise=one.noise if known else None)
        errors.append(nmse(found.mean, one.truth))
        levels.append(found.noise / one.noise)
    assert median(errors) < 2e-3
    assert levels == pytest.approx([1] * 10) if known else 0.8 < median(levels) < 1.3


def test_singular_vectors_are_near_least_squares_on_the_support() -> None:
    pairs = []
    for seed in range(10):
        one = planted(seed, 15)
        found = svd_krosbl(one.measured, one.dictionaries, noise=one.noise)
        pairs.append(
            (nmse(found.mean, one.truth), nmse(on_support(one.measured, one.dictionaries, one.support), one.truth))
        )
    assert median(a for a, _ in pairs) < 3 * median(b for _, b in pairs)
    assert median(a for a, _ in pairs) < 5e-3


def test_intervals_hold_what_was_planted() -> None:
    inside = []
    for seed in range(10):
        one = planted(seed, 20)
        found = svd_krosbl(one.measured, one.dictionaries, noise=one.noise)
        there = torch.meshgrid(*one.support, indexing="ij")
        inside.append(((found.mean - one.truth)[there].abs() < 1.96 * found.variance[there].sqrt()).double().mean())
    assert 0.85 < float(torch.stack(inside).mean()) < 0.99


def test_matching_pursuit_and_least_squares_are_exact_without_noise() -> None:
    one = planted(3, 200)
    for found in (
        kronecker_omp(one.measured, one.dictionaries, 3),
        on_support(one.measured, one.dictionaries, one.support),
    ):
        assert nmse(found, one.truth) < 1e-15


def test_a_channel_is_its_dictionaries_times_a_sparse_tensor() -> None:
    measured, dictionaries, _, whole, truth = channel(0, 300.0)
    inverse = [torch.linalg.pinv(matrix) for matrix in whole]
    torch.testing.assert_close(along(whole, along(inverse, truth)), truth)
    found = pc_krosbl(measured, dictionaries, noise=1e-9, coupling=(0.8, 0, 0.8))
    assert nmse(along(whole, found.mean), truth) < 1e-3


@pytest.mark.parametrize("method", METHODS)
def test_the_scale_of_the_data_changes_nothing_else(method) -> None:
    one = planted(1, 20, size=8, rows=(5, 6, 7), nonzeros=2)
    plain = method(one.measured, one.dictionaries)
    for scale in (1e-100, 1e100):
        found = method(scale * one.measured, one.dictionaries)
        torch.testing.assert_close(found.mean / scale, plain.mean)
        assert found.support == plain.support
        assert found.noise / scale / scale == pytest.approx(plain.noise)


@pytest.mark.parametrize("method", METHODS)
def test_zeros_and_single_entries(method) -> None:
    matrices = [torch.eye(3, dtype=torch.float64), torch.ones(2, 4, dtype=torch.float64)]
    nothing = method(torch.zeros(3, 2), matrices)
    assert nothing.stopped == "zero"
    assert not nothing.mean.any()
    single = method(torch.tensor([2.0]), [torch.ones(1, 1)], noise=1e-6)
    assert float(single.mean[0]) == pytest.approx(2, rel=1e-3)
    assert "1 of 1 entries" in repr(single)
    assert len(method(torch.ones(3, 2), matrices, noise=0.1).plot().axes) == 2


@pytest.mark.parametrize("method", METHODS)
def test_what_is_refused(method) -> None:
    matrices = [torch.eye(3), torch.eye(2)]
    with pytest.raises(DataError, match="measured has 5 entries: give 3 × 2"):
        method(torch.ones(5), matrices)
    with pytest.raises(DataError, match="measured holds NaN or inf"):
        method(torch.full((3, 2), torch.nan), matrices)
    with pytest.raises(DataError, match="dictionaries is empty"):
        method(torch.ones(3, 2), [])
    with pytest.raises(TenfoldError, match="noise -1 must be positive"):
        method(torch.ones(3, 2), matrices, noise=-1)
    with pytest.raises(TenfoldError, match="prune 2 must be from 0 to 1"):
        method(torch.ones(3, 2), matrices, prune=2)
    with pytest.raises(TenfoldError, match="start 0 must be positive"):
        method(torch.ones(3, 2), matrices, start=0)
