"""Crossing and changing points: what children have of their parents, and that they stay in the space."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tenfold.structure_search._genome import Nursery, crossed, mutated, neighbour, random_graph
from tenfold.structure_search.spaces import AnyGraph, Chain, FullyConnected, Point, Ring, Space, Tree, Tucker

SHAPE = (3, 4, 5, 3, 4)
SPACES = [
    Ring(SHAPE, 4),
    Ring(SHAPE, 4, fixed_order=True),
    Chain(SHAPE, 3),
    Tree(SHAPE, 4),
    Tucker(SHAPE, 4),
    FullyConnected(SHAPE, 4),
    AnyGraph(SHAPE, 4, max_degree=2),
    FullyConnected(SHAPE, 1),
]
seeds = st.integers(0, 2**32 - 1)


def genes(space: Space, point: Point, other: Point) -> Counter:
    """Which rank lies on which edge, of two points together."""
    return Counter(edge for one in (point, other) for edge in zip(space.edges, one.ranks, strict=True))


@pytest.mark.parametrize("space", SPACES, ids=str)
@settings(max_examples=30, deadline=None)
@given(seed=seeds)
def test_children_share_out_the_edges_of_their_parents(space: Space, seed: int) -> None:
    generator = np.random.default_rng(seed)
    first, second = random_graph(space, generator), random_graph(space, generator)
    a, b = crossed(space, first, second, generator)
    assert genes(space, a, b) == genes(space, first, second)
    for one in (a, b):
        assert space.allows(one)
        assert sorted(one.order) == list(range(space.modes))
        assert space.orders or one.order == tuple(range(space.modes))


def test_graphs_exchange_all_the_edges_of_one_core_and_both_children_change() -> None:
    space = FullyConnected((3, 3, 3, 3), 4)
    first, second = Point((2,) * 6, (0, 1, 2, 3)), Point((3,) * 6, (0, 1, 2, 3))
    seen = set()
    for seed in range(40):
        a, b = crossed(space, first, second, np.random.default_rng(seed))
        from_second = {edge for edge, rank in zip(space.edges, a.ranks, strict=True) if rank == 3}
        assert {edge for edge, rank in zip(space.edges, b.ranks, strict=True) if rank == 2} == from_second
        (core,) = set.intersection(*map(set, from_second))
        assert from_second == {edge for edge in space.edges if core in edge}
        seen.add(core)
    assert seen == {0, 1, 2, 3}


def test_a_stretch_of_an_order_stays_and_the_rest_follows_the_other() -> None:
    space = Chain((2,) * 7, 2)
    first, second = Point((2,) * 6, tuple(range(7))), Point((2,) * 6, (4, 6, 0, 2, 5, 1, 3))
    for seed in range(50):
        a, _ = crossed(space, first, second, np.random.default_rng(seed))
        fitting = False
        for low in range(7):
            for high in range(low + 1, 8):
                inside = set(range(low, high))
                rest = [m for m in second.order[high % 7 :] + second.order[: high % 7] if m not in inside]
                places = [(high + k) % 7 for k in range(7 - len(inside))]
                fitting |= a.order[low:high] == first.order[low:high] and [a.order[p] for p in places] == rest
        assert fitting, a


@pytest.mark.parametrize("space", SPACES, ids=str)
@settings(max_examples=30, deadline=None)
@given(seed=seeds, rate=st.floats(0, 1))
def test_mutants_lie_in_the_space(space: Space, seed: int, rate: float) -> None:
    generator = np.random.default_rng(seed)
    point = random_graph(space, generator)
    made = mutated(space, point, generator, rate)
    assert space.allows(made)
    assert sorted(made.order) == list(range(space.modes))
    assert mutated(space, point, generator, 0.0) == point


def test_mutation_changes_as_many_genes_as_its_rate_says() -> None:
    space = FullyConnected((3,) * 20, 4)
    generator = np.random.default_rng(0)
    point = Point((2,) * 190, tuple(range(20)))
    changed = [
        sum(a != b for a, b in zip(mutated(space, point, generator, 0.05).ranks, point.ranks, strict=True))
        for _ in range(200)
    ]
    assert np.mean(changed) == pytest.approx(190 * 0.05, abs=0.7)


def test_edges_change_by_one_or_by_half() -> None:
    space = Chain((50, 50), 20)
    generator = np.random.default_rng(0)
    for rank, expected in ((1, {2}), (2, {1, 3}), (8, {4, 7, 9, 12}), (20, {10, 19}), (15, {8, 14, 16, 20})):
        made = {mutated(space, Point((rank,), (0, 1)), generator, 1.0).ranks[0] for _ in range(80)}
        assert made == expected


def test_edges_of_one_size_only_appear_and_go() -> None:
    space = FullyConnected((3,) * 5, 4)
    generator = np.random.default_rng(1)
    point = random_graph(space, generator, 3)
    for _ in range(30):
        point = mutated(space, point, generator, 0.3, size=3)
        assert set(point.ranks) <= {1, 3}


@pytest.mark.parametrize("space", SPACES[:-1], ids=str)
def test_neighbours_are_others(space: Space) -> None:
    generator = np.random.default_rng(3)
    point = random_graph(space, generator)
    assert all(neighbour(space, point, generator) != point for _ in range(20))


def test_a_space_of_one_point_has_no_neighbour() -> None:
    space = FullyConnected(SHAPE, 1)
    assert neighbour(space, space.first(), np.random.default_rng(0)) == space.first()


def test_what_is_larger_than_the_data_is_not_born() -> None:
    space = FullyConnected((3,) * 4, 6)
    nursery = Nursery(space, 81)
    generator = np.random.default_rng(0)
    assert not nursery.viable(space.first(6))
    assert nursery.born(lambda: space.first(6)) == space.first()
    drawn = [nursery.born(lambda: random_graph(space, generator)) for _ in range(50)]
    assert all(space.structure(point).parameters <= 81 for point in drawn)
    assert len(set(drawn)) > 20
    # Of less data than a network without edges has parameters, that network is still tried.
    assert Nursery(space, 2).viable(space.first())
