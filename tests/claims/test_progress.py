"""Who watches a measurement is told how far it is, and only then."""

from __future__ import annotations

import re

import pytest

from tenfold.claims import _progress
from tenfold.claims._progress import steps, watched
from tenfold.claims.core_shape_speed import core_shape_speed
from tenfold.cli import claims as command


def test_steps_are_told_to_who_watches() -> None:
    told: list[str] = []
    assert list(steps("ring", range(4, 6))) == [4, 5]
    with watched(told.append):
        assert list(steps("ring", range(4, 6))) == [4, 5]
    assert list(steps("ring", range(2))) == [0, 1]
    assert told == ["ring 1 of 2", "ring 2 of 2"]
    with pytest.raises(ZeroDivisionError), watched(told.append):
        raise ZeroDivisionError
    assert _progress._watcher.get() is None


def test_a_claim_tells_its_parts() -> None:
    told: list[str] = []
    with watched(told.append):
        core_shape_speed(extent=4, most=130)
    assert told == [f"{kind}, budget {n} of 3" for kind in ("random", "planted", "decaying") for n in (1, 2, 3)]


def test_a_terminal_shows_them(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    with command._watched("one (1 of 1)"):
        list(steps("ring", range(1)))
    assert capfd.readouterr().err == ""
    monkeypatch.setenv("FORCE_COLOR", "1")
    with command._watched("one (1 of 1)"):
        for _ in steps("ring", range(1)):
            pass
    shown = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", capfd.readouterr().err)
    assert "measuring one (1 of 1): ring 1 of 1" in shown
