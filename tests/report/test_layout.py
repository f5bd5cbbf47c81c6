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
    "kronecker": formats.kronecker((4, 5, 2), (3, 6, 7), 5),
    "block matrix train": formats.block_tensor_train((4, 6), (3, 5), 7),
    "long matrix train": formats.tensor_train_matrix((2,) * 40, (2,) * 40, 4),
    "folded image": Structure("y1 x1 r, y2 x2 r s, c s -> (y1 y2) (x1 x2) c", y1=8, y2=8, x1=8, x2=8, c=3, r=49, s=2),
    "matrix ring": Structure(
        "a i1 j1 b, b i2 j2 c, c i3 j3 d, d i4 j4 a -> (i1 i2 i3 i4) (j1 j2 j3 j4)",
        {**dict.fromkeys("abcd", 4), **{f"{x}{k}": 5 for x in "ij" for k in (1, 2, 3, 4)}},
    ),
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
    assert set(layout.legs) == set(structure.output_indices)
    assert nearest(layout.cores) > 0.6
    assert all(math.dist(end, core) > 0.3 for end in layout.legs.values() for core in layout.cores)
    assert nearest(layout.legs.values()) > 0.25


@given(structures(terms=6, indices=8))
@settings(max_examples=80)
def test_any_structure_has_a_finite_layout_that_is_always_the_same(structure):
    layout = arrange(structure)
    assert layout == arrange(structure)
    points = [*layout.cores, *layout.dots.values(), *layout.legs.values()]
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


def test_legs_of_a_grouped_axis_stand_straight_over_or_under_their_cores():
    structure = FAMILIES["folded image"]
    layout = arrange(structure)
    assert {y for _, y in layout.cores} == {0.0}
    assert layout.brackets == {0: 1, 1: -1}
    for axis, group in enumerate(structure.outputs[:2]):
        for index in group:
            (core,) = structure.terms_with(index)
            x, y = layout.legs[index]
            assert x == layout.cores[core][0]
            assert y * layout.brackets[axis] > 0
    # The channel leaves at the end of the line.
    assert layout.legs["c"][1] == 0.0
    assert layout.legs["c"][0] > layout.cores[2][0]


def test_cores_stand_as_far_apart_as_the_name_of_their_bond_is_long():
    def gap(rank):
        sizes = {"i1": 900, "i2": 900, "j1": 900, "j2": 900, "bond": rank}
        (a, _), (b, _) = arrange(Structure("i1 j1 bond, i2 j2 bond -> (i1 i2) (j1 j2)", sizes)).cores
        return b - a

    assert gap(100_000) > gap(1000) > gap(10) >= 1


def test_path_and_ring_follow_the_bonds():
    shuffled = Structure("b k, i a, a j b -> i j k", i=2, j=2, k=2, a=2, b=2)
    assert path_of(shuffled) == (0, 2, 1)
    assert ring_of(FAMILIES["ring"]) == (0, 1, 2, 3, 4, 5, 6)
    assert path_of(FAMILIES["ring"]) is None
    assert ring_of(FAMILIES["train"]) is None
    assert path_of(FAMILIES["cp"]) is None
