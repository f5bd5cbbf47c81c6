"""Groups with sums and differences of products: the same coefficients, but fewer."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tenfold.so3 import Irreps
from tenfold.so3.products import ClebschGordan
from tenfold.so3.products._trilinear_groups import Group, first_ends, first_uses, groups_of
from tenfold.so3.products._trilinear_plan import plan_of


def full(degree: int) -> ClebschGordan:
    features = Irreps([(1, (l, (-1) ** l)) for l in range(degree + 1)])  # noqa: E741
    kept = Irreps([(1, (l, sign)) for l in range(degree + 1) for sign in (1, -1)])  # noqa: E741
    return ClebschGordan.separate(features, features, kept)


@given(
    st.lists(
        st.tuples(st.integers(1, 2), st.tuples(st.integers(0, 3), st.sampled_from([1, -1]))), min_size=1, max_size=3
    )
)
@settings(max_examples=25)
def test_they_are_the_terms_of_the_plan(blocks: list[tuple[int, tuple[int, int]]]) -> None:
    product = ClebschGordan.fully_connected(blocks, blocks, blocks)
    for call in product._calls:
        plan = plan_of(call.terms.key)
        found = np.zeros(call.terms.sizes)
        for group in groups_of(plan):
            ends: list[int] = []
            for part in group.shape.parts:
                ends += part.ends
                for products, values in zip(part.sums, part.values, strict=True):
                    assert products[0][2] == 1
                    for left, right, sign in products:
                        for end, value in zip(part.ends, values, strict=True):
                            path = group.paths[group.shape.paths[end]]
                            found[group.lefts[left], group.rights[right], group.outs[end], path] += sign * value
            assert len(set(ends)) == len(ends)
        expected = np.zeros_like(found)
        terms = call.terms
        np.add.at(expected, (terms.left, terms.right, terms.out, terms.path), terms.value)
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12 * np.abs(expected).max(initial=1))


@pytest.mark.parametrize(("degree", "before", "after"), [(2, 137, 90), (4, 2052, 1221), (6, 11896, 6767)])
def test_how_many_there_are(degree: int, before: int, after: int) -> None:
    [call] = full(degree)._calls
    assert len(call.terms) == before
    assert sum(group.shape.terms for group in groups_of(plan_of(call.terms.key))) == after


def test_equal_groups_are_found() -> None:
    # Each channel of the right is one more block there, and all of them couple alike.
    product = ClebschGordan("8x0e+8x1o", "5x0e+5x1o", "8x0e+8x1o", [(1, 1, 0, "uvu", True), (1, 0, 1, "uvu", True)])
    [call] = product._calls
    groups = groups_of(plan_of(call.terms.key))
    assert len(groups) == 10
    assert len({id(group.shape) for group in groups}) == 2


@pytest.mark.parametrize(
    ("blocks", "size", "expected"),
    [
        ([[0, 1], [2], [0, 1]], 3, [True, True, False]),
        ([[0, 1], [0, 1]], 3, [False, False]),  # one is not used
        ([[0, 1], [1, 2]], 3, [False, False]),  # neither new nor old
        ([], 0, []),
    ],
)
def test_first_uses(blocks: list[list[int]], size: int, expected: list[bool]) -> None:
    assert first_uses([np.array(block) for block in blocks], size) == expected


def test_the_first_end_at_a_component_is_the_first_in_the_order_of_parts() -> None:
    plan = plan_of(
        ClebschGordan("1x0e+1x1o", "1x0e+1x1o", "1x0e", [(0, 0, 0, "uuu", True), (1, 1, 0, "uuu", True)])
        ._calls[0]
        .terms.key
    )
    assert first_ends(groups_of(plan), 1) == [(True,), (False,)]
    [call] = full(2)._calls
    group = groups_of(plan_of(call.terms.key))[-1]
    order = [end for part in group.shape.parts for end in part.ends]
    together = Group(group.shape, group.lefts, group.rights, np.zeros_like(group.outs), group.paths)
    [found] = first_ends([together], 1)
    assert [end for end, first in enumerate(found) if first] == [order[0]]
