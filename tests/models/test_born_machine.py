"""Born machines: exact sums, exact samples, known distributions learnt, tables of people."""

from __future__ import annotations

import itertools
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tenfold import Network, formats
from tenfold.claims.born_machine import bars_and_stripes, counted_information
from tenfold.errors import DataError, FileError, TenfoldError
from tenfold.models import BornMachine, born_machine


def random_machine(shape: tuple[int, ...], rank: int, seed: int) -> BornMachine:
    network = Network.random(formats.tensor_train(shape, rank), seed=seed, dtype=torch.float64)
    first, *rest = network.cores
    network = network.replace([first / float(network.norm()), *rest])
    names = tuple("abcdefgh"[: len(shape)])
    return BornMachine(network, names, {name: tuple(range(n)) for name, n in zip(names, shape, strict=True)})


@settings(max_examples=20, deadline=None)
@given(shape=st.lists(st.integers(1, 4), min_size=1, max_size=5).map(tuple), seed=st.integers(0, 999))
def test_sums_agree_with_the_whole_table(shape: tuple[int, ...], seed: int):
    machine = random_machine(shape, 3, seed)
    whole = machine.network.dense() ** 2
    names = machine.features
    rows = torch.cartesian_prod(*(torch.arange(n) for n in shape)).reshape(-1, len(shape))
    torch.testing.assert_close(machine.log_probability(rows).exp(), whole.reshape(-1), atol=1e-12, rtol=1e-8)
    for k, name in enumerate(names):
        others = [n for n in range(len(shape)) if n != k]
        torch.testing.assert_close(machine.probabilities(name), whole.sum(others) if others else whole)
    if len(shape) > 1:
        pair = machine.probabilities(names[-1], names[0])
        summed = whole.sum(tuple(range(1, len(shape) - 1))) if len(shape) > 2 else whole
        torch.testing.assert_close(pair, summed.T)
        fixed = machine.probabilities(names[-1], given={names[0]: 0})
        torch.testing.assert_close(fixed, summed[0] / summed[0].sum())
        entropy = -torch.special.xlogy(summed, summed).sum()
        assert machine.entropy(names[0], names[-1]) == pytest.approx(float(entropy), abs=1e-9)


@settings(max_examples=15, deadline=None)
@given(shape=st.lists(st.integers(1, 4), min_size=2, max_size=4).map(tuple), seed=st.integers(0, 999))
def test_entanglement_is_that_of_the_singular_values(shape: tuple[int, ...], seed: int):
    machine = random_machine(shape, 3, seed)
    values = torch.linalg.svdvals(machine.network.dense().reshape(shape[0], -1)) ** 2
    expected = float(-torch.special.xlogy(values, values).sum())
    assert machine.entanglement("a") == pytest.approx(expected, abs=1e-8)
    # Both sides of a cut of a pure state know equally much of each other.
    assert machine.entanglement(*machine.features[1:]) == pytest.approx(expected, abs=1e-8)


def test_bars_and_stripes():
    rows = bars_and_stripes(3)
    assert len(rows) == 14
    machine = born_machine(rows, sweeps=8, max_rank=8)
    assert machine.history[-1] == pytest.approx(math.log(14), abs=1e-4)
    torch.testing.assert_close(machine.log_probability(rows).exp().sum(), torch.tensor(1.0, dtype=torch.float64))
    torch.testing.assert_close(machine.mutual_information(), counted_information(rows), atol=1e-3, rtol=0)
    known = set(map(tuple, rows.tolist()))
    assert all(tuple(row) in known for row in machine.sample(500).tolist())


def test_samples_have_the_probabilities():
    machine = random_machine((3, 4, 2), 3, 5)
    rows = machine.sample(20_000, seed=1)
    counts = torch.zeros(3, 4, 2, dtype=torch.float64)
    counts.index_put_(tuple(rows.T), torch.ones(len(rows), dtype=torch.float64), accumulate=True)
    assert float((counts / len(rows) - machine.network.dense() ** 2).abs().max()) < 0.015
    assert torch.equal(rows, machine.sample(20_000, seed=1))


def planted_table(rows: int = 600, seed: int = 0) -> dict[str, list[str]]:
    """Weather says what people carry; the day says nothing."""
    rng = np.random.default_rng(seed)
    weather = rng.choice(["rain", "sun", "snow"], rows, p=[0.5, 0.3, 0.2])
    carry = np.array([{"rain": "umbrella", "sun": "hat", "snow": "skis"}[w] for w in weather])
    return {"weather": weather.tolist(), "day": rng.choice(["mo", "tu", "we"], rows).tolist(), "carry": carry.tolist()}


def test_a_table_with_labels():
    table = planted_table()
    machine = born_machine(table, sweeps=6, max_rank=6)
    assert machine.levels["carry"] == ("hat", "skis", "umbrella")
    given = machine.probabilities("carry", given={"weather": "snow"})
    assert given[1] > 0.99
    information = machine.mutual_information()
    assert information[0, 2] > 0.9
    assert information[0, 1] < 0.05
    odd = {"weather": "snow", "day": "mo", "carry": "hat"}
    scores = -machine.log_probability({name: [odd[name], column[0]] for name, column in table.items()})
    assert scores[0] > machine.threshold(table, 0.99) > scores[1]
    blame = machine.explain(odd)
    assert blame["carry"] > 3 > blame["day"]
    assert "weather (3), day (3), carry (3)" in repr(machine)
    assert machine.plot().axes


def test_a_data_frame_and_rows_are_the_same_table():
    pandas = pytest.importorskip("pandas")
    table = planted_table(50)
    frame = pandas.DataFrame(table)
    one, other = born_machine(table, sweeps=2), born_machine(frame, sweeps=2)
    assert one.history == other.history
    rows = list(zip(*table.values(), strict=True))
    torch.testing.assert_close(one.log_probability(rows), other.log_probability(frame))


def test_held_out_rows_choose_the_sweep():
    rng = np.random.default_rng(3)
    noise = torch.from_numpy(rng.integers(0, 5, (80, 6)))
    machine = born_machine(noise, sweeps=8, holdout=0.25)
    assert len(machine.held_out) == 8
    # Rows that have nothing in common cannot be learnt: what comes later is only by heart.
    assert machine.held_out[-1] > min(machine.held_out)
    assert machine.history[-1] < machine.history[0]


@pytest.mark.parametrize("codes", [[[0], [1], [1], [2]], [[0, 0], [0, 0]], [[0, 0, 0]]])
def test_one_feature_one_category_one_row(codes: list[list[int]]):
    rows = torch.tensor(codes)
    machine = born_machine(rows, sweeps=5)
    counts = torch.unique(rows, dim=0, return_counts=True)[1].double() / len(rows)
    assert machine.history[-1] == pytest.approx(float(-torch.special.xlogy(counts, counts).sum()), abs=1e-3)


def test_files(tmp_path: Path):
    machine = born_machine(planted_table(40), sweeps=2, holdout=0.1)
    machine.save(tmp_path / "machine.tn")
    back = BornMachine.load(tmp_path / "machine.tn")
    assert (back.features, back.levels, back.history) == (machine.features, dict(machine.levels), machine.history)
    torch.testing.assert_close(back.mutual_information(), machine.mutual_information())
    Network.random(formats.cp((3, 4), 2)).save(tmp_path / "other.tn")
    with pytest.raises(FileError, match="holds no Born machine"):
        BornMachine.load(tmp_path / "other.tn")


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ({}, "no rows or no columns"),
        ({"a": []}, "no rows or no columns"),
        ({"a": [1, 2], "b": [1]}, "different lengths"),
        ({"a": [1, None]}, "1 missing entries"),
        ({"a": [1.0, math.nan]}, "1 missing entries"),
        (torch.zeros(3), "shape"),
        (torch.zeros(0, 3, dtype=torch.int64), "shape"),
        (torch.zeros(3, 2), "whole numbers"),
        (torch.tensor([[-1, 0]]), "whole numbers"),
        ("table.csv", "rows must be"),
    ],
)
def test_tables_that_are_none(rows, said: str):
    with pytest.raises(DataError, match=said):
        born_machine(rows)


def test_names_and_labels_that_are_not_known():
    machine = born_machine(planted_table(40), sweeps=1)
    with pytest.raises(DataError, match="'colour' is no feature"):
        machine.probabilities("colour")
    with pytest.raises(DataError, match="'fog' is no category of 'weather'"):
        machine.probabilities("carry", given={"weather": "fog"})
    with pytest.raises(DataError, match="'fog' is no category of 'weather' that was there"):
        machine.log_probability({"weather": ["fog"], "day": ["mo"], "carry": ["hat"]})
    with pytest.raises(DataError, match="column 'day' is missing"):
        machine.log_probability({"weather": ["sun"], "carry": ["hat"]})
    with pytest.raises(DataError, match="named twice"):
        machine.probabilities("carry", given={"carry": "hat"})
    for options in ({"holdout": 1}, {"max_rank": 0}, {"sweeps": 1.5}):
        with pytest.raises(TenfoldError, match="must be"):
            born_machine(planted_table(20), **options)


def test_sixteen_features_are_summed_without_the_table():
    rows = torch.tensor(list(itertools.islice(itertools.product([0, 1], repeat=40), 0, 2**12, 97)))
    machine = born_machine(rows, sweeps=1, max_rank=4)
    assert float(machine.probabilities("x40").sum()) == pytest.approx(1)


def test_rows_are_explained_in_any_form():
    network = random_machine((2, 3, 2), 2, 0).network
    machine = BornMachine(network, ("a", "b", "c"), {"a": ("x", "y"), "b": (10, 20, 30), "c": (False, True)})
    expected = machine.explain({"a": "y", "b": 30, "c": False})
    assert machine.explain(["y", 30, False]) == machine.explain(("y", 30, False)) == expected
    assert machine.explain(torch.tensor([1, 2, 0])) == expected
    for wrong, said in (
        ({"a": "y", "b": 30}, "column 'c' is missing"),
        (["y", 30], "row must hold a category for each of a, b, c"),
        (7, "row must hold a category"),
        (torch.tensor([1, 3, 0]), "code 3 of 'b' is none of 0 to 2"),
        (torch.tensor([[1, 2, 0]]), "one row of codes"),
        (["y", 31, False], "'31' is no category of 'b'"),
    ):
        with pytest.raises(DataError, match=said):
            machine.explain(wrong)


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([[1]], "row 0 has 1 entries, not 3"),
        ([], "there are no rows"),
        ([1, 2, 0], "a sequence of rows"),
        ({"a": [], "b": [], "c": []}, "there are no rows"),
        (torch.tensor([[0, -1, 0]]), "code -1 of 'b' is none of 0 to 2"),
        (torch.tensor([[0, 0, 0], [0, 3, 0]]), "code 3 of 'b'"),
        (torch.tensor([0, 1, 0]), "codes must have shape"),
        (torch.zeros(0, 3, dtype=torch.int64), "codes must have shape"),
        (torch.zeros(1, 3), "codes must be whole numbers, not torch.float32"),
    ],
)
def test_rows_that_are_none(rows, said: str):
    with pytest.raises(DataError, match=said):
        random_machine((2, 3, 2), 2, 0).log_probability(rows)


def test_numbers_out_of_range():
    machine = random_machine((2, 3, 2), 2, 0)
    assert machine.sample(0).shape == (0, 3)
    with pytest.raises(TenfoldError, match="count must be a whole number of at least 0, not -1"):
        machine.sample(-1)
    with pytest.raises(TenfoldError, match="seed must be"):
        machine.sample(1, seed=-1)
    for wrong in (2, -0.1, "x", math.nan):
        with pytest.raises(TenfoldError, match="quantile must be from 0 to 1"):
            machine.threshold(torch.tensor([[0, 0, 0]]), wrong)
