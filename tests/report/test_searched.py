"""What the page says of a search."""

from __future__ import annotations

import math
from dataclasses import replace
from html import unescape

import numpy as np
import pytest

import tenfold as tn
from tenfold.report import page, searched
from tenfold.structure_search import ErrorWithin, SizeWithin, WeightedSum


@pytest.fixture(scope="module")
def search() -> tn.Search:
    array = np.random.default_rng(0).standard_normal((3, 4, 3, 2))
    return tn.search(array, parameters=40, max_rank=4, method="random_search", evaluations=48, dims=tuple("news"))


def test_the_page_of_a_search_is_that_of_its_fit_and_more(search: tn.Search) -> None:
    alone, text = page.render(search.fit), page.render(search.fit, search=search)
    assert "The search" not in alone
    for words in ("The search", "What came near", "What costs what", "random_search", "rings of 4 modes"):
        assert words in text
    assert f"as papers count them; {search.fits} fitted" in text
    assert "<script" not in text


def test_the_page_names_the_file_that_was_written_or_says_how_to_write_one(search: tn.Search) -> None:
    unsaved = unescape(page.render(search.fit, search=search))
    assert 'search.save("found.tn")' in unsaved
    assert "tenfold show found.tn\n" in unsaved
    saved = unescape(page.render(search.fit, search=search, saved="my ring.tn"))
    assert ".save(" not in saved
    assert 'tn.load("my ring.tn")' in saved
    assert "tenfold expand 'my ring.tn' -o array.npy" in saved
    assert 'fit.save("fit.tn")' in unescape(page.render(search.fit))


def test_table_and_page_say_the_same_of_why_it_stopped(search: tn.Search) -> None:
    assert search.why_stopped == "the evaluations were used up"
    text = page.render(search.fit, search=search)
    assert "<dt>stopped</dt><dd>the evaluations were used up</dd>" in text
    assert "stopped  the evaluations were used up" in str(search)
    kept = replace(search, journal="folder")
    assert kept.why_stopped.endswith("; the same call with more of them goes on from 'folder'")
    assert f"<dt>stopped</dt><dd>{search.fit.why_stopped}</dd>" in page.render(search.fit)


def test_what_was_not_reached_is_said(search: tn.Search) -> None:
    missed = replace(search, objective=ErrorWithin(1))
    assert "not reached" in page.render(search.fit, search=missed)
    assert "not reached" not in page.render(search.fit, search=search)


def test_rivals_lie_on_both_sides_of_the_front(search: tn.Search) -> None:
    middle = search.front[len(search.front) // 2]
    picked = searched._rivals(search, middle)
    assert 2 <= len(picked) <= 3
    assert picked[0].parameters < middle.parameters < picked[-1].parameters
    assert middle not in picked
    assert all(one in search.front for one in picked)
    first = searched._rivals(search, search.front[0])
    assert all(one.parameters > search.front[0].parameters for one in first)


def test_the_map_counts_every_structure_once(search: tn.Search) -> None:
    twice = replace(search, history=(*search.history, *search.history))
    table = searched._table(twice)
    assert sorted(table) == sorted(searched._table(search))
    assert len(table) == len({one.structure.key for one in search.history})
    least = min(table, key=lambda row: row[2])
    assert least[2] == min(one.error for one in search.history)


def test_every_structure_lies_in_a_bin() -> None:
    values = np.array([3.0, 17.0, 4096.0])
    edges = searched._edges(values)
    assert edges[0] < 3
    assert edges[-1] > 4096
    assert [searched._bin(edges, value) for value in (3.0, 4096.0)] == [0, len(edges) - 2]
    assert len(searched._edges(np.array([5.0, 5.0]))) == 2


@pytest.mark.parametrize(
    ("objective", "words"),
    [(SizeWithin(0.1), "number of parameters"), (ErrorWithin(40), "the error, and"), (WeightedSum(72), "weighted")],
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
