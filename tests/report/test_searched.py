"""What the page says of a search."""

from __future__ import annotations

import io
import math
import warnings
from dataclasses import replace

import numpy as np
import pytest

import tenfold as tn
from tenfold.report import page, searched
from tenfold.structure_search import ErrorWithin, SizeWithin, WeightedSum
from tenfold.structure_search.pareto import non_dominated


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
@pytest.mark.parametrize("weight", [None, 1.0, 1e308], ids=["size", "sum", "heavy sum"])
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
