"""What is said before a completed tensor is relied on."""

import dataclasses
import math

import numpy as np
import pytest
import torch

from tenfold.verbs._diagnosis import Diagnosis, HeldOut, Tried, diagnose, measure, worries
from tenfold.verbs._modes import Mode
from tenfold.verbs._observed import Observed
from tenfold.verbs._spread import Gaussian


def _data(depth, site, values, sites=4):
    modes = (Mode("depth", True, np.unique(depth), len(np.unique(depth)), 0.0, 1.0), Mode("site", False, None, sites))
    coordinates = torch.from_numpy(np.stack([depth, site.astype(float)], 1))
    return Observed(modes, coordinates, torch.from_numpy(values), None, None, "value", (), "test")


def _noise(rows=400, sites=4, seed=0):
    r = np.random.default_rng(seed)
    return _data(r.uniform(size=rows), r.integers(0, sites, rows), r.normal(size=rows), sites)


def _flat(coordinates, attributes):
    return np.zeros(len(coordinates)), None, np.ones(len(coordinates))


def _held(count=1000, *, off=1.0, spread=1.0, mean=None):
    r = np.random.default_rng(1)
    signal = 5 * r.normal(size=count)
    predicted = signal if mean is None else np.full(count, mean)
    return measure(Gaussian(spread), signal + off * r.normal(size=count), predicted, np.ones(count), "test", 0)


def _said(held, tried=(), **how):
    return " ".join(worries(_noise(), held, tried, **({"by_cell": False, "interrupted": False} | how)))


def test_a_good_fit_is_not_worried_about():
    assert (
        _said(_held(), [Tried("a", 2, 0.2, 0.19, None, 10, 1.0, True), Tried("a", 3, 0.21, 0.18, None, 15, 1.0)]) == ""
    )
    assert diagnose(_noise(), 1, _flat, 0).warnings == ()


@pytest.mark.parametrize(("spread", "word"), [(0.8, "narrow"), (1.25, "wide")])
def test_intervals_of_the_wrong_width_are_told(spread, word):
    held = _held(spread=spread)
    said = _said(held)
    assert f"90 % intervals hold {100 * held.coverage['0.9']:.1f} % of 1,000 test observations" in said
    assert f"they are too {word}" in said
    # Those that the width was set by cannot tell.
    assert "too" not in _said(dataclasses.replace(held, kind="calibration"))


def test_intervals_outside_of_the_drawn_band_of_chance_are_told_as_doubtful():
    held = _held()
    (low, high), (lowest, _) = held.chance(0.9), held.chance(0.9, 0.99)
    share = (lowest + low) / 2
    said = _said(dataclasses.replace(held, coverage={"0.9": share}))
    assert f"they may be too narrow; exact ones hold {100 * low:.1f} to {100 * high:.1f} % in 95 of 100 cases" in said
    assert "they are too narrow" in _said(dataclasses.replace(held, coverage={"0.9": lowest - 0.001}))
    assert _said(dataclasses.replace(held, coverage={"0.9": low})) == ""


def test_models_for_which_no_time_was_left_are_named():
    assert "time was up before cp, tucker were tried: more seconds" in _said(_held(), untried=("cp", "tucker"))
    assert "before neural was tried" in _said(_held(), untried=("neural",))


def test_predictions_no_better_than_a_constant_are_told():
    assert "no better than by a constant: 0 %" in _said(_held(mean=20.0, spread=30.0))
    held = _held()
    assert held.explained == pytest.approx(1 - (held.rmse / held.deviation) ** 2)
    assert held.explained > 0.9


def test_noise_that_was_learnt_and_ranks_at_the_end_are_told():
    tried = [Tried("a", 2, 0.5, 0.4, None, 10, 1.0), Tried("a", 3, 0.45, 0.1, None, 15, 1.0, True)]
    said = _said(_held(), tried)
    assert "part of what was learnt is noise" in said
    assert "largest rank that was tried, 3," in said
    assert "largest rank" not in _said(_held(), tried, interrupted=True)
    assert "was interrupted" in _said(_held(), tried, interrupted=True)


def test_nothing_held_out_is_told():
    assert "of 400 observations none was held out" in _said(None)


def test_places_observed_again_are_told_unless_cells_were_held_out_whole():
    data = _noise(100)
    twice = dataclasses.replace(data, coordinates=data.coordinates.repeat(2, 1), values=data.values.repeat(2))
    said = worries(twice, _held(), (), by_cell=False, interrupted=False)
    assert "100 % of the observations are at places that were observed more than once" in said[0]
    assert worries(twice, _held(), (), by_cell=True, interrupted=False) == []


def test_levels_that_are_off_throughout_are_named_and_others_not():
    data = _noise()
    values = data.values + 3.0 * (data.coordinates[:, 1] == 2)
    said = " ".join(diagnose(dataclasses.replace(data, values=values), 1, _flat, 0).warnings)
    assert "throughout at a place of mode 'site' (2 by " in said


def test_stretches_without_observations_are_told():
    r = np.random.default_rng(3)
    depth = np.concatenate([r.uniform(0, 0.3, 100), r.uniform(0.7, 1, 100)])
    data = _data(depth, r.integers(0, 4, 200), r.normal(size=200))
    (said,) = diagnose(data, 1, _flat, 0).warnings
    low, high = depth[depth < 0.5].max(), depth[depth > 0.5].min()
    assert f"of mode 'depth' between {low:.6g} and {high:.6g}" in said


def test_a_typical_place_is_where_most_was_observed():
    r = np.random.default_rng(4)
    site = np.where(r.random(300) < 0.6, 3, r.integers(0, 3, 300))
    depth = np.where(r.random(300) < 0.5, r.uniform(0.4, 0.44, 300), r.uniform(size=300))
    typical = diagnose(_data(depth, site, r.normal(size=300)), 1, _flat, 0).typical
    assert typical["depth"] == {"site": 3.0}
    assert 0.4 <= typical["site"]["depth"] <= 0.44


def test_records_come_back_the_same():
    found = diagnose(_noise(), 1, _flat, 0)
    assert Diagnosis.from_record(found.record()) == found
    held = _held(30)
    assert HeldOut.from_record(held.record()) == held
    for predicted, _, low, high in held.points:
        assert high - predicted == pytest.approx(predicted - low)
        assert high - predicted == pytest.approx(1.6448536 * math.sqrt(1.0))
