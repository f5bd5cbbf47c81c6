"""The harness's arithmetic and its refusals, on a clock that the test moves. No time is asserted."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from benchmarks.harness import Case, Contender, Outcome, Row, agree, growth, measure, paired_ratio


class Clock:
    """Stands still but for what contenders spend; writes down who ran."""

    def __init__(self) -> None:
        self.now = 0.0
        self.ran: list[str] = []

    def __call__(self) -> float:
        return self.now

    def contender(self, name: str, *spends: float, error: float = 0.1, missing: str = "") -> Contender:
        """Spends the given times in turn, the first in the warm-up; the last again and again."""
        left = list(spends)

        def run() -> float:
            self.ran.append(name)
            self.now += left.pop(0) if len(left) > 1 else left[0]
            return error

        return Contender(name, run, lambda result: result, missing)


def test_medians_leave_out_the_warm_up() -> None:
    clock = Clock()
    case = Case("", 0, [clock.contender("own", 1000, 1, 9, 2), clock.contender("peer", 500, 4, 4, 40)])
    own, peer = measure(case, rounds=3, clock=clock).rows
    assert (own.seconds, own.fastest) == (2, 1)
    assert (peer.seconds, peer.fastest) == (4, 4)
    assert own.ratio == 1
    assert peer.ratio == 4  # of 4/1, 4/9 and 40/2
    assert own.note == peer.note == ""


def test_ratio_is_that_of_the_rounds() -> None:
    # The machine is ten times slower in every other round; the ratio does not see it.
    assert paired_ratio([3, 30, 3, 30], [1, 10, 1, 10]) == 3


def test_rounds_are_interleaved_and_turn() -> None:
    clock = Clock()
    measure(Case("", 0, [clock.contender("a", 1), clock.contender("b", 1)]), rounds=3, clock=clock)
    assert clock.ran == ["a", "b", *"ab", *"ba", *"ab"]


def test_time_ends_the_rounds_but_not_before_three() -> None:
    clock = Clock()
    case = Case("", 0, [clock.contender("slow", 100)])
    assert measure(case, rounds=9, seconds=1, clock=clock).rounds == 3
    assert measure(case, rounds=9, seconds=450, clock=clock).rounds == 5
    assert measure(case, rounds=2, seconds=1, clock=clock).rounds == 2


def test_results_that_disagree_get_no_ratio() -> None:
    clock = Clock()
    worse = clock.contender("worse", 1, error=0.2)
    row = measure(Case("", 0, [clock.contender("own", 2, error=0.1), worse]), rounds=3, clock=clock).rows[1]
    assert row.ratio is None
    assert row.seconds == 1
    assert row.note == "no ratio: error 0.2 against 0.1"


@pytest.mark.parametrize(
    ("first", "second", "same"),
    [(0.1, 0.10005, True), (0.1, 0.1002, False), (1e-15, 3e-12, True), (0.0, 1e-6, False), (0.1, float("nan"), False)],
)
def test_agreement(first: float, second: float, same: bool) -> None:
    assert agree(first, second, 1e-3) is same
    assert agree(second, first, 1e-3) is same


def _raises() -> None:
    raise RuntimeError("no convergence\nafter all")


@pytest.mark.parametrize(
    ("contender", "note"),
    [
        (Contender("peer", _raises), "failed: RuntimeError: no convergence"),
        (Contender("peer", _raises, missing="cannot import peer: ImportError"), "cannot import peer: ImportError"),
    ],
)
def test_who_cannot_run_says_so(contender: Contender, note: str) -> None:
    clock = Clock()
    own, peer = measure(Case("", 0, [clock.contender("own", 2), contender]), rounds=3, clock=clock).rows
    assert peer == Row("peer", None, None, None, None, note)
    assert own.ratio == 1


def test_without_the_first_nobody_has_a_ratio() -> None:
    clock = Clock()
    own, peer = measure(Case("", 0, [Contender("own", _raises), clock.contender("peer", 2)]), clock=clock).rows
    assert own.seconds is None
    assert peer.seconds == 2
    assert peer.ratio is None


def test_rate_is_flops_by_the_median() -> None:
    clock = Clock()
    case = Case("", 0, [clock.contender("own", 2)], flops=6e9)
    assert measure(case, rounds=3, clock=clock).gflops == 3


def _outcome(entries: int, **seconds: float | None) -> Outcome:
    rows = tuple(Row(name, time, time, None, None) for name, time in seconds.items())
    return Outcome("", entries, 1, rows)


def test_growth_is_the_power_between_the_ends() -> None:
    outcomes = [_outcome(10**4, a=16.0, b=None), _outcome(10**2, a=0.16, b=1.0), _outcome(10**3, a=9.9, b=10**1.5)]
    assert dict(growth(outcomes)) == pytest.approx({"a": 1.0, "b": 1.5})
    assert dict(growth(outcomes[:1])) == {}
    assert dict(growth([_outcome(0, a=1.0), _outcome(0, a=2.0)])) == {}


def test_a_contender_runs_once_more_than_there_are_rounds() -> None:
    clock = Clock()
    run: Callable[[], object] = clock.contender("own", 1).run
    measure(Case("", 0, [Contender("own", run)]), rounds=4, clock=clock)
    assert len(clock.ran) == 5
