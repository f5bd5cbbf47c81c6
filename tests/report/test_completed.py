"""The page and the figure of a completion: whole, inert, and right about what they say."""

import ast
import csv
import dataclasses
import io
import json
import math
import re
import shlex
from functools import cache

import numpy as np
import pytest
import torch
from html_pages import Page

import tenfold as tn
from tenfold.cli.app import _run
from tenfold.completion import Prediction, State, _registry, method
from tenfold.completion._registry import Callback
from tenfold.completion.task import Task
from tenfold.errors import FileError
from tenfold.report import completed, completed_page, completed_slices, plot_posterior, write_posterior
from tenfold.report._ruler import Ruler
from tenfold.verbs._modes import Mode

HOSTILE = '$x_{$ <script>alert(1)</script> 温度 & "q"'
SECTIONS = ["headline", "fitting", "slices", "compared", "residuals", "influential", "record", "about"]


@dataclasses.dataclass(frozen=True, eq=False)
class Linear:
    """Bayesian linear regression on waves along continuous modes, levels of discrete ones and attributes."""

    sizes: tuple
    rank: int
    coefficients: torch.Tensor
    covariance: torch.Tensor
    noise: float
    counts: bool
    errors: tuple = (1.0, 0.6, 0.4, 0.35)
    stopped: str = "tol"
    evidence: float | None = -12.5

    @property
    def parameters(self):
        return len(self.coefficients)

    def predict(self, coordinates, attributes=None):
        x = _features(coordinates, attributes, self.sizes, self.rank)
        mean = x @ self.coefficients
        if self.counts:
            mean = mean.clamp(min=0.1)
        return Prediction(mean, ((x @ self.covariance) * x).sum(1), torch.tensor(self.noise, dtype=torch.float64))

    def state(self):
        facts = {"sizes": self.sizes, "rank": self.rank, "noise": self.noise, "counts": self.counts}
        return State({"coefficients": self.coefficients, "covariance": self.covariance}, facts)


def _features(coordinates, attributes, sizes, rank):
    columns = [torch.ones(len(coordinates), 1, dtype=torch.float64)]
    for n, size in enumerate(sizes):
        place = coordinates[:, n]
        if size is None:
            columns.append(torch.cos(math.pi * place[:, None] * torch.arange(1, rank + 1)))
        else:
            columns.append(torch.nn.functional.one_hot(place.long(), size).double())
    if attributes is not None:
        columns.append(attributes)
    return torch.cat(columns, 1)


def _restore(state):
    facts = state.facts
    sizes = tuple(facts["sizes"])
    return Linear(sizes, facts["rank"], state.tensors["coefficients"], state.tensors["covariance"], facts["noise"],
                  facts["counts"])  # fmt: skip


def _fit(task, rank, counts):
    rank = rank or 3
    x = _features(task.coordinates, task.attributes, task.sizes, rank)
    precision = x.T @ x + 0.1 * torch.eye(x.shape[1], dtype=torch.float64)
    found = torch.linalg.solve(precision, x.T @ task.values)
    noise = max(float((task.values - x @ found).square().mean()), 1e-6)
    return Linear(task.sizes, rank, found, noise * torch.linalg.inv(precision), noise, counts)


@pytest.fixture(scope="module", autouse=True)
def models():
    """Two small models, registered for these tests only."""

    @method("test_linear", restore=_restore, continuous=True, attributes=True, automatic=False)
    def linear(
        task: Task,
        *,
        rank: int | None = None,
        seed: int = 0,
        epochs: int = 1,
        tol: float = 0.0,
        callback: Callback | None = None,
        resume: State | None = None,
    ):
        """Linear regression."""
        return _fit(task, rank, False)

    @method("test_counts", restore=_restore, continuous=True, counts=True, ranks=False, automatic=False)
    def counted(
        task: Task,
        *,
        rank: int | None = None,
        seed: int = 0,
        epochs: int = 1,
        tol: float = 0.0,
        callback: Callback | None = None,
        resume: State | None = None,
    ):
        """Linear regression of counts."""
        return _fit(task, rank, True)

    yield
    for name in ("test_linear", "test_counts"):
        del _registry._entries[name]
    _made.cache_clear()


def _table(rows=240, levels=6, seed=0):
    import pandas as pd

    r = np.random.default_rng(seed)
    hour, station = r.uniform(0, 24, rows), r.integers(0, levels, rows)
    value = np.sin(hour / 4) + 0.3 * station + 0.2 * r.normal(size=rows)
    return pd.DataFrame({"hour": hour, "station": [f"s{k}" for k in station], "value": value})


def _dates():
    table = _table()
    table["day"] = np.datetime64("2013-03-01") + np.arange(len(table)).astype("timedelta64[D]")
    return tn.complete(table[["day", "station", "value"]], "test_linear", value="value")


def _doses():
    table = _table()
    table["dose"] = 10 ** np.linspace(-6, 2, len(table))
    return tn.complete(table[["dose", "station", "value"]], "test_linear", value="value", rank=1)


def _hostile():
    table = _table().rename(columns={"station": HOSTILE, "value": "<b>value</b>"})
    table[HOSTILE] = table[HOSTILE].map({f"s{k}": f"</svg><img src=x onerror=a({k})>, $y_{k}$ " + "long " * 20 + "z"
                                         for k in range(6)})  # fmt: skip
    return tn.complete(table, "test_linear", value="<b>value</b>", source="<img src=x onerror=alert(2)>\n{{ 7*7 }}")


def _counts():
    table = _table()
    table["value"] = np.random.default_rng(1).poisson(np.exp(table["value"] + 2))
    return tn.complete(table, "test_counts", value="value", counts=True, holdout=0.2)


def _attributes():
    table = _table().assign(wind=np.linspace(-1, 1, 240))
    return tn.complete(table, "test_linear", value="value", attributes=["wind"])


def _matrix(rows, columns, part=0.4, scale=1.0, **how):
    r = np.random.default_rng(2)
    array = scale * (r.normal(size=(rows, 1)) + r.normal(size=columns) + 0.1 * r.normal(size=(rows, columns)))
    array[r.random(array.shape) < part] = np.nan
    return tn.complete(array, "test_linear", **how)


def _loaded():
    import tempfile
    from pathlib import Path

    with tempfile.TemporaryDirectory() as folder:
        _made("table").save(Path(folder) / "a.tn")
        return tn.load(Path(folder) / "a.tn")


MAKERS = {
    "table": lambda: tn.complete(_table(), "test_linear", value="value", source="stations.csv"),
    "loaded": _loaded,
    "one mode": lambda: tn.complete(_table()[["hour", "value"]], "test_linear", value="value", rank=4, holdout=0.2),
    "one discrete mode": lambda: tn.complete(_table()[["station", "value"]], "test_linear", value="value", rank=1),
    "counts": _counts,
    "nothing held out": lambda: tn.complete(_table(12), "test_linear", value="value"),
    "attributes": _attributes,
    "one level": lambda: tn.complete(_table(levels=1), "test_linear", value="value", rank=2),
    "hostile": _hostile,
    "dates": _dates,
    "doses": _doses,
    "many levels": lambda: _matrix(1200, 4, rank=1, coordinates={"i": np.array([f"gene {k}" for k in range(1200)])}),
    "huge": lambda: _matrix(12, 9, scale=1e150, rank=1),
    "tiny": lambda: _matrix(12, 9, scale=1e-200, rank=1),
    "one observation": lambda: tn.complete(_table(1), "test_linear", value="value"),
    "constant": lambda: tn.complete(_table().assign(value=3.0), "test_linear", value="value", rank=1),
}


@cache
def _made(name):
    return MAKERS[name]()


@cache
def _page(name):
    return completed_page.render(_made(name))


@pytest.mark.parametrize("name", MAKERS)
def test_every_page_is_whole_and_loads_nothing(name):
    text = _page(name)
    page, posterior = Page(text), _made(name)
    lacking = set()
    if posterior.held_out is None:
        lacking.add("fitting")
    if not posterior.diagnosis.influential:
        lacking.add("influential")
    if all(len(rows) < 2 for rows in posterior.diagnosis.residuals.values()):
        lacking.add("residuals")
    assert [one for one in page.ids if one in SECTIONS] == [one for one in SECTIONS if one not in lacking]
    assert all(address.startswith(("data:", "#")) for address in page.addresses)
    assert not re.search(r"url\((?!#)|@import|https?://(?!www\.w3\.org)", text)
    assert "default-src 'none'" in text
    assert "script" not in page.tags
    assert not page.handlers
    assert len(text) < 2_000_000
    assert not re.search(r"\bnan\b|\binf\b", page.text.lower())
    assert not re.search(r' d="[^"]*(nan|inf)', text)


@pytest.mark.parametrize("name", ["table", "nothing held out", "one observation", "counts", "attributes", "huge"])
def test_the_figure_of_every_kind_can_be_drawn(name):
    figure = plot_posterior(_made(name))
    out = io.BytesIO()
    figure.savefig(out, format="png", dpi=20)
    assert out.getvalue().startswith(b"\x89PNG")
    assert 1 <= len(figure.axes) <= 3


def test_the_figure_shows_scatter_calibration_and_ranks():
    labels = [ax.get_xlabel() for ax in plot_posterior(_made("table")).axes]
    assert labels == ["value observed", "level of the interval", "rank"]
    labels = [ax.get_xlabel() for ax in plot_posterior(_made("one mode")).axes]
    assert labels == ["value observed", "level of the interval", "hour"]


def test_names_are_text_and_nothing_else():
    page = Page(_page("hostile"))
    assert HOSTILE in page.text
    assert "<b>value</b>" in page.text
    assert "<img src=x onerror=alert(2)> {{ 7*7 }}" in page.text
    assert "onerror=a(" in page.text
    # Five facts are bold, nothing else.
    assert page.tags.count("b") == 5


def test_the_headline_states_how_good_it_is():
    posterior, page = _made("counts"), Page(_page("counts"))
    held = posterior.held_out
    shares = [f"{100 * share:.1f} %" for share in (held.coverage["0.9"], held.explained)]
    told = [f"{posterior.observations:,} observations", "counts of events", "held out for a test"]
    for part in (f"{held.rmse:.3g}", f"{held.mae:.3g}", *shares, *told):
        assert part in page.text


def test_what_speaks_against_a_result_stands_before_everything_else():
    posterior = _made("nothing held out")
    text = _page("nothing held out")
    assert posterior.diagnosis.warnings
    for warning in posterior.diagnosis.warnings:
        assert warning in Page(text).text
    assert text.index('id="warnings"') < text.index('id="slices"')
    assert "nothing tells how good the predictions are" in Page(text).text


def test_python_on_the_page_runs_and_the_commands_too(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    for name in ("table", "dates", "counts", "many levels", "hostile", "attributes"):
        posterior = _made(name)
        posterior.save("my file.tn")
        used = completed_page._use(posterior, "my file.tn")
        found: dict = {}
        lines = used["python"].splitlines()
        for line in lines[:-4]:
            exec(line, found)
        answers = [eval(line, found) for line in lines[-4:]]
        assert answers[0] == pytest.approx(posterior.mean(found["point"], attributes=found.get("known")))
        assert answers[3].shape == (100, 1)
        asked = [shlex.split(line) for line in used["terminal"].splitlines() if "points.csv" not in line]
        assert [command[1] for command in asked] == ["query", "show"]
        for command in asked:
            assert command[0] == "tenfold"
            capfd.readouterr()
            assert _run([*command[1:], "--json"], debug=False) == 0
            told = json.loads(capfd.readouterr().out)
            if command[1] == "query":
                assert told[0]["mean"] == pytest.approx(answers[0][0], rel=1e-4)


def test_show_writes_the_page_of_a_file_again(tmp_path):
    _made("table").save(tmp_path / "a.tn")
    page = tmp_path / "a.html"
    assert _run(["show", str(tmp_path / "a.tn"), "--report", str(page)], debug=False) == 0
    read = Page(page.read_text(encoding="utf-8"))
    assert "loaded without the data" in read.text
    assert "stations.csv" in read.text
    assert "Observed value" not in read.text
    # All else is in the file.
    assert read.text.count("Along ") >= 2
    assert set(SECTIONS) <= set(read.ids)


def test_a_page_that_cannot_be_written_leaves_what_was_there(tmp_path):
    with pytest.raises(FileError):
        write_posterior(_made("table"), tmp_path / "none" / "a.html")


def test_attributes_leave_slices_out_and_say_so():
    page = Page(_page("attributes"))
    assert "needs wind for each point" in page.text
    assert "Along hour" not in page.text
    assert "Along hour" in Page(_page("table")).text


def test_a_mode_of_one_level_is_named_and_not_drawn():
    page = Page(_page("one level"))
    assert "station has one level" in page.text
    assert "Along station" not in page.text


def test_observations_near_a_slice_are_drawn_over_it():
    posterior = _made("table")
    along = posterior.modes[0]
    fixed = completed_slices._typical(posterior, along)
    level = posterior.modes[1].label(int(fixed["station"]))
    there = int((_table()["station"] == level).sum())
    assert there == max((_table()["station"] == f"s{k}").sum() for k in range(6))
    panel = completed_slices.along(posterior, along)
    assert f"station = {level}" in panel.note
    assert f"{there} observations there" in panel.note


def test_observations_near_a_slice_keep_their_distance_from_the_mean():
    posterior = _made("table")
    station = posterior.modes[1]
    fixed = completed_slices._typical(posterior, station)
    seen = completed_slices._seen(posterior, fixed, None)
    moved = completed_slices._moved(posterior, station, fixed, seen)
    assert len(seen.values) > 5
    places = torch.tensor(np.stack([seen.places["hour"], seen.places["station"]], 1))
    here = torch.tensor(np.stack([np.full(len(places), fixed["hour"]), seen.places["station"]], 1))
    own, there = (posterior.predict_encoded(at, None)[0] for at in (places, here))
    assert not np.allclose(own, there)
    assert moved.values - there == pytest.approx(seen.values - own)
    assert "each is moved by as much as the mean changes" in completed_slices.along(posterior, station).note


def test_the_slice_is_what_the_posterior_predicts():
    posterior = _made("table")
    mean, low, lower, upper, high = completed_slices._predicted(
        posterior, {"hour": np.array([0.0, 0.5, 1.0])}, {"station": 2.0}
    )
    mode = posterior.modes[0]
    points = {"hour": [mode.low, (mode.low + mode.high) / 2, mode.high], "station": posterior.modes[1].label(2)}
    assert mean == pytest.approx(posterior.mean(points))
    expected = posterior.quantiles(points, [0.05, 0.25, 0.75, 0.95])
    assert np.stack([low, lower, upper, high], 1) == pytest.approx(expected)


def test_many_levels_are_ordered_and_the_ends_named():
    posterior = _made("many levels")
    mode = posterior.modes[0]
    note = completed_slices.along(posterior, mode).note
    places, _ = completed_slices._places_of(mode, 10, 600)
    found = completed_slices._predicted(posterior, {"i": places}, completed_slices._typical(posterior, mode))[0]
    assert f"Highest: {mode.label(int(places[found.argmax()]))}," in note
    assert "600 of 1,200 levels are drawn" in note


def test_a_map_shows_what_was_observed_beside_what_is_predicted():
    titles = [panel.title for panel in completed_slices.maps(_made("huge"))]
    assert titles == ["Observed value", "Predicted value", "Standard deviation of an observation"]
    assert completed_slices.maps(_made("one mode")) == []
    posterior = _made("huge")
    seen = completed_slices._seen(posterior, {}, None)
    total, count = completed_slices._binned(
        seen, posterior.modes[0], posterior.modes[1], np.arange(12.0), np.arange(9.0)
    )
    given = posterior.data
    assert count.sum() == len(given)
    i, j = given.coordinates[5].long().tolist()
    assert total[j, i] == float(given.values[5])


def test_the_scatter_counts_what_is_outside_its_interval():
    held = _made("table").held_out
    assert len(held.points) == held.count
    outside = sum(not low <= observed <= high for _, observed, low, high in held.points)
    assert f"The interval of {outside} (orange" in completed.fitting(_made("table"))[0].note
    assert outside / held.count == pytest.approx(1 - held.coverage["0.9"], abs=1e-9)


def test_the_band_of_chance_holds_exact_intervals_as_often_as_it_says():
    held = dataclasses.replace(_made("table").held_out, count=50)
    low, high = held.chance(0.9)
    found = np.random.default_rng(0).binomial(50, 0.9, 20_000) / 50
    assert 0.94 < ((found >= low) & (found <= high)).mean() < 0.99
    more = dataclasses.replace(held, count=400)
    assert np.ptp(more.chance(0.5)) < np.ptp(held.chance(0.5))


def test_numbers_far_beyond_the_usual_are_drawn_in_powers_of_ten():
    for scale in (1e150, 1e-200, 3e-320, 1e308):
        values, unit = completed.scaled(np.array([scale, -scale / 2]))
        assert 0.9 < abs(values[0]) < 10
        assert unit.startswith(" / 1e")
    assert completed.scaled(np.array([5.0, 0.0]))[1] == ""


@pytest.mark.parametrize(
    ("labels", "kind"),
    [
        (np.array([3, 4, 5]), "number"),
        (np.array([1, 2, 900_000, 900_001]), "name"),
        (np.array(["a", "b"]), "name"),
        (np.array(["2020-01-01", "2021-01-01"], dtype="datetime64[D]"), "time"),
        (np.array([-40_000, 50_000], dtype="datetime64[Y]"), "name"),
        (np.array([1, 2], dtype="timedelta64[h]"), "number"),
    ],
)
def test_levels_are_drawn_to_scale_where_they_have_one(labels, kind):
    assert Ruler(Mode.over("m", labels, len(labels), False)).kind == kind


def test_places_between_dates_lie_between_them():
    days = np.array(["2020-01-01", "2020-01-02", "2020-01-11"], dtype="datetime64[D]")
    ruler = Ruler(Mode.over("day", days, 3, True))
    assert ruler.positions([0.0, 0.5, 1.0]) == pytest.approx(18262 + np.array([0, 5, 10]))


def test_doses_stand_on_a_logarithmic_axis():
    posterior = _made("doses")
    mode = posterior.modes[0]
    assert mode.log
    ruler = Ruler(mode)
    assert mode.encode(ruler.positions([0.0, 0.3, 1.0])) == pytest.approx([0.0, 0.3, 1.0])
    figure = completed.figure(4, 3)
    ax = figure.subplots()
    ruler.mark(ax.xaxis)
    assert ax.get_xscale() == "log"
    assert "on a logarithmic scale" in Page(_page("doses")).text


def test_hostile_points_are_written_so_that_they_are_read_back():
    posterior = _made("table")
    labels = np.array(['a,"b"', "c=d", "e f"])
    mode = Mode.over("s", labels, 3, False)
    strange = dataclasses.replace(posterior, modes=(mode,))
    text = completed_page._asked(strange, ['a,"b"'])
    assert next(csv.reader([text])) == ['s=a,"b"']
    assert (
        completed_page._asked(dataclasses.replace(posterior, modes=(dataclasses.replace(mode, name="a=b"),)), ["c"])
        is None
    )
    assert ast.literal_eval(completed_page._quoted('a"\n\\')) == 'a"\n\\'
