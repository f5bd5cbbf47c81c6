"""Diagrams and their plain-text form."""

import pytest
from hypothesis import given, settings
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
    found = " ".join(words(fig))
    assert "(i1 i2)\n24" in found
    fig.canvas.draw()
    assert all(not text.get_text().count("$") or "\\$" in text.get_text() for ax in fig.axes for text in ax.texts)


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
