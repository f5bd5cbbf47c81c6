"""Held-out cells seen through Thresholdout, and cells that nobody sees before the end."""

from __future__ import annotations

import json
import math
import warnings
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import torch

import tenfold as tn
from tenfold import io
from tenfold.claims.held_out_choice import held_out_choice, planted
from tenfold.decomposition import relative_error
from tenfold.decomposition._left_out import drawn_from
from tenfold.errors import DataError
from tenfold.structure_search import Chain, ErrorWithin, Observed, Session, Spent
from tenfold.structure_search._guard import Guard
from tenfold.structure_search.random_search import random_search

SHAPE = (8, 7, 6)
SPACE = Chain(SHAPE, max_rank=2)


def noisy(seed: int = 0, cells: int = 200, signal: float = 1.0, noise: float = 0.5) -> tn.Observations:
    """A product of three vectors, and noise, in some cells."""
    generator = torch.Generator().manual_seed(seed)
    a, b, c = (torch.randn(n, generator=generator, dtype=torch.float64) for n in SHAPE)
    whole = signal * torch.einsum("i,j,k->ijk", a, b, c) + noise * torch.randn(
        SHAPE, generator=generator, dtype=torch.float64
    )
    known = torch.zeros(whole.numel(), dtype=torch.bool)
    known[torch.randperm(whole.numel(), generator=generator)[:cells]] = True
    known = known.reshape(SHAPE)
    return tn.Observations(known.nonzero(), whole[known], shape=SHAPE)


def searched(data: tn.Observations, **options: object) -> tn.Search:
    given = {"parameters": 200, "space": SPACE, "method": "random_search", "evaluations": 4, **options}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return tn.search(data, **given)


def test_cells_are_fitted_or_held_out_or_kept() -> None:
    data = noisy()
    plain, target = Observed(data), Observed(data, test=0.1)
    assert plain.test_cells is None
    assert plain.tested(plain.fit(SPACE.structure(SPACE.first())).network) is None
    assert target.held is not None
    assert target.test_cells is not None
    parts = [target.train, target.held, target.test_cells]
    assert [len(part) for part in parts] == [160, 20, 20]
    assert len(torch.cat([part.coordinates for part in parts]).unique(dim=0)) == 200
    # What is compared is the same as without a test.
    assert plain.held is not None
    assert torch.equal(plain.held.coordinates, target.held.coordinates)
    assert Observed(noisy(cells=190), test=0.1).test_cells is None
    with pytest.raises(DataError, match="test must be at least 0 and leave something to fit"):
        Observed(data, test=0.9)


def test_fibres_are_counted_where_whole_ones_are_missing() -> None:
    """Of 13 ligands at 4 times 50 pairs are known, 96 cells each: too few to keep some of them."""
    il2 = tn.Observations.from_nan(io.read("sample:il2").values)
    assert (drawn_from(il2), len(il2)) == (50, 4800)
    target = Observed(il2, test=0.1)
    assert target.held is not None
    assert len(target.held) == 480
    assert target.test_cells is None
    assert drawn_from(noisy()) == 200


def test_what_is_kept_for_the_end_changes_nothing_before() -> None:
    data = noisy()
    kept = Observed(data, test=0.1).test_cells
    assert kept is not None
    there = (data.coordinates[:, None] == kept.coordinates[None]).all(-1).any(1)
    other = tn.Observations(data.coordinates, torch.where(there, 10.0, data.values), shape=SHAPE)
    one, two = searched(data, guard=True), searched(other, guard=True)
    assert [c.error for c in one.history] == [c.error for c in two.history]
    assert one.structure == two.structure
    assert one.tested is not None
    assert two.tested is not None
    assert two.tested > 1.2 * one.tested
    assert one.tested_cells == 20
    assert f"{one.tested:.8g} on 20 cells kept for the end" in str(one)
    assert one.summary()["tested"] == one.tested
    # In the end all cells are fitted.
    assert one.fit.error == pytest.approx(relative_error(data, one.network))


def test_there_is_no_guard_where_nothing_is_held_out() -> None:
    whole = torch.rand(4, 5, 6, generator=torch.Generator().manual_seed(0))
    with pytest.raises(tn.errors.TenfoldError, match=r"^guard answers for held-out cells, and none are held out of"):
        searched(whole, guard=True)


@pytest.mark.slow
def test_answers_do_not_depend_on_who_fits() -> None:
    one, two = searched(noisy(), guard=True), searched(noisy(), guard=True, workers=2)
    assert [(c.structure, c.error) for c in one.history] == [(c.structure, c.error) for c in two.history]
    assert one.tested == two.tested


def test_answers_do_not_depend_on_being_interrupted(tmp_path: Path) -> None:
    data = noisy()
    whole = searched(data, guard=True)
    told = [(one.structure, one.error) for one in whole.history]
    assert told != [(one.structure, one.error) for one in searched(data).history]
    searched(data, guard=True, resume=tmp_path, evaluations=2)
    again = searched(data, guard=True, resume=tmp_path)
    assert [(one.structure, one.error) for one in again.history] == told
    assert again.tested == whole.tested
    lines = [json.loads(line) for line in (tmp_path / "journal.jsonl").read_text().splitlines()]
    assert [line["error"] for line in lines] == [error for _, error in told]
    with pytest.raises(tn.errors.TenfoldError, match="holds a search with guard on, not off"):
        searched(data, resume=tmp_path)


def test_whatever_agrees_is_not_looked_up_and_the_rest_only_so_often() -> None:
    guard = Guard(200, 0)
    sure = 1 / math.sqrt(400)
    assert guard.answer(0.5, 0.5 * math.exp(0.2 * sure)) == pytest.approx(0.5, rel=1e-12)
    answers = [guard.answer(0.1, 0.5) for _ in range(200)]
    assert guard.spent
    assert np.std(np.log(answers)) == pytest.approx(math.sqrt(2) * 0.1 * sure, rel=0.2)
    assert np.mean(np.log(answers)) == pytest.approx(math.log(0.5), abs=sure / 10)
    assert Guard(20, 0).answer(math.inf, 0.5) == 0.5


def test_a_search_ends_when_its_held_out_cells_have_answered() -> None:
    target = Observed(noisy(), test=0.1)
    assert target.held is not None
    guard = Guard(1, 0)
    session = Session(target, ErrorWithin(200), guard=guard, evaluations=50)
    with suppress(Spent):
        random_search(session, SPACE)
    assert guard.spent
    assert 0 < len(session.history) < session.fits + 1 < 50


@pytest.mark.slow
def test_the_claim_measures_what_it_says() -> None:
    target, space, truth, rest = planted(0, 0.3)
    assert (len(target.data), int((~rest).sum()), truth.numel()) == (500, 500, 6**4)
    assert space.max_rank == 3
    found = held_out_choice(repeats=6, structures=30)
    assert found.numbers["plain: told over true"] < 0.95
    assert found.numbers["plain: distance of the kept cells"] < found.numbers["plain: distance of what is told"]
