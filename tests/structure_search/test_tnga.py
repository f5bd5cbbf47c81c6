"""The genetic search: recovers planted graphs, keeps to its budget, repeats itself for a seed, refuses nonsense."""

from __future__ import annotations

import math
from contextlib import suppress
from itertools import product

import numpy as np
import pytest
import torch
from search_targets import exactly, hashed, missing_edges

from tenfold.errors import TenfoldError
from tenfold.network import Network
from tenfold.structure_search._registry import find_searcher
from tenfold.structure_search.objectives import SizeWithin, WeightedSum
from tenfold.structure_search.session import Session, Spent
from tenfold.structure_search.spaces import AnyGraph, Chain, FullyConnected, Point, Ring, Space, Tree, Tucker
from tenfold.structure_search.targets import Dense
from tenfold.structure_search.tnga import tnga

SHAPE = (3, 4, 3, 4, 3)


def searched(session: Session, space: Space, seed: int = 0, **options) -> Session:
    with suppress(Spent):
        tnga(session, space, seed, **options)
    return session


def test_finds_the_best_of_all_64_graphs_on_real_numbers() -> None:
    space = FullyConnected((3, 3, 3, 3), 2)
    planted = space.structure(Point((2, 1, 1, 2, 1, 2), (0, 1, 2, 3)))
    target = Dense(Network.random(planted, seed=4, dtype=torch.float64).dense())
    objective = SizeWithin(1e-6)
    everything = Session(target, objective)
    # What is sure to be worse than the planted graph, by the bounds across cuts or by its size, is not fitted.
    everything.evaluate(
        [space.structure(Point(ranks, (0, 1, 2, 3))) for ranks in product((1, 2), repeat=6)],
        beat=objective.value(planted.parameters, 1e-6) + 0.1,
    )
    assert everything.best is not None
    assert everything.best.structure == planted
    session = searched(Session(target, objective, evaluations=200), space, population=12, parents=8, fixed_rank=2)
    assert session.best is not None
    assert session.best.structure == planted
    assert session.best.error < 1e-6
    assert session.fits <= 64


@pytest.mark.parametrize(
    "space",
    [
        FullyConnected(SHAPE, 3),
        AnyGraph(SHAPE, 3, max_degree=3),
        Ring(SHAPE, 3),
        Chain(SHAPE, 3),
        Tree(SHAPE, 3),
        Tucker(SHAPE, 3),
    ],
    ids=lambda space: type(space).__name__,
)
def test_climbs_to_what_was_planted(space: Space) -> None:
    edges = len(space.edges)
    ranks = tuple(2 + k % 2 if not space.sparse or k % 3 == 0 else 1 for k in range(edges))
    order = (1, 0, 3, 4, 2) if space.orders else (0, 1, 2, 3, 4)
    planted = space.structure(Point(ranks, order))
    target = exactly(space.shape, missing_edges(planted))
    session = searched(Session(target, SizeWithin(0.01), evaluations=4000), space, seed=1)
    assert session.best is not None
    assert session.best.error <= 0.01
    assert session.best.parameters == planted.parameters


def test_the_budget_ends_it_when_everything_is_known() -> None:
    space = FullyConnected((3, 3, 3), 2)
    session = Session(exactly(space.shape, hashed), WeightedSum(27, 1.0), evaluations=997)
    with pytest.raises(Spent):
        tnga(session, space, population=100, parents=80)
    assert session.counted == 997
    assert session.fits <= 8


def test_it_ends_without_a_budget_when_everything_is_known() -> None:
    space = FullyConnected((3, 3, 3), 2)
    session = Session(exactly(space.shape, hashed, bounded=False), WeightedSum(27, 1.0))
    tnga(session, space)
    # A triangle of bonds of 2 has 36 parameters, more than the data.
    assert {found.evaluation.structure for found in session.history} == {
        space.structure(Point(ranks, (0, 1, 2))) for ranks in product((1, 2), repeat=3) if ranks != (2, 2, 2)
    }


@pytest.mark.parametrize(("evaluations", "first"), [(None, 50), (2000, 50), (240, 20), (30, 10)])
def test_populations_are_small_where_evaluations_are_few(evaluations: int | None, first: int) -> None:
    session = Session(exactly(SHAPE, hashed), WeightedSum(432, 1.0), evaluations=evaluations)
    tnga(session, Ring(SHAPE, 4), generations=1)
    assert session.counted == first


def test_generations_end_it() -> None:
    space = Ring(SHAPE, 4)
    session = Session(exactly(SHAPE, hashed), WeightedSum(432, 1.0))
    tnga(session, space, population=10, parents=5, generations=3)
    assert session.counted == 30


def test_the_same_seed_asks_the_same() -> None:
    space = AnyGraph(SHAPE, 4)

    def asked(seed: int) -> list:
        target = exactly(SHAPE, hashed)
        session = searched(Session(target, WeightedSum(432, 1.0), evaluations=150), space, seed)
        return [(found.evaluation.structure, found.counted) for found in session.history]

    assert asked(3) == asked(3)
    assert asked(3) != asked(4)


def test_elites_stay_and_the_best_of_a_generation_never_gets_worse() -> None:
    space = FullyConnected(SHAPE, 4)
    batches: list[float] = []

    class Watched(Session):
        def evaluate(self, structures, **how):
            found = super().evaluate(structures, **how)
            batches.append(min(one.value for one in found))
            return found

    searched(Watched(exactly(SHAPE, hashed), WeightedSum(432, 5.0), evaluations=1000), space)
    assert len(batches) == 20
    assert batches == sorted(batches, reverse=True)


def test_nothing_larger_than_the_data_is_fitted() -> None:
    space = FullyConnected((3, 3, 3, 3, 3), 8)
    session = searched(Session(exactly(space.shape, hashed, bounded=False), SizeWithin(0.1), evaluations=500), space)
    assert len(session.history) > 50
    assert all(found.evaluation.parameters <= 243 for found in session.history)


def test_fits_that_can_not_become_parents_are_not_made() -> None:
    space = FullyConnected((4,) * 6, 3)
    planted = space.structure(space.random(np.random.default_rng(0)))
    fits = {}
    for bounded in (False, True):
        target = exactly(space.shape, missing_edges(planted), bounded=bounded)
        fits[bounded] = searched(Session(target, SizeWithin(0.01), evaluations=1500), space).fits
    assert fits[True] < 0.9 * fits[False]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"parents": 1}, "parents must be between 2 and the population of 50, not 1"),
        ({"population": 20, "parents": 40}, "parents must be between 2 and the population of 20, not 40"),
        ({"population": 1}, "parents must be between 2 and the population of 1, not 2"),
        ({"elites": 41}, "elites must be between 0 and the 40 parents"),
        ({"population": 4, "parents": 4, "elites": 4}, "leave room for children, not 4"),
        ({"generations": 0}, "generations must be at least 1, not 0"),
        ({"mutation": math.nan}, "mutation must be a probability, not nan"),
        ({"fixed_rank": 5}, "fixed_rank 5 needs a space of graphs"),
    ],
)
def test_refuses(options: dict, said: str) -> None:
    space = FullyConnected(SHAPE, 4)
    with pytest.raises(TenfoldError, match=said):
        tnga(Session(exactly(SHAPE, hashed), SizeWithin(0.1)), space, **options)


def test_a_ring_has_no_fixed_rank() -> None:
    with pytest.raises(TenfoldError, match="fixed_rank 2 needs a space of graphs"):
        tnga(Session(exactly(SHAPE, hashed), SizeWithin(0.1)), Ring(SHAPE, 4), fixed_rank=2)


def test_it_is_known_by_its_name() -> None:
    entry = find_searcher("tnga")
    assert entry.function is tnga
    assert "fixed_rank" in entry.options
