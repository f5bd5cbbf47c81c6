from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tenfold.compression import allocate, allocate_jointly, spent, uniform
from tenfold.errors import TenfoldError


def best(costs: np.ndarray, errors: np.ndarray, budget: float) -> float:
    """The least sum of errors within the budget, by trying everything."""
    layers = range(len(costs))
    return min(
        sum(errors[layer][pick] for layer, pick in zip(layers, picks, strict=True))
        for picks in itertools.product(*(range(len(c)) for c in costs))
        if sum(costs[layer][pick] for layer, pick in zip(layers, picks, strict=True)) <= budget
    )


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 5), st.integers(1, 4), st.floats(0.0, 1.0))
def test_nothing_is_better_within_the_budget(seed: int, layers: int, choices: int, share: float) -> None:
    # Whole costs below the number of steps: cutting the budget into steps then forbids nothing.
    generator = np.random.default_rng(seed)
    costs, errors = generator.integers(0, 100, (layers, choices)), generator.random((layers, choices))
    least, most = costs.min(axis=1).sum(), costs.max(axis=1).sum()
    budget = least + round(share * (most - least))
    picks = allocate(costs.tolist(), errors.tolist(), float(budget), steps=max(int(budget - least), 1))
    rows = range(layers)
    assert sum(costs[row][pick] for row, pick in zip(rows, picks, strict=True)) <= budget
    found = sum(errors[row][pick] for row, pick in zip(rows, picks, strict=True))
    assert found == pytest.approx(best(costs, errors, budget), abs=1e-12)


def test_equal_shares_are_never_better() -> None:
    generator = np.random.default_rng(0)
    for _ in range(20):
        costs = generator.random((6, 8)).tolist()
        errors = [sorted(row, reverse=True) for row in generator.random((6, 8)).tolist()]
        costs = [sorted(row) for row in costs]
        budget = 0.5 * sum(map(max, costs)) + 0.5 * sum(map(min, costs))

        def loss(picks: list[int], errors: list[list[float]] = errors) -> float:
            return sum(row[pick] for row, pick in zip(errors, picks, strict=True))

        assert loss(allocate(costs, errors, budget)) <= loss(uniform(costs, errors, budget)) + 1e-9


def test_a_budget_below_the_cheapest_is_refused() -> None:
    with pytest.raises(TenfoldError, match="cheapest choices cost 3 together, the budget is 2"):
        allocate([[1.0, 5.0], [2.0]], [[1.0, 0.0], [0.0]], 2.0)
    assert allocate([[1.0, 5.0], [2.0]], [[1.0, 0.0], [0.0]], 3.0) == [0, 0]


def test_numbers_that_are_none_are_refused() -> None:
    with pytest.raises(TenfoldError, match="finite"):
        allocate([[1.0]], [[float("nan")]], 2.0)
    with pytest.raises(TenfoldError, match="same layers"):
        allocate([[1.0]], [[1.0], [2.0]], 2.0)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 5), st.integers(1, 4), st.floats(0.0, 1.0), st.floats(0.0, 1.0))
def test_two_budgets_are_kept_and_little_is_better(
    seed: int, layers: int, choices: int, share: float, other: float
) -> None:
    # Whole costs with room to the next one: steps and sums in another order forbid nothing.
    generator = np.random.default_rng(seed)
    costs, others = generator.integers(0, 100, (2, layers, choices))
    errors = generator.random((layers, choices)) ** 4
    budget, limit = (
        float(t.min(axis=1).sum() + round(s * (t.max(axis=1).sum() - t.min(axis=1).sum()))) + 0.5
        for t, s in ((costs, share), (others, other))
    )
    every = itertools.product(range(choices), repeat=layers)
    kept = [spent(errors, p) for p in every if spent(costs, p) <= budget and spent(others, p) <= limit]
    if not kept:
        with pytest.raises(TenfoldError, match="together"):
            allocate_jointly(costs, others, errors, budget, limit)
        return
    picks = allocate_jointly(costs, others, errors, budget, limit)
    assert spent(costs, picks) <= budget
    assert spent(others, picks) <= limit
    assert spent(errors, picks) <= 1.3 * min(kept) + 1e-12


def test_two_budgets_of_many_layers_lose_little_more_than_fractions_of_choices_would() -> None:
    generator = np.random.default_rng(1)
    weight, left = 10 ** generator.uniform(3, 6, (40, 1)), np.sort(generator.uniform(0.05, 1, (40, 8)), axis=1)
    costs, others = weight * left, weight * left * generator.uniform(0.7, 1.4, (40, 8))
    errors = 10 ** generator.uniform(-6, -2, (40, 1)) * (1 / left**2 - 1)
    budget, limit = 0.4 * weight.sum(), 0.36 * weight.sum()
    assert spent(others, allocate(costs, errors, budget)) > limit
    picks = allocate_jointly(costs, others, errors, budget, limit)
    assert spent(costs, picks) <= budget
    assert spent(others, picks) <= limit
    # Any prices of the two costs bound the least sum of errors from below.
    scale = spent(errors, picks) / weight.sum()
    prices = scale * 10 ** generator.uniform(-1.5, 1.5, (400, 2))
    bounds = [(errors + a * costs + b * others).min(axis=1).sum() - a * budget - b * limit for a, b in prices]
    assert spent(errors, picks) < 1.1 * max(bounds)
