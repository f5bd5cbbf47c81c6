"""Edges driven to zero: each step lowers what it should, and planted edges are what is left."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch

from tenfold.errors import TenfoldError
from tenfold.network import Network
from tenfold.structure_search._registry import find_searcher
from tenfold.structure_search.objectives import SizeWithin
from tenfold.structure_search.session import Session, Spent
from tenfold.structure_search.spaces import AnyGraph, FullyConnected, Point, folded
from tenfold.structure_search.sparse_edges import _Graph, _shrunk, _strongest, sparse_edges
from tenfold.structure_search.targets import Dense, Loss

SPACE = FullyConnected((4, 4, 4, 4), 4)
# Modes 1 and 2, and modes 3 and 4, have to do with each other, and nothing else.
PAIRS = Point((3, 1, 1, 1, 1, 2), (0, 1, 2, 3))


def planted(dtype: torch.dtype = torch.float64, seed: int = 0) -> torch.Tensor:
    return Network.random(SPACE.structure(PAIRS), seed=seed, dtype=dtype).dense()


def test_a_diagonal_is_shrunk_as_it_should() -> None:
    """Where the entries do not know of one another, all but the largest lose the penalty."""
    right = torch.tensor([3.0, -0.5, 0.1, 2.0], dtype=torch.float64)
    found = _shrunk(torch.eye(4, dtype=torch.float64), right, right, 0.2)
    torch.testing.assert_close(found, torch.tensor([3.0, -0.3, 0.0, 1.8], dtype=torch.float64))


def test_the_strongest_edges_are_those_that_carry_something() -> None:
    data = planted()
    structure = SPACE.structure(SPACE.first())
    start = Dense(data).fit(structure).network
    vectors = [core / core.norm() for core in start.cores]
    assert _strongest(data, vectors, 1) == [(0, 1), (2, 3)]
    assert len(_strongest(data, vectors, 3)) == 6


@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128])
def test_without_a_penalty_the_error_never_rises(dtype: torch.dtype) -> None:
    data = planted(dtype) * 1e100
    start = Dense(data).fit(SPACE.structure(SPACE.first())).network
    model = _Graph(data, start, SPACE, 0)
    errors = []
    for _ in range(6):
        model.sweep(0.0)
        network = model.network()
        errors.append(float(((network.dense() - data) / 1e100).norm() / (data / 1e100).norm()))
    assert all(b <= a * (1 + 1e-9) + 1e-12 for a, b in pairwise(errors))
    assert errors[-1] < 0.05
    assert network.dtype == dtype


def test_planted_edges_are_found_in_few_evaluations() -> None:
    runs = []
    for _ in range(2):
        with Session(Dense(planted()), SizeWithin(1e-3)) as run:
            sparse_edges(run, SPACE)
        assert run.best is not None
        assert run.best.error <= 1e-3
        assert set(run.best.structure.inner_indices) == {"i1_i2", "i3_i4"}
        assert run.fits < run.counted <= 49
        runs.append([(found.evaluation.structure, found.evaluation.error) for found in run.history])
    assert runs[0] == runs[1]


def test_stages_are_counted() -> None:
    with Session(Dense(planted()), SizeWithin(1e-9), evaluations=3) as run, pytest.raises(Spent):
        sparse_edges(run, SPACE, stage_sweeps=1)
    assert run.counted == 3


def test_degrees_and_folds_are_kept() -> None:
    space = AnyGraph((16, 16), 3, folds=folded((16, 16), 4), max_degree=2)
    data = planted().reshape(16, 16)
    with Session(Dense(data), SizeWithin(1e-2)) as run:
        sparse_edges(run, space, stages=8, stage_sweeps=4)
    assert run.fits > 1
    for found in run.history:
        structure = found.evaluation.structure
        assert structure.shape == (16, 16)
        assert all(len(term.indices) <= 3 for term in structure.terms)


def test_of_rank_one_there_is_nothing_to_find() -> None:
    for data in (torch.zeros(3, 3, 3), torch.ones(3, 3, 3)):
        with Session(Dense(data.double()), SizeWithin(1e-3)) as run:
            sparse_edges(run, FullyConnected((3, 3, 3)))
        assert run.best is not None
        assert run.best.parameters == 9


def test_what_it_refuses() -> None:
    loss = Loss(lambda network: network.norm(), (3, 3, 3))
    said = "'sparse_edges' needs a whole tensor, not Loss; take 'greedy'"
    with Session(loss, SizeWithin(1e-3)) as run, pytest.raises(TenfoldError, match=said):
        sparse_edges(run, FullyConnected((3, 3, 3)))
    with Session(Dense(planted()), SizeWithin(1e-3)) as run, pytest.raises(TenfoldError, match="stages must be at le"):
        sparse_edges(run, SPACE, stages=0)


def test_it_is_registered_for_graphs_only() -> None:
    entry = find_searcher("sparse_edges")
    assert entry.function is sparse_edges
    assert entry.spaces == (FullyConnected,)
