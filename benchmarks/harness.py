"""Timing contenders fairly: interleaved rounds after a warm-up, and no ratio between results that disagree."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

# Rounds at least, whatever they take.
FEWEST = 3


@dataclass(frozen=True)
class Contender:
    """One way to do a task.

    Attributes:
        name: the library and, where it matters, its function.
        run: does the task once; what it returns goes to ``error`` only.
        error: the relative error of a result; None where results have none.
        missing: why it cannot run here; empty if it can.
    """

    name: str
    run: Callable[[], Any]
    error: Callable[[Any], float] | None = None
    missing: str = ""


@dataclass(frozen=True)
class Case:
    """A task at one size. The first contender is the one that the others are compared with.

    Attributes:
        label: the size, as people write it.
        entries: how many numbers the input has; growth is measured against it. 0 where there is no such number.
        contenders: who runs.
        agreement: errors may differ by this part of the larger one; a rounding error of 10^-10 is no difference.
        flops: what the first contender's algorithm needs; None where it is not made of matrix products.
    """

    label: str
    entries: int
    contenders: Sequence[Contender]
    agreement: float = 1e-3
    flops: float | None = None


@dataclass(frozen=True)
class Row:
    """What one contender took.

    Attributes:
        seconds: the median over the rounds; None if it could not run.
        fastest: the shortest round.
        ratio: the median over the rounds of its time in units of the first contender's time in the same round; None if
            the results disagree.
        error: the relative error of its result.
        note: why there is no ratio; empty if there is one.
    """

    name: str
    seconds: float | None
    fastest: float | None
    ratio: float | None
    error: float | None
    note: str = ""


@dataclass(frozen=True)
class Outcome:
    """A case, measured: one row for each contender, in their order."""

    label: str
    entries: int
    rounds: int
    rows: tuple[Row, ...]
    gflops: float | None = None


def measure(
    case: Case,
    *,
    rounds: int = 7,
    seconds: float = 60.0,
    clock: Callable[[], float] = time.perf_counter,
) -> Outcome:
    """Run a case: each contender once to warm up and to check its error, then all of them in turn, again and again.

    The order of a round is that of the one before, turned by one. There are ``rounds`` rounds, or fewer (at least
    three) once they have taken ``seconds`` in all.
    """
    results: list[float | None] = []
    notes: list[str] = []
    for contender in case.contenders:
        error, note = _warm_up(contender)
        results.append(error)
        notes.append(note or _disagreement(case, results))
    able = [n for n, contender in enumerate(case.contenders) if not contender.missing and not _failed(notes[n])]
    times: dict[int, list[float]] = {n: [] for n in able}
    started = clock()
    done = 0
    while able and done < rounds and (done < min(FEWEST, rounds) or clock() - started < seconds):
        turn = done % len(able)
        for n in (*able[turn:], *able[:turn]):
            before = clock()
            case.contenders[n].run()
            times[n].append(clock() - before)
        done += 1
    rows = []
    for n, contender in enumerate(case.contenders):
        if n not in times:
            rows.append(Row(contender.name, None, None, None, results[n], notes[n]))
            continue
        ratio = None if notes[n] or 0 not in times else paired_ratio(times[n], times[0])
        rows.append(Row(contender.name, statistics.median(times[n]), min(times[n]), ratio, results[n], notes[n]))
    first = rows[0].seconds
    gflops = case.flops / first / 1e9 if case.flops is not None and first else None
    return Outcome(case.label, case.entries, done, tuple(rows), gflops)


def paired_ratio(times: Sequence[float], reference: Sequence[float]) -> float:
    """The median of the ratios round by round: load that comes and goes falls on both."""
    return statistics.median(mine / other for mine, other in zip(times, reference, strict=True))


def agree(first: float, second: float, agreement: float) -> bool:
    """Whether two relative errors are those of equally good results."""
    return abs(first - second) <= agreement * max(first, second) + 1e-10


def growth(outcomes: Sequence[Outcome]) -> Iterator[tuple[str, float]]:
    """For each contender the exponent p of ``time ~ entries^p`` between the smallest and the largest case it ran."""
    sized = sorted((outcome for outcome in outcomes if outcome.entries), key=lambda outcome: outcome.entries)
    for name in dict.fromkeys(row.name for outcome in sized for row in outcome.rows):
        points = [(o.entries, row.seconds) for o in sized for row in o.rows if row.name == name and row.seconds]
        if len(points) > 1 and points[-1][0] > points[0][0]:
            (small, quick), (large, slow) = points[0], points[-1]
            assert quick
            assert slow
            yield name, math.log(slow / quick) / math.log(large / small)


_FAILED = "failed: "


def _failed(note: str) -> bool:
    return note.startswith(_FAILED)


def _warm_up(contender: Contender) -> tuple[float | None, str]:
    if contender.missing:
        return None, contender.missing
    try:
        result = contender.run()
        return (None if contender.error is None else contender.error(result)), ""
    except Exception as cause:  # a peer's failure is a result, whatever it raises
        return None, f"{_FAILED}{type(cause).__name__}: {str(cause).splitlines()[0] if str(cause) else ''}"


def _disagreement(case: Case, errors: Sequence[float | None]) -> str:
    first, last = errors[0], errors[-1]
    if first is None or last is None or agree(first, last, case.agreement):
        return ""
    return f"no ratio: error {last:.4g} against {first:.4g}"
