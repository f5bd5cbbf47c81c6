from __future__ import annotations

import copy
import dataclasses
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import nn

import tenfold as tn
from tenfold.errors import DataError, FileError, TenfoldError
from tenfold.models import digits
from tenfold.verbs.compress import _Work


@pytest.fixture(scope="module")
def small():
    return tn.compress(
        digits.digits(), size=0.2, data=digits.batches(), evaluate=digits.accuracy, progress=False, source="digits"
    )


def test_a_trained_network_at_a_fifth_of_its_size(small) -> None:
    assert small.size <= 0.2
    assert small.after.bytes == sum(t.numel() * t.element_size() for t in small.model.state_dict().values())
    assert small.before.metric is not None
    assert small.after.metric is not None
    assert small.after.metric >= small.before.metric - 0.01
    assert "tucker2" in repr(small)
    assert small.summary()["layers"][0]["name"] == "0"


def test_it_expects_about_the_error_that_there_is(small) -> None:
    expected = sum(layer.after.loss for layer in small.layers) ** 0.5
    assert small.after.difference is not None
    assert expected / 3 < small.after.difference < 3 * expected


def test_the_original_keeps_as_it_was() -> None:
    model = digits.digits().train()
    before = copy.deepcopy(model.state_dict())
    tn.compress(model, size=0.5, data=digits.batches()[:1], methods=["int8"], progress=False)
    assert model.training
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def test_it_is_kept_in_a_file_and_comes_back(small, tmp_path: Path) -> None:
    x = digits.images()[0][:7]
    small.save(tmp_path / "small.tn")
    again = tn.nn.load(tmp_path / "small.tn", digits.architecture())
    torch.testing.assert_close(again(x), small.model(x))
    assert (tmp_path / "small.tn").stat().st_size < 1.2 * small.after.bytes + 20_000
    told = tn.load(tmp_path / "small.tn")
    assert repr(told) == repr(small)
    torch.testing.assert_close(told.into(digits.architecture())(x), small.model(x))
    with pytest.raises(TenfoldError, match="replaces the layer"):
        tn.nn.load(tmp_path / "small.tn", nn.Linear(3, 4))
    (tmp_path / "cut.tn").write_bytes((tmp_path / "small.tn").read_bytes()[:500])
    with pytest.raises(FileError, match="truncated"):
        tn.nn.load(tmp_path / "cut.tn", digits.architecture())


def test_it_becomes_a_program_that_takes_any_number_of_images(small, tmp_path: Path) -> None:
    small.export(tmp_path / "small.pt2")
    program = torch.export.load(tmp_path / "small.pt2").module()
    x = digits.images()[0][:3]
    torch.testing.assert_close(program(x), small.model(x), rtol=1e-4, atol=1e-5)


def test_a_page_that_opens_offline(small, tmp_path: Path) -> None:
    small.report(tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text()
    assert "Layer by layer" in page
    assert "http://" not in page.replace("http://www.w3.org", "")
    assert "1 threads" not in page
    # A model of Python has no name for the command line; one that has is told of what else the command took.
    assert "in a terminal" not in page
    dataclasses.replace(small, source="mine.models:load", epochs=3).report(tmp_path / "named.html")
    named = (tmp_path / "named.html").read_text()
    assert f"tenfold compress mine.models:load --size {small.budget['size']:g} --finetune 3\n# and --data" in named


def test_a_budget_of_error_is_kept() -> None:
    data = digits.batches()[:3]
    names = ["low_rank", "int8", "int4"]
    found = tn.compress(digits.digits(), error=0.05, data=data, methods=names, progress=False)
    assert found.after.difference is not None
    assert found.after.difference <= 0.05
    assert found.size < 0.3


def test_a_budget_of_time_takes_no_layer_that_became_slower() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(512, 512), nn.ReLU(), nn.Linear(512, 512))
    found = tn.compress(model, latency=0.7, data=[torch.randn(64, 512) for _ in range(2)], progress=False)
    for layer in found.layers:
        if layer.after.candidate is not None:
            assert layer.after.seconds is not None
            assert layer.before.seconds is not None
            assert layer.after.seconds < layer.before.seconds


def test_bytes_and_time_at_once(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, 256))
    data = [torch.randn(64, 256) for _ in range(2)]
    found = tn.compress(model, size=0.4, latency=0.9, data=data, methods=["low_rank", "int8_products"], progress=False)
    assert found.size <= 0.4
    assert all(choice.seconds is not None for layer in found.layers for choice in (layer.before, layer.after))
    assert "size 0.4, latency 0.9" in repr(found)
    found.report(tmp_path / "page.html")
    assert "share of the bytes 0.4, share of the time 0.9" in (tmp_path / "page.html").read_text()


def test_what_is_nearest_is_told_where_bytes_and_time_cannot_be_kept_together() -> None:
    costs = {"size": [[10.0, 2.0, 6.0]], "latency": [[10.0, 9.0, 3.0]]}
    known = SimpleNamespace(_costs=costs.__getitem__)
    budget, wholes = {"size": 0.4, "latency": 0.5}, {"size": 20.0, "latency": 20.0}
    with pytest.raises(TenfoldError, match=r"size=0.4 the least is latency=0.7, with latency=0.5 .* size=0.55"):
        # What is left alone costs five units of time and five of bytes.
        _Work._check_together(known, budget, {"size": 3.0, "latency": 5.0}, wholes)
    _Work._check_together(known, budget, {"size": 6.0, "latency": 5.0}, wholes)


def test_fused_attention_keeps_working_and_is_left_alone(tmp_path: Path) -> None:
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(32, 4, 64, batch_first=True)
    model = nn.TransformerEncoder(layer, 2).eval()
    x = torch.randn(4, 9, 32)
    found = tn.compress(model, size=0.6, data=[x], progress=False)
    assert torch.backends.mha.get_fastpath_enabled()
    with torch.no_grad():
        off = (found.model(x) - model(x)).norm() / model(x).norm()
    assert off.item() == pytest.approx(found.after.difference, rel=0.1)
    found.save(tmp_path / "small.tn")
    again = tn.nn.load(tmp_path / "small.tn", copy.deepcopy(model))
    with torch.no_grad():
        torch.testing.assert_close(again(x), found.model(x))


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({}, "give a budget"),
        ({"size": 0.5, "error": 0.1}, "not size and error"),
        ({"size": 1.5}, "between 0 and 1"),
        ({"size": 0.5, "latency": 0.5, "error": 0.1}, "not size and latency and error"),
        ({"size": 0.001}, "out of reach: the smallest"),
        ({"size": 0.5, "methods": ["lowrank"]}, "did you mean 'low_rank'"),
        ({"size": 0.5, "skip": ["*"]}, "no layer to replace"),
        ({"latency": 0.5}, "needs data="),
        ({"size": 0.5, "finetune": -1}, "finetune must be"),
    ],
)
def test_what_cannot_be_is_told(arguments: dict, says: str) -> None:
    with pytest.raises(TenfoldError, match=says):
        tn.compress(digits.digits(), progress=False, **arguments)


def test_bad_data_is_told() -> None:
    with pytest.raises(DataError, match="no batch"):
        tn.compress(digits.digits(), size=0.5, data=[], progress=False)
    with pytest.raises(DataError, match="not finite"):
        tn.compress(digits.digits(), size=0.5, data=[torch.full((2, 1, 8, 8), float("nan"))], progress=False)


def test_floating_point_alone() -> None:
    found = tn.compress(
        digits.digits(), size=0.5, data=digits.batches()[:2], bits=(), methods=["low_rank", "tucker2"], progress=False
    )
    assert found.size <= 0.5
    assert all(t.is_floating_point() for t in found.model.state_dict().values())
    with pytest.raises(TenfoldError, match="bits are 8, 4 or both"):
        tn.compress(digits.digits(), size=0.5, bits=(2,), progress=False)
