"""Plain text tables on terminals of any width."""

from __future__ import annotations

import pytest

from tenfold._tables import columns, facts

ROWS = [
    ("*", "1,234,567,890", "a name that is long and goes on for quite a while, longer than a narrow terminal is wide"),
    ("", "7", "short"),
]


@pytest.mark.parametrize("width", [20, 60, 80, 120, 300])
def test_numbers_stay_whole_and_aligned_whatever_the_width(width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    lines = columns(("", "parameters", "name"), ROWS, right=(1,)).splitlines()
    ends = [line.index(word) + len(word) for line in lines for word in ("parameters", ROWS[0][1]) if word in line]
    assert len(ends) == 2
    assert ends[0] == ends[1] == next(line for line in lines if line.endswith("short")).index("7") + 1
    assert max(map(len, lines)) <= max(60, width)
    assert " ".join(" ".join(lines).split()).count("a while") == 1


def test_facts_fold_to_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [("what", "word " * 30), ("a longer name", "x")]
    monkeypatch.setenv("COLUMNS", "70")
    narrow = facts(rows).splitlines()
    monkeypatch.setenv("COLUMNS", "400")
    wide = facts(rows).splitlines()
    assert len(narrow) > len(wide)
    assert max(map(len, narrow)) <= 70
    assert max(map(len, wide)) <= 100
    assert narrow[-1] == wide[-1] == "a longer name  x"
