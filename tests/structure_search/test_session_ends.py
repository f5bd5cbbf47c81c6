"""A search of which everything is known ends by its seconds too, and one that goes on by what it had found."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import numpy as np
import pytest
import torch
from search_targets import Formula, exactly, hashed

from tenfold.network import Network
from tenfold.observations import Observations
from tenfold.structure import Structure
from tenfold.structure_search._foresight import foresight
from tenfold.structure_search._guard import Guard
from tenfold.structure_search._journal import Journal
from tenfold.structure_search.objectives import ErrorWithin, WeightedSum
from tenfold.structure_search.random_search import random_search
from tenfold.structure_search.session import Exhausted, Session, Spent
from tenfold.structure_search.spaces import AnyGraph, FullyConnected, Point, Ring, Space, Tree
from tenfold.structure_search.targets import Dense, Fitted, Loss, Observed, Target

SPACE = FullyConnected((3, 3, 3), 2)
TARGET, OBJECTIVE = exactly(SPACE.shape, hashed), WeightedSum(27, 1.0)


def test_seconds_end_a_search_that_asks_for_what_is_known() -> None:
    session = Session(TARGET, OBJECTIVE, seconds=0.2)
    structure = SPACE.structure(SPACE.first())
    session.evaluate([structure])
    time.sleep(0.2)
    with pytest.raises(Spent):
        session.evaluate([structure])


def test_what_is_known_is_not_asked_for_without_end() -> None:
    target = exactly(SPACE.shape, hashed, bounded=False)
    # Errors weigh so much that anything could win.
    session, again = (Session(target, WeightedSum(27, 1e6)) for _ in range(2))
    for one in (session, again):
        with pytest.raises(Exhausted):
            random_search(one, SPACE)
    assert session.fits == 8
    assert again.counted == session.counted < 10_000


def test_what_is_new_now_and_then_is_waited_for() -> None:
    """One more structure after each thousand times that the others are asked for."""
    space = FullyConnected((9, 9), 9)
    session = Session(exactly(space.shape, hashed), WeightedSum(81, 1.0))
    every = [space.structure(Point((rank,), (0, 1))) for rank in (1, 2, 3, 4)]
    for many in range(1, 5):
        session.evaluate(every[k % many] for k in range(1000))
    assert (session.fits, session.counted) == (4, 4000)
    with pytest.raises(Exhausted):
        session.evaluate(every[0] for _ in range(10**9))
    assert session.counted < 4000 + 2001


def test_what_is_asked_for_at_once_may_be_more_than_there_is_room_for() -> None:
    structure = SPACE.structure(SPACE.first())
    session = Session(TARGET, OBJECTIVE, evaluations=700)
    with pytest.raises(Spent):
        session.evaluate(structure for _ in range(10**12))
    assert session.counted == 700


@dataclass(frozen=True)
class Slow(Formula):
    """A hundred sweeps in a fit, of twenty milliseconds where there is a bond; the error falls with each."""

    def fit(
        self,
        structure: Structure,
        *,
        near: Network | None = None,
        seed: int = 0,
        sweeps: int | None = None,
        within: float = math.inf,
        stop: Callable[[], bool] | None = None,
    ) -> Fitted:
        for done in range(1, 101):
            time.sleep(0.02 if structure.inner_indices else 0.0)
            if done < 100 and stop is not None and stop():
                break
        whole = super().fit(structure, near=near, seed=seed)
        return Fitted(whole.network, whole.error * (2 - done / 100), done, finished=done == 100)


@pytest.mark.parametrize("workers", [1, 2])
def test_a_fit_ends_with_the_time_and_is_made_again_by_a_search_that_goes_on(tmp_path: Path, workers: int) -> None:
    structures = [SPACE.structure(Point((rank, 1, 1), (0, 1, 2))) for rank in (1, 2)]
    target = Slow(SPACE.shape, formula=hashed)
    with Session(target, OBJECTIVE, seconds=1e-9, journal=Journal(tmp_path, {}), workers=workers) as session:
        with pytest.raises(Spent):
            session.evaluate(structures)
        # One sweep of the first, whatever the time, is an answer.
        assert session.best is not None
        assert (session.best.structure, session.best.sweeps) == (structures[0], 1)
        assert not session.best.finished
        assert (session.fits, len(session.history), session.counted) == (1, 1, 2)
        assert session.elapsed < (0.5 if workers == 1 else 60)
        assert list((tmp_path / "networks").iterdir()) == []
    with Session(target, OBJECTIVE, journal=Journal(tmp_path, {})) as session:
        found = session.evaluate(structures)
        assert [one.sweeps for one in found] == [100, 100]
        assert all(one.finished for one in found)


@pytest.mark.parametrize("guard", [None, Guard(100, 0)])
@pytest.mark.parametrize("better", [False, True])
def test_what_the_time_cut_off_is_kept_only_where_it_is_the_best(better: bool, guard: Guard | None) -> None:
    structures = [SPACE.structure(Point((rank, 1, 1), (0, 1, 2))) for rank in (1, 2)]
    target = Slow(SPACE.shape, formula=lambda structure: 0.1 if bool(structure.inner_indices) == better else 0.9)
    with Session(target, WeightedSum(10**6, 1.0), seconds=0.5, guard=guard) as session:
        with pytest.raises(Spent):
            session.evaluate(structures)
        assert session.fits == 2
        # Nor is it where a guard answers: it has not for this one.
        better = better and guard is None
        assert [f.evaluation.structure for f in session.history] == structures[: 1 + better]
        assert session.best is session.history[-1].evaluation
        assert session.best.finished != better


@pytest.mark.parametrize(
    "target",
    [
        Dense(torch.randn((6,) * 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)),
        Observed(Observations.from_nan(torch.randn((6,) * 4).where(torch.rand((6,) * 4) < 0.7, math.nan))),
        Loss(lambda network: (network.dense() - 1).square().sum(), (6,) * 4),
    ],
    ids=lambda target: type(target).__name__,
)
def test_targets_stop_when_they_are_told_to(target: Target) -> None:
    space = Ring((6,) * 4, 3)
    structure = space.structure(space.first(3))
    whole = target.fit(structure)
    for most in (1, 4):
        asked = count(1)
        fitted = target.fit(structure, stop=lambda asked=asked, most=most: next(asked) == most)
        assert not fitted.finished
        assert next(asked) == most + 1
        assert fitted.sweeps <= most + 1 < whole.sweeps
        assert math.isfinite(fitted.error)
        assert fitted.network.structure == structure
    unhurried = target.fit(structure, stop=lambda: False)
    assert (unhurried.error, unhurried.sweeps, unhurried.finished) == (whole.error, whole.sweeps, whole.finished)


def test_cuts_that_there_was_no_time_for_are_left_out_and_made_another_time() -> None:
    target = Dense(torch.randn((3,) * 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64))
    structure = Ring((3,) * 5).structure(Ring((3,) * 5).first())
    asked = count(1)
    some = target.cuts(target.shape, lambda: next(asked) > 2)
    every = target.cuts(target.shape)
    assert some.stopped
    assert not every.stopped
    assert 0 < some.bound(structure) < every.bound(structure)
    assert target.cuts(target.shape, lambda: True) is every


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


@pytest.mark.parametrize("kind", [Ring, Tree, FullyConnected, AnyGraph])
def test_much_lies_around_a_point_of_twelve_modes_and_little_of_it_is_passed(kind: type[Space]) -> None:
    """Points times cuts are what a descent takes; it still comes to where no single rank helps, or as near as that."""
    data = Network.random(Ring((2,) * 12, 2).structure(Ring((2,) * 12).first(2)), seed=0).dense()
    space = kind(data.shape, 4)
    session = Session(Dense(data), WeightedSum(data.numel(), 10.0))
    guide = foresight(session, space)
    assert guide is not None
    start = space.random(np.random.default_rng(0))
    value, point, passed = guide.descent(start)
    assert len(passed) < 16_000
    assert (value, passed[point]) == (min(passed.values()), value)
    assert value < 0.5 * passed[start]
    again = guide.values(list(passed)[:600])
    assert again == pytest.approx(list(passed.values())[:600])


def test_seconds_end_a_descent() -> None:
    """A step among as many graphs as there are on twelve modes takes a second."""
    data = torch.randn((2,) * 12, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    space = FullyConnected(data.shape, 8)
    with Session(Dense(data), ErrorWithin(500), seconds=0.1) as session:
        guide = foresight(session, space)
        assert guide is not None
        with pytest.raises(Spent):
            guide.descent(space.first(2))
