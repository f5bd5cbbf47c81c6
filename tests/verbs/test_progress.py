"""What a verb tells while it works."""

from __future__ import annotations

import io
import sys

import pytest
import torch

import tenfold as tn
from tenfold.structure_search import Budget, Dense, SizeWithin, climb
from tenfold.structure_search.pareto import non_dominated
from tenfold.structure_search.session import Session
from tenfold.structure_search.spaces import Ring
from tenfold.verbs import _progress
from tenfold.verbs._progress import Bar, progress_bar


class Heard:
    """Stands for rich's Progress and keeps what it is told."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.ends: list[float] = []

    def update(self, task: int, **told: object) -> None:
        if "description" in told:
            self.texts.append(str(told["description"]))
        if "end" in told:
            self.ends.append(float(told["end"]))  # type: ignore[arg-type]


def bar_and_heard() -> tuple[Bar, Heard]:
    heard = Heard()
    return Bar(heard, 0), heard  # type: ignore[arg-type]


ARRAY = torch.from_numpy(
    tn.Network.random(tn.formats.tensor_ring((4, 4, 4), [2, 2, 2]), seed=1, dtype=torch.float64).dense().numpy()
)


def test_the_ladder_tells_the_best_so_far_from_its_first_network_on() -> None:
    bar, heard = bar_and_heard()
    budget = Budget(error=0.5)
    steps = climb(ARRAY, budget, modes=("i", "j", "k"), on_rung=bar.rung)
    trials = list(bar.trials(steps, budget.rank))
    assert heard.texts[0].startswith("trying ")  # nothing is known yet
    assert heard.texts[1].startswith("64 parameters, error 0; trying ")
    best = min(trials[:-1], key=budget.rank)
    assert heard.texts[-1].startswith(f"{best.parameters:,} parameters, error {best.error:.3g}; trying ")


def test_a_search_tells_the_best_of_all_the_front_and_when_it_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_progress, "_OFTEN", 0.0)
    bar, heard = bar_and_heard()
    budget, objective = Budget(error=0.3), SizeWithin(0.3)
    trials = list(bar.trials(climb(ARRAY, budget, modes=("i", "j", "k")), budget.rank))
    bar.starting("rings of 3 modes", 60.0)
    assert heard.texts[-1].endswith("; looking at rings of 3 modes")
    assert len(heard.ends) == 1
    space = Ring((4, 4, 4), max_rank=3)
    with Session(Dense(ARRAY), objective, seconds=60.0, watch=bar.search) as session:
        session.evaluate([space.structure(space.first(rank)) for rank in (1, 2, 3)])
    pairs = [(one.parameters, one.error) for one in (*trials, *(found.evaluation for found in session.history))]
    best = min(pairs, key=lambda one: objective.rank(*one))
    front = non_dominated(pairs, lambda one: one)
    said = f"{best[0]:,} parameters, error {best[1]:.3g}; {session.fits} fitted, front of {len(front)}"
    assert heard.texts[-1] == said
    assert heard.ends[-1] > heard.ends[0] - 60.0


@pytest.mark.parametrize("width", [50, 80])
def test_a_line_keeps_to_a_narrow_terminal(width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    shown = io.StringIO()
    shown.isatty = lambda: True  # type: ignore[method-assign]
    monkeypatch.setattr(sys, "stderr", shown)
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    with progress_bar(None) as bar:
        bar.starting("rings of many modes, of which there are more than anybody can count", 100.0)
        bar._progress.refresh()
    text = shown.getvalue()
    assert "s left" in text
    assert "looking at rings" in text
    assert "anybody can count" not in text


def test_without_a_terminal_nothing_is_said(capfd: pytest.CaptureFixture[str]) -> None:
    with progress_bar(None) as bar:
        bar.rung("tucker", 0, 3)
        bar.starting("rings", 3.0)
    assert capfd.readouterr() == ("", "")
