"""The page: whole, self-contained, inert, and right about its numbers."""

import base64
import dataclasses
import io
import json
import math
import re
import shutil
import subprocess

import numpy as np
import pytest
import torch
from conftest import BROWSERS
from html_pages import Page
from PIL import Image

import tenfold
from tenfold import report
from tenfold.errors import DataError, FileError
from tenfold.network import Network
from tenfold.observations import Observations
from tenfold.report import factors, front, pictures, spectra
from tenfold.report._axes import axes_of
from tenfold.report._style import figure
from tenfold.structure import Structure

KINDS = [
    "vector", "matrix", "cube", "four", "five", "six", "complex", "complex vector", "photo", "holes", "scalar",
    "grouped", "twice", "named", "single",
]  # fmt: skip
SECTIONS = ["headline", "network", "front", "pictures", "spectra", "factors", "about"]


_PAGES: dict[str, str] = {}


@pytest.fixture
def written(made, tmp_path):
    """The page of a fit, made once."""

    def write(name):
        if name not in _PAGES:
            path = tmp_path / "page.html"
            report.write(made(name), path)
            _PAGES[name] = path.read_text(encoding="utf-8")
        return _PAGES[name]

    return write


@pytest.mark.parametrize("kind", KINDS)
def test_every_page_is_whole_and_loads_nothing(written, made, kind):
    text = written(kind)
    page = Page(text)
    known = bool(made(kind).spectra)
    assert [i for i in page.ids if i in SECTIONS] == [name for name in SECTIONS if known or name != "spectra"]
    assert all(address.startswith(("data:", "#")) for address in page.addresses)
    assert not re.search(r"url\((?!#)|@import|https?://(?!www\.w3\.org)", text)
    assert "script" not in page.tags
    assert not page.handlers
    assert len(text) < 3_000_000
    assert "nan" not in page.text.lower().replace("nanometre", "")
    assert "svg" in page.tags


def test_every_picture_decodes(written):
    text = written("cube") + written("photo")
    found = re.findall(r"data:image/png;base64,([A-Za-z0-9+/=]+)", text)
    assert len(found) >= 12
    for data in found:
        Image.open(io.BytesIO(base64.b64decode(data))).load()


def test_names_are_text_and_nothing_else(written):
    text = written("named")
    page = Page(text)
    assert "<script>alert(1)</script>" in page.text
    assert "<img src=x onerror=alert(2)> {{ 7*7 }}" in page.text
    assert "$x_{$ naïve 温度 ☃" in page.text
    assert '"quoted"' in page.text
    assert "<b>bold</b>" in page.text
    assert "script" not in page.tags
    assert page.tags.count("b") == 4


def test_the_page_forbids_scripts_and_loading(written):
    text = written("matrix")
    assert "default-src 'none'" in text
    # Ink on white when printed, whatever the screen.
    assert "@media screen and (prefers-color-scheme: dark)" in text
    assert text.index("Content-Security-Policy") < text.index("<style>")


def test_the_headline_states_the_fit(written, made):
    fit = made("photo")
    page = Page(written("photo"))
    for part in ("astronaut.png", "128 × 128 × 3", "uint8", f"{fit.parameters:,}", "at most 6,000 parameters"):
        assert part in page.text
    assert f"{fit.error:.3g}" in page.text
    assert f"{fit.ratio:.3g}×" in page.text
    assert fit.structure.pattern in page.text
    assert 'tn.load("fit.tn")' in page.text


def test_the_structure_can_be_read_back_from_the_page(written, made):
    page = Page(written("named"))
    start = page.text.index('{ "v"')
    found, _ = json.JSONDecoder().raw_decode(page.text[start:])
    assert Structure.from_json(json.dumps(found)) == made("named").structure


def test_the_front_and_the_chosen_trial_are_listed_and_all_others_folded_away(written, made):
    fit = made("cube")
    text = written("cube")
    best = {id(t) for t in front.pareto(fit.front)} | {id(t) for t in fit.front if t.chosen}
    shown, folded = re.search(r"<tbody>.*?</tbody>.*?<details>.*?</details>", text, re.S).group().split("<details>")
    assert shown.count("<tr") == len(best)
    assert shown.count('<tr class="chosen"') == 1
    assert folded.count("<tr") - 1 == len(fit.front) - len(best) > 0
    assert f"<summary>{len(fit.front) - len(best):,} more that were tried</summary>" in folded


def test_long_lists_of_trials_keep_the_front_and_lose_nothing():
    structure = Structure("i a, a j -> i j", i=99, j=99, a=5)
    trials = tuple(
        tenfold.structure_search.Trial(f"t{n}", structure, 100 + n, 1 / (n + 1) if n % 50 == 0 else 1.5, 0.1, "als")
        for n in range(300)
    )

    class Many:
        pass

    many = Many()
    many.front = trials
    shown, folded = front.rows(many)
    assert [r["name"] for r in shown] == ["t0", "t50", "t100", "t150", "t200", "t250"]
    assert len(folded) == 294


def test_a_structure_without_a_family_goes_by_the_name_it_was_tried_under(made, tmp_path):
    fit = made("grouped")
    assert tenfold.formats.name(fit.structure) is None
    for name, words in (("levels 2·3 x 5·6", "written as levels 2·3 x 5·6 (each"), ("x", "of its own kind")):
        trial = dataclasses.replace(fit.front[0], name=name, chosen=True)
        report.write(dataclasses.replace(fit, front=(trial,)), tmp_path / "page.html")
        assert words in Page((tmp_path / "page.html").read_text()).text


def test_what_was_asked_for_is_read_from_the_words_of_fit(made):
    assert front.budget(made("photo").target) == ("parameters", 6000.0)
    assert front.budget(made("cube").target) == ("error", 0.02)
    assert front.budget(made("named").target) is None


def test_a_loaded_fit_says_that_the_data_is_missing_and_takes_it_as_an_argument(made, tmp_path):
    made("cube").save(tmp_path / "fit.tn")
    loaded = tenfold.load(tmp_path / "fit.tn")
    report.write(loaded, tmp_path / "without.html")
    report.write(loaded, tmp_path / "with.html", data=made("cube").data)
    without, with_data = ((tmp_path / name).read_text() for name in ("without.html", "with.html"))
    assert "loaded without the data" in without
    assert "<h4>Original</h4>" not in without
    assert "<h4>Reconstruction</h4>" in without
    assert "<h4>Original</h4>" in with_data
    assert "<h4>Difference</h4>" in with_data


def test_data_of_another_shape_is_refused_and_the_old_page_stays(made, tmp_path):
    path = tmp_path / "page.html"
    path.write_text("before")
    with pytest.raises(DataError, match=r"data has shape \(2, 2\), but the fit has \(16, 18, 20\)"):
        report.write(made("cube"), path, data=np.zeros((2, 2)))
    assert path.read_text() == "before"
    assert list(tmp_path.iterdir()) == [path]


def test_a_page_that_cannot_be_written_is_an_error(made, tmp_path):
    with pytest.raises(FileError, match="no folder"):
        report.write(made("matrix"), tmp_path / "nowhere" / "page.html")


def test_the_numbers_below_the_difference_are_those_of_the_arrays(made):
    fit = made("matrix")
    (row,) = pictures.rows(fit, fit.data)
    gap = (fit.network.dense() - fit.data).abs()
    note = row.panels[-1].note
    assert f"Largest |difference| {float(gap.max()):.4g}" in note
    assert f"rms {math.sqrt(float((gap**2).mean())):.4g}" in note


def test_missing_cells_are_counted_and_sparse_zeros_are_not_missing(made):
    fit = made("holes")
    (row,) = pictures.rows(fit, fit.data)
    missing = fit.cells - fit.observed
    assert f"{missing} of the {fit.cells} cells ({missing / fit.cells:.1%}) are missing" in row.panels[-1].note
    zeros = dataclasses.replace(fit.data, rest="zero")
    (row,) = pictures.rows(fit, zeros)
    assert "missing" not in row.panels[-1].note


def test_parts_of_observations_are_those_of_the_array():
    array = np.random.default_rng(0).normal(size=(5, 6, 7))
    array[array < -1] = np.nan
    dense = pictures.Source(array)
    sparse = pictures.source_of(Observations.from_nan(array), (5, 6, 7))
    for selection in ((2, slice(None), slice(None)), (slice(None, None, 2), 3, slice(None)), (4, 5, 6)):
        assert np.array_equal(dense.part(selection), sparse.part(selection), equal_nan=True)


def test_slices_hold_the_energy_and_never_make_the_whole_tensor():
    shape = (3000, 4000, 5000)
    cores = [torch.zeros(n, 1, dtype=torch.float64) for n in shape]
    cores[0][1234] = 1.0
    cores[1][:] = torch.linspace(0, 1, 4000)[:, None]
    cores[2][:] = torch.linspace(1, 0, 5000)[:, None] ** 2
    network = Network(Structure("i r, j r, k r -> i j k", i=3000, j=4000, k=5000, r=1), cores)

    class Big:
        dims = ("i", "j", "k")
        coordinates: dict = {}  # noqa: RUF012
        units: dict = {}  # noqa: RUF012
        shape = network.shape
        source_dtype = "float64"

    big = Big()
    big.network, big.structure = network, network.structure
    rows = pictures.rows(big, None)
    assert 1 <= len(rows) <= 3
    assert all(len(row.panels) == 1 for row in rows)


def test_spectra_mark_the_rank_of_a_bond_that_parts_an_axis():
    train = tenfold.formats.tensor_train((8, 8, 8), (3, 4))
    assert [spectra.separating_rank(train, axis) for axis in range(3)] == [3, None, 4]
    tucker = tenfold.formats.tucker((8, 8, 8), (3, 4, 5))
    assert [spectra.separating_rank(tucker, axis) for axis in range(3)] == [3, 4, 5]
    cp = tenfold.formats.cp((8, 8, 8), 6)
    assert [spectra.separating_rank(cp, axis) for axis in range(3)] == [6, 6, 6]


def test_rings_side_by_side_share_a_label():
    class Near:
        dims = ("row", "column", "band")
        structure = tenfold.formats.tucker((64, 64, 50), (15, 14, 3))
        spectra = dict.fromkeys(dims, tuple(0.5**k for k in range(50)))

    markup = spectra.panel(Near()).markup
    assert "rank 14 and 15" in markup
    assert "rank 3<" in markup


def test_cores_of_a_folded_image_are_shown_as_small_pictures(tmp_path):
    image = np.random.default_rng(0).normal(size=(48, 48, 3)).cumsum(0).cumsum(1)
    pattern = "y1 x1 r, y2 x2 r s, c s -> (y1 y2) (x1 x2) c"
    sizes = {"y1": 6, "x1": 6, "y2": 8, "x2": 8, "r": 15, "s": 2}
    fit = tenfold.fit(image, pattern, sizes=sizes, dims=["y", "x", "c"], max_sweeps=2)
    coarse, patches, colours = factors.panels(fit)[0]
    assert coarse.markup.count("<image") == 15
    assert "r = 14" in coarse.markup
    assert patches.markup.count("<image") == 24
    assert "The numbers above are r, s. The 24 strongest of 30 pictures" in patches.note
    assert "y2 down, x2 across" in patches.note
    assert "<image" not in colours.markup
    # A core that carries one axis only is drawn as before, and so is one over labels.
    labelled = dataclasses.replace(fit, coordinates={"x": np.array([f"place {n}" for n in range(48)])})
    assert factors.panels(labelled)[0][0].markup.count("<image") < 3


def test_coordinates_that_grow_by_factors_are_drawn_so():
    doses = 84.0 / 3.0 ** np.arange(12)
    assert factors._geometric(doses)
    assert not factors._geometric(np.linspace(0.1, 100, 50))
    assert not factors._geometric(np.array([-1.0, 1.0, 1000.0]))
    assert not factors._geometric(np.array([1.0, 1.0, 1.0]))


def test_huge_lists_of_labels_stay_small(tmp_path):
    labels = np.array([f"gene number {n} with a long description of what it does" for n in range(20_000)])
    cores = [torch.randn(20_000, 3, generator=torch.Generator().manual_seed(0)).double(), torch.ones(4, 3).double()]
    network = Network(Structure("i r, j r -> i j", i=20_000, j=4, r=3), cores)
    fit = tenfold.fit(network.dense(), "i r, j r -> i j", sizes={"r": 3}, dims=["gene", "sample"], max_sweeps=2)
    fit = dataclasses.replace(fit, coordinates={"gene": labels})
    report.write(fit, tmp_path / "page.html")
    text = (tmp_path / "page.html").read_text()
    assert len(text) < 1_500_000
    assert "24 of 20,000 labels" in text


def test_no_trials_are_said_and_no_spectra_leave_no_section(made, tmp_path):
    fit = dataclasses.replace(made("cube"), front=(), spectra={})
    report.write(fit, tmp_path / "page.html")
    page = Page((tmp_path / "page.html").read_text())
    assert "nothing to compare it with" in page.text
    assert "Singular values" not in page.text
    assert [i for i in page.ids if i in SECTIONS] == [name for name in SECTIONS if name != "spectra"]


def test_failed_and_exact_trials_do_not_break_the_front(made, tmp_path):
    fit = made("cube")
    odd = (dataclasses.replace(fit.front[0], error=math.inf), dataclasses.replace(fit.front[0], error=0.0))
    report.write(dataclasses.replace(fit, front=(*fit.front, *odd)), tmp_path / "page.html")
    assert "failed" in (tmp_path / "page.html").read_text()


@pytest.mark.parametrize("kind", KINDS)
def test_every_fit_plots(made, kind):
    fig = report.plot(made(kind))
    fig.savefig(io.BytesIO(), format="png", dpi=40)
    assert len(fig.axes) >= 2
    assert any(ax.get_ylabel() == "relative error" for ax in fig.axes) == (len(made(kind).front) > 1)


def test_curves_and_heat_maps_of_falling_coordinates_go_the_same_way():
    doses = 10.0 ** -np.arange(12)
    array = np.random.default_rng(0).normal(size=(9, 12))
    for coordinates, falls in ((doses, True), (doses[::-1], False), (doses[[1, 0, *range(2, 12)]], False)):
        fit = tenfold.fit(array, "cp", ranks=2, dims=["cell", "dose"], coordinates={"dose": coordinates})
        axis = axes_of(fit)[1]
        assert axis.falls == falls
        above, below = figure(4, 4).subplots(2)
        factors.draw_strips(above, axis, fit.network.cores[1].numpy())
        pictures.paint(below, axes_of(fit), array, 100, "Greys", -1.0, 1.0)
        low, high = (ax.get_xlim()[0] < ax.get_xlim()[1] for ax in (above, below))
        assert low
        assert high != falls  # its first place is its largest dose


def test_drawing_leaves_matplotlib_as_it_was(made, tmp_path):
    import matplotlib

    before = dict(matplotlib.rcParams)
    report.write(made("matrix"), tmp_path / "page.html")
    assert dict(matplotlib.rcParams) == before


@pytest.mark.browser
@pytest.mark.parametrize("kind", ["photo", "named", "complex"])
def test_a_browser_shows_the_page_without_network_or_complaint(made, tmp_path, kind):
    report.write(made(kind), tmp_path / "page.html")
    browser = next(found for name in BROWSERS if (found := shutil.which(name)))
    command = [
        browser, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
        "--disable-background-networking", "--disable-component-update", "--disable-sync",
        f"--user-data-dir={tmp_path / 'profile'}", "--host-resolver-rules=MAP * ~NOTFOUND",
        "--enable-logging=stderr", "--v=0", "--virtual-time-budget=3000", "--window-size=1200,900",
    ]  # fmt: skip
    # The page itself may not run scripts, so a page around it measures what it shows.
    (tmp_path / "outer.html").write_text(
        """<!DOCTYPE html><link rel="icon" href="data:,">
        <iframe id="f" src="page.html" width="1200" height="900"></iframe>
        <pre id="out"></pre><script>
        document.getElementById("f").onload = () => {
          const inner = document.getElementById("f").contentDocument;
          const images = [...inner.querySelectorAll("img")].map(i => i.naturalWidth * i.naturalHeight);
          const drawn = [...inner.querySelectorAll("svg")].map(s => s.getBoundingClientRect().height);
          document.getElementById("out").textContent = JSON.stringify({images, drawn,
            alerts: inner.querySelectorAll("script").length, wide: inner.documentElement.scrollWidth});
        }</script>"""
    )
    done = subprocess.run(
        [*command, "--allow-file-access-from-files", "--dump-dom", f"file://{tmp_path / 'outer.html'}"],
        capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    assert "CONSOLE" not in done.stderr
    measured = json.loads(re.search(r'<pre id="out">(.*?)</pre>', done.stdout, re.S).group(1))
    assert all(size > 0 for size in measured["images"])
    assert len(measured["images"]) == (3 if kind == "photo" else 0)
    assert all(height > 20 for height in measured["drawn"])
    assert len(measured["drawn"]) >= 4
    assert measured["alerts"] == 0
    assert measured["wide"] <= 1200
