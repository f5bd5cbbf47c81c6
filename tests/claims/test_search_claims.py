"""The claims on finding structures measure what they say, in small."""

from __future__ import annotations

import pytest

from tenfold.claims.core_shape_bound import core_shape_bound
from tenfold.claims.core_shape_speed import core_shape_speed
from tenfold.claims.reusable_holdout import reusable_holdout


def test_sums_of_tails_are_bounds() -> None:
    found = core_shape_bound(tensors=4, sweeps=3)
    assert found.holds, found.text
    assert found.numbers["least_over_hosvd"] >= 1 - 1e-9
    assert found.numbers["largest_part_of_allowed"] <= 1 + 1e-9


@pytest.mark.slow
def test_shapes_by_singular_values_are_found_faster() -> None:
    found = core_shape_speed(extent=20, most=700)
    assert found.numbers["most times faster"] > 50
    assert 0.8 < found.numbers["median ratio of errors"] < 1.1


def test_held_out_data_last_if_asked_with_care() -> None:
    found = reusable_holdout(repeats=3, points=2000)
    plain, careful = (abs(found.numbers[f"no signal, {way}: told minus true"]) for way in ("plain", "thresholdout"))
    assert plain > 0.1
    assert careful < 0.7 * plain
    assert not found.holds, found.text
    # Asked without care they do not, where there are few attributes to choose from.
    assert not reusable_holdout(repeats=2, points=100).holds
