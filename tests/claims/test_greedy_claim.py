"""The claim about greedy growth measures what it says: both methods get the same, and sizes are kept."""

from __future__ import annotations

import pytest

from tenfold.claims.greedy_against_tnga import _least, _pictures, greedy_against_tnga


def test_pictures_are_small_and_of_this_library_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TENFOLD_DATA", raising=False)
    pictures = list(_pictures())
    assert [picture.kind for picture in pictures] == ["astronaut", "indian_pines"]
    assert all(picture.tensor.shape == (32, 32) for picture in pictures)


def test_more_parameters_and_more_evaluations_are_no_worse() -> None:
    picture = next(_pictures()).tensor
    few, more = (_least("greedy", picture, 40, evaluations, 0) for evaluations in (20, 60))
    assert more <= few < 1
    # The rank-one network is all that fits into its own size.
    alone = _least("greedy", picture, 20, 60, 0)
    assert few < alone


@pytest.mark.slow
def test_the_claim_gives_the_errors_of_both(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TENFOLD_DATA", raising=False)
    found = greedy_against_tnga(sizes=(64,), evaluations=60)
    assert found.numbers["evaluations"] == 60
    assert len(found.numbers) == 5
    assert "parameters" in found.text
