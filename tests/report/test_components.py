"""The factor section of CP, Tucker and train fits: canonical order, the data's names, what can be trusted."""

import dataclasses
import io
import math

import numpy as np
import pytest
import torch

import tenfold
from tenfold import formats
from tenfold.network import Network
from tenfold.observations import Observations
from tenfold.report import components, factors
from tenfold.report.page import render

CELLS = np.array(["Treg", "Thelper", "NK", "CD8+", "B", "<b>T</b>"])


@pytest.fixture(scope="module")
def fitted():
    network = Network.random(formats.cp((9, 6, 15), 3), seed=4)
    data = network.dense().numpy()
    return tenfold.fit(
        data,
        "i r, j r, k r -> i j k",
        sizes={"r": 3},
        dims=["time", "cell", "wavelength"],
        coordinates={"time": np.geomspace(0.01, 100, 9), "cell": CELLS, "wavelength": np.linspace(400, 700, 15)},
        units={"wavelength": "nm", "time": "s"},
    )


def test_components_have_the_names_of_the_axes(fitted, tmp_path):
    found = fitted.components()
    assert list(found.factors) == ["time", "cell", "wavelength"]
    assert (found.weights[:-1] >= found.weights[1:]).all()
    assert any(label in str(found) for label in CELLS)
    by_data = fitted.components(order="drop", sign="data")
    assert torch.allclose(by_data.network().dense(), found.network().dense())
    fitted.save(tmp_path / "fit.tn")
    again = tenfold.load(tmp_path / "fit.tn")
    assert again.units == {"wavelength": "nm", "time": "s"}
    assert torch.equal(again.components().weights, found.weights)


def test_the_page_shows_rows_of_components_with_units_labels_and_shares(fitted):
    page = render(fitted)
    assert "wavelength (nm)" in page
    assert "Thelper" in page
    assert "&lt;b&gt;T&lt;/b&gt;" in page
    assert "<b>T</b>" not in page
    for share, drop in zip(fitted.components().shares, fitted.components().drops, strict=True):
        assert components.percent(float(share)) in page
        assert f"alone {components.percent(float(drop))}" in page
    assert "of 100: patterns of different components hardly mix" in page
    assert "Kruskal" in page


def test_findings_warn_of_what_is_wrong(fitted):
    said = {finding.what: finding for finding in components.findings(fitted, fitted.data)}
    assert {name: finding.verdict for name, finding in said.items()} == dict.fromkeys(said, "good")
    assert set(said) == {"Core consistency", "Cancellation", "Uniqueness"}
    noise = torch.randn(9, 6, 15, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert {f.what: f.verdict for f in components.findings(fitted, noise)}["Core consistency"] == "bad"
    without = {f.what for f in components.findings(dataclasses.replace(fitted, data=None), None)}
    assert without == {"Cancellation", "Uniqueness"}
    # Two components that are nearly each other's negative.
    a, b, c = (core.clone() for core in fitted.network.cores)
    for core in (a, b, c):
        core[:, 1] = core[:, 0] + 1e-3 * core[:, 1]
    cancelling = dataclasses.replace(fitted, network=fitted.network.replace([-a * torch.tensor([1, -1, 1]), b, c]))
    assert {f.what: f.verdict for f in components.findings(cancelling, None)}["Cancellation"] == "bad"
    matrix = tenfold.fit(np.random.default_rng(0).normal(size=(8, 7)), "i r, j r -> i j", sizes={"r": 2})
    assert {f.what: f.verdict for f in components.findings(matrix, None)}["Uniqueness"] == "bad"


def test_findings_of_data_with_gaps_and_of_arrays_given_later(fitted):
    data = fitted.data.numpy().copy()
    data[::3, ::2, ::4] = np.nan
    holes = Observations.from_nan(data)
    assert components.findings(fitted, holes)[0].verdict == "good"
    assert "Missing cells count as the fit has them" in components.findings(fitted, holes)[0].text
    assert "Missing cells" not in components.findings(fitted, fitted.data)[0].text
    loaded = dataclasses.replace(fitted, data=None)
    assert components.findings(loaded, fitted.data.numpy())[0].what == "Core consistency"
    assert components.findings(loaded, data)[0].what == "Cancellation"  # NaN that nobody marked as missing


def test_many_components_labels_and_modes_stay_readable():
    network = Network.random(formats.cp((40, 3, 4, 5, 2, 2), 15), seed=1)
    fit = tenfold.fit(
        network.dense().numpy(),
        network.structure,
        max_sweeps=2,
        coordinates={"i": np.array([f"a label of some length {n}" for n in range(40)])},
    )
    made, note = components.panels(fit)
    assert len(made) == 2  # three modes each
    assert note == "3 lighter components are not drawn."
    assert made[0].markup.count("a label of") == 24  # the heaviest labels
    assert "the 24 heaviest of 40" in made[0].markup
    fit.plot().savefig(io.BytesIO(), format="png", dpi=30)


def test_tucker_and_trains_are_drawn_in_their_canonical_form():
    rng = np.random.default_rng(0)
    data = rng.normal(size=(8, 9, 10))
    tucker = tenfold.fit(data, "a b c, i a, j b, k c -> i j k", sizes={"a": 3, "b": 3, "c": 3})
    # The same tensor from other bases is drawn the same.
    turn = torch.from_numpy(rng.normal(size=(3, 3)))
    core, factor, *rest = tucker.network.cores
    turned = tucker.network.replace([torch.tensordot(turn, core, 1), factor @ torch.linalg.inv(turn), *rest])
    pictures = [
        [panel.markup for panel in factors.panels(fit)[0]]
        for fit in (tucker, dataclasses.replace(tucker, network=turned))
    ]
    shares = (factors.canonical_tucker(tucker.network).norms["i"] ** 2).numpy()
    for share in shares / shares.sum():
        assert any(factors.percent(share) in markup for markup in pictures[0])
        assert any(factors.percent(share) in markup for markup in pictures[1])
    train = tenfold.fit(data, "i a, a j b, b k -> i j k", sizes={"a": 4, "b": 5})
    made, _ = factors.panels(train)
    assert made[0].title == "Singular values across the bonds"
    for fit in (tucker, train):
        figure = fit.plot()
        figure.savefig(io.BytesIO(), format="png", dpi=30)
        assert figure.get_figheight() > 4.2


def test_percentages():
    assert components.percent(0.1234) == "12.3%"
    assert components.percent(25.0) == "25×"
    assert factors.percent(0.00012) == "0.01%"
    assert math.isclose(float(factors.percent(0.5).rstrip("%")), 50)
