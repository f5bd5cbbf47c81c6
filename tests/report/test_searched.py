"""What the page says of a search."""

from __future__ import annotations

import io
import math
import re
import warnings
from dataclasses import replace
from html import unescape

import numpy as np
import pytest

import tenfold as tn
from tenfold.report import page, searched
from tenfold.report._style import figure
from tenfold.report.front import rows
from tenfold.structure import Structure
from tenfold.structure_search import ErrorWithin, SizeWithin, Trial, WeightedSum
from tenfold.structure_search.pareto import non_dominated
from tenfold.structure_search.spaces import Point, Ring
from tenfold.verbs._search_table import front
from tenfold.verbs.search_result import Candidate, label


@pytest.fixture(scope="module")
def search() -> tn.Search:
    array = np.random.default_rng(0).standard_normal((3, 4, 3, 2))
    return tn.search(array, parameters=40, max_rank=4, method="random_search", evaluations=48, dims=tuple("news"))


@pytest.fixture(scope="module")
def text(search: tn.Search) -> str:
    """The page."""
    return page.render(search.fit, search=search)


@pytest.fixture(scope="module")
def alone(search: tn.Search) -> str:
    """The page of the fit that was found, without the search."""
    return page.render(search.fit)


def test_the_page_of_a_search_is_that_of_its_fit_and_more(search: tn.Search, text: str, alone: str) -> None:
    assert "The search" not in alone
    for words in ("The search", "What came near", "What costs what", "random_search", "rings of 4 modes"):
        assert words in text
    assert f"as papers count them; {search.fits} fitted" in text
    assert "<script" not in text


def test_the_page_names_the_file_that_was_written_or_says_how_to_write_one(
    search: tn.Search, text: str, alone: str
) -> None:
    unsaved = unescape(text)
    assert 'search.save("found.tn")' in unsaved
    assert "tenfold show found.tn\n" in unsaved
    saved = unescape(page.render(search.fit, search=search, saved="my ring.tn"))
    assert ".save(" not in saved
    assert 'tn.load("my ring.tn")' in saved
    assert "tenfold expand 'my ring.tn' -o array.npy" in saved
    assert 'fit.save("fit.tn")' in unescape(alone)


def test_table_and_page_say_the_same_of_why_it_stopped(search: tn.Search, text: str, alone: str) -> None:
    assert search.why_stopped == "the evaluations were used up"
    assert "<dt>stopped</dt><dd>the evaluations were used up</dd>" in text
    assert "stopped  the evaluations were used up" in str(search)
    kept = replace(search, journal="folder")
    assert kept.why_stopped.endswith("; the same call with more of them goes on from 'folder'")
    assert f"<dt>stopped</dt><dd>{search.fit.why_stopped}</dd>" in alone


def test_the_page_says_what_was_gained_and_the_unseen_error(search: tn.Search, text: str) -> None:
    assert search.gained is not None
    assert f"<dt>gained</dt><dd>{search.gained}</dd>" in text
    assert "unseen error" not in text
    tested = page.render(search.fit, search=replace(search, tested=0.125, tested_cells=31))
    assert "unseen error" in tested
    assert "on 31 cells kept for the end" in tested


def test_what_was_not_reached_is_said(search: tn.Search, text: str) -> None:
    missed = replace(search, objective=ErrorWithin(1))
    assert "not reached" in page.render(search.fit, search=missed)
    assert "not reached" not in text


def test_rivals_lie_on_both_sides_of_the_front(search: tn.Search) -> None:
    middle = search.front[len(search.front) // 2]
    picked = searched._rivals(search, middle)
    assert 2 <= len(picked) <= 3
    assert picked[0].parameters < middle.parameters < picked[-1].parameters
    assert middle not in picked
    first = searched._rivals(search, search.front[0])
    assert all(one.parameters > search.front[0].parameters for one in first)


def test_one_rival_is_of_another_kind(search: tn.Search) -> None:
    """Rings of nearly the same ranks are all that is near on the front."""
    ring, least = Ring((4, 4, 4, 4), 9), search.front[0]

    def made(ranks: tuple[int, ...], error: float) -> Candidate:
        structure = ring.structure(Point(ranks, (0, 1, 2, 3)))
        return replace(least, name=label(structure), structure=structure, parameters=structure.parameters, error=error)

    rings = [made((2, 2, 2, 2 + n), 0.5 - 0.01 * n) for n in range(6)]
    train = made((3, 3, 1, 3), 0.49)
    far = made((2, 2, 1, 2), 0.8)
    history = (*rings, far, train)
    crowded = replace(search, history=history, front=tuple(rings), objective=ErrorWithin(10**6))
    picked = searched._rivals(crowded, rings[2])
    assert train in picked
    assert far not in picked
    assert sum(one.name.startswith("tensor ring") for one in picked) == 2
    assert searched._against(train, rings[2]) == "Another kind"


def test_what_falls_apart_is_called_so() -> None:
    sizes = {"i": 3, "j": 4, "k": 5, "l": 6, "a": 2, "b": 3}
    assert label(Structure("i a, a j, k b, b l -> i j k l", **sizes)) == "separate parts 2·3"
    assert label(Structure("i a, a j, k -> i j k", i=3, j=4, k=5, a=2)) == "separate parts 2"
    # More than five ranks are no name; the pattern has them.
    ends = [(f"x{n}", f"y{n}", f"b{n}") for n in range(6)]
    terms = ", ".join(f"{one} {bond}, {bond} {other}" for one, other, bond in ends)
    pattern = f"{terms} -> {' '.join(name for one, other, _ in ends for name in (one, other))}"
    assert label(Structure(pattern, **{name: 2 for end in ends for name in end})) == "separate parts 2·2·2·2·…"
    assert label(Structure("i, j, k -> i j k", i=3, j=4, k=5)) == "outer product"


def test_a_long_front_is_shown_from_end_to_end(search: tn.Search) -> None:
    sizes = [*range(100, 130), 400, 1000]
    long = [
        replace(search.front[0], parameters=size, error=1 / size, structure=Structure("i -> i", i=size))
        for size in sizes
    ]
    long[7] = replace(long[7], structure=search.structure)
    text = front(replace(search, front=tuple(long)))
    shown = [int(line.split()[0].replace(",", "")) for line in text.replace("*", " ").splitlines()[1:13]]
    assert {100, 107, 400, 1000} <= set(shown)
    assert 100 < sorted(shown)[-3] < 130
    assert f"and {len(sizes) - 12} more on the front" in text


def test_ranks_stand_in_the_order_of_names() -> None:
    structure = Ring((4, 5, 6, 7), 9).structure(Point((2, 3, 4, 5), (0, 2, 1, 3)))
    trial = Trial(label(structure), structure, structure.parameters, 0.1, 0.0, "als", chosen=True)
    assert trial.name != "tensor ring " + "·".join(str(structure.sizes[bond]) for bond in structure.inner_indices)
    fit = tn.fit(np.ones((4, 5, 6, 7)), error=0.5)
    ((row,), _) = rows(replace(fit, front=(trial,)))
    assert row["ranks"].replace(", ", "·") == trial.name.removeprefix("tensor ring ")


def test_the_picture_of_costs_has_every_structure_once(search: tn.Search) -> None:
    twice = replace(search, history=(*search.history, *search.history))
    table = searched._table(twice)
    assert sorted(table) == sorted(searched._table(search))
    assert len(table) == len({one.structure.key for one in search.history})
    least = min(table, key=lambda row: row[2])
    assert least[2] == min(one.error for one in search.history)


def test_few_structures_make_no_picture_of_costs(search: tn.Search) -> None:
    assert searched.sizes_and_flops(search) is not None
    assert searched.sizes_and_flops(replace(search, history=search.history[:1])) is None


def test_rivals_are_drawn_at_one_scale(search: tn.Search) -> None:
    panels = searched.rivals(search)
    assert len(panels) >= 3
    assert len({re.search(r'style="width:(\d+)px', panel.markup).group(1) for panel in panels}) == 1
    assert panels[0].title.startswith("Found: ")
    assert panels[0].note == f"{search.parameters} parameters, relative error {search.error:.4g}"
    assert "% fewer)" in panels[1].note or "% more)" in panels[1].note
    assert searched.rivals(replace(search, front=search.front[:0])) == []


@pytest.mark.parametrize(
    ("value", "beside", "words"),
    [
        (80, 100, " (20% fewer)"),
        (120, 100, " (20% more)"),
        (100.1, 100, ""),
        (1000, 100, " (10 times more)"),
        (25, 100, " (4 times fewer)"),
        (0, 1, ""),
    ],
)
def test_how_much_more_or_less(value: float, beside: float, words: str) -> None:
    assert searched._times(value, beside, "fewer") == words


def test_the_best_so_far_never_gets_worse_and_ends_at_what_was_found(search: tn.Search) -> None:
    best = searched._best_so_far(search)
    ranks = [search.objective.rank(search.history[n].parameters, search.history[n].error) for n in best]
    assert ranks == sorted(ranks, reverse=True)
    assert search.history[best[-1]].structure.key == search.structure.key


def test_the_path_shows_common_formats_apart_and_what_does_not_keep_the_budget(search: tn.Search) -> None:
    ax = figure(5, 4).subplots()
    searched.draw_path(ax, search)
    words = [text.get_text().strip() for text in ax.texts]
    assert words == ["common formats", "random_search"]
    labels = {text.get_text() for text in ax.get_legend().get_texts()}
    assert {"parameters ≤ 40", "parameters > 40", "best so far", "found"} <= labels
    shown = sum(len(line.get_xdata()) for line in ax.lines if str(line.get_label()).startswith("parameters"))
    assert shown == len(search.history)


def test_a_budget_that_nothing_keeps_has_a_nearest_and_no_best(search: tn.Search) -> None:
    ax = figure(5, 4).subplots()
    searched.draw_path(ax, replace(search, objective=ErrorWithin(1)))
    labels = {text.get_text() for text in ax.get_legend().get_texts()}
    assert "nearest so far" in labels
    assert "best so far" not in labels


@pytest.mark.parametrize(
    ("objective", "words"),
    [
        (SizeWithin(0.1), "number of parameters"),
        (ErrorWithin(40), "its height the relative error"),
        (WeightedSum(72), "weighted"),
    ],
)
def test_the_path_says_what_its_heights_are(search: tn.Search, objective: object, words: str) -> None:
    asked = replace(search, objective=objective)
    assert words in searched.heights(asked)
    panel = searched.path(asked)
    assert panel is not None
    assert "<svg" in panel.markup


def test_hopeless_structures_do_not_hide_the_others(search: tn.Search) -> None:
    worst = replace(search.history[0], value=600.0, error=math.inf)
    panel = searched.path(replace(search, history=(*search.history, worst)))
    assert panel is not None
    assert "²⁶⁰" not in panel.markup  # no axis up to e^600
    assert searched.sizes_and_flops(replace(search, history=(*search.history, worst))) is not None


@pytest.mark.parametrize(
    "errors",
    [
        [0.0],
        [0.25],
        [1e300, 1e-300],
        [10.0 ** (150 + n) for n in range(48)],
        [0.3, math.inf],
        [math.inf],
    ],
    ids=["zero", "equal", "far apart", "squares overflow", "some infinite", "infinite"],
)
@pytest.mark.parametrize(
    "weight", [None, pytest.param(1.0, marks=pytest.mark.slow), 1e308], ids=["size", "sum", "heavy sum"]
)
def test_errors_of_any_size_are_drawn(search: tn.Search, errors: list[float], weight: float | None) -> None:
    objective = ErrorWithin(40) if weight is None else WeightedSum(72, weight)
    given = [errors[n % len(errors)] for n in range(len(search.history))]
    history = tuple(
        replace(one, error=error, value=objective.value(one.parameters, error))
        for one, error in zip(search.history, given, strict=True)
    )
    front = tuple(replace(trial, error=error) for trial, error in zip(search.fit.front, given, strict=False))
    least = min(one.error for one in history)
    other = replace(
        search,
        fit=replace(search.fit, error=least, front=front),
        error=least,
        history=history,
        front=tuple(non_dominated(history, lambda one: (one.parameters, one.error))),
        objective=objective,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        other.plot().savefig(io.BytesIO(), dpi=30)
        path = searched.path(other)
        searched.sizes_and_flops(other)
        searched.rivals(other)
    assert path is not None
