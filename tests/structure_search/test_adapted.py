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
from tenfold.structure_search.spaces import AnyGraph, Chain, FullyConnected, Point, Ring, Space, Tree, Tucker

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
