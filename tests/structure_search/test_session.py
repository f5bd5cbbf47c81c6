"""The session: what counts, what is remembered, what is never fitted, and when it ends."""

from __future__ import annotations

import math
import time
from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from search_targets import Formula

from tenfold.errors import TenfoldError
from tenfold.structure import Structure
from tenfold.structure_search.objectives import ErrorWithin, Objective, SizeWithin, WeightedSum
from tenfold.structure_search.random_search import random_search
from tenfold.structure_search.session import Evaluation, Session, Spent
from tenfold.structure_search.spaces import Point, Ring
from tenfold.structure_search.targets import Dense

SHAPE = (6, 6, 6, 6)
SPACE = Ring(SHAPE, max_rank=4, fixed_order=True)
ALL = [SPACE.structure(Point(ranks, (0, 1, 2, 3))) for ranks in product((1, 2, 3), repeat=4)]


def session(target: Formula | None = None, objective: Objective | None = None, **options: object) -> Session:
    return Session(target or Formula(SHAPE), objective or SizeWithin(0.2), **options)  # type: ignore[arg-type]


def test_every_structure_asked_for_is_counted_and_fitted_once() -> None:
    target = Formula(SHAPE)
    with session(target) as found:
        first = found.evaluate(ALL[:5])
        again = found.evaluate([*ALL[3:7], ALL[0], ALL[0]])
    assert found.counted == 5 + 6
    assert found.fits == 7
    assert target.asked == [structure.key for structure in ALL[:7]]
    assert again[:2] == first[3:]
    assert again[4] is again[5] is first[0]
    assert [one.number for one in first] == [0, 1, 2, 3, 4]
    assert [f.counted for f in found.history] == [1, 2, 3, 4, 5, 8, 9]
    for one in first:
        assert one.error == target.error(one.structure)
        assert one.parameters == one.structure.parameters
        assert one.value == SizeWithin(0.2).value(one.parameters, one.error)


def test_a_structure_is_known_in_every_guise() -> None:
    target = Formula(SHAPE)
    structure = ALL[-1]
    turned = Structure.of(
        structure.terms[::-1],
        structure.outputs,
        structure.sizes,
    ).rename({index: f"x{n}" for n, index in enumerate(structure.inner_indices)})
    assert turned != structure
    with session(target) as found:
        (one,), (two,) = found.evaluate([structure]), found.evaluate([turned])
    assert one is two
    assert (found.counted, found.fits) == (2, 1)


def test_nothing_asked_for_is_nothing_done() -> None:
    with session(evaluations=1) as found:
        assert found.evaluate([]) == []
        assert found.counted == 0
        assert found.best is None
        assert found.front == []


@pytest.mark.parametrize("batch", [1, 3, 7])
def test_spent_at_the_exact_number(batch: int) -> None:
    target = Formula(SHAPE)
    with session(target, evaluations=10) as found:
        for start in range(0, 10 - batch + 1, batch):
            found.evaluate(ALL[start : start + batch])
        with pytest.raises(Spent):
            found.evaluate(ALL[found.counted : found.counted + batch])
        assert found.counted == 10
        assert found.fits == len(found.history) == 10
        assert target.asked == [structure.key for structure in ALL[:10]]
        with pytest.raises(Spent):
            found.evaluate([ALL[0]])
        assert found.counted == 10


def test_a_batch_that_fits_the_budget_is_answered() -> None:
    with session(evaluations=5) as found:
        assert len(found.evaluate(ALL[:5])) == 5
        with pytest.raises(Spent):
            found.evaluate(ALL[:1])


@settings(max_examples=60)
@given(
    st.integers(0, 10**6),
    st.sampled_from([0.0, 0.5, 1.0]),
    st.sampled_from([SizeWithin(0.3), SizeWithin(0.05), ErrorWithin(60), WeightedSum(6**4, 5.0)]),
    st.integers(1, 9),
)
def test_bounds_and_giving_up_never_change_what_is_best(
    salt: int, sharp: float, objective: Objective, batch: int
) -> None:
    """An enumeration that lets hopeless structures go finds what a patient one finds."""
    order = np.random.default_rng(salt).permutation(len(ALL))
    with session(Formula(SHAPE, salt, sharp), objective) as quick, session(Formula(SHAPE, salt), objective) as patient:
        best: Evaluation | None = None
        for start in range(0, len(ALL), batch):
            some = [ALL[n] for n in order[start : start + batch]]
            for one in quick.evaluate(some, beat=math.inf if best is None else best.value):
                if best is None or one.value < best.value:
                    best = one
            patient.evaluate(some)
    assert best is not None
    assert best.finished
    least = min((found.evaluation for found in patient.history), key=lambda one: one.value)
    assert best.value == least.value
    assert quick.counted == patient.counted == len(ALL)
    assert quick.fits <= patient.fits
    # What the session calls best may be another one only where the budget says so.
    assert quick.best is not None
    assert quick.best.value >= best.value


@given(st.integers(0, 10**6), st.floats(0, 1))
def test_values_of_what_was_not_fitted_to_the_end_are_bounds(salt: int, sharp: float) -> None:
    target, objective = Formula(SHAPE, salt, sharp), SizeWithin(0.1)
    truth = {structure.key: objective.value(structure.parameters, target.error(structure)) for structure in ALL}
    beat = sorted(truth.values())[10]
    with session(target, objective) as found:
        for one in found.evaluate(ALL, beat=beat):
            if one.finished:
                assert one.value == truth[one.structure.key]
            else:
                assert beat < one.value <= truth[one.structure.key]
                assert (one.number < 0) == (one.network is None)
        assert {f.evaluation.structure.key for f in found.history} >= {key for key, v in truth.items() if v <= beat}


def test_what_was_given_up_is_fitted_again_when_more_would_do() -> None:
    target, objective = Formula(SHAPE, sharp=0.0), SizeWithin(0.1)
    structure = ALL[40]
    value = objective.value(structure.parameters, target.error(structure))
    with session(target, objective) as found:
        (one,) = found.evaluate([structure], beat=value - 1)
        assert not one.finished
        assert found.history == []
        (same,) = found.evaluate([structure], beat=value - 1.5)  # even harder to beat
        assert same is one
        assert found.fits == 1
        (harder,) = found.evaluate([structure], beat=value - 0.5)  # it might beat this: nobody knows yet
        assert not harder.finished
        assert found.fits == 2
        assert harder.value > value - 0.5
        (done,) = found.evaluate([structure], beat=value + 1)
        assert done.finished
        assert (found.fits, done.value) == (3, value)
        assert found.evaluate([structure]) == [done]
    assert found.fits == 3
    assert [f.evaluation for f in found.history] == [done]


def test_what_a_bound_rejected_is_fitted_when_more_would_do() -> None:
    target, objective = Formula(SHAPE, sharp=1.0), SizeWithin(1e-3)
    structure = max(ALL, key=target.bound)
    least = objective.value(structure.parameters, target.bound(structure))
    with session(target, objective) as found:
        (one,) = found.evaluate([structure], beat=least - 1e-9)
        assert (one.number, one.value, one.error, found.fits) == (-1, least, target.bound(structure), 0)
        (one,) = found.evaluate([structure], beat=least)
        assert found.fits == 1
        (one,) = found.evaluate([structure])
        assert one.finished


def test_first_looks_count_and_are_kept_apart() -> None:
    target = Formula(SHAPE)
    with session(target) as found:
        (start,) = found.evaluate([ALL[0]])
        (look,) = found.evaluate([ALL[5]], near=start, sweeps=2)
        assert look.error == pytest.approx(target.error(ALL[5]) * 1.05)
        assert found.evaluate([ALL[5]], near=start, sweeps=2) == [look]
        assert (found.counted, found.fits) == (3, 2)
        assert len(found.history) == 1
        (other,) = found.evaluate([ALL[5]], near=start, sweeps=3)
        assert other is not look
        (full,) = found.evaluate([ALL[5]])
        assert full.error == target.error(ALL[5])
        assert (found.counted, found.fits, len(found.history)) == (5, 4, 2)
        with pytest.raises(TenfoldError, match="a first look needs an evaluation"):
            found.evaluate([ALL[6]], sweeps=2)


def test_what_is_too_large_to_be_fitted_is_not_looked_at_either() -> None:
    space = Ring((2, 2, 2), max_rank=4, fixed_order=True)
    small, large = (space.structure(Point((rank,) * 3, (0, 1, 2))) for rank in (1, 4))
    with session(Formula((2, 2, 2))) as found:
        assert not found.fits_at_all(large)
        (start,) = found.evaluate([small])
        (look,) = found.evaluate([large], near=start, sweeps=2)
        assert look.network is None
        assert look.value == math.inf
        assert found.fits == 1


@given(st.lists(st.integers(0, len(ALL) - 1), min_size=1, max_size=20, unique=True), st.integers(0, 99))
def test_the_front_is_what_nothing_beats(chosen: list[int], salt: int) -> None:
    with session(Formula(SHAPE, salt)) as found:
        seen = found.evaluate([ALL[n] for n in chosen])
    front = found.front
    assert [one.parameters for one in front] == sorted({one.parameters for one in front})
    for one in seen:
        beaten = any(
            other.parameters <= one.parameters
            and other.error <= one.error
            and (other.parameters, other.error) != (one.parameters, one.error)
            for other in seen
        )
        assert beaten or (one.parameters, one.error) in [(kept.parameters, kept.error) for kept in front]
    for kept in front:
        assert not any(other.parameters <= kept.parameters and other.error < kept.error for other in seen)
    best = found.best
    assert best is not None
    assert found.objective.rank(best.parameters, best.error) == min(
        found.objective.rank(one.parameters, one.error) for one in seen
    )


def test_seconds_end_a_search_in_the_middle_of_a_batch() -> None:
    with session(Formula(SHAPE, pause=0.02), seconds=0.15) as found:
        started = time.perf_counter()
        with pytest.raises(Spent):
            found.evaluate(ALL)
        assert time.perf_counter() - started < 1
        assert 1 <= found.fits == len(found.history) < len(ALL)
        with pytest.raises(Spent):
            found.evaluate(ALL[-3:])
        with pytest.raises(Spent):  # nor is what is known: a searcher could go on with it for ever
            found.evaluate([found.history[0].evaluation.structure])


def test_everyone_who_watches_is_told_of_every_fit() -> None:
    seen: list[int] = []
    with session(watch=lambda now: seen.append(now.fits)) as found:
        found.evaluate(ALL[:4])
    assert seen == [1, 2, 3, 4]


def test_starts_depend_on_the_seed_and_the_structure_only() -> None:
    def cores(seed: int, structures: list[Structure]) -> list[torch.Tensor]:
        with session(seed=seed) as found:
            return [core for one in found.evaluate(structures) for core in one.network.cores]  # type: ignore[union-attr]

    first = cores(1, ALL[:6])
    again = cores(1, ALL[:6][::-1])[::-1]
    assert len(first) == len(again)
    assert sum(float(core.sum()) for core in first) == sum(float(core.sum()) for core in again)
    assert [float(core.flatten()[0]) for core in first] != [float(core.flatten()[0]) for core in cores(2, ALL[:6])]


@pytest.mark.parametrize("options", [{"evaluations": 0}, {"seconds": -1.0}, {"workers": 0}, {"seconds": math.inf}])
def test_what_is_refused(options: dict[str, float]) -> None:
    with pytest.raises(TenfoldError, match="must be positive"):
        session(**options)


def test_real_data_end_to_end() -> None:
    """All of a small space, with bounds and giving up, is what plain fits find."""
    space = Ring((3, 3, 3, 3), max_rank=2)
    planted = space.structure(Point((2, 1, 2, 2), (0, 2, 1, 3)))
    from tenfold.network import Network

    data = Network.random(planted, seed=1).dense()
    with Session(Dense(data), SizeWithin(1e-4), evaluations=150) as found, pytest.raises(Spent):
        random_search(found, space, seed=0)
    assert found.counted == 150
    assert found.best is not None
    assert found.best.error < 1e-4
    assert found.best.parameters <= planted.parameters
