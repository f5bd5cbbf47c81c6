"""Diagrams and their plain-text form."""

import itertools

import pytest
from hypothesis import given, settings
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from strategies import structures

from tenfold import formats, report
from tenfold.errors import TenfoldError
from tenfold.structure import Structure


def words(fig):
    return [text.get_text() for ax in fig.axes for text in ax.texts]


def test_a_drawing_names_axes_bonds_and_cores():
    fig = report.draw(formats.tensor_train((64, 32, 3), (8, 2)), names=["row", "column", "channel"])
    assert isinstance(fig, Figure)
    found = words(fig)
    assert {"row\n64", "column\n32", "channel\n3", "a=8", "b=2", "0", "1", "2"} == set(found)


def test_grouped_axes_show_their_indices_and_names_that_are_mathematics_to_matplotlib_stay_text():
    fig = report.draw(formats.monarch((4, 6), (3, 5)), names=["$rows", "$columns$"])
    found = words(fig)
    assert {"\\$rows = 24 = (i1 i2)", "\\$columns\\$ = 15 = (j1 j2)", "i1=4", "i2=6", "j1=3", "j2=5"} <= set(found)
    fig.canvas.draw()
    assert all(not text.get_text().count("$") or "\\$" in text.get_text() for ax in fig.axes for text in ax.texts)


GROUPED = {
    "folded image": Structure(
        "y1 x1 r1, y2 x2 r1 r2, y3 x3 r2 r3, c r3 -> (y1 y2 y3) (x1 x2 x3) c",
        {**{f"{a}{k}": 8 for a in "yx" for k in (1, 2, 3)}, "c": 3, "r1": 49, "r2": 49, "r3": 2},
    ),
    "matrix train": formats.tensor_train_matrix((4,) * 4, (3,) * 4, 12),
    "twelve": formats.tensor_train_matrix((4,) * 12, (3,) * 12, 12),
    "monarch": formats.monarch((4, 6), (3, 5)),
    "block": formats.block_tensor_train((4, 6), (3, 5), 7),
    "kronecker": formats.kronecker((4, 5, 2), (3, 6, 7), 5),
    "phm": formats.phm(8, 12, 4),
    "volume": Structure(
        "t r, y1 x1 z1 r s, y2 x2 z2 s -> (y1 y2) (x1 x2) (z1 z2) t",
        {**{f"{a}{k}": 16 for a in "yxz" for k in (1, 2)}, "t": 30, "r": 7, "s": 90},
    ),
}


@pytest.mark.parametrize("name", GROUPED)
@pytest.mark.parametrize("panel", [False, True])
def test_labels_of_grouped_networks_cover_neither_each_other_nor_a_core(name, panel):
    # A panel is one third of the figure that a fit plots.
    fig = Figure(figsize=(13, 4.2), layout="constrained")
    fig = report.draw(GROUPED[name], fig.subplots(1, 3)[0] if panel else None)
    ax = fig.axes[0]
    FigureCanvasAgg(fig).draw()
    boxes = [text.get_window_extent() for text in ax.texts]
    circles = [patch.get_window_extent() for patch in ax.patches if type(patch).__name__ == "Circle"]
    inside = [box for box in boxes if any(c.contains(box.x0, box.y0) and c.contains(box.x1, box.y1) for c in circles)]
    outside = [box for box in boxes if box not in inside]
    assert len(outside) > len(circles)
    for a, b in itertools.combinations(outside, 2):
        assert not _common(a, b)
    for box in outside:
        assert not any(_common(box, circle) for circle in circles)
        assert panel or (box.x0 >= 0 and box.y0 >= 0 and box.x1 <= fig.bbox.x1 and box.y1 <= fig.bbox.y1)


def _common(a, b):
    wide, high = min(a.x1, b.x1) - max(a.x0, b.x0), min(a.y1, b.y1) - max(a.y0, b.y0)
    return wide > 1 and high > 1


def test_a_core_used_twice_has_a_colour_of_its_own():
    fig = report.draw(Structure("U[i r], U[j r], w[r] -> i j", i=9, j=9, r=2))
    circles = [patch.get_facecolor() for patch in fig.axes[0].patches if type(patch).__name__ == "Circle"]
    assert circles[0] == circles[1] != circles[2]


def test_drawing_on_given_axes_returns_their_figure():
    fig = Figure()
    left, right = fig.subplots(1, 2)
    assert report.draw(formats.cp((4, 5, 6), 2), left) is fig
    assert left.texts
    assert not right.texts


def test_wrong_number_of_names_is_refused():
    with pytest.raises(TenfoldError, match="each of the 3 output axes, not 1"):
        report.draw(formats.cp((4, 5, 6), 2), names=["row"])


@given(structures(terms=5, indices=7))
@settings(max_examples=25)
def test_any_structure_can_be_drawn_and_written(structure):
    fig = report.draw(structure)
    circles = [patch for patch in fig.axes[0].patches if type(patch).__name__ == "Circle"]
    assert len(circles) == len(structure.terms)
    written = report.text(structure)
    assert f"{structure.parameters:,} parameters" in written
    for index, size in structure.sizes.items():
        assert f"{index}={size}" in written or str(size) in written


def test_sixty_cores_fit_on_a_page():
    fig = report.draw(formats.tensor_train((2,) * 60, 8))
    assert fig.get_size_inches()[0] <= 9.7
    assert len(words(fig)) == 60 + 60 + 59


def test_text_of_a_train():
    lines = report.text(formats.tensor_train((64, 64, 3), (8, 2))).splitlines()
    assert lines[1:] == ["  ●──8──●──2──●", "  │     │     │", "  i=64  j=64  k=3"]


def test_text_of_a_ring_is_closed():
    lines = report.text(formats.tensor_ring((4, 5, 6), (2, 3, 7))).splitlines()
    assert lines[1].startswith("╭─●──2──●──3──●──7──")
    assert lines[1].endswith("╮")
    assert lines[-1] == "╰" + "─" * (len(lines[1]) - 2) + "╯"
    assert len({len(line) for line in lines[1:]}) == 1


def test_text_of_a_long_train_keeps_to_the_width():
    lines = report.text(formats.tensor_train((2,) * 40, 8), width=60).splitlines()
    assert max(map(len, lines[1:])) <= 60
    assert "".join(lines).count("●") == 40


def test_text_of_anything_else_is_a_table():
    written = report.text(Structure("U[i r], U[j r], w[r] -> i j", i=9, j=9, r=2))
    assert "U (used 2 times)" in written
    assert "9 x 2" in written
    assert "U[i r], U[j r], w[r] -> i j" in written
