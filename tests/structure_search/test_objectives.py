"""Objectives: the largest error for a value is the inverse of the value, and the budget comes first in the end."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenfold.errors import TenfoldError
from tenfold.structure_search.objectives import ErrorWithin, Objective, SizeWithin, WeightedSum

errors = st.floats(1e-6, 1e3)
sizes = st.integers(1, 10**9)


@st.composite
def objectives(draw: st.DrawFn) -> Objective:
    kind = draw(st.integers(0, 2))
    if kind == 0:
        return SizeWithin(draw(st.one_of(st.just(0.0), st.floats(1e-6, 0.9))))
    if kind == 1:
        return ErrorWithin(draw(sizes))
    return WeightedSum(draw(sizes), draw(st.floats(1e-3, 1e3)), draw(st.booleans()))


@given(objectives(), sizes, errors)
def test_the_largest_error_is_the_inverse_of_the_value(objective: Objective, parameters: int, error: float) -> None:
    value = objective.value(parameters, error)
    most = objective.error_for(parameters, value)
    assert most >= error * (1 - 1e-5) - 1e-5
    assert objective.value(parameters, most) == pytest.approx(value, rel=1e-9, abs=1e-9)
    # A little more is too much.
    assert objective.value(parameters, most * (1 + 1e-5) + 1e-6) > value - 1e-12


@given(objectives(), sizes, sizes, errors, errors)
def test_a_smaller_error_or_size_is_never_worse(
    objective: Objective, size: int, more: int, error: float, other: float
) -> None:
    assert objective.value(size, min(error, other)) <= objective.value(size, max(error, other))
    assert objective.value(min(size, more), error) <= objective.value(max(size, more), error)
    assert objective.rank(size, min(error, other)) <= objective.rank(size, max(error, other))


@given(objectives(), sizes)
def test_ends(objective: Objective, parameters: int) -> None:
    assert objective.value(parameters, math.inf) == math.inf
    assert objective.error_for(parameters, math.inf) == math.inf
    assert objective.error_for(parameters, -1e9) == -1
    assert math.isfinite(objective.value(parameters, 0.0))


@given(objectives(), sizes, errors, sizes, errors)
def test_what_keeps_the_budget_comes_first(objective: Objective, p: int, e: float, q: int, f: float) -> None:
    if objective.met(p, e) and not objective.met(q, f):
        assert objective.rank(p, e) < objective.rank(q, f)


def test_ranks_of_known_cases() -> None:
    within = SizeWithin(0.1)
    order = [(10, 0.05), (10, 0.09), (20, 0.01), (9, 0.11), (500, 0.2)]
    assert sorted(reversed(order), key=lambda one: within.rank(*one)) == order
    least = ErrorWithin(100)
    order = [(90, 0.1), (100, 0.1), (10, 0.5), (101, 0.01), (300, 0.001)]
    assert sorted(reversed(order), key=lambda one: least.rank(*one)) == order
    # Errors that are zero to rounding are no reason for more parameters.
    exact = SizeWithin(0.0)
    assert exact.met(10, 5e-8)
    assert not exact.met(10, 1e-6)
    assert exact.value(10, 5e-8) == exact.value(10, 0.0) == math.log(10)


def test_errors_smaller_than_rounding_are_kept_where_they_are_asked_for() -> None:
    small = SizeWithin(1e-8)
    assert small.met(10, 1e-8)
    assert not small.met(10, 2e-8)
    assert small.value(10, 2e-8) == pytest.approx(math.log(10) + 10 * math.log(2))
    assert small.error_for(10, small.value(10, 2e-8)) == pytest.approx(2e-8)


def test_the_papers_sum() -> None:
    objective = WeightedSum(729, 200.0)
    assert objective.value(126, 0.0) == pytest.approx(126 / 729)
    assert objective.value(126, 0.1) == pytest.approx(126 / 729 + 200 * 0.01)
    assert WeightedSum(1000, 1.0, logarithmic=True).value(10, 0.0) == pytest.approx(-2)


def test_what_is_refused() -> None:
    with pytest.raises(TenfoldError, match="error must be a number of at least 0"):
        SizeWithin(-0.1)
    with pytest.raises(TenfoldError, match="parameters must be at least 1"):
        ErrorWithin(0)
    with pytest.raises(TenfoldError, match="size must be at least 1"):
        WeightedSum(0)
    with pytest.raises(TenfoldError, match="weight must be a positive number"):
        WeightedSum(5, 0.0)
