"""Layouts: every part of every structure has a place, and no two cores share one."""

import itertools
import math

import pytest
from hypothesis import given, settings
from strategies import structures

from tenfold import formats
from tenfold.report.layout import arrange, path_of, ring_of
from tenfold.structure import Structure

FAMILIES = {
    "train": formats.tensor_train((4, 5, 6, 7), 3),
    "long train": formats.tensor_train((2,) * 60, 4),
    "ring": formats.tensor_ring((4,) * 7, 3),
    "fully connected": formats.fully_connected((4,) * 6, 2),
    "cp": formats.cp((9, 8, 7, 6), 4),
    "tucker": formats.tucker((9, 8, 7), 4),
    "hierarchical": formats.hierarchical_tucker((3,) * 16, 2),
    "matrix train": formats.tensor_train_matrix((4, 4, 4), (3, 3, 3), 2),
    "monarch": formats.monarch((4, 6), (3, 5)),
    "grid": Structure(
        "a c i, a b d j, b e k, c f l, d f g m, e g n -> i j k l m n",
        {**dict.fromkeys("abcdefg", 2), **dict.fromkeys("ijklmn", 3)},
    ),
}


def nearest(points):
    return min(math.dist(a, b) for a, b in itertools.combinations(points, 2))


@pytest.mark.parametrize("name", FAMILIES)
def test_cores_stand_apart_and_every_axis_ends_somewhere(name):
    structure = FAMILIES[name]
    layout = arrange(structure)
    assert len(layout.cores) == len(structure.terms)
    assert len(layout.ports) == structure.order
    assert nearest(layout.cores) > 0.6
    assert all(math.dist(port, core) > 0.3 for port in layout.ports for core in layout.cores)


@given(structures(terms=6, indices=8))
@settings(max_examples=80)
def test_any_structure_has_a_finite_layout_that_is_always_the_same(structure):
    layout = arrange(structure)
    assert layout == arrange(structure)
    points = [*layout.cores, *layout.dots.values(), *layout.ports]
    assert len(layout.cores) == len(structure.terms)
    assert all(math.isfinite(x) and math.isfinite(y) for x, y in points)
    outside = set(structure.output_indices)
    for index in structure.sizes:
        ends = len(structure.terms_with(index)) + (index in outside)
        if ends > 2:
            assert index in layout.dots


def test_a_train_is_a_line_and_a_long_one_turns():
    layout = arrange(FAMILIES["train"])
    assert {y for _, y in layout.cores} == {0.0}
    assert [x for x, _ in layout.cores] == [0.0, 1.0, 2.0, 3.0]
    long = arrange(FAMILIES["long train"])
    assert max(x for x, _ in long.cores) - min(x for x, _ in long.cores) < 13
    joined = itertools.pairwise(long.cores)
    assert all(math.dist(a, b) < 1.3 for a, b in joined)


def test_path_and_ring_follow_the_bonds():
    shuffled = Structure("b k, i a, a j b -> i j k", i=2, j=2, k=2, a=2, b=2)
    assert path_of(shuffled) == (0, 2, 1)
    assert ring_of(FAMILIES["ring"]) == (0, 1, 2, 3, 4, 5, 6)
    assert path_of(FAMILIES["ring"]) is None
    assert ring_of(FAMILIES["train"]) is None
    assert path_of(FAMILIES["cp"]) is None
