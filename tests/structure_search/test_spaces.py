"""Spaces: counts, symmetries, folds, names, and that nothing is lost where bonds are capped."""

from __future__ import annotations

import math
from itertools import permutations, product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenfold.decomposition.als import als
from tenfold.errors import StructureError
from tenfold.network import Network
from tenfold.structure_search.spaces import (
    AnyGraph,
    Chain,
    FullyConnected,
    Point,
    Ring,
    Space,
    Tree,
    Tucker,
    folded,
    spaces,
)


def drawn(space: Space, seed: int) -> Point:
    return space.random(np.random.default_rng(seed))


@st.composite
def some_space(draw: st.DrawFn) -> Space:
    kind = draw(st.sampled_from(list(spaces().values())))
    shape = tuple(draw(st.lists(st.integers(1, 4), min_size=3, max_size=5)))
    return kind(shape, max_rank=draw(st.integers(1, 5)), fixed_order=draw(st.booleans()))


@pytest.mark.parametrize(
    ("space", "edges"),
    [
        (Ring((2,) * 5), 5),
        (Chain((2,) * 5), 4),
        (Tucker((2,) * 5), 5),
        (FullyConnected((2,) * 5), 10),
        (AnyGraph((2,) * 5), 10),
        (Tree((2,) * 5), 2 * 5 - 3),
        (Tree((2, 3)), 1),
    ],
)
def test_numbers_of_edges_and_points(space: Space, edges: int) -> None:
    assert len(space.edges) == edges
    orders = math.factorial(space.modes) if space.orders else 1
    assert space.size() == space.max_rank**edges * orders
    assert len({frozenset(edge) for edge in space.edges}) == edges


def test_every_ring_of_four_modes_once() -> None:
    """Ranks on (4 - 1)!/2 rings; those with a rank of one may coincide, so only larger ones are counted."""
    space = Ring((9, 9, 9, 9), max_rank=3)
    made = {
        space.structure(Point(ranks, order)) for ranks in product((2, 3), repeat=4) for order in permutations(range(4))
    }
    assert len(made) == 2**4 * 3
    assert len({structure.key for structure in made}) == len(made)


@given(st.integers(0, 10**6), st.integers(3, 6), st.integers(0, 5), st.booleans())
def test_turned_and_mirrored_rings_are_one_structure(seed: int, modes: int, turn: int, mirrored: bool) -> None:
    sizes = np.random.default_rng(seed).integers(2, 6, modes)
    space = Ring(tuple(sizes.tolist()), max_rank=6)
    point = drawn(space, seed)
    turn %= modes
    order = point.order[turn:] + point.order[:turn]
    ranks = point.ranks[turn:] + point.ranks[:turn]
    if mirrored:
        order, ranks = order[::-1], (*ranks[-2::-1], ranks[-1])
    assert space.structure(Point(ranks, order)) == space.structure(point)


@given(st.integers(0, 10**6), st.integers(2, 6))
def test_mirrored_chains_are_one_structure(seed: int, modes: int) -> None:
    space = Chain((3,) * modes, max_rank=4)
    point = drawn(space, seed)
    assert space.structure(Point(point.ranks[::-1], point.order[::-1])) == space.structure(point)


def test_symmetries_of_a_tree_with_inner_cores_make_one_structure() -> None:
    space = Tree((5, 5, 5, 5, 5, 5, 5, 5), max_rank=4)
    first = drawn(space, 3)
    # The halves of the tree, and each half's halves, may be exchanged: modes and ranks move together.
    edges = space.edges
    moved = {0: 4, 1: 5, 2: 6, 3: 7, 4: 0, 5: 1, 6: 2, 7: 3}
    around: dict[int, set[int]] = {}
    for a, b in edges:
        around.setdefault(a, set()).add(b)
        around.setdefault(b, set()).add(a)

    def leaves(vertex: int, source: int) -> frozenset[int]:
        if vertex < 8:
            return frozenset({vertex})
        return frozenset().union(*(leaves(other, vertex) for other in around[vertex] if other != source))

    side = {edge: {leaves(edge[0], edge[1]), leaves(edge[1], edge[0])} for edge in edges}
    image = {edge: {frozenset(moved[leaf] for leaf in part) for part in side[edge]} for edge in edges}
    ranks = [0] * len(edges)
    for n, edge in enumerate(edges):
        (target,) = [m for m, other in enumerate(edges) if side[other] == image[edge]]
        ranks[target] = first.ranks[n]
    order = [0] * 8
    for leaf, other in moved.items():
        order[other] = first.order[leaf]
    second = Point(tuple(ranks), tuple(order))
    assert second != first
    assert space.structure(second) == space.structure(first)


@given(some_space(), st.integers(0, 10**6))
def test_structures_have_the_datas_shape_and_no_useless_bonds(space: Space, seed: int) -> None:
    point = drawn(space, seed)
    structure = space.structure(point)
    assert structure.shape == space.shape
    assert structure.output_shape == space.sizes
    assert structure.sizes.keys() >= set(structure.inner_indices)
    for index in structure.inner_indices:
        assert structure.sizes[index] > 1
        assert len(structure.terms_with(index)) == 2
        for place in structure.terms_with(index):
            whole = math.prod(structure.sizes[i] for i in structure.terms[place].indices)
            assert structure.sizes[index] ** 2 <= whole
    assert structure.key == space.structure(point).key
    assert structure.terms[0].indices[0] == structure.output_indices[0]


@given(some_space(), st.integers(0, 10**6))
def test_neighbours_are_allowed_and_one_step_away(space: Space, seed: int) -> None:
    point = drawn(space, seed)
    near = list(space.neighbours(point))
    assert all(space.allows(one) for one in near)
    assert len(set(near)) == len(near)
    for one in near:
        ranks = sum(abs(a - b) for a, b in zip(one.ranks, point.ranks, strict=True))
        places = sum(a != b for a, b in zip(one.order, point.order, strict=True))
        assert (ranks, places) in {(1, 0), (0, 2)}
        assert point in set(space.neighbours(one))
    assert len(list(space.transpositions(point))) == (math.comb(space.modes, 2) if space.orders else 0)


@pytest.mark.parametrize(
    ("space", "ranks"), [(Ring((2, 6, 2, 3), max_rank=9), (9, 2, 2, 2)), (Tree((2, 2, 3, 2), max_rank=9), (9,) * 5)]
)
def test_capped_bonds_represent_all_that_they_could(space: Space, ranks: tuple[int, ...]) -> None:
    """A network with the ranks as they were asked for is a network of the capped structure to rounding."""
    capped = space.structure(Point(ranks, tuple(range(4))))
    asked = capped.replace({index: 9 if index == "i1_i2" or len(ranks) == 5 else 2 for index in capped.inner_indices})
    assert asked.parameters > capped.parameters
    tensor = Network.random(asked, seed=1).dense()
    assert min(als(tensor, capped, seed=s, max_sweeps=400, tol=0).error for s in range(3)) < 1e-6


def test_a_core_without_modes_that_joins_nothing_goes() -> None:
    space = Tree((3, 3, 3, 3, 3), max_rank=5)
    structure = space.structure(space.first(1))
    assert len(structure.terms) == 5
    assert structure.inner_indices == ()
    # A bond whose other end joins nothing says nothing either.
    branches = ((0, 3), (1, 3), (2, 3))
    star = Tree((3, 3, 3), max_rank=5, branches=branches)
    assert star.structure(Point((3, 1, 1), (0, 1, 2))).inner_indices == ()


@given(st.integers(0, 10**6), st.integers(1, 3))
def test_degrees_are_limited(seed: int, most: int) -> None:
    space = AnyGraph((4,) * 5, max_rank=3, max_degree=most)
    structure = space.structure(drawn(space, seed))
    assert all(len(term.indices) - 1 <= most for term in structure.terms)
    start = space.first(1)
    assert space.allows(start)
    assert not space.allows(space.first(2))


def test_counts_of_graphs_with_limited_degree() -> None:
    """Matchings on four vertices: 1 without an edge, 6 with one, 3 with two."""
    space = AnyGraph((2,) * 4, max_rank=2, max_degree=1)
    points = [Point(ranks, (0, 1, 2, 3)) for ranks in product((1, 2), repeat=6)]
    assert sum(map(space.allows, points)) == 10


@given(st.integers(1, 300), st.integers(2, 20))
def test_folds_multiply_to_what_was_folded(n: int, longest: int) -> None:
    (fold,) = folded([n], longest)
    assert math.prod(fold) == n
    assert list(fold) == sorted(fold, reverse=True)
    prime_factors = [p for p in range(2, n + 1) if n % p == 0 and all(p % q for q in range(2, p))]
    if all(p <= longest for p in prime_factors):
        assert max(fold) <= longest
    else:
        assert fold == (n,)  # no product of short modes


@pytest.mark.parametrize(
    ("n", "wanted"),
    [(256, (16, 16)), (1024, (16, 8, 8)), (17, (17,)), (34, (34,)), (13, (13,)), (1, (1,)), (97, (97,))],
)
def test_folds_that_are_known(n: int, wanted: tuple[int, ...]) -> None:
    assert folded([n]) == (wanted,)


def test_folded_axes_are_grouped_again() -> None:
    space = Ring((16, 7), folds=((4, 4), (7,)), names=("row", "col"), max_rank=3)
    structure = space.structure(space.first(2))
    assert structure.shape == (16, 7)
    assert structure.output_shape == (4, 4, 7)
    assert structure.outputs == (("row_1", "row_2"), ("col",))


@pytest.mark.parametrize(
    "names", [("a", "b", "a_b"), ("c1", "c2", "x"), ("a", "a", "b"), ("x_y", "x", "y"), ("i j", "k", "l")]
)
@pytest.mark.parametrize("kind", [Ring, Tucker, Tree, FullyConnected])
def test_names_that_clash(kind: type[Space], names: tuple[str, ...]) -> None:
    space = kind((3, 3, 3), names=names, max_rank=2)
    structure = space.structure(space.first(2))
    assert structure.shape == (3, 3, 3)
    assert len(structure.inner_indices) == len(space.edges)


def test_names_of_folds_that_clash() -> None:
    space = Chain((4, 2), folds=((2, 2), (2,)), names=("a", "a_1"), max_rank=2)
    assert space.structure(space.first(2)).shape == (4, 2)


def test_few_modes_and_many() -> None:
    with pytest.raises(StructureError, match="needs at least 2 modes, not 1"):
        Chain((5,))
    with pytest.raises(StructureError, match="needs at least 3 modes, not 2"):
        Ring((5, 5))
    assert Chain((5, 4), max_rank=9).structure(Point((9,), (1, 0))).parameters == 5 * 4 + 4 * 4
    many = Ring((2,) * 24, max_rank=3)
    structure = many.structure(drawn(many, 0))
    assert structure.size == 2**24
    assert len(structure.terms) == 24
    assert len(Tree((2,) * 24).edges) == 2 * 24 - 3


def test_what_is_refused() -> None:
    with pytest.raises(StructureError, match="sizes of at least 1"):
        Ring((2, 0, 2))
    with pytest.raises(StructureError, match="max_rank must be a whole number"):
        Ring((2, 2, 2), max_rank=0)
    with pytest.raises(StructureError, match="2 names for 3 axes"):
        Ring((2, 2, 2), names=("a", "b"))
    with pytest.raises(StructureError, match="do not multiply to the shape"):
        Ring((8, 2), folds=((4, 4), (2,)))
    with pytest.raises(StructureError, match="have a cycle"):
        Tree((2, 2, 2), branches=((0, 1), (1, 2), (2, 0)))
    with pytest.raises(StructureError, match="leave a mode unconnected"):
        Tree((2, 2, 2), branches=((0, 1),))
    with pytest.raises(StructureError, match="max_degree must be a whole number"):
        AnyGraph((2, 2, 2), max_degree=0)


def test_random_points_reach_the_whole_space() -> None:
    space = FullyConnected((2, 2, 2), max_rank=2)
    generator = np.random.default_rng(0)
    assert len({space.random(generator) for _ in range(300)}) == space.size() == 8
    ring = Ring((2, 2, 2), max_rank=2)
    assert len({ring.random(generator) for _ in range(1000)}) == ring.size() == 48


def test_common_parts_keep_their_names() -> None:
    space = Ring((3,) * 5, max_rank=4)
    first = space.structure(space.first(2))
    second = space.structure(space.first(2).swapped(1, 2))
    kept = set(first.inner_indices) & set(second.inner_indices)
    assert {("i1", "i5"), ("i4", "i5")} <= {tuple(sorted(name.split("_"))) for name in kept}
    assert len(kept) == 3  # and i2 i3, which is turned round


def test_graphs_of_few_edges_for_each_core_are_drawn_among_many_modes() -> None:
    space = AnyGraph((2,) * 14, max_rank=4, max_degree=2)
    generator = np.random.default_rng(0)
    points = [space.random(generator) for _ in range(3)]
    assert len(set(points)) == 3
    assert all(map(space.allows, points))
    assert all(any(rank > 1 for rank in point.ranks) for point in points)
