"""Greedy growth: what it steps on, that it never goes up, and that it finds what was planted."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from search_targets import exactly, missing_ranks

from tenfold.errors import TenfoldError
from tenfold.network import Network
from tenfold.structure import Structure
from tenfold.structure_search._registry import find_searcher
from tenfold.structure_search._split import split_cores
from tenfold.structure_search.greedy import _larger, _smaller, greedy
from tenfold.structure_search.objectives import ErrorWithin, Objective, SizeWithin, WeightedSum
from tenfold.structure_search.session import Session, Spent
from tenfold.structure_search.spaces import AnyGraph, Chain, FullyConnected, Point, Ring, Space, Tree, Tucker
from tenfold.structure_search.targets import Dense

SIZES = (4,) * 5


def planted(wanted: dict[str, int]) -> Callable[[Structure], float]:
    """An error that says how many ranks of the wanted bonds are missing."""
    missing, total = missing_ranks(wanted), sum(rank - 1 for rank in wanted.values())
    return lambda structure: 0.9 * missing(structure) / total


def session(wanted: dict[str, int], objective: Objective | None = None, **budget: int) -> Session:
    return Session(exactly(SIZES, planted(wanted), bounded=False), objective or SizeWithin(0.01), **budget)


CASES: list[tuple[Space, dict[str, int]]] = [
    (FullyConnected(SIZES, 4), {"i1_i2": 3, "i2_i5": 2, "i3_i4": 4}),
    (AnyGraph(SIZES, 4, max_degree=2), {"i1_i2": 3, "i2_i5": 2, "i3_i4": 4}),
    (Ring(SIZES, 4), {"i1_i4": 2, "i2_i4": 3, "i2_i5": 3, "i3_i5": 2, "i1_i3": 2}),
    (Chain(SIZES, 4), {"i1_i4": 2, "i2_i4": 3, "i2_i5": 3, "i3_i5": 2}),
    (Tree(SIZES, 4, fixed_order=True), {}),
    (Tucker(SIZES, 4), {"i1_c1": 3, "i2_c1": 2, "i3_c1": 4, "i5_c1": 2}),
]


@pytest.mark.parametrize(("space", "wanted"), CASES, ids=[type(space).__name__ for space, _ in CASES])
def test_what_is_wanted_is_found(space: Space, wanted: dict[str, int]) -> None:
    if not wanted:
        whole = space.structure(space.first(3))
        wanted = {bond: whole.sizes[bond] for bond in whole.inner_indices}
    with session(wanted) as run:
        greedy(run, space)
    assert run.best is not None
    bonds = run.best.structure.inner_indices
    assert {bond: run.best.structure.sizes[bond] for bond in bonds} == wanted


def test_every_edge_may_grow_first() -> None:
    """From the rank-one network: any two modes may be joined, whatever the template."""
    pairs = 10
    for space in (FullyConnected(SIZES, 3), Ring(SIZES, 3), Chain(SIZES, 3), AnyGraph(SIZES, 3), Tucker(SIZES, 3)):
        assert len(list(_larger(space, space.first()))) == pairs
    assert len(list(_larger(Chain(SIZES, 3, fixed_order=True), Chain(SIZES, 3).first()))) == 4
    # Two leaves meet in one vertex or, if they are given places further apart, in two.
    assert len(list(_larger(Tree((4, 4, 4, 4), 3), Tree((4, 4, 4, 4), 3).first()))) == 12


def test_pieces_of_a_ring_are_joined_at_their_ends() -> None:
    space = Ring(SIZES, 4)
    # Two pieces and a mode alone: 1 - 3 - 2 and 4; 5.
    point = Point((2, 3, 1, 1, 1), (0, 2, 1, 3, 4))
    joined = [set(structure.inner_indices) - {"i1_i3", "i2_i3"} for structure, _ in _larger(space, point)]
    assert sorted(map(sorted, joined)) == [[], [], ["i1_i4"], ["i1_i5"], ["i2_i4"], ["i2_i5"], ["i4_i5"]]
    # Once all modes hang together only the two ends can meet.
    point = Point((2, 3, 2, 2, 1), (0, 2, 1, 3, 4))
    grown = [structure for structure, _ in _larger(space, point)]
    assert len(grown) == 5
    assert sum("i1_i5" in structure.sizes for structure in grown) == 1


@pytest.mark.parametrize("space", [space for space, _ in CASES], ids=lambda space: type(space).__name__)
def test_steps_are_of_the_space_and_of_one_rank(space: Space) -> None:
    point = space.first(2) if not isinstance(space, AnyGraph) else space.first().with_rank(0, 2)
    size = space.structure(point).parameters
    for structure, near in _larger(space, point):
        assert space.allows(near)
        assert space.structure(near) == structure
        assert structure.parameters > size
    for structure, near in _smaller(space, point):
        assert space.allows(near)
        assert structure.parameters < size


def test_ranks_beyond_what_is_wanted_are_taken_back() -> None:
    """An edge that helps at first, and is of no use once the others are there."""

    wanted = {"i1_i2": 3, "i1_i3": 2}

    def detour(structure: Structure) -> float:
        error = planted(wanted)(structure)
        return min(error, 0.5) if structure.sizes.get("i4_i5", 1) > 1 else error

    target = exactly(SIZES, detour, bounded=False)
    with Session(target, SizeWithin(0.01)) as run:
        greedy(run, FullyConnected(SIZES, 4))
    assert run.best is not None
    assert set(run.best.structure.inner_indices) == set(wanted)
    with Session(target, SizeWithin(0.01)) as run:
        greedy(run, FullyConnected(SIZES, 4), prune=False)
    assert run.best is not None
    assert set(run.best.structure.inner_indices) == {*wanted, "i4_i5"}


def test_budgets_are_kept() -> None:
    wanted = {"i1_i2": 4, "i3_i4": 4, "i2_i5": 4}
    with session(wanted, evaluations=25) as run, pytest.raises(Spent):
        greedy(run, FullyConnected(SIZES, 4))
    assert run.counted == 25
    with session(wanted, ErrorWithin(70)) as run:
        greedy(run, FullyConnected(SIZES, 4))
    assert all(found.evaluation.parameters <= 70 for found in run.history)
    assert run.best is not None
    assert 0 < run.best.error < 0.9


def test_a_sum_ends_by_itself() -> None:
    with session({"i1_i2": 3}, WeightedSum(4**5, 10.0)) as run:
        greedy(run, FullyConnected(SIZES, 4))
    assert run.best is not None
    assert run.best.structure.sizes.get("i1_i2") == 3
    assert run.counted < 200


@pytest.mark.parametrize("choose", ["value", "per_parameter"])
def test_a_planted_network_is_found_and_the_error_never_rises(choose: str) -> None:
    space = FullyConnected((4, 4, 4, 4), 5)
    structure = space.structure(Point((2, 1, 2, 3, 1, 2), (0, 1, 2, 3)))
    data = Network.random(structure, seed=1, dtype=torch.float64).dense()
    runs = []
    for _ in range(2):
        with Session(Dense(data), SizeWithin(1e-3)) as run:
            greedy(run, space, choose=choose)
        runs.append([(found.evaluation.structure, found.evaluation.error) for found in run.history])
        assert run.best is not None
        assert run.best.error <= 1e-3
        assert run.best.parameters <= structure.parameters
        ups = [found.evaluation for found in run.history]
        least = math.inf
        for one in run.front:  # smallest first
            assert one.error < least
            least = one.error
        assert ups[0].parameters == sum(data.shape)
    assert runs[0] == runs[1]


def test_the_first_look_at_an_edge_is_the_best_rank_two_of_its_cut() -> None:
    """Two modes: growing their edge is fitting a matrix, whose singular values say the error."""
    data = torch.diag(torch.tensor([4.0, 2.0, 1.0], dtype=torch.float64))
    with Session(Dense(data), ErrorWithin(12)) as run:
        greedy(run, FullyConnected((3, 3), 3), first_sweeps=30)
    errors = [found.evaluation.error for found in run.history]
    assert errors == pytest.approx([math.sqrt(5 / 21), math.sqrt(1 / 21)], rel=1e-6)


def test_splitting_leaves_the_tensor_and_makes_it_smaller() -> None:
    tucker = Tucker((5,) * 5, 9)
    planted = Network.random(tucker.structure(Point((2, 3, 4, 3, 2), tuple(range(5)))), seed=2, dtype=torch.float64)
    # The same tensor with the core in the middle absorbed by the factor of the third mode.
    middle = next(
        k for k, term in enumerate(planted.structure.terms) if "i1" not in term.indices and len(term.indices) > 2
    )
    factor = next(k for k, term in enumerate(planted.structure.terms) if "i3" in term.indices)
    joined = torch.einsum("abcde,xc->abxde", planted.cores[middle], planted.cores[factor])
    terms = [term.indices for k, term in enumerate(planted.structure.terms) if k not in (middle, factor)]
    sizes = {index: n for index, n in planted.structure.sizes.items() if index != "i3_c1"}
    star = Structure.of([("i1_c1", "i2_c1", "i3", "i4_c1", "i5_c1"), *terms], planted.structure.outputs, sizes)
    rest = [core for k, core in enumerate(planted.cores) if k not in (middle, factor)]
    whole = Network(star, [joined, *rest])
    split = split_cores(whole)
    assert split.structure.key == planted.structure.key
    assert split.parameters < whole.parameters
    assert float((split.dense() - whole.dense()).norm() / whole.dense().norm()) < 1e-5
    assert split_cores(split) is split


def test_a_core_of_rank_one_falls_apart() -> None:
    structure = Structure("i a, a j b, b k -> i j k", i=3, j=4, k=3, a=2, b=2)
    network = Network.random(structure, seed=0, dtype=torch.float64)
    a, b, c = torch.ones(2), torch.arange(1.0, 5), torch.tensor([1.0, -1.0])
    network = network.replace([network.cores[0], torch.einsum("a,b,c->abc", a, b, c).double(), network.cores[2]])
    split = split_cores(network)
    assert split.parameters < network.parameters
    assert float((split.dense() - network.dense()).norm() / network.dense().norm()) < 1e-12


def test_the_split_network_is_evaluated() -> None:
    space = FullyConnected((5,) * 4, 5)
    tucker = Tucker((5,) * 4, 5)
    data = Network.random(tucker.structure(tucker.first(2)), seed=0, dtype=torch.float64).dense()
    with Session(Dense(data), SizeWithin(1e-4)) as run:
        greedy(run, space, split=True)
    assert run.best is not None
    assert run.best.error <= 1e-4
    assert run.best.parameters <= tucker.structure(tucker.first(2)).parameters


def test_what_it_refuses() -> None:
    with session({"i1_i2": 2}) as run:
        with pytest.raises(TenfoldError, match="choose must be one of value, per_parameter, not 'best'"):
            greedy(run, FullyConnected(SIZES), choose="best")
        with pytest.raises(TenfoldError, match="tries must be at least 1, not 0"):
            greedy(run, FullyConnected(SIZES), tries=0)


def test_it_is_registered() -> None:
    assert find_searcher("greedy").function is greedy
