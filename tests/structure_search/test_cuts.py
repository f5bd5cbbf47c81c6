"""Bounds from singular values across cuts: never above what can be reached, and reached where theory says so."""

from __future__ import annotations

import math
import time
from itertools import product

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


@st.composite
def wired(draw: st.DrawFn) -> tuple[Structure, tuple[int, ...]]:
    """A structure of modes of size two with cores that carry none, in trees, cycles, hyperedges and parallel edges."""
    modes, inner = draw(st.integers(2, 4)), draw(st.integers(0, 4))
    cores = modes + inner
    count = draw(st.integers(0, 8))
    ends = [draw(st.sets(st.integers(0, cores - 1), min_size=2, max_size=min(3, cores))) for _ in range(count)]
    sizes = {f"b{n}": draw(st.integers(1, 5)) for n in range(count)} | {f"i{n}": 2 for n in range(modes)}
    terms = [
        [*(f"b{n}" for n in range(count) if core in ends[n]), *([f"i{core}"] * (core < modes))] for core in range(cores)
    ]
    used = [tuple(term) for term in terms if term]
    return Structure.of(used, [f"i{n}" for n in range(modes)], sizes), (2,) * modes


@settings(max_examples=150)
@given(wired())
def test_cores_without_modes_lie_on_the_better_side_of_each_cut(made: tuple[Structure, tuple[int, ...]]) -> None:
    """As trying all sides for all of them says."""
    structure, shape = made
    cuts = Cuts(normal(*shape))
    modes = {index: mode for mode, index in enumerate(structure.output_indices)}
    outer = [next((modes[i] for i in term.indices if i in modes), None) for term in structure.terms]
    inner = [place for place, mode in enumerate(outer) if mode is None]
    worst = 0.0
    for mask, tail in zip(cuts._masks, cuts._tails, strict=True):
        least = math.inf
        for choice in product((False, True), repeat=len(inner)):
            chosen = dict(zip(inner, choice, strict=True))
            sides = [chosen[p] if mode is None else bool(mask >> mode & 1) for p, mode in enumerate(outer)]
            crossed = [i for i in structure.inner_indices if len({sides[p] for p in structure.terms_with(i)}) > 1]
            least = min(least, math.prod(structure.sizes[index] for index in crossed))
        worst = max(worst, float(tail[least]) if least < len(tail) else 0.0)
    assert cuts.bound(structure) == pytest.approx(math.sqrt(worst), abs=1e-12)


@settings(max_examples=30)
@given(st.lists(st.integers(1, 4), min_size=2, max_size=7), st.integers(0, 99), st.booleans())
def test_cuts_are_those_of_each_matricisation(shape: list[int], seed: int, imaginary: bool) -> None:
    """Of several cuts that one Gram matrix knows each is what a decomposition of its own says."""
    data = normal(*shape, seed=seed, dtype=torch.complex128 if imaginary else torch.float64)
    cuts = Cuts(data)
    assert cuts.count == 2 ** (len(shape) - 1) - 1
    for mask, tail in zip(cuts._masks, cuts._tails, strict=True):
        rows = [mode for mode in range(len(shape)) if mask >> mode & 1]
        rest = [mode for mode in range(len(shape)) if not mask >> mode & 1]
        squares = torch.linalg.svdvals(data.permute(*rows, *rest).flatten(0, len(rows) - 1).flatten(1)).square()
        lost = [*(squares.flip(0).cumsum(0).flip(0) / squares.sum()).tolist(), 0.0]
        assert tail.tolist() == pytest.approx(lost, abs=1e-12)


def test_many_orders_are_looked_at_at_once_as_each_alone() -> None:
    space = Tree((3,) * 5, max_rank=3)
    cuts = Cuts(normal(*space.shape))
    generator = np.random.default_rng(0)
    points = [space.random(generator) for _ in range(8)]
    ranks = np.array([point.ranks for point in points], dtype=float)
    together = cuts.profiles(space.edges, [point.order for point in points], ranks)
    for row, order in zip(together, (point.order for point in points), strict=True):
        for column, one in zip(row, ranks, strict=True):
            alone = cuts.profiles(space.edges, [order], one[None])
            assert column.tolist() == alone[0, 0].tolist()


@pytest.mark.parametrize("kind", [Ring, Chain, Tree, Tucker, FullyConnected])
def test_profiles_begin_with_the_bound(kind: type[Space]) -> None:
    """Ranks that no core can use are left out of structures, so ranks are small here."""
    space = kind((5,) * 6, max_rank=3)
    cuts = Cuts(normal(*space.shape))
    for seed in range(10):
        point = space.random(np.random.default_rng(seed))
        if min(point.ranks) > 1 or not isinstance(space, Tree | Tucker):
            (((bound, spread),),) = cuts.profiles(
                space.edges, [point.order], np.array([point.ranks], dtype=float)
            ).tolist()
            assert bound == pytest.approx(cuts.bound(space.structure(point)), abs=1e-12)
            assert spread <= bound


def test_a_tree_of_many_modes_is_bounded_about_as_fast_as_a_ring() -> None:
    """Of the ways to place its ten inner cores there are a thousand for each cut."""
    data = normal(*(2,) * 12)
    cuts = Cuts(data)
    times = []
    for kind in (Ring, Tree):
        space = kind(data.shape, max_rank=4)
        ranks = np.random.default_rng(0).integers(1, 5, (50, len(space.edges))).astype(float)
        started = time.process_time()
        profiles = cuts.profiles(space.edges, [range(12)], ranks)[0]
        times.append(time.process_time() - started)
        assert bool((profiles[:, 0] > 0).any())
    assert times[1] < 30 * times[0] + 0.1
