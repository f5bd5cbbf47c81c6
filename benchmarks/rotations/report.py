"""The record of a run as the tables of docs/products.md."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

from benchmarks.rotations.questions import MODES

Record = dict[str, Any]

BEGIN, END = "<!-- measured: begin -->", "<!-- measured: end -->"

_TITLES = {
    "full": "Every path of two features, kept apart",
    "summed": "Two features, paths of an even sum of degrees added up",
    "edges": "Along edges, a weight for each path and channel of each edge",
    "filter": "Along edges, weights by degree of the filter",
    "contraction": "Products of three copies of a feature",
    "harmonics": "Spherical harmonics",
}
_OURS = {
    "full": "ClebschGordan",
    "summed": "GauntGrid",
    "edges": "ClebschGordanConvolution",
    "filter": "GauntConvolution",
    "contraction": "SymmetricContraction",
    "harmonics": "spherical_harmonics",
}
_MODES = {"forward": "forward", "backward": "with gradients", "double": "second derivatives"}
_AXES = {"degree": "degree", "channels": "channels", "rows": "batch"}


def markdown(record: Record) -> str:
    """All tables: one for each work, then memory, then growth."""
    machine, rate = record["machine"], record["bandwidth"]
    versions = ", ".join(
        f"{name} {value}"
        for name, value in machine.items()
        if name not in ("processor", "threads") and value != "not installed"
    )
    parts = [
        f"{machine['processor']}, {machine['threads']} threads, single precision; {versions}. A copy moves "
        f"{rate / 1e9:.0f} GB/s."
    ]
    for work in _TITLES:
        cases = [case for case in record["cases"] if case["question"]["work"] == work]
        if cases:
            parts.append(_table(work, cases, rate))
    parts += [_memory(record["cases"]), _growth(record.get("growth", []))]
    return "\n\n".join(part for part in parts if part) + "\n"


def put(text: str, page: str) -> str:
    """The page with the text between its two marks.

    Raises:
        ValueError: the page has no marks.
    """
    head, begin, rest = page.partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"the page has no '{BEGIN}' with '{END}' after it")
    return f"{head}{BEGIN}\n\n{text}\n{END}{tail}"


def exponent(sizes: Sequence[float], times: Sequence[float]) -> float:
    """The power p of ``time ~ size^p``, by least squares of the logarithms.

    Raises:
        ValueError: there are not two sizes.
    """
    if len(set(sizes)) < 2:
        raise ValueError("an exponent takes two sizes")
    xs, ys = [math.log(size) for size in sizes], [math.log(time) for time in times]
    x, y = sum(xs) / len(xs), sum(ys) / len(ys)
    return sum((a - x) * (b - y) for a, b in zip(xs, ys, strict=True)) / sum((a - x) ** 2 for a in xs)


def _size(question: Record) -> str:
    if question["work"] == "harmonics":
        return f"{question['rows']} vectors"
    edges = f", {question['edges']} edges" if question["edges"] else ""
    return f"{question['rows']} × {question['channels']} channels{edges}"


def _names(cases: Iterable[Record]) -> list[str]:
    """Libraries in the order of their rows, ours left out."""
    return list(dict.fromkeys(row["name"] for case in cases for row in case["rows"][1:]))


def _ordered(cases: list[Record]) -> list[Record]:
    return sorted(cases, key=lambda case: (case["question"]["degree"], MODES.index(case["question"]["mode"])))


def _table(work: str, cases: list[Record], rate: float) -> str:
    names = _names(cases)
    lines = [
        f"### {_TITLES[work]}",
        "",
        f"`{_OURS[work]}`, {_size(cases[0]['question'])}.",
        "",
        f"| degrees to | | tenfold | {' | '.join(names)} |",
        f"|--:|---|--:|{'--:|' * len(names)}",
    ]
    notes: dict[str, str] = {}
    degree = None
    for case in _ordered(cases):
        question, own = case["question"], case["rows"][0]
        cells = [
            str(question["degree"]) if question["degree"] != degree else "",
            _MODES[question["mode"]],
            f"{_time(own['seconds'])} ({own['seconds'] * rate / case['bytes']:.1f})",
        ]
        degree = question["degree"]
        rows = {row["name"]: row for row in case["rows"]}
        for name in names:
            row = rows.get(name, {"note": ""})
            if "ratio" in row:
                cells.append(_ratio(row["ratio"]))
            else:
                mark = notes.setdefault(row["note"], f"[{len(notes) + 1}]") if row["note"] else ""
                cells.append(f"– {mark}".strip())
        lines.append(f"| {' | '.join(cells)} |")
    if notes:
        lines += ["", "; ".join(f"{mark} {_plain(note)}" for note, mark in notes.items()) + "."]
    return "\n".join(lines)


def _memory(cases: list[Record]) -> str:
    """What the largest degree of each work takes."""
    known = [case for case in cases if case["rows"][0].get("memory") is not None]
    if not known:
        return ""
    names = _names(known)
    lines = [
        "### Memory",
        "",
        "MB by which the resident memory of a process grew at most during the work, its inputs there already; each "
        "work at its largest degree.",
        "",
        f"| work | | tenfold | {' | '.join(names)} |",
        f"|---|---|--:|{'--:|' * len(names)}",
    ]
    for work in _TITLES:
        mine = [case for case in known if case["question"]["work"] == work]
        largest = max((case["question"]["degree"] for case in mine), default=None)
        first = True
        for case in _ordered([case for case in mine if case["question"]["degree"] == largest]):
            rows = {row["name"]: row for row in case["rows"]}
            cells = [f"`{_OURS[work]}`, degree {largest}" if first else "", _MODES[case["question"]["mode"]]]
            for name in ("tenfold", *names):
                taken = rows.get(name, {}).get("memory")
                cells.append("" if taken is None else f"{taken:.0f}" if taken >= 9.5 else f"{taken:.1f}")
            lines.append(f"| {' | '.join(cells)} |")
            first = False
    return "\n".join(lines)


def _growth(points: list[Record]) -> str:
    """Times against sizes, and the exponents."""
    lines: list[str] = []
    for work in _OURS:
        for axis in _AXES:
            for mode in MODES:
                chosen = [
                    point
                    for point in points
                    if point["axis"] == axis and (point["question"]["work"], point["question"]["mode"]) == (work, mode)
                ]
                chosen.sort(key=lambda point: point["question"][axis])
                sizes = [point["question"][axis] for point in chosen]
                times = [point["seconds"] for point in chosen]
                if len(sizes) < 2:
                    continue
                shown = ", ".join(f"{size}: {_time(time)}" for size, time in zip(sizes, times, strict=True))
                cells = [f"`{_OURS[work]}`", _MODES[mode], _AXES[axis], shown, f"{exponent(sizes, times):.2f}"]
                lines.append(f"| {' | '.join(cells)} |")
    if not lines:
        return ""
    head = [
        "### Growth",
        "",
        "Our own products alone, the shortest time, while one size grows and the others stay: degree 2 (6 of "
        "`GauntGrid`), 64 channels, a batch of 1000, ten edges for each node. The exponent is that of time against "
        "size, by least squares.",
        "",
        "| product | | grows | time | exponent |",
        "|---|---|---|---|--:|",
    ]
    return "\n".join([*head, *lines])


def _time(seconds: float) -> str:
    if seconds >= 1:
        return f"{seconds:.1f} s"
    milliseconds = 1e3 * seconds
    digits = 0 if milliseconds >= 9.95 else 1 if milliseconds >= 0.995 else 2
    return f"{milliseconds:.{digits}f} ms"


def _ratio(ratio: float) -> str:
    shown = f"{ratio:.0f}" if ratio >= 9.95 else f"{ratio:.1f}"
    return f"**{shown}**" if ratio < 1 else shown


def _plain(note: str) -> str:
    return note.rstrip(".: ").replace("|", "/")
