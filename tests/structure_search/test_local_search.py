"""TnALE, TNLS, random search and the search guided by bounds, on errors given by formulas and on a planted ring."""

from __future__ import annotations

from contextlib import suppress

import numpy as np
import pytest
import torch
from search_targets import Formula, exactly, missing_ranks

from tenfold.errors import TenfoldError
from tenfold.network import Network
from tenfold.structure import Structure
from tenfold.structure_search import (
    AnyGraph,
    Chain,
    Dense,
    ErrorWithin,
    FullyConnected,
    Point,
    Ring,
    Session,
    SizeWithin,
    Space,
    Spent,
    Tucker,
    WeightedSum,
    find_searcher,
)
from tenfold.structure_search.tnale import trip_order, window
from tenfold.structure_search.tnls import _sample


def planted(wanted: Structure) -> Formula:
    """Each rank that is missing costs a tenth."""
    missing = missing_ranks({bond: wanted.sizes[bond] for bond in wanted.inner_indices})
    return exactly(wanted.shape, lambda structure: min(1.0, 0.1 * missing(structure)), bounded=False)


RING = Ring((8,) * 5, max_rank=6)
GOAL = Point((2, 4, 3, 2, 5), (0, 2, 1, 4, 3))


def run(name: str, space: Space, goal: Point, evaluations: int, seed: int = 0, **options):
    target = planted(space.structure(goal))
    session = Session(target, WeightedSum(target.size, weight=50.0), evaluations=evaluations, seed=seed)
    with suppress(Spent):
        find_searcher(name).function(session, space, seed=seed, **options)
    return session


@pytest.mark.parametrize(
    ("rank", "radius", "largest", "ranks"),
    [(1, 2, 7, [1, 2, 3, 4, 5]), (7, 2, 7, [3, 4, 5, 6, 7]), (4, 3, 7, [1, 2, 3, 4, 5, 6, 7]), (3, 9, 4, [1, 2, 3, 4])],
)
def test_windows_are_moved_not_cut(rank, radius, largest, ranks):
    assert window(rank, radius, largest) == ranks


def test_a_window_has_no_ranks_that_are_of_no_use():
    space = Ring((8,) * 5, max_rank=2**31 - 1)
    goal = Point((2, 4, 3, 2, 5), (0, 1, 2, 3, 4))
    session = run("tnale", space, goal, 3000, radius=10**6, first_radius=10**6, interpolate=False)
    assert session.best is not None
    assert session.best.structure.key == space.structure(goal).key


def test_round_trips_go_there_and_back():
    assert trip_order(6, 7) == [0, 1, 2, 3, 4, 5, 6, 5, 4, 3, 2, 1, 0]
    assert trip_order(4, 4) == [0, 1, 2, 3, 2, 1, 0]


def test_a_round_trip_on_a_ring_of_six_counts_as_in_the_paper():
    space = Ring((4,) * 6, max_rank=7)
    target = planted(space.structure(Point((3,) * 6, tuple(range(6)))))
    session = Session(target, WeightedSum(target.size), evaluations=52)
    counts = []
    with suppress(Spent):
        session._watch = lambda one: counts.append(one.counted)
        find_searcher("tnale").function(session, space, seed=1, first_trips=0, start="random")
    assert session.counted == 52
    # One trip: 12 windows of three ranks, and the order with its 15 exchanges once.
    assert 2 * 6 * 3 + 1 + 15 == 52


@pytest.mark.parametrize("name", ["tnale", "tnls"])
@pytest.mark.parametrize("seed", range(3))
def test_searchers_find_what_a_formula_hides(name, seed):
    session = run(name, RING, GOAL, 1500, seed)
    best = session.best
    assert best is not None
    goal = RING.structure(GOAL)
    assert best.error <= 0.1 or best.value <= session.objective.value(goal.parameters, 0.0) + 0.5
    assert session.counted <= 1500
    assert session.fits <= session.counted


@pytest.mark.parametrize("name", ["tnale", "tnls", "bound_guided", "random_search"])
@pytest.mark.parametrize(
    "space",
    [RING, Chain((3, 4, 5), max_rank=4), Tucker((4, 4, 4)), FullyConnected((3,) * 4), AnyGraph((3,) * 5, max_degree=2)],
    ids=lambda space: type(space).__name__,
)
def test_searchers_stay_in_their_space_end_in_time_and_repeat(name, space):
    goal = space.first(2)
    runs = [run(name, space, goal, 70, seed=5) for _ in range(2)]
    # Where nothing is known before a fit, that one is greedy growth, which has an end.
    assert runs[0].counted == 70 or name == "bound_guided"
    first, second = ([found.evaluation.structure for found in one.history] for one in runs)
    assert first == second
    for structure in first:
        assert all(structure.sizes[bond] <= space.max_rank for bond in structure.inner_indices)
        assert structure.shape == space.shape


def test_samples_of_tnls_stay_in_reach_and_leave_the_ends():
    space = Ring((9,) * 4, max_rank=8)
    generator = np.random.default_rng(0)
    centre = Point((1, 8, 4, 4), (0, 1, 2, 3))
    drawn = [_sample(space, centre, 0, generator) for _ in range(400)]
    assert all(
        1 <= rank <= 8 and abs(rank - old) <= 4 for p in drawn for rank, old in zip(p.ranks, centre.ranks, strict=True)
    )
    assert {p.ranks[0] for p in drawn} >= {1, 2, 3}
    assert {p.ranks[1] for p in drawn} >= {8, 7, 6}
    assert {p.ranks[2] for p in drawn} >= {2, 3, 4, 5, 6}
    exchanged = [sum(a != b for a, b in zip(p.order, centre.order, strict=True)) for p in drawn]
    assert set(exchanged) <= {0, 2}
    late = [_sample(space, centre, 60, generator) for _ in range(100)]
    assert sum(p == centre for p in late) > 80


@pytest.mark.parametrize("name", ["tnale", "bound_guided"])
def test_a_planted_ring_is_found_with_its_order(name):
    space = Ring((3,) * 5, max_rank=4)
    planted = space.structure(Point((2, 3, 2, 2, 3), (0, 2, 4, 1, 3)))
    target = Dense(Network.random(planted, seed=1, dtype=torch.float64).dense())

    def watch(session: Session) -> None:
        best = session.best
        if best is not None and best.parameters <= planted.parameters and best.error < 1e-6:
            raise Spent

    session = Session(target, SizeWithin(1e-6), evaluations=400, watch=watch)
    with suppress(Spent):
        find_searcher(name).function(session, space, seed=0)
    best = session.best
    assert best is not None
    assert best.parameters <= planted.parameters
    assert best.error < 1e-6


def test_a_size_is_kept_and_used():
    space = FullyConnected((4,) * 4, max_rank=4)
    data = torch.randn(space.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    session = Session(Dense(data), ErrorWithin(90), evaluations=60)
    with suppress(Spent):
        find_searcher("bound_guided").function(session, space, seed=0)
    assert session.best is not None
    assert 60 <= session.best.parameters <= 90


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("tnale", {"radius": 0}),
        ("tnale", {"first_trips": -1}),
        ("tnale", {"start": "here"}),
        ("tnls", {"samples": 0}),
        ("tnls", {"generations": True}),
        ("bound_guided", {"together": 0}),
    ],
)
def test_options_out_of_range_are_refused(name, options):
    (option,) = options
    with pytest.raises(TenfoldError, match=option):
        run(name, RING, GOAL, 10, **options)
