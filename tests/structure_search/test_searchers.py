"""What holds for every searcher on every space that it says it searches."""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
from search_targets import Formula

from tenfold.structure_search._registry import find_searcher, searchers
from tenfold.structure_search.objectives import SizeWithin
from tenfold.structure_search.spaces import AnyGraph, Chain, FullyConnected, Point, Ring, Space, Tree, Tucker, spaces
from tenfold.structure_search.targets import Dense, Target
from tenfold.verbs._searching import Ended, Plan, opened, run

SHAPE = (3, 3, 2, 3)
SPACES: list[Space] = [
    Ring(SHAPE, 3),
    Chain(SHAPE, 3),
    Tree(SHAPE, 3),
    Tucker(SHAPE, 3),
    FullyConnected(SHAPE, 3),
    AnyGraph(SHAPE, 3, max_degree=2),
]
PAIRS = [(name, space) for name, entry in searchers().items() for space in SPACES if isinstance(space, entry.spaces)]
IDS = [f"{name}-{type(space).__name__}" for name, space in PAIRS]
# Evaluations in all, and those after which a search is interrupted first: in the middle of what is asked for at once.
MOST, FIRST = 36, 13
# What would else be planned by the number of evaluations, and little work.
OPTIONS: dict[str, dict[str, Any]] = {
    "tnga": {"population": 8},
    "map_elites": {"initial": 3, "batch": 5},
    "sparse_edges": {"stages": 4, "stage_sweeps": 2},
}


def plan(name: str, space: Space, seed: int = 0) -> Plan:
    target: Target = Formula(space.shape, salt=seed)
    if name in ("bound_guided", "sparse_edges"):  # the others need nothing of the data
        data = torch.randn(space.shape, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
        target = Dense(data)
    return Plan(target, SizeWithin(0.4), space, find_searcher(name), OPTIONS.get(name, {}), seed)


def told(ended: Ended) -> list[tuple[str, int, float, int]]:
    """Everything that was fitted to the end."""
    seen = ended.session.history
    return [(f.evaluation.structure.key, f.evaluation.number, f.evaluation.error, f.counted) for f in seen]


def test_every_space_is_here() -> None:
    assert {type(space) for space in SPACES} == set(spaces().values())
    assert {name for name, _ in PAIRS} == set(searchers())


@pytest.mark.parametrize(("name", "space"), PAIRS, ids=IDS)
def test_it_keeps_its_budget_and_finds_the_same_however_often_it_stops(name: str, space: Space, tmp_path: Path) -> None:
    whole = run(plan(name, space), evaluations=MOST)
    session = whole.session
    assert whole.why in ("evaluations", "finished")
    assert session.counted == MOST if whole.why == "evaluations" else session.counted <= MOST
    assert 0 < len(session.history) <= session.fits <= session.counted
    assert [f.counted for f in session.history] == sorted(f.counted for f in session.history)
    # The first answer is the smallest there is.
    first = session.history[0]
    assert (first.counted, first.evaluation.parameters) == (1, sum(space.shape))
    rank, best = session.objective.rank, session.best
    assert best is not None
    assert min(rank(one.parameters, one.error) for one in session.front) == rank(best.parameters, best.error)
    assert all(best.value <= f.evaluation.value for f in session.history)
    # The same again, in two goes.
    asked = plan(name, space)
    early = run(asked, evaluations=FIRST, journal=opened(asked, tmp_path))
    late = run(asked, evaluations=MOST, journal=opened(asked, tmp_path))
    assert told(early) == told(whole)[: len(told(early))]
    assert told(late) == told(whole)
    assert (late.why, late.session.counted, late.session.fits) == (whole.why, session.counted, session.fits)


@pytest.mark.parametrize("name", searchers())
def test_it_ends_where_nothing_is_left(name: str) -> None:
    """Rings of three modes with ranks up to two are eight structures; nobody says how many may be asked for."""
    space = FullyConnected((6, 6, 6), 2) if name == "sparse_edges" else Ring((6, 6, 6), 2)
    asked = plan(name, space)
    ended = run(asked, seconds=600)
    assert ended.why == "finished"
    assert told(run(asked, seconds=600)) == told(ended)
    if isinstance(asked.target, Formula) and name != "greedy":
        order, rank, best = (0, 1, 2), ended.session.objective.rank, ended.session.best
        every = [space.structure(Point(ranks, order)) for ranks in product((1, 2), repeat=3)]
        assert best is not None
        assert rank(best.parameters, best.error) == min(rank(s.parameters, asked.target.error(s)) for s in every)


@pytest.mark.parametrize(
    ("name", "options", "budget"),
    [
        ("tnls", {"samples": 10**7}, {"evaluations": 300}),
        ("tnls", {"samples": 10**7}, {"seconds": 0.3}),
        ("tnga", {"population": 10**7}, {"evaluations": 300}),
        ("tnga", {"population": 10**7}, {"seconds": 0.3}),
        ("map_elites", {"initial": 10**7, "batch": 10**7}, {"evaluations": 300}),
        ("map_elites", {"initial": 10**7, "batch": 10**7}, {"seconds": 0.3}),
        ("bound_guided", {"together": 10**7}, {"evaluations": 10}),
        ("sparse_edges", {"stage_sweeps": 10**7}, {"seconds": 0.3}),
        ("greedy", {"tries": 10**7, "first_sweeps": 10**7}, {"evaluations": 300}),
    ],
    ids=str,
)
def test_however_much_is_asked_for_at_once_the_budget_ends_it(
    name: str, options: dict[str, Any], budget: dict[str, Any]
) -> None:
    space = FullyConnected((3,) * 5, 4)
    asked = plan(name, space)
    ended = run(Plan(asked.target, asked.objective, space, asked.entry, options, 0), **budget)
    assert ended.why in (next(iter(budget)), "finished")
    assert ended.session.counted <= budget.get("evaluations", ended.session.counted)
    assert ended.session.elapsed < 60
