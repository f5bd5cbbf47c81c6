"""From what was observed to a posterior."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

import tenfold as tn
from tenfold.errors import DataError, FileError, TenfoldError


def _matrix(rows=40, columns=30, rank=2, noise=0.1, missing=0.3, seed=0):
    generator = np.random.default_rng(seed)
    truth = generator.normal(size=(rows, rank)) @ generator.normal(size=(rank, columns))
    array = truth + noise * generator.normal(size=truth.shape)
    array[generator.random(array.shape) < missing] = np.nan
    return array, truth


@pytest.fixture(scope="module")
def found():
    array, truth = _matrix()
    return tn.complete(array, "alternating_minimization", holdout=0.1), array, truth


def test_a_planted_matrix_comes_back_with_its_rank(found):
    posterior, array, truth = found
    assert posterior.rank == 2
    hidden = np.isnan(array)
    assert np.sqrt(np.mean((posterior.mean() - truth)[hidden] ** 2)) < 0.1
    assert posterior.held_out is not None
    assert posterior.held_out.kind == "test"
    assert posterior.held_out.rmse < 0.15


def test_intervals_hold_what_they_say(found):
    posterior, array, truth = found
    rows, columns = np.nonzero(np.isnan(array))
    fresh = truth[rows, columns] + 0.1 * np.random.default_rng(1).normal(size=len(rows))
    low, high = posterior.quantiles(np.stack([rows, columns], 1), (0.05, 0.95)).T
    assert 0.85 <= ((fresh >= low) & (fresh <= high)).mean() <= 0.97


def test_points_may_come_in_many_forms(found):
    posterior, *_ = found
    expected = posterior.mean()[[1, 2], 3]
    pandas = pytest.importorskip("pandas")
    for points in (
        {"i": [1, 2], "j": 3},
        {"j": np.array([3, 3]), "i": np.array([1, 2])},
        [[1, 3], [2, 3]],
        np.array([[1.0, 3.0], [2.0, 3.0]]),
        pandas.DataFrame({"j": [3, 3], "other": [0, 0], "i": [1, 2]}),
    ):
        assert posterior.mean(points) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("points", "says"),
    [
        ({"i": 1}, "points lack mode 'j'"),
        ({"i": 1, "j": 2, "k": 3}, "no mode 'k'"),
        ({"i": [1, 2, 3], "j": [1, 2]}, "give as many, or one"),
        ({"i": 40, "j": 0}, "whole number from 0 to 39"),
        ([1, 2, 3], "a column for each of i, j"),
        ({"i": [], "j": []}, "points are empty"),
        ("nonsense", "points have shape"),
    ],
)
def test_points_that_are_none_are_refused_in_one_line(found, points, says):
    with pytest.raises(DataError, match=says) as caught:
        found[0].mean(points)
    assert "\n" not in str(caught.value)


def test_what_it_says_agrees_with_itself(found):
    posterior, *_ = found
    point = {"i": 4, "j": 7}
    low, middle, high = posterior.quantiles(point)[0]
    assert low < middle < high
    assert middle == pytest.approx(posterior.mean(point)[0])
    drawn = posterior.sample(point, 20_000, seed=3)
    assert drawn.shape == (20_000, 1)
    assert drawn.mean() == pytest.approx(middle, abs=0.05)
    assert ((drawn > low) & (drawn < high)).mean() == pytest.approx(0.9, abs=0.01)
    assert np.array_equal(drawn, posterior.sample(point, 20_000, seed=3))
    grid = np.linspace(middle - 20 * (high - low), middle + 20 * (high - low), 40_001)
    density = [posterior.log_density(point, value)[0] for value in (low, middle, high)]
    assert density[1] > max(density[0], density[2])
    many = posterior.log_density({"i": np.full(len(grid), 4), "j": 7}, grid)
    assert np.trapezoid(np.exp(many), grid) == pytest.approx(1, abs=0.01)
    assert posterior.std(point, noise=False)[0] < posterior.std(point)[0]
    with pytest.raises(TenfoldError, match="between 0 and 1"):
        posterior.quantiles(point, [1.0])


def test_a_file_answers_as_the_posterior_did(found, tmp_path):
    posterior, *_ = found
    posterior.save(tmp_path / "a.tn")
    again = tn.load(tmp_path / "a.tn")
    assert np.array_equal(again.mean(), posterior.mean())
    assert np.array_equal(again.std(), posterior.std())
    assert str(again) == str(posterior)
    assert json.loads(json.dumps(again.summary())) == json.loads(json.dumps(posterior.summary()))


def test_damaged_files_are_refused(found, tmp_path):
    path = tmp_path / "a.tn"
    found[0].save(path)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(FileError):
        tn.load(path)
    for old, new in ((b'\\"scale\\"', b'\\"scald\\"'), (b'"tenfold_posterior":"2"', b'"tenfold_posterior":"9"')):
        assert old in whole
        path.write_bytes(whole.replace(old, new))
        with pytest.raises(FileError, match="posterior"):
            tn.load(path)


def test_the_same_call_gives_the_same_result():
    array, _ = _matrix(20, 15)
    first, second = (tn.complete(array, "alternating_minimization", rank=2, seed=5) for _ in range(2))
    assert np.array_equal(first.mean(), second.mean())


def test_tables_with_text_and_large_numbers_for_coordinates():
    pandas = pytest.importorskip("pandas")
    array, truth = _matrix(25, 20)
    rows, columns = np.nonzero(~np.isnan(array))
    names = np.array([f"city {k}" for k in range(25)])
    table = pandas.DataFrame(
        {"place": names[rows], "id": columns.astype(np.int64) - 5 + 2**40, "t": array[rows, columns], "rest": 1.0}
    ).sample(frac=1, random_state=0)
    posterior = tn.complete(table, "alternating_minimization", value="t", modes=["place", "id"], rank=2)
    hidden = np.isnan(array)
    r, c = np.nonzero(hidden)
    expected = posterior.mean({"place": names[r], "id": c - 5 + 2**40})
    assert np.sqrt(np.mean((expected - truth[hidden]) ** 2)) < 0.15
    with pytest.raises(DataError, match="no level 'city 99'"):
        posterior.mean({"place": "city 99", "id": 2**40})


def test_rows_without_a_value_are_left_out():
    pandas = pytest.importorskip("pandas")
    array, _ = _matrix(20, 15, missing=0.0)
    rows, columns = np.indices(array.shape).reshape(2, -1)
    values = array.ravel().copy()
    values[::3] = np.nan
    table = pandas.DataFrame({"r": rows, "c": columns, "value": values})
    posterior = tn.complete(table, "alternating_minimization", rank=2)
    assert posterior.observations == np.isfinite(values).sum()
    assert posterior.source == "table"


def test_values_of_any_size():
    array, truth = _matrix(30, 20)
    plain = tn.complete(array, "alternating_minimization", rank=2)
    for factor in (1e150, 1e-150, -1e300):
        scaled = tn.complete(array * factor, "alternating_minimization", rank=2)
        assert scaled.mean() / factor == pytest.approx(plain.mean(), rel=1e-6, abs=1e-9)
        assert scaled.std() / abs(factor) == pytest.approx(plain.std(), rel=1e-5)
    assert truth.shape == plain.mean().shape


@pytest.mark.parametrize("value", [0.0, 3.5])
def test_a_constant_is_a_constant(value):
    array = np.full((12, 10), value)
    array[::3, ::2] = np.nan
    posterior = tn.complete(array, "alternating_minimization", rank=1)
    assert posterior.mean() == pytest.approx(np.full((12, 10), value), abs=1e-6)
    assert np.isfinite(posterior.std()).all()


def test_one_observation_is_enough_to_answer():
    array = np.full((3, 2), np.nan)
    array[1, 1] = 5.0
    posterior = tn.complete(array, "alternating_minimization", rank=1)
    assert posterior.mean({"i": 1, "j": 1}) == pytest.approx([5.0], abs=1.0)
    assert posterior.held_out is None
    assert any("never observed" in text for text in posterior.diagnosis.warnings)


def test_what_the_data_cannot_tell_is_said():
    array = np.full((20, 20), np.nan)
    generator = np.random.default_rng(0)
    array[:10, :10] = generator.normal(size=(10, 10))
    array[10:, 10:] = generator.normal(size=(10, 10))
    array[3, 1:10] = np.nan
    posterior = tn.complete(array, "alternating_minimization", rank=2)
    said = " ".join(posterior.diagnosis.warnings)
    assert "fall into 2 parts" in said
    assert "level 3 of mode 'i' has fewer observations than the rank, 2" in said
    assert said.splitlines()[0] in " ".join(str(posterior).replace("\n ", "").split()) or "2 parts" in str(posterior)


@pytest.mark.parametrize(
    ("array", "says"),
    [
        (np.full((3, 3), np.nan), "no known cell"),
        (np.array([[1.0, np.inf], [np.nan, 2.0]]), "inf"),
        (np.zeros((0, 3)), "empty"),
        (np.array([[1 + 1j, 2], [3, np.nan]]), "complex|NaN"),
        (np.array([["a", "b"]]), "numbers"),
        ("file.csv", r"read it first: tn\.io\.read\('file\.csv'\)$"),
    ],
)
def test_data_that_cannot_be_completed(array, says):
    with pytest.raises(DataError, match=says) as caught:
        tn.complete(array)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"model": "alternating_minimisation"}, "did you mean 'alternating_minimization'"),
        ({"model": 3}, "name of a model"),
        ({"rank": 0}, "rank must be a whole number of at least 1"),
        ({"holdout": 1.0}, "below 1"),
        ({"choose": "luck"}, "choose must be 'held_out' or 'evidence'"),
        ({"holdout": "much"}, "a share between 0 and 1"),
        ({"epochs": 0}, "epochs must be"),
        ({"tol": -1}, "at least 0"),
        ({"seed": -1}, "seed must be"),
        ({"continuous": ["z"]}, "continuous names 'z'"),
        ({"continuous": ["i"], "model": "alternating_minimization"}, "'i' is continuous"),
        ({"nonsense": 1}, "'nonsense' is no argument of complete"),
        ({"counts": True}, "counts are whole numbers"),
        ({"weights": [1, 2]}, "weights"),
        ({"value": "x"}, "name columns of a table"),
        ({"attributes": np.ones((2, 2))}, "attributes must be numbers, a row for each"),
    ],
)
def test_arguments_that_make_no_sense(given, says):
    array, _ = _matrix(10, 8)
    with pytest.raises(TenfoldError, match=says) as caught:
        tn.complete(array, **given)
    assert "\n" not in str(caught.value)


def test_negative_counts_are_named():
    array = np.array([[1.0, -2.0], [np.nan, 3.0]])
    with pytest.raises(DataError, match="value 1 is -2"):
        tn.complete(array, counts=True)


def test_the_evidence_finds_the_rank_too():
    array, _ = _matrix()
    posterior = tn.complete(array, "alternating_minimization", choose="evidence")
    assert posterior.rank == 2
    chosen = next(one for one in posterior.tried if one.chosen)
    assert chosen.evidence == max(one.evidence for one in posterior.tried if one.evidence is not None)


def test_repeated_measurements_are_held_out_together():
    pandas = pytest.importorskip("pandas")
    array, _ = _matrix(15, 12, missing=0.0)
    rows, columns = np.indices(array.shape).reshape(2, -1)
    one = pandas.DataFrame({"r": rows, "c": columns, "value": array.ravel()})
    table = pandas.concat([one, one, one])
    together = tn.complete(table, "alternating_minimization", rank=2, holdout=0.2, by_cell=True)
    assert together.held_out is not None
    assert together.held_out.count % 3 == 0


def test_all_models_that_suit_are_compared():
    array, _ = _matrix(20, 15)
    posterior = tn.complete(array, epochs=5)
    names = {one.method for one in posterior.tried}
    suited = {
        entry.name
        for entry in tn.completion.methods().values()
        if entry.automatic != 0 and not entry.counts and (entry.orders is None or 2 in entry.orders)
    }
    assert names == suited
    assert sum(one.chosen for one in posterior.tried) == 1


_KILLED = """
import sys, time
import numpy as np
import tenfold as tn
from tenfold.verbs import _completing
_completing._OFTEN = 0.0
slow = len(sys.argv) > 2
array = np.load(sys.argv[1] + ".npy")
entry = tn.completion.find("alternating_minimization")
def function(task, *, callback=None, **rest):
    def heard(step):
        callback(step)
        if slow and step.epoch >= 3:
            print("ready", flush=True)
            time.sleep(60)
    return entry.function(task, callback=heard, **rest)
import dataclasses
from tenfold.completion import _registry
_registry._entries["alternating_minimization"] = dataclasses.replace(entry, function=function)
found = tn.complete(array, "alternating_minimization", rank=2, epochs=12, tol=0.0, checkpoint=sys.argv[1])
np.save(sys.argv[1] + ".out.npy", found.mean())
"""


def test_a_killed_fit_goes_on(tmp_path):
    array, _ = _matrix()
    kept = tmp_path / "kept"
    np.save(f"{kept}.npy", array)
    first = subprocess.Popen([sys.executable, "-c", _KILLED, str(kept), "slow"], stdout=subprocess.PIPE)
    assert first.stdout is not None
    assert first.stdout.readline().strip() == b"ready"
    os.kill(first.pid, signal.SIGKILL)
    first.wait()
    assert list(kept.glob("*.safetensors"))
    subprocess.run([sys.executable, "-c", _KILLED, str(kept)], check=True, timeout=120)
    plain = tn.complete(array, "alternating_minimization", rank=2, epochs=12, tol=0.0)
    assert np.load(f"{kept}.out.npy") == pytest.approx(plain.mean(), abs=1e-9)


def test_a_checkpoint_of_another_call_is_refused(tmp_path):
    array, _ = _matrix(15, 12)
    tn.complete(array, "alternating_minimization", rank=1, checkpoint=tmp_path / "c")
    started = time.perf_counter()
    again = tn.complete(array, "alternating_minimization", rank=1, checkpoint=tmp_path / "c")
    assert again.rank == 1
    assert time.perf_counter() - started < 30
    with pytest.raises(FileError, match="of other data or arguments"):
        tn.complete(array + 1, "alternating_minimization", rank=1, checkpoint=tmp_path / "c")
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "thesis.txt").write_text("mine")
    with pytest.raises(FileError, match="other files in it"):
        tn.complete(array, "alternating_minimization", rank=1, checkpoint=tmp_path / "d")


def test_an_interrupt_gives_what_there_is(monkeypatch):
    array, _ = _matrix()
    entry = tn.completion.find("alternating_minimization")

    def function(task, *, callback=None, **rest):
        def heard(step):
            callback(step)
            if len(task) == np.isfinite(array).sum() and step.epoch == 2:  # the fit to everything
                raise KeyboardInterrupt

        return entry.function(task, callback=heard, **rest)

    from dataclasses import replace

    from tenfold.completion import _registry

    monkeypatch.setitem(_registry._entries, entry.name, replace(entry, function=function))
    posterior = tn.complete(array, "alternating_minimization", rank=2, tol=0.0)
    assert posterior.interrupted
    assert np.isfinite(posterior.mean()).all()


def test_an_interrupt_while_predictions_are_measured_keeps_the_model(monkeypatch):
    import sys

    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(sys.modules["tenfold.verbs.complete"], "diagnose", interrupted)
    array, _ = _matrix(20, 15)
    posterior = tn.complete(array, "alternating_minimization", rank=2)
    assert posterior.interrupted
    assert np.isfinite(posterior.mean()).all()
    assert "interrupted" in str(posterior)


def test_a_tensor_of_torch_is_data_too():
    array, _ = _matrix(15, 12)
    ours = tn.complete(torch.from_numpy(array), "alternating_minimization", rank=2)
    assert np.array_equal(ours.mean(), tn.complete(array, "alternating_minimization", rank=2).mean())


def test_numbers_too_large_to_be_counts_are_named():
    array = np.full((6, 5), 1e150)
    for given in ({"model": "poisson_cp"}, {"counts": True}):
        with pytest.raises(DataError, match=r"below 2\*\*53, and value 0 is 1e\+150"):
            tn.complete(array, **given)


def _listed(array, values, weights):
    seen = ~np.isnan(array)
    return tn.Observations.from_coo(np.argwhere(seen), values[seen], array.shape, weights=weights[seen])


@pytest.mark.parametrize(
    "given",
    [
        {"model": "grid_gp", "epochs": 20},
        {"model": "funbat_cp", "rank": 1, "epochs": 20},
        {"model": "cp", "rank": 2},
        {"model": "alternating_minimization", "rank": 2},
    ],
)
def test_only_ratios_of_weights_matter_and_those_of_zero_count_for_nothing(given):
    array, _ = _matrix(12, 10)
    wrong = np.zeros(array.shape, dtype=bool)
    wrong[::5, 3] = True
    spoiled = np.where(wrong, 1e6, array)
    weights = np.where(wrong, 0.0, 1e300)
    left = tn.complete(_listed(array, spoiled, weights), **given)
    plain = tn.complete(_listed(np.where(wrong, np.nan, array), array, np.full(array.shape, 3.0)), **given)
    assert left.observations == plain.observations
    assert left.mean() == pytest.approx(plain.mean(), rel=1e-9)
    assert left.std() == pytest.approx(plain.std(), rel=1e-9)


def test_weights_of_any_size_leave_finite_predictions():
    array, _ = _matrix(12, 10)
    weights = np.where(np.random.default_rng(0).random(array.shape) < 0.5, 1e-300, 1e300)
    posterior = tn.complete(_listed(array, array, weights), "funbat_cp", rank=1, epochs=20)
    assert np.isfinite(posterior.mean()).all()
    assert np.isfinite(posterior.std()).all()


def test_imprecise_observations_do_not_widen_the_intervals_of_others():
    array, truth = _matrix(40, 30)
    generator = np.random.default_rng(4)
    coarse = generator.random(array.shape) < 0.3
    noisy = np.where(coarse, array + 10 * generator.normal(size=array.shape), array)
    posterior = tn.complete(_listed(array, noisy, np.where(coarse, 1e-4, 1.0)), "alternating_minimization", holdout=0.1)
    assert posterior.rank == 2
    assert np.median(posterior.std()) < 0.2
    assert posterior.held_out.coverage["0.9"] == pytest.approx(0.9, abs=0.08)
    assert np.sqrt(np.mean((posterior.mean() - truth) ** 2)) < 0.1


def test_a_table_whose_columns_are_numbers_and_a_tensor_that_is_trained():
    pandas = pytest.importorskip("pandas")
    rows = np.argwhere(np.ones((6, 5)))
    value = rows.sum(1).astype(float)
    posterior = tn.complete(pandas.DataFrame(np.column_stack([rows, value])), "cp", rank=1, continuous=[])
    assert [mode.name for mode in posterior.modes] == ["0", "1"]
    trained = torch.tensor(value.reshape(6, 5), requires_grad=True)
    assert tn.complete(trained, "cp", rank=1).mean() == pytest.approx(posterior.mean())


def test_attributes_that_are_text_are_named():
    pandas = pytest.importorskip("pandas")
    table = pandas.DataFrame({"i": [0, 1], "effort": ["low", "high"], "value": [1, 2]})
    with pytest.raises(DataError, match="attributes effort must be columns of numbers"):
        tn.complete(table, "under_counted", attributes=["effort"])


@pytest.mark.parametrize(
    ("ask", "says"),
    [
        (lambda p: p.quantiles([[1, 1]], []), "q is empty"),
        (lambda p: p.quantiles([[1, 1]], None), "q must be numbers between 0 and 1, not None"),
        (lambda p: p.quantiles([[1, 1]], "0.5"), "q must be numbers between 0 and 1, not '0.5'"),
        (lambda p: p.sample([[1, 1]], seed=-1), "seed must be"),
        (lambda p: p.log_density([[1, 1]], "a"), "values must be 1 numbers"),
        (lambda p: p.log_density([[1, 1], [1, 2]], [1, 2, 3]), "values must be 2 numbers"),
        (lambda p: p.mean([[1, 1], [1]]), "points are no table"),
        (lambda p: p.mean([]), "points have shape"),
    ],
)
def test_questions_that_make_no_sense(found, ask, says):
    with pytest.raises(TenfoldError, match=says) as caught:
        ask(found[0])
    assert "\n" not in str(caught.value)


def test_rows_of_points_keep_their_types():
    pandas = pytest.importorskip("pandas")
    first, second = np.divmod(np.arange(48), 6)
    value = np.sin(first) * (1.0 + second)
    table = pandas.DataFrame({"id": first + 2**60, "depth": second + 0.5, "value": value})
    posterior = tn.complete(table, "cp", rank=1, continuous=[])
    everything = posterior.mean()
    assert posterior.mean([[2**60 + 1, 0.5], (2**60 + 2, 1.5)]) == pytest.approx(everything[[1, 2], [0, 1]])
    assert posterior.mean([2**60 + 1, 0.5]) == pytest.approx(everything[1, 0])
    assert posterior.mean([[str(2**60 + 1), "0.5"]]) == pytest.approx(everything[1, 0])


def _few_counts():
    pandas = pytest.importorskip("pandas")
    r = np.random.default_rng(0)
    first, second = (r.gamma(2.0, size=(size, 2)) for size in (15, 12))
    place, month = np.indices((15, 12)).reshape(2, -1)
    table = pandas.DataFrame({"place": place, "month": month, "seen": r.poisson(first @ second.T).ravel()})
    return table.assign(effort=r.uniform(size=len(table)))


def test_whole_numbers_are_tried_as_counts_before_time_is_up_and_what_was_not_tried_is_told():
    table = _few_counts().drop(columns="effort")
    posterior = tn.complete(table, value="seen", seconds=1e-3)
    assert {one.method for one in posterior.tried if one.error is not None} >= {"poisson_cp"}
    said = next(text for text in posterior.diagnosis.warnings if "time was up" in text)
    assert "funbat_cp" in said
    assert "poisson_cp" not in said


def test_attributes_of_which_no_use_is_made_are_told():
    told = "'poisson_cp' makes no use of effort; model 'under_counted' does"
    posterior = tn.complete(_few_counts(), "poisson_cp", value="seen", rank=1, attributes=["effort"])
    assert told in posterior.diagnosis.warnings
    assert posterior.attribute_names == ()
    posterior = tn.complete(_few_counts(), "under_counted", value="seen", rank=1, epochs=5, attributes=["effort"])
    assert not any("makes no use" in text for text in posterior.diagnosis.warnings)


def test_attributes_of_points_are_not_rearranged():
    generator = np.random.default_rng(0)
    array = generator.poisson(5.0, (6, 5))
    effort = generator.random((30, 2))
    cells = tn.Observations.from_coo(np.argwhere(array >= 0), array.ravel().astype(float), array.shape)
    posterior = tn.complete(cells, "under_counted", rank=1, epochs=20, attributes=effort)
    points = [[0, 0], [1, 1], [2, 2]]
    assert posterior.mean(points, attributes=effort[:3]).shape == (3,)
    assert posterior.mean(points, attributes=[0.1, 0.2]) == pytest.approx(
        posterior.mean(points, attributes=[[0.1, 0.2]] * 3)
    )
    for wrong in (effort[:3].T, "rain", effort[:2], {"z1": [1, 2], "z2": 1}):
        with pytest.raises(DataError, match=r"attributes must be numbers, a row of z1, z2 for each of 3 points"):
            posterior.mean(points, attributes=wrong)


def test_files_edited_by_hand_are_refused(found, tmp_path):
    path, changed = tmp_path / "a.tn", tmp_path / "b.tn"
    found[0].save(path)
    with safe_open(path, framework="pt") as file:
        header = file.metadata()
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    record = json.loads(header["record"])
    longest = max(tensors, key=lambda name: tensors[name].numel())
    for metadata, content in (
        ({**header, "record": json.dumps({**record, "scale": 2.0})}, tensors),
        ({**header, "record": json.dumps({**record, "center": float("nan")})}, tensors),
        ({name: value for name, value in header.items() if name != "seal"}, tensors),
        (header, {**tensors, longest: tensors[longest][:-1].clone()}),
        (header, {name: tensor for name, tensor in tensors.items() if name != longest}),
        (header, {**tensors, longest: tensors[longest] + 1}),
    ):
        save_file(content, changed, metadata=metadata)
        with pytest.raises(FileError, match="damaged posterior"):
            tn.load(changed)
    save_file(tensors, changed, metadata=header)
    assert np.array_equal(tn.load(changed).mean(), found[0].mean())


def test_a_damaged_checkpoint_is_fitted_again(tmp_path):
    array, _ = _matrix(12, 10)
    plain = tn.complete(array, "cp", rank=2)
    folder = tmp_path / "kept"
    tn.complete(array, "cp", rank=2, checkpoint=folder)
    for file in folder.glob("*.safetensors"):
        with safe_open(file, framework="pt") as opened:
            header = opened.metadata()
            tensors = {name: opened.get_tensor(name) * 2 for name in opened.keys()}  # noqa: SIM118
        save_file(tensors, file, metadata=header)
    assert np.array_equal(tn.complete(array, "cp", rank=2, checkpoint=folder).mean(), plain.mean())


def test_a_checkpoint_that_cannot_be_written_is_no_fault_of_a_model(tmp_path, monkeypatch):
    from tenfold.verbs._completing import Journal

    write = Journal.write

    def full(self, key, kept):
        if "cp-2" in key:
            raise FileError("cannot write: No space left on device")
        write(self, key, kept)

    monkeypatch.setattr(Journal, "write", full)
    with pytest.raises(FileError, match="No space left"):
        tn.complete(_matrix(12, 10)[0], "cp", checkpoint=tmp_path / "kept")


def test_rows_without_a_value_are_counted(tmp_path):
    pandas = pytest.importorskip("pandas")
    array, _ = _matrix(12, 10)
    rows, columns = np.indices(array.shape).reshape(2, -1)
    empty = int(np.isnan(array).sum())
    table = pandas.DataFrame({"r": rows, "c": columns, "value": array.ravel()})
    posterior = tn.complete(table, "cp", rank=1, holdout=0.1)
    assert posterior.empty == posterior.summary()["rows_without_value"] == empty > 1
    assert f"{empty} rows without a value left out" in str(posterior)
    posterior.save(tmp_path / "a.tn")
    assert tn.load(tmp_path / "a.tn").empty == empty
    assert tn.complete(table[: np.flatnonzero(np.isnan(array.ravel()))[0] + 1], "cp", rank=1).empty == 1
    # Holes of an array are what is to be predicted, and are in no row.
    whole = tn.complete(array, "cp", rank=1)
    assert whole.empty == 0
    assert "without a value" not in str(whole)


def test_errors_of_what_was_compared_are_in_the_units_of_the_data():
    posterior = tn.complete(1000 * _matrix(20, 15)[0], "cp")
    assert posterior.held_out is not None
    chosen = next(one for one in posterior.tried if one.chosen)
    assert chosen.error * chosen.deviation == pytest.approx(posterior.held_out.rmse)
    (row,) = [line for line in str(posterior).splitlines() if line.endswith("chosen")]
    assert float(row.split()[2]) == pytest.approx(posterior.held_out.rmse, rel=1e-3)
    assert "held-out RMSE" in str(posterior)


def test_files_and_checkpoints_of_other_versions_are_refused_as_such(found, tmp_path, monkeypatch):
    path = tmp_path / "a.tn"
    found[0].save(path)
    with safe_open(path, framework="pt") as file:
        header = file.metadata()
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    for version, said in (("1", "was made by an older version of tenfold"), ("99", "has posterior version '99'")):
        save_file(tensors, path, metadata={**header, "tenfold_posterior": version})
        with pytest.raises(FileError, match=said) as caught:
            tn.load(path)
        assert "\n" not in str(caught.value)
    array, _ = _matrix(12, 10)
    tn.complete(array, "cp", rank=1, checkpoint=tmp_path / "kept")
    monkeypatch.setattr("tenfold.verbs.complete.FILE_VERSION", 99)
    with pytest.raises(FileError, match="of another version of tenfold"):
        tn.complete(array, "cp", rank=1, checkpoint=tmp_path / "kept")
