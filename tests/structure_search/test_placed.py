"""Points from structures: every structure that a space makes is one of its points, and others are none."""

from __future__ import annotations

import numpy as np
import pytest

from tenfold.structure import Structure
from tenfold.structure_search._placed import point_of
from tenfold.structure_search.spaces import AnyGraph, Chain, FullyConnected, Point, Ring, Space, Tree, Tucker

SHAPE = (3, 4, 2, 5, 3, 4)
SPACES = [
    *(kind(SHAPE, 3) for kind in (Ring, Chain, Tucker, Tree, FullyConnected, AnyGraph)),
    Ring(SHAPE, 3, fixed_order=True),
    Tree(SHAPE, 3, fixed_order=True),
    Ring((12, 10, 9), 3, folds=((4, 3), (5, 2), (3, 3))),
]


@pytest.mark.parametrize("space", SPACES, ids=repr)
def test_every_structure_is_a_point(space: Space) -> None:
    generator = np.random.default_rng(0)
    drawn = [space.first(), space.first(2), *(space.random(generator) for _ in range(60))]
    for point in filter(space.allows, drawn):
        structure = space.structure(point)
        found = point_of(space, structure)
        assert found is not None
        assert space.allows(found)
        assert space.structure(found).key == structure.key


def test_graphs_have_what_rings_and_trains_have() -> None:
    graphs, ring = FullyConnected(SHAPE, 3), Ring(SHAPE, 3)
    structure = ring.structure(Point((2, 3, 2, 1, 2, 3), (0, 2, 4, 1, 3, 5)))
    found = point_of(graphs, structure)
    assert found is not None
    assert graphs.structure(found).key == structure.key


def test_what_a_space_does_not_hold_is_no_point() -> None:
    ring = Ring(SHAPE, 3)
    crossed = ring.structure(Point((2,) * 6, (0, 2, 4, 1, 3, 5)))
    assert point_of(Ring(SHAPE, 3, fixed_order=True), crossed) is None
    assert point_of(Chain(SHAPE, 3), crossed) is None
    assert point_of(Tucker(SHAPE, 3), crossed) is None
    assert point_of(Ring(SHAPE, 2), ring.structure(ring.first(3))) is None
    assert point_of(Ring(SHAPE[::-1], 3), crossed) is None
    star = Structure("a x, b x, c x -> a b c", a=3, b=3, c=3, x=2)
    assert point_of(Ring((3, 3, 3), 3, names=("a", "b", "c")), star) is None
    twice = Structure("a x, b x -> a b", a=3, b=3, x=2)
    assert point_of(Ring((3, 3, 3), 3), twice) is None
