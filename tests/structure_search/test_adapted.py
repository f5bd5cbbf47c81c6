"""Networks carried over to a structure nearby: growing changes nothing, shrinking loses what singular values say."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tenfold.network import Network
from tenfold.structure import Structure
from tenfold.structure_search._adapted import adapted
from tenfold.structure_search.spaces import AnyGraph, Chain, FullyConnected, Point, Ring, Space, Tree, Tucker, spaces

SHAPE = (3, 4, 2, 3)
SPACES = [
    Ring(SHAPE, 3),
    Chain(SHAPE, 3),
    Tree(SHAPE, 3),
    Tucker(SHAPE, 3),
    FullyConnected(SHAPE, 3),
    AnyGraph(SHAPE, 3),
]


def difference(one: Network, other: Network) -> float:
    return float((one.dense() - other.dense()).norm() / one.dense().norm())


def drawn(space: Space, seed: int) -> tuple[Point, Network]:
    point = space.random(np.random.default_rng(seed))
    return point, Network.random(space.structure(point), seed=seed, dtype=torch.float64)


@pytest.mark.parametrize("space", SPACES, ids=lambda space: type(space).__name__)
@given(seed=st.integers(0, 2**32 - 1), data=st.data())
def test_growing_without_noise_changes_nothing(space: Space, seed: int, data: st.DataObject) -> None:
    point, network = drawn(space, seed)
    for edge in range(len(space.edges)):
        point = point.with_rank(edge, point.ranks[edge] + data.draw(st.integers(0, 2)))
    grown = adapted(network, space.structure(point), noise=0.0)
    assert grown.structure == space.structure(point)
    assert difference(network, grown) < 1e-12


@pytest.mark.parametrize("space", SPACES, ids=lambda space: type(space).__name__)
def test_noise_is_small(space: Space) -> None:
    point = space.first(2)
    network = Network.random(space.structure(point), seed=1, dtype=torch.float64)
    for edge in range(len(space.edges)):
        grown = adapted(network, space.structure(point.with_rank(edge, 3)))
        assert 0 <= difference(network, grown) < 0.1


def test_from_the_rank_one_network_to_a_core_without_modes() -> None:
    space = Tucker(SHAPE, 3)
    network = Network.random(space.structure(space.first()), seed=0, dtype=torch.float64)
    grown = adapted(network, space.structure(space.first(2)), noise=0.0)
    assert difference(network, grown) < 1e-12
    # And back: the core in the middle was a number on its first slices.
    assert difference(grown, adapted(grown, network.structure)) < 1e-12


@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128])
def test_shrinking_a_matrix_loses_the_last_singular_values(dtype: torch.dtype) -> None:
    structure = Structure("i a, a j -> i j", i=6, j=5, a=4)
    network = Network.random(structure, seed=3, dtype=dtype)
    values = torch.linalg.svdvals(network.dense())
    for rank in (3, 2, 1):
        less = adapted(network, structure.replace(a=rank) if rank > 1 else Structure("i, j -> i j", i=6, j=5))
        assert float((network.dense() - less.dense()).norm()) == pytest.approx(float(values[rank:].norm()), rel=1e-10)


def test_shrinking_a_bond_that_carries_less_than_its_size_loses_nothing() -> None:
    """Within the two cores that it joins; the others are turned into nothing but themselves."""
    space = Ring(SHAPE, 4)
    small = Network.random(space.structure(Point((2, 2, 2, 2), (0, 1, 2, 3))), seed=0, dtype=torch.float64)
    large = adapted(small, space.structure(Point((2, 4, 2, 2), (0, 1, 2, 3))), noise=0.0)
    mixed = torch.randn(4, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    cores = []
    for core, term in zip(large.cores, large.structure.terms, strict=True):
        if "i2_i3" in term.indices:
            axis = term.indices.index("i2_i3")
            turn = mixed if "i2" in term.indices else torch.linalg.inv(mixed).T
            core = (core.movedim(axis, -1) @ turn).movedim(-1, axis)
        cores.append(core)
    turned = large.replace(cores)
    assert difference(turned, small) < 1e-12
    assert difference(small, adapted(turned, small.structure)) < 1e-12


def test_the_same_structure_keeps_its_network() -> None:
    _, network = drawn(SPACES[0], 5)
    assert adapted(network, network.structure) is network


DTYPES = [torch.float64, torch.float32, torch.complex128]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", [Ring, Chain, Tucker, FullyConnected])
def test_a_bond_that_grows_changes_the_tensor_by_noise(kind: type[Space], dtype: torch.dtype) -> None:
    space = kind((8,) * 4, max_rank=4)
    point = space.first(2)
    network = Network.random(space.structure(point), seed=1, dtype=dtype)
    for edge in range(len(space.edges)):
        grown = adapted(network, space.structure(point.with_rank(edge, 3)))
        assert grown.dtype == dtype
        # New slices are of 1 % on both sides of the bond, so what they add is of the order of 1e-4.
        assert 0 < difference(network, grown) < 2e-3


def test_a_bond_that_appears_joins_what_was_apart() -> None:
    space = FullyConnected((5,) * 4, max_rank=3)
    point = Point((2, 1, 1, 2, 1, 2), (0, 1, 2, 3))
    network = Network.random(space.structure(point), seed=1)
    grown = adapted(network, space.structure(point.with_rank(1, 2)))
    assert 0 < difference(network, grown) < 2e-3


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", [Chain, Tucker, Tree])
def test_a_bond_that_shrinks_loses_what_the_svd_says(kind: type[Space], dtype: torch.dtype) -> None:
    """In a tree, where the rest is orthogonal to both ends, what is lost are the smallest singular values."""
    space = Chain((6, 6), max_rank=6) if kind is Chain else kind((6, 6, 6), max_rank=3)
    point = space.first(space.max_rank)
    network = Network.random(space.structure(point), seed=2, dtype=dtype)
    smaller = adapted(network, space.structure(point.with_rank(0, 2)))
    assert smaller.structure == space.structure(point.with_rank(0, 2))
    if kind is Chain:
        values = torch.linalg.svdvals(network.dense())
        least = float(values[2:].norm() / values.norm())
        assert difference(network, smaller) == pytest.approx(least, rel=1e-4)
    else:
        assert difference(network, smaller) < 1


def test_a_bond_that_goes_leaves_the_rest() -> None:
    space = FullyConnected((5,) * 4, max_rank=3)
    point = Point((2, 1, 1, 2, 1, 2), (0, 1, 2, 3))
    network = Network.random(space.structure(point), seed=1)
    cut = adapted(network, space.structure(point.with_rank(3, 1)))
    values = torch.linalg.svdvals(network.dense().reshape(25, 25))
    # A product of a tensor of the first two modes and one of the last two: rank 1 between them.
    assert difference(network, cut) >= float(values[1:].norm() / values.norm()) - 1e-9
    assert difference(network, cut) < 1


def test_modes_that_change_places_leave_cores_elsewhere_untouched() -> None:
    space = Ring((5,) * 6, max_rank=3)
    point = space.first(2)
    network = Network.random(space.structure(point), seed=1)
    start = adapted(network, space.structure(point.swapped(0, 1)), seed=4)
    old = {term.indices[0]: core for term, core in zip(network.structure.terms, network.cores, strict=True)}
    new = {term.indices[0]: core for term, core in zip(start.structure.terms, start.cores, strict=True)}
    for mode in ("i4", "i5"):
        assert torch.equal(old[mode], new[mode])


@given(st.sampled_from(list(spaces().values())), st.integers(0, 10**6))
def test_any_two_points_of_a_space(kind: type[Space], seed: int) -> None:
    generator = np.random.default_rng(seed)
    space = kind((3, 2, 4, 1, 3)[: int(generator.integers(3, 6))], max_rank=4)
    first, second = (space.structure(space.random(generator)) for _ in range(2))
    network = Network.random(first, seed=seed)
    start = adapted(network, second, seed)
    assert start.structure == second
    assert all(torch.isfinite(core).all() for core in start.cores)
    again = adapted(network, second, seed)
    assert all(torch.equal(a, b) for a, b in zip(start.cores, again.cores, strict=True))
    same = adapted(network, first, seed)
    assert difference(network, same) < 1e-7 or not network.dense().any()


def test_cores_of_zeros_make_starts_too() -> None:
    space = Ring((3,) * 4, max_rank=3)
    structure = space.structure(space.first(2))
    zero = Network(structure, [torch.zeros_like(core) for core in Network.random(structure).cores])
    for other in (space.first(1), space.first(3), space.first(2).swapped(0, 2)):
        start = adapted(zero, space.structure(other))
        assert all(torch.isfinite(core).all() for core in start.cores)
