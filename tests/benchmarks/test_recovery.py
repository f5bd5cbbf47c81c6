"""The table of planted structures: what is planted, what counts as found, and that a run goes on where it was."""

from __future__ import annotations

import json
from dataclasses import replace
from math import prod, sqrt
from pathlib import Path

import pytest

from benchmarks import recovery
from benchmarks.recovery import FAMILIES, Answer, Question, asked, interval, main, markdown, planted, questions
from tenfold.structure_search import Chain, FullyConnected, Ring, searchers

QUESTION = Question("train", "Chain", 4, "random_search", 0, 10, 60.0)
ANSWER = Answer(True, 30, 12, 0.5, 40, 40)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("order", [4, 6, 8])
def test_what_is_planted(family: str, order: int) -> None:
    made = [planted(family, order, seed) for seed in range(4)]
    assert len(set(made)) == 4
    assert planted(family, order, 1) == made[1]
    for one in made:
        assert len(one.shape) == order
        assert set(one.shape) <= {3, 4}
        assert set(one.sizes[index] for index in one.inner_indices) <= {2, 3, 4}
        assert 2 * one.parameters <= prod(one.shape)
        degrees = [len([i for i in term.indices if i in one.inner_indices]) for term in one.terms]
        assert min(degrees) >= 1
        bonds = len(one.inner_indices)
        expected = {"train": order - 1, "ring": order, "tree": 2 * order - 3, "tucker": order}
        assert bonds == expected.get(family, order - 1 + order // 3)
        assert max(degrees) <= (order if family in ("tucker", "graph") else 3)


def test_modes_of_trains_and_rings_lie_in_random_order() -> None:
    for family in ("train", "ring"):
        neighbours = {frozenset(index.split("_")) for s in range(8) for index in planted(family, 5, s).inner_indices}
        assert len(neighbours) == 10


def test_every_searcher_is_asked_for_all_that_it_can() -> None:
    every = list(
        questions(FAMILIES, [4], ["Chain", "FullyConnected", "Ring", "Tree", "Tucker"], searchers(), 2, 10, 60.0)
    )
    assert {question.searcher for question in every} == set(searchers())
    assert {(q.planted, q.space) for q in every} == {(f, s.__name__) for f, spaces in FAMILIES.items() for s in spaces}
    for question in every:
        space = {"Chain": Chain, "FullyConnected": FullyConnected, "Ring": Ring}.get(question.space)
        assert space is None or issubclass(space, searchers()[question.searcher].spaces)


def test_a_search_ends_when_it_has_found(monkeypatch: pytest.MonkeyPatch) -> None:
    # One structure only, so that the first evaluation finds it.
    monkeypatch.setattr(Chain, "random", lambda space, generator: space.first(4))
    monkeypatch.setattr(recovery, "planted", lambda *_: Chain((3, 3, 3, 3), 4).structure(Chain((3,) * 4).first(4)))
    answer = asked(QUESTION)
    assert answer.recovered
    assert (answer.fits, answer.parameters) == (1, answer.planted_parameters)
    assert answer.counted == 10
    # A network with more parameters is not what was planted.
    monkeypatch.setattr(recovery, "planted", lambda *_: Chain((3, 3, 3, 3), 4).structure(Chain((3,) * 4).first(2)))
    answer = asked(QUESTION)
    assert not answer.recovered
    assert answer.parameters > answer.planted_parameters


def test_wilsons_interval() -> None:
    z = 1.959963984540054
    for k, n in ((0, 5), (3, 10), (20, 20)):
        middle, half = (k + z * z / 2) / (n + z * z), z / (n + z * z) * sqrt(k * (n - k) / n + z * z / 4)
        assert interval(k, n) == pytest.approx((middle - half, middle + half))


def test_medians_are_those_of_what_was_found() -> None:
    runs = [(replace(QUESTION, seed=n), replace(ANSWER, recovered=n < 3, counted=10 * (n + 1))) for n in range(4)]
    runs.append((replace(QUESTION, searcher="tnga"), replace(ANSWER, refused="no trains today")))
    runs.append((replace(QUESTION, planted="ring"), replace(ANSWER, recovered=False)))
    lines = markdown(reversed(runs)).splitlines()[2:]
    assert lines == [
        "| ring | Chain | 4 | random_search | 0 of 1 | 0.00 to 0.79 | | | 0.50 |",
        "| train | Chain | 4 | random_search | 3 of 4 | 0.30 to 0.95 | 20 | 12 | 0.50 |",
        "| train | Chain | 4 | tnga | refuses: no trains today | | | | |",
    ]


def test_a_small_run_is_written_and_gone_on_with(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "new" / "runs.json"
    done: list[Question] = []

    def ask(question: Question) -> Answer:
        if len(done) == 3:
            raise KeyboardInterrupt
        done.append(question)
        return replace(ANSWER, counted=len(done))

    arguments = ["--families", "ring", "--orders", "4", "--seeds", "4", "--searchers", "tnga", "--json", str(file)]
    with pytest.raises(KeyboardInterrupt):
        main(arguments, ask)
    assert len(json.loads(file.read_text(encoding="utf-8"))["runs"]) == 3
    rest: list[Question] = []
    assert main(arguments, lambda question: rest.append(question) or ANSWER) == 0
    assert len(rest) == 5
    assert not set(rest) & set(done)
    printed = capsys.readouterr().out
    assert printed.count("4 of 4") == 2
    assert main(["--table", str(file)]) == 0
    assert capsys.readouterr().out == printed


def test_the_smallest_run_asks_every_searcher(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--smoke"]) == 0
    lines = capsys.readouterr().out.splitlines()[2:]
    assert [line.split(" | ")[3] for line in lines] == [
        name for name, entry in searchers().items() if issubclass(FAMILIES["tucker"][0], entry.spaces)
    ]
    assert not any("refuses" in line for line in lines)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [(["--seeds", "0"], "--seeds 0 is not positive"), (["--orders", "9"], "9"), (["--searchers", "luck"], "luck")],
)
def test_wrong_arguments(arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(arguments)
    assert said in capsys.readouterr().err
