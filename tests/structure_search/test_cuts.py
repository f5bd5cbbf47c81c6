"""Bounds from singular values across cuts: never above what can be reached, and reached where theory says so."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tenfold import formats
from tenfold.decomposition import find, relative_error
from tenfold.decomposition.many_starts import ManyStarts
from tenfold.network import Network
from tenfold.structure import Structure
from tenfold.structure_search.cuts import Cuts
from tenfold.structure_search.spaces import Chain, FullyConnected, Point, Ring, Space, Tree, Tucker


def normal(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def reached(data: torch.Tensor, structure: Structure, sweeps: int = 60) -> float:
    many = ManyStarts(data, structure, starts=4, seed=1)
    for _ in range(sweeps):
        many.sweep()
    return relative_error(data, many.best())


@settings(max_examples=60)
@given(
    st.sampled_from([Ring, Chain, Tree, Tucker, FullyConnected]),
    st.lists(st.integers(1, 4), min_size=3, max_size=4),
    st.integers(0, 10**6),
    st.sampled_from([torch.float64, torch.float32, torch.complex128]),
)
def test_no_fit_is_below_the_bound(kind: type[Space], shape: list[int], seed: int, dtype: torch.dtype) -> None:
    data = normal(*shape, seed=seed, dtype=dtype)
    space = kind(tuple(shape), max_rank=3)
    structure = space.structure(space.random(np.random.default_rng(seed)))
    floor = 1e-6 if dtype == torch.float32 else 1e-12
    assert Cuts(data).bound(structure) <= reached(data, structure, 15) + floor


@given(st.integers(1, 8), st.integers(1, 8), st.integers(1, 8), st.integers(0, 99))
def test_for_matrices_the_bound_is_the_error_of_the_best(rows: int, columns: int, rank: int, seed: int) -> None:
    data = normal(rows, columns, seed=seed)
    space = Chain((rows, columns), max_rank=8)
    values = torch.linalg.svdvals(data)
    best = float(values[rank:].square().sum().sqrt() / values.norm())
    assert Cuts(data).bound(space.structure(Point((rank,), (0, 1)))) == pytest.approx(best, abs=2e-7)


@pytest.mark.parametrize("kind", [Chain, Tree, Tucker])
def test_on_trees_the_bound_is_within_the_root_of_the_number_of_edges(kind: type[Space]) -> None:
    """The sequential SVD loses at most the tails of all edges together, the bound is at least the largest of them."""
    data = normal(4, 4, 4, 4, seed=3)
    space = kind((4,) * 4, max_rank=3)
    for seed in range(5):
        structure = space.structure(space.random(np.random.default_rng(seed)))
        bound = Cuts(data).bound(structure)
        error = find("tree_svd").function(data, structure).error if structure.inner_indices else 1.0
        assert bound <= error
        if structure.inner_indices:
            assert error <= math.sqrt(len(space.edges)) * bound + 1e-12


def test_what_a_structure_holds_exactly_has_no_bound() -> None:
    for seed in range(10):
        space = Ring((4, 4, 4, 4), max_rank=3)
        structure = space.structure(space.random(np.random.default_rng(seed)))
        for scale in (1.0, 1e150, 1e-150):
            assert Cuts(Network.random(structure, seed=seed).dense() * scale).bound(structure) == 0


def test_every_neighbour_below_the_planted_ranks_has_a_bound_above_zero() -> None:
    space = Ring((9,) * 4, max_rank=7)
    planted = Point((3, 2, 2, 3), (0, 1, 2, 3))
    data = Network.random(space.structure(planted), seed=5).dense()
    cuts = Cuts(data)
    assert cuts.bound(space.structure(planted)) == 0
    for edge in range(4):
        below = planted.with_rank(edge, planted.ranks[edge] - 1)
        assert cuts.bound(space.structure(below)) > 1e-3
        above = planted.with_rank(edge, planted.ranks[edge] + 1)
        assert cuts.bound(space.structure(above)) == 0


def test_another_order_of_the_modes_is_seen() -> None:
    space = Ring((6,) * 5, max_rank=5)
    planted = Point((2, 2, 2, 2, 2), (0, 1, 2, 3, 4))
    cuts = Cuts(Network.random(space.structure(planted), seed=5).dense())
    assert all(cuts.bound(space.structure(other)) > 1e-2 for other in space.transpositions(planted))


def test_more_rank_never_raises_the_bound() -> None:
    data = normal(3, 4, 3, 4, seed=2)
    cuts = Cuts(data)
    space = FullyConnected(tuple(data.shape), max_rank=4)
    for seed in range(20):
        point = space.random(np.random.default_rng(seed))
        for edge, rank in enumerate(point.ranks):
            if rank < space.max_rank:
                larger = space.structure(point.with_rank(edge, rank + 1))
                assert cuts.bound(larger) <= cuts.bound(space.structure(point)) + 1e-12


def test_the_order_of_terms_and_the_names_do_not_matter() -> None:
    data = normal(3, 4, 5)
    cuts = Cuts(data)
    one = Structure("i a b, j b c, k c a -> i j k", i=3, j=4, k=5, a=2, b=1, c=2)
    other = Structure("k c a, i a b, j b c -> i j k", i=3, j=4, k=5, a=2, b=1, c=2)
    assert cuts.bound(one) == cuts.bound(other) > 0


@pytest.mark.parametrize("value", [0.0, 1.0, -7.0])
def test_constant_tensors(value: float) -> None:
    space = Ring((3, 3, 3), max_rank=2)
    assert Cuts(torch.full((3, 3, 3), value)).bound(space.structure(space.first(1))) == 0


def test_one_entry() -> None:
    space = Ring((1, 1, 1))
    assert Cuts(torch.full((1, 1, 1), 3.0)).bound(space.structure(space.first(2))) == 0


def test_hyperedges_and_shared_outputs_are_bounded_too() -> None:
    data = normal(4, 4, 4, seed=1)
    cp = formats.cp((4, 4, 4), rank=2)
    bound = Cuts(data).bound(cp)
    values = torch.linalg.svdvals(data.reshape(4, 16))
    assert bound >= float(values[2:].norm() / values.norm()) - 1e-9
    assert bound <= reached(data, cp)
    shared = formats.monarch((2, 2), (2, 2))
    matrix = normal(*shared.shape)
    assert Cuts(matrix.reshape(shared.output_shape)).bound(shared) <= reached(matrix, shared)


def test_many_modes_have_no_bound_rather_than_none_in_time() -> None:
    space = Ring((2,) * 14, max_rank=2)
    assert Cuts(normal(*(2,) * 14)).bound(space.structure(space.first(1))) == 0


def test_rounding_of_long_sides_is_no_bound() -> None:
    """A Gram matrix of 1000 rows has a thousand eigenvalues of rounding."""
    left, right = normal(1000, 3), normal(3, 1200, seed=1)
    space = Chain((1000, 1200), max_rank=4)
    assert Cuts(left @ right).bound(space.structure(space.first(3))) == 0
    assert Cuts(left @ right).bound(space.structure(space.first(2))) > 0.1
