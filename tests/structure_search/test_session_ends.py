"""A search of which everything is known ends by its seconds too, and one that goes on by what it had found."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
import torch
from formula_targets import Formula, hashed

from tenfold.structure_search._foresight import foresight
from tenfold.structure_search._journal import Journal
from tenfold.structure_search.objectives import ErrorWithin, WeightedSum
from tenfold.structure_search.random_search import random_search
from tenfold.structure_search.session import Session, Spent
from tenfold.structure_search.spaces import FullyConnected, Point
from tenfold.structure_search.targets import Dense

SPACE = FullyConnected((3, 3, 3), 2)
TARGET, OBJECTIVE = Formula(SPACE.shape, hashed), WeightedSum(27, 1.0)


def test_seconds_end_a_search_that_asks_for_what_is_known() -> None:
    session = Session(TARGET, OBJECTIVE, seconds=0.2)
    with pytest.raises(Spent):
        random_search(session, SPACE)
    assert session.fits <= 8


def test_time_spent_before_does_not_keep_from_what_was_found(tmp_path: Path) -> None:
    structures = [SPACE.structure(Point((rank, 1, 1), (0, 1, 2))) for rank in (1, 2)]
    with Session(TARGET, OBJECTIVE, journal=Journal(tmp_path, {})) as session:
        # The first is asked for again before the second is fitted.
        session.evaluate(structures[:1])
        session.evaluate(structures[:1])
        session.evaluate(structures[1:])
    with Session(TARGET, OBJECTIVE, seconds=1e-9, journal=Journal(tmp_path, {})) as session:
        session.evaluate(structures[:1])
        session.evaluate(structures[:1])
        session.evaluate(structures[1:])
        assert session.fits == 2
        with pytest.raises(Spent):
            session.evaluate(structures[:1])


def test_seconds_end_a_search_that_works_by_itself() -> None:
    session = Session(TARGET, OBJECTIVE, seconds=0.05)
    session.work()
    time.sleep(0.06)
    with pytest.raises(Spent):
        session.work()


def test_seconds_end_a_descent() -> None:
    """A step among as many graphs as there are on twelve modes takes a second."""
    data = torch.randn((2,) * 12, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    space = FullyConnected(data.shape, 8)
    with Session(Dense(data), ErrorWithin(500), seconds=0.1) as session:
        guide = foresight(session, space)
        assert guide is not None
        with pytest.raises(Spent):
            guide.descent(space.first(2))
