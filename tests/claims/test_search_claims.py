"""The claims on finding structures measure what they say, in small."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from tenfold.claims._recorded_shapes import recorded
from tenfold.claims.core_shape_bound import beyond, core_shape_bound
from tenfold.claims.core_shape_speed import core_shape_speed
from tenfold.claims.reusable_holdout import reusable_holdout


def test_sums_of_tails_are_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TENFOLD_DATA", raising=False)
    found = core_shape_bound(tensors=4, sweeps=3)
    assert found.holds, found.text
    assert found.numbers["least_over_hosvd"] >= 1 - 1e-9
    assert found.numbers["largest_part_of_allowed"] <= 1 + 1e-9
    assert "recorded" not in found.numbers


HEADER = "dataset,input_shape,algorithm,budget,core_shape,params,prefix,suffix,solve_s,hosvd_s,rre\n"
# Of a squared norm of 100 the two modes of the second shape keep 180 together: a bound of 0.2.
ROWS = [
    'a,"(4, 5)",hosvd-brute-force,30,2x2,22,190,10,0.5,0.1,0.06',
    'a,"(4, 5)",hosvd-greedy,30,1x1,10,180,20,0.5,0.1,0.15',
    'a,"(4, 5)",rre-greedy,30,2x2,22,190,10,50,0.1,0.06',
]


@pytest.fixture
def recording(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Sequence[str]], None]:
    """Makes a folder of data sets in which these rows are recorded."""

    def write(rows: Sequence[str]) -> None:
        (tmp_path / "tnss").mkdir()
        text = HEADER + "\n".join(rows) + "\n"
        (tmp_path / "tnss" / "core_shape_recorded_results.csv").write_text(text, encoding="utf-8")
        monkeypatch.setenv("TENFOLD_DATA", str(tmp_path))

    return write


@pytest.mark.parametrize(
    ("row", "odd"),
    [
        (ROWS[1], 0),
        (ROWS[1].replace("0.15", "0.21"), 1),  # above the sum of the tails
        (ROWS[1].replace("0.15", "0.09"), 1),  # below half of it
        (ROWS[1].replace(",30,", ",9,"), 1),  # beyond its budget
        (ROWS[1].replace(",10,180", ",12,180"), 1),  # of another size
        (ROWS[1].replace("180,20", "195,5").replace("0.15", "0.04"), 1),  # better than all there are
    ],
)
def test_recorded_shapes_count(row: str, odd: int, recording: Callable[[Sequence[str]], None]) -> None:
    recording([ROWS[0], row, ROWS[2]])
    rows = recorded()
    assert len(rows) == 3
    assert beyond(rows) == odd


@pytest.mark.slow
def test_what_is_recorded_decides_the_bound_and_is_shown_for_the_speed(
    recording: Callable[[Sequence[str]], None],
) -> None:
    recording([ROWS[0], ROWS[1].replace("0.15", "0.21"), ROWS[2]])
    bound = core_shape_bound(tensors=0, sweeps=1)
    assert (bound.numbers["recorded"], bound.numbers["recorded_beyond"]) == (3, 1)
    assert not bound.holds
    found = core_shape_speed(extent=6, most=190)
    assert "hosvd-brute-force, 1 budgets: ratio of errors 1.0000" in found.text
    assert "1e+02 to 100 times faster" in found.text
    assert not found.holds  # too small to save a thousandfold


@pytest.mark.slow
def test_shapes_by_singular_values_are_found_faster() -> None:
    found = core_shape_speed(extent=20, most=700)
    assert found.numbers["most times faster"] > 50
    assert found.numbers["most times faster with no larger error"] > 50
    assert 0.8 < found.numbers["median ratio of errors"] < 1.1


def test_held_out_data_last_if_asked_with_care() -> None:
    found = reusable_holdout(repeats=3, points=2000)
    plain, careful = (abs(found.numbers[f"no signal, {way}: told minus true"]) for way in ("plain", "thresholdout"))
    assert plain > 0.1
    assert careful < 0.7 * plain
    assert not found.holds, found.text
    # Asked without care they do not, where there are few attributes to choose from.
    assert not reusable_holdout(repeats=2, points=100).holds
