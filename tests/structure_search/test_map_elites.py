"""The map: its cells, that it does not depend on the order of filling, that it only gets better, and the searcher."""

from __future__ import annotations

import math
from contextlib import suppress
from dataclasses import replace
from itertools import pairwise, product

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from search_targets import exactly, hashed

from tenfold import formats
from tenfold.errors import TenfoldError
from tenfold.structure_search._placed import point_of
from tenfold.structure_search._registry import find_searcher
from tenfold.structure_search.map_elites import Archive, elites, map_elites
from tenfold.structure_search.objectives import WeightedSum
from tenfold.structure_search.random_search import random_search
from tenfold.structure_search.session import Evaluation, Found, Session, Spent
from tenfold.structure_search.spaces import AnyGraph, FullyConnected, Point, Ring, Space, Tucker
from tenfold.structure_search.targets import Dense

SHAPE = (4, 4, 4, 4)


def evaluated(space: Space, points) -> list[Evaluation]:
    session = Session(exactly(space.shape, hashed), WeightedSum(math.prod(space.shape), 1.0))
    session.evaluate([space.structure(point) for point in points])
    return [found.evaluation for found in session.history]


@pytest.fixture(scope="module")
def some() -> list[Evaluation]:
    space = Ring(SHAPE, 3)
    return evaluated(space, [Point(ranks, (0, 1, 2, 3)) for ranks in product((1, 2, 3), repeat=4)])


def searched(space: Space, seed: int = 0, evaluations: int = 300, searcher=map_elites, **options) -> Session:
    session = Session(exactly(space.shape, hashed), WeightedSum(256, 1.0), evaluations=evaluations)
    with suppress(Spent):
        searcher(session, space, seed, **options)
    return session


def test_cells_are_magnitudes_of_compression_and_of_flops() -> None:
    archive = Archive()
    ring = formats.tensor_ring((8, 8, 8), [2, 2, 2])
    # 512 entries by 96 parameters; two products: 8 * 8 * 2^3 multiplications and additions, then 512 * 4.
    assert ring.cost().flops == 2 * 8 * 8 * 8 + 2 * 512 * 4
    assert archive.cell(ring) == (math.floor(math.log2(512 / 96)), math.floor(math.log2(ring.cost().flops / 512)))
    assert archive.cell(formats.tensor_ring((8, 8, 8), [8, 8, 8])) is None
    one = formats.cp((64, 64, 64), 1)
    assert archive.cell(one) == (10, 1 if one.cost().flops >= 2 * 64**3 else 0)
    # What lies beyond the last row or column lies in it.
    assert Archive(compressions=3, costs=1).cell(one) == (2, 0)
    assert archive.cell(formats.tensor_train((2,) * 20, 2))[0] == 11


@settings(max_examples=15, deadline=None)
@given(random=st.randoms(), parts=st.integers(1, 6))
def test_the_map_does_not_depend_on_the_order(some, random, parts) -> None:
    whole = Archive().placed(some)
    shuffled = list(some)
    random.shuffle(shuffled)
    archive = Archive()
    for part in range(parts):
        archive = archive.placed(shuffled[part::parts])
    assert archive == whole


@settings(max_examples=15, deadline=None)
@given(random=st.randoms(), errors=st.lists(st.sampled_from([0.1, 0.2]), min_size=81, max_size=81))
def test_nor_does_it_among_equal_errors(some, random, errors) -> None:
    alike = [replace(one, error=error) for one, error in zip(some, errors, strict=False)]
    whole = Archive().placed(alike)
    random.shuffle(alike)
    assert Archive().placed(alike) == whole


def test_each_cell_holds_its_best(some) -> None:
    archive = Archive().placed(some)
    assert len(archive) > 5
    for cell, one in archive:
        assert one.error == min(other.error for other in some if archive.cell(other.structure) == cell)
    assert archive.best.error == min(o.error for o in some if o.parameters <= 256)
    assert archive.coverage == len(archive) / 96
    assert archive.qd_score == pytest.approx(sum(1 - one.error**2 for _, one in archive))


def test_an_empty_map_and_what_is_no_result(some) -> None:
    archive = Archive()
    assert (len(archive), archive.coverage, archive.qd_score, archive.best) == (0, 0.0, 0.0, None)
    one = next(one for one in some if archive.cell(one.structure))
    assert len(archive.placed([replace(one, finished=False), replace(one, error=math.nan)])) == 0
    # An error above 1 explains nothing, and takes nothing away.
    assert archive.placed([replace(one, error=3.0)]).qd_score == 0.0
    with pytest.raises(TenfoldError, match="costs must be at least 1, not 0"):
        Archive(costs=0)


def test_a_map_prints_its_errors(some) -> None:
    archive = Archive().placed(some)
    lines = str(archive).splitlines()
    assert len(lines) == 1 + len({row for (row, _), _ in archive})
    assert f"{archive.best.error:7.1e}" in str(archive)
    assert lines[0].split()[-1] == ">=128"


def test_no_cell_ever_gets_worse() -> None:
    session = searched(AnyGraph(SHAPE, 4), evaluations=300)
    steps = [elites(session.history[:n]) for n in range(0, len(session.history), 7)]
    for before, after in pairwise(steps):
        assert set(before.cells) <= set(after.cells)
        assert all(after.cells[cell].error <= one.error for cell, one in before)
        assert after.qd_score >= before.qd_score - 1e-12


def test_it_fills_everything_that_there_is_to_fill() -> None:
    space = FullyConnected((3, 3, 3), 3)
    everything = Archive().placed(evaluated(space, [Point(r, (0, 1, 2)) for r in product((1, 2, 3), repeat=3)]))
    session = searched(space, evaluations=2000)
    assert {cell: one.error for cell, one in elites(session.history)} == {c: one.error for c, one in everything}


def test_it_fills_more_of_the_map_than_random_structures() -> None:
    space = FullyConnected((4,) * 5, 4)
    own = [elites(searched(space, seed, 200).history).coverage for seed in range(3)]
    drawn = [elites(searched(space, seed, 200, random_search).history).coverage for seed in range(3)]
    assert np.median(own) > np.median(drawn)


def test_any_searchers_history_is_a_map() -> None:
    session = searched(Ring(SHAPE, 4), searcher=random_search)
    archive = elites(session.history, compressions=4, costs=5)
    assert len(archive) > 3
    assert {cell for cell, _ in archive} <= set(product(range(4), range(5)))


def test_the_budget_ends_it_when_everything_is_known() -> None:
    space = Tucker((2, 2), 2)
    session = Session(exactly(space.shape, hashed), WeightedSum(4, 1.0), evaluations=203)
    with pytest.raises(Spent):
        map_elites(session, space, batch=40)
    assert session.counted == 203
    assert session.fits <= 4


def test_it_ends_without_a_budget_when_everything_is_known() -> None:
    space = FullyConnected((3, 3, 3), 2)
    session = Session(exactly(space.shape, hashed), WeightedSum(27, 1.0))
    map_elites(session, space, initial=5, batch=5)
    assert session.fits == 7  # all graphs but the triangle, which has more parameters than the data


def test_random_structures_are_a_quarter_at_most() -> None:
    batches: list[int] = []

    class Watched(Session):
        def evaluate(self, structures, **how):
            structures = list(structures)
            batches.append(len(structures))
            return super().evaluate(structures, **how)

    session = Watched(exactly(SHAPE, hashed), WeightedSum(256, 1.0), evaluations=160)
    with pytest.raises(Spent):
        map_elites(session, Ring(SHAPE, 4))
    assert batches[:2] == [32, 8]
    assert set(batches[2:]) == {32}


def test_what_the_session_knows_is_on_the_map_from_the_beginning() -> None:
    """Elites of rings have children among graphs: all that is asked first is random or a neighbour of what is known."""
    rings, graphs = Ring(SHAPE, 3), FullyConnected(SHAPE, 3)

    def asked(known: bool) -> list[Found]:
        session = Session(exactly(SHAPE, hashed), WeightedSum(256, 1.0), evaluations=200)
        if known:
            session.evaluate([rings.structure(rings.first(1)), rings.structure(rings.first(3))])
        with suppress(Spent):
            map_elites(session, graphs, initial=1, batch=4)
        return session.history

    seen = asked(known=True)
    cell = Archive().cell(seen[1].evaluation.structure)
    assert cell is not None
    start = point_of(graphs, seen[1].evaluation.structure)
    plain = point_of(graphs, seen[0].evaluation.structure)
    assert start is not None
    assert plain is not None
    child = point_of(graphs, seen[2].evaluation.structure)
    assert child is not None
    nearest = min(sum(a != b for a, b in zip(child.ranks, one.ranks, strict=True)) for one in (start, plain))
    assert nearest <= 3
    assert [found.evaluation.structure for found in seen] == [found.evaluation.structure for found in asked(known=True)]
    assert seen[2].evaluation.structure != asked(known=False)[0].evaluation.structure


def test_another_searcher_may_come_first() -> None:
    space = FullyConnected((3,) * 4, 3)
    data = Dense(torch.randn(space.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64))

    def run(searcher, evaluations: int, **options) -> Session:
        session = Session(data, WeightedSum(81, 1.0), evaluations=evaluations)
        with suppress(Spent):
            searcher(session, space, 0, **options)
        return session

    session = run(map_elites, 48, first="greedy")
    # A quarter of the evaluations comes first, and half of those is the other searcher's.
    alone = [found.evaluation.structure for found in run(find_searcher("greedy").function, 6).history]
    assert [found.evaluation.structure for found in session.history][: len(alone)] == alone
    assert session.evaluations == session.counted == 48
    with pytest.raises(TenfoldError, match="'sparse_edges', which does not search Ring"):
        map_elites(session, Ring((3,) * 4), first="sparse_edges")


def test_the_same_seed_asks_the_same() -> None:
    def asked(seed: int) -> list:
        return [(f.evaluation.structure, f.counted) for f in searched(AnyGraph(SHAPE, 4), seed, 100).history]

    assert asked(3) == asked(3)
    assert asked(3) != asked(4)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"initial": 0}, "initial and batch must be at least 1, not 0 and 32"),
        ({"batch": 0}, "initial and batch must be at least 1, not 200 and 0"),
        ({"crossover": 1.5}, "crossover must be a probability, not 1.5"),
        ({"first": "map_elites"}, "first must be another searcher"),
        ({"first": "no_such"}, "searcher 'no_such' is not known"),
    ],
)
def test_refuses(options: dict, said: str) -> None:
    session = Session(exactly(SHAPE, hashed), WeightedSum(256, 1.0))
    with pytest.raises(TenfoldError, match=said):
        map_elites(session, Ring(SHAPE, 4), **options)


def test_it_is_known_by_its_name() -> None:
    assert find_searcher("map_elites").function is map_elites
