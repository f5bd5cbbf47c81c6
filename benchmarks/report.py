"""Outcomes as a table (Markdown) and as JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from benchmarks.harness import Outcome, Row, growth

Record = dict[str, Any]


def record(machine: Mapping[str, Any], gemm: float, measured: Mapping[str, tuple[str, Sequence[Outcome]]]) -> Record:
    """Everything as plain values."""
    tasks = {
        name: {"title": title, "outcomes": [asdict(outcome) for outcome in outcomes]}
        for name, (title, outcomes) in measured.items()
    }
    return {"machine": dict(machine), "gemm_gflops": gemm, "tasks": tasks}


def markdown(record: Record) -> str:
    """The tables of a record, one for each task."""
    machine, gemm = record["machine"], record["gemm_gflops"]
    versions = ", ".join(f"{k} {v}" for k, v in machine.items() if k not in ("processor", "threads"))
    count = machine["threads"]
    parts = [
        f"{machine['processor']}, {count} thread{'' if count == 1 else 's'}; {versions}. "
        f"A product of large matrices runs at {gemm:.0f} Gflop/s."
    ]
    for task in record["tasks"].values():
        outcomes = [_outcome(plain) for plain in task["outcomes"]]
        lines = [f"### {task['title']}", ""]
        lines += ["| size | who | median | fastest | ratio | error | |", "|---|---|--:|--:|--:|--:|---|"]
        lines += [line for outcome in outcomes for line in _lines(outcome, gemm)]
        exponents = ", ".join(f"{name} {power:.2f}" for name, power in growth(outcomes))
        if exponents:
            lines += ["", f"Growth, as the power of the number of entries: {exponents}."]
        parts.append("\n".join(lines))
    return "\n\n".join(parts) + "\n"


def _outcome(plain: Record) -> Outcome:
    rows = tuple(Row(**row) for row in plain["rows"])
    return Outcome(plain["label"], plain["entries"], plain["rounds"], rows, plain["gflops"])


def _lines(outcome: Outcome, gemm: float) -> list[str]:
    lines = []
    for number, row in enumerate(outcome.rows):
        note = row.note
        if number == 0 and outcome.gflops is not None:
            note = f"{outcome.gflops / gemm:.0%} of the rate of a product"
        ratio = "" if row.ratio is None else f"{row.ratio:.2f}"
        error = "" if row.error is None else f"{row.error:.5f}"
        label = outcome.label if number == 0 else ""
        lines.append(
            f"| {label} | {row.name} | {_time(row.seconds)} | {_time(row.fastest)} | {ratio} | {error} | {note} |"
        )
    return lines


def _time(seconds: float | None) -> str:
    if seconds is None:
        return ""
    return f"{seconds:.2f} s" if seconds >= 1 else f"{1e3 * seconds:.1f} ms"
