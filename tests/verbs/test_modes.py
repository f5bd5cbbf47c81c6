"""Labels and places become coordinates of models and come back."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenfold.errors import DataError
from tenfold.verbs._modes import Mode


def _over(labels, continuous=False):
    array = np.asarray(labels)
    return Mode.over("m", array, len(array), continuous)


def test_levels_are_codes_in_their_order():
    mode = _over(["b", "a", "c"])
    assert mode.encode(["a", "c", "b"]).tolist() == [1, 2, 0]
    assert mode.label(0) == "b"


def test_numbers_given_as_text_find_their_level():
    assert _over([3, 5, 2**40]).encode(["5", str(2**40)]).tolist() == [1, 2]
    assert _over([0.5, 1.5]).encode("1.5").tolist() == [1]


@pytest.mark.parametrize("wrong", ["x", 4, 2.5, float("nan")])
def test_unknown_levels_are_named_with_those_there_are(wrong):
    with pytest.raises(DataError, match=r"has no level .* its levels are 1, 2, 3"):
        _over([1, 2, 3]).encode(wrong)


def test_a_near_miss_is_suggested():
    with pytest.raises(DataError, match="did you mean 'Beijing'"):
        _over(["Beijing", "Xi'an"]).encode("Bejing")


def test_codes_without_labels_have_their_range():
    mode = Mode.over("m", None, 3, False)
    assert mode.encode(["2", "0"]).tolist() == [2, 0]
    for wrong in (3, -1, 0.5, "x"):
        with pytest.raises(DataError, match="from 0 to 2"):
            mode.encode(wrong)


def test_places_run_from_zero_to_one_and_beyond():
    mode = _over([10.0, 20.0, 30.0], continuous=True)
    assert mode.encode([10, 30, "25", 40]).tolist() == [0, 1, 0.75, 1.5]
    assert mode.at(0.75) == "25"


def test_whole_numbers_beyond_double_precision_are_told_apart():
    start = 2**62
    mode = _over([start, start + 1, start + 4], continuous=True)
    assert mode.positions().tolist() == [0, 0.25, 1]
    assert mode.encode(np.array([start + 1])).tolist() == [0.25]


def test_the_ends_of_the_doubles_are_places():
    mode = _over([-1.7e308, 1.7e308], continuous=True)
    assert mode.positions() == pytest.approx([0, 1])
    assert mode.encode(0.0) == pytest.approx([0.5])


def test_doses_lie_on_a_logarithmic_scale():
    doses = np.geomspace(0.001, 100, 11)
    mode = _over(doses, continuous=True)
    assert mode.log
    assert mode.positions() == pytest.approx(np.linspace(0, 1, 11))
    assert float(mode.at(0.5)) == pytest.approx(np.sqrt(0.001 * 100), rel=1e-4)
    with pytest.raises(DataError, match="give positive numbers"):
        mode.encode(0.0)
    assert not Mode.over("m", doses, 11, True, scale="linear").log
    assert not _over(np.linspace(1, 2, 11), continuous=True).log
    assert Mode.over("m", np.linspace(1, 2, 11), 11, True, scale="log").log
    with pytest.raises(DataError, match="cannot be logarithmic"):
        Mode.over("m", np.linspace(-1, 2, 11), 11, True, scale="log")


def test_dates_are_places():
    days = np.array(["2020-01-01", "2020-01-03", "2020-01-11"], dtype="datetime64[D]")
    mode = _over(days, continuous=True)
    assert mode.positions() == pytest.approx([0, 0.2, 1])
    assert mode.encode("2020-01-06") == pytest.approx([0.5])
    assert mode.at(0.5) == "2020-01-06"
    with pytest.raises(DataError, match="give a date, as 2020-01-01"):
        mode.encode("yesterday")


def test_dates_finer_than_the_levels_are_told_apart():
    days = np.array(["2020-01-01", "2020-01-03"], dtype="datetime64[D]")
    assert _over(days, continuous=True).encode("2020-01-01T12:00") == pytest.approx([0.25])


def test_text_is_no_interval():
    with pytest.raises(DataError, match="continuous, but its levels are text, such as 'a'"):
        _over(["a", "b"], continuous=True)


def test_one_place_is_an_interval_of_length_zero():
    mode = _over([7.0], continuous=True)
    assert mode.positions().tolist() == [0.0]
    assert np.isfinite(mode.encode([8.0])).all()


@pytest.mark.parametrize(
    "labels",
    [
        np.array(["a", "b,=", "ü"]),
        np.array([1, 2**40]),
        np.array([0.1, 0.2]),
        np.geomspace(0.001, 100, 11),
        np.array(["2020-01-01", "2021-01-01"], dtype="datetime64[ns]"),
        np.array([True, False]),
    ],
)
def test_a_record_makes_the_same_mode(labels):
    for continuous in (False, True):
        if continuous and labels.dtype.kind in "U":
            continue
        mode = Mode.over("m", labels, len(labels), continuous, "K")
        again = Mode.from_record(json.loads(json.dumps(mode.record())))
        assert again.encode(labels).tolist() == mode.encode(labels).tolist()
        assert (again.name, again.unit, again.kind) == (mode.name, mode.unit, mode.kind)


@given(st.lists(st.integers(-(2**62), 2**62), min_size=1, unique=True))
def test_every_level_finds_its_code(labels):
    array = np.array(labels, dtype=np.int64)
    assert _over(array).encode(array).tolist() == list(range(len(labels)))


@pytest.mark.parametrize(
    ("labels", "asked"),
    [
        (np.array([0, 3, 7], np.uint8), 259),
        (np.array([0, 3, 255], np.uint8), -1),
        (np.array([0, 3, 7], np.int8), 259.0),
        (np.array([-1, 3, 7]), 1.5),
        (np.array([-1, 3, 7]), np.nan),
        (np.array([-(2**63), 3]), 1e30),
        (np.array([2**60, 2**60 + 2]), str(2**60 + 1)),
        (np.array([False, True]), 2),
        (np.array([False, True]), "maybe"),
        (np.array(["2020-01-01", "2020-01-02"], "M8[D]"), "2020-01-02T05"),
        (np.array([1, 2]), [3]),
    ],
)
def test_what_is_no_level_is_not_made_one_by_wrapping_or_rounding(labels, asked):
    with pytest.raises(DataError, match="has no level"):
        Mode.over("m", labels, len(labels), False).encode(np.array([asked, None], dtype=object)[:1])
    if not isinstance(asked, list):
        with pytest.raises(DataError, match="has no level"):
            Mode.over("m", labels, len(labels), False).encode([asked])


def test_levels_are_found_whatever_type_asks_for_them():
    flags = Mode.over("flag", np.array([False, True]), 2, False)
    assert flags.encode(["False", "true"]).tolist() == flags.encode([0, 1]).tolist() == [0, 1]
    large = Mode.over("id", np.array([2**60, 2**60 + 1]), 2, False)
    assert large.encode([str(2**60 + 1)]).tolist() == large.encode(np.array([2**60 + 1], object)).tolist() == [1]
    assert Mode.over("x", np.array([0.1, 0.2], np.float32), 2, False).encode([0.1, "0.2"]).tolist() == [0, 1]


@pytest.mark.parametrize(
    "labels",
    [np.array([-100, 0, 100], np.int8), np.array([-(2**63), -1, 2**63 - 1]), np.array([0, 100, 200], np.uint8)],
)
def test_whole_numbers_of_any_width_are_spread_over_their_interval(labels):
    mode = Mode.over("m", labels, 3, True)
    assert mode.positions() == pytest.approx([0, 0.5, 1])
    assert mode.encode(labels) == pytest.approx([0, 0.5, 1])


def test_places_beyond_the_type_of_the_levels_do_not_wrap():
    assert Mode.over("m", np.array([10, 110], np.uint8), 2, True).encode(np.array([5], np.uint8)) == pytest.approx(
        -0.05
    )
    far = Mode.over("m", np.array([-10, 10]), 2, True).encode(np.array([2**63 - 1, -(2**63)]))
    assert far == pytest.approx([2.0**63 / 20, -(2.0**63) / 20])


@pytest.mark.parametrize(
    ("labels", "asked", "says"),
    [
        (np.array(["1970-01-01", "1970-01-06"], "M8[D]"), 3, "is 3: give a date, as 1970-01-01"),
        (np.array(["1970-01-01", "1970-01-06"], "M8[ns]"), "300000-01-06", "too far"),
        (np.array([0.0, 1.0]), 1 + 1j, "give a number"),
        (np.array([0.0, 1.0]), ["0.5", "noon"], "is 'noon': give a number"),
    ],
)
def test_what_is_no_place_is_named(labels, asked, says):
    with pytest.raises(DataError, match=says):
        Mode.over("m", labels, 2, True).encode(asked)


def test_a_duration_may_be_a_number_in_the_unit_of_its_mode():
    mode = Mode.over("m", np.array([1, 5], "m8[s]"), 2, True)
    assert mode.encode([3]).tolist() == mode.encode(["3"]).tolist() == [0.5]
    assert mode.encode(np.array([3000], "m8[ms]")).tolist() == [0.5]


def test_a_level_that_two_have_is_not_told_apart():
    mode = Mode.over("m", np.array(["a", "a", "b"]), 3, False)
    assert mode.encode(["b"]).tolist() == [2]
    with pytest.raises(DataError, match="more than one level 'a'"):
        mode.encode(["b", "a"])
