"""Fronts against brute force, volumes against counting, knees where they were put."""

from __future__ import annotations

import math
from itertools import permutations, product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from search_targets import exactly, hashed

from tenfold.errors import TenfoldError
from tenfold.structure_search.objectives import WeightedSum
from tenfold.structure_search.pareto import front, hypervolume, knee, non_dominated
from tenfold.structure_search.session import Session
from tenfold.structure_search.spaces import Point, Ring

points = st.lists(st.tuples(*[st.integers(0, 6)] * 3), max_size=25)


def beats(a, b) -> bool:
    return all(x <= y for x, y in zip(a, b, strict=True)) and a != b


@pytest.fixture(scope="module")
def rings() -> Session:
    """All rings of order 4 with ranks up to 4, in all three orders, with errors that fall with size on the whole."""
    space = Ring((5, 5, 5, 5), 4)
    session = Session(exactly(space.shape, lambda one: (0.1 + hashed(one)) / one.parameters), WeightedSum(625, 1.0))
    orders = ((0, 1, 2, 3), (0, 2, 1, 3), (0, 1, 3, 2))
    session.evaluate([space.structure(Point(r, o)) for r in product((1, 2, 3, 4), repeat=4) for o in orders])
    return session


@pytest.mark.parametrize("flops", [False, True])
def test_the_front_of_all_small_rings_is_that_of_brute_force(rings: Session, flops: bool) -> None:
    assert len(rings.history) > 500
    measured = [
        (one.parameters, one.error, one.structure.cost().flops)[: 2 + flops]
        for one in (found.evaluation for found in rings.history)
    ]
    expected = sorted(a for a in measured if not any(beats(b, a) for b in measured))
    found = front(rings.history, flops=flops)
    assert [(one.parameters, one.error, one.structure.cost().flops)[: 2 + flops] for one in found] == expected
    assert len(expected) > 5
    if not flops:
        assert rings.front == found


@given(points)
def test_nothing_on_a_front_is_beaten_and_everything_else_is(items) -> None:
    kept = non_dominated(items, lambda item: item)
    assert len(set(kept)) == len(kept)
    assert set(kept) == {a for a in items if not any(beats(b, a) for b in items)}


@given(points, st.randoms())
def test_a_front_does_not_depend_on_the_order(items, random) -> None:
    shuffled = list(items)
    random.shuffle(shuffled)
    assert non_dominated(shuffled, lambda item: item) == non_dominated(items, lambda item: item)


def test_nan_is_on_no_front_and_infinity_may_be() -> None:
    items = [(1.0, math.nan), (2.0, 3.0), (1.0, math.inf)]
    assert non_dominated(items, lambda item: item) == [(1.0, math.inf), (2.0, 3.0)]


@given(points)
def test_volume_counts_cells(items) -> None:
    reference = (5, 6, 4)
    counted = sum(
        any(all(x <= c for x, c in zip(item, cell, strict=True)) for item in items)
        for cell in product(*(range(n) for n in reference))
    )
    assert hypervolume(items, reference) == counted


def test_volume_in_one_and_four_dimensions() -> None:
    assert hypervolume([(0.25,), (0.5,)], (1.0,)) == 0.75
    assert hypervolume([], (1.0, 1.0)) == 0.0
    corners = list(permutations((0.0, 0.5, 0.5, 0.5)))
    # Four boxes of 1 x 1/2^3 that have the cube of 1/2^4 in common, and pairwise nothing else.
    assert hypervolume(corners, (1.0,) * 4) == pytest.approx(4 * 0.125 - 3 * 0.0625)
    with pytest.raises(TenfoldError, match=r"point \(1, 2, 3\) has 3 dimensions, the reference 2"):
        hypervolume([(1, 2, 3)], (1, 1))


def test_the_knee_is_where_a_line_bends() -> None:
    bent = [(float(x), 10.0 - 3 * x if x <= 3 else 1.0 - (x - 3) / 10) for x in range(9)]
    assert knee(bent) == 3
    shuffled = np.random.default_rng(0).permutation(9).tolist()
    assert shuffled[knee([bent[k] for k in shuffled])] == 3
    # Stretching an axis changes nothing.
    assert knee([(1e6 * x, 1e-3 * y) for x, y in bent]) == 3
    assert knee([(1.0, 2.0)]) == 0
    assert knee([(1.0, 2.0), (2.0, 1.0)]) == 0
    with pytest.raises(TenfoldError, match="a knee needs points of two dimensions, not"):
        knee([])
