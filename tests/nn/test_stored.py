"""Files of models some of whose layers were replaced: what does not fit, and what is damaged."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn

import tenfold as tn
from tenfold.errors import FileError, TenfoldError
from tenfold.nn import adapters, stored


def model(last: int = 16) -> nn.Sequential:
    return nn.Sequential(nn.Linear(16, 16), nn.LayerNorm(16), nn.Linear(16, last))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    small = model().half()
    made = tn.nn.QuantizedLinear.from_dense(nn.Linear(16, 16).weight.detach()).half()
    small[2] = made
    record = {"layers": [{"name": "2", "shape": [16, 16]}]}
    stored.save(tmp_path / "small.tn", small, {("2",): made}, record=record)
    return tmp_path / "small.tn"


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: model(8).half(), r"'2.weight' was \(16, 16\), and here it is \(8, 16\)"),
        (model, "'0.weight' was torch.float16, and here it is torch.float32"),
        (lambda: model().half().to("meta"), "'0.weight' is on the device 'meta'"),
        (lambda: model()[:2].half(), "'2', which this Sequential does not have.*compressed twice"),
        (lambda: model().half().append(nn.Linear(2, 2)), "no numbers '3.weight'"),
    ],
)
def test_a_model_of_another_kind_is_told_and_not_changed(file: Path, make: Callable[[], Any], says: str) -> None:
    given = make()
    with pytest.raises(TenfoldError, match=says):
        tn.nn.load(file, given)
    assert all(type(layer) in (nn.Linear, nn.LayerNorm) for layer in given)


def change(file: Path, key: str, by: Callable[[dict[str, Any]], object]) -> None:
    with safe_open(file, "pt") as opened:
        header = json.loads(opened.metadata()[key])
        tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
    by(header)
    save_file(tensors, file, metadata={key: json.dumps(header)})


@pytest.mark.parametrize(
    "by",
    [
        lambda h: h["layers"][0].pop("recipe"),
        lambda h: h["layers"][0].update(names="2"),
        lambda h: h["layers"][0]["recipe"].update(in_features=-1),
        lambda h: h["layers"][0]["recipe"].update(in_features=8),
        lambda h: h["aliases"].update(x="y"),
        lambda h: h.pop("record"),
        lambda h: h["record"].update(layers=[3]),
        lambda h: h.update(pairs=["0.weight"]),
    ],
)
def test_a_damaged_file_is_told_as_such(file: Path, by: Callable[[dict[str, Any]], object]) -> None:
    change(file, "tenfold.model", by)
    with pytest.raises(FileError, match="damaged"):
        tn.nn.load(file, model().half())


@pytest.mark.parametrize(
    ("by", "says"),
    [
        (lambda h: h.update(adapters=[]), "damaged"),
        (lambda h: h["adapters"].update({"0": {"ranks": 2, "scale": 1.0}}), "damaged"),
        (lambda h: h.update(version=99), "version 99"),
    ],
)
def test_damaged_files_of_adapters(tmp_path: Path, by: Callable[[dict[str, Any]], object], says: str) -> None:
    adapted = adapters.adapt(model(), 2)
    adapted.model.register_buffer("late", torch.ones(3))
    adapted.save(tmp_path / "a")
    adapters.Adapted.load(tmp_path / "a", model())
    change(tmp_path / "a", "tenfold.adapters", by)
    with pytest.raises(FileError, match=says):
        adapters.Adapted.load(tmp_path / "a", model())
    with pytest.raises(TenfoldError, match="rank is a whole number"):
        adapters.adapt(model(), 2.5)  # type: ignore[arg-type]


class Extra(nn.Module):
    def __init__(self, number: int = 0) -> None:
        super().__init__()
        self.a, self.number = nn.Linear(4, 4), number
        self.register_buffer("z", torch.full((2,), 1j, dtype=torch.complex128) * number)

    def get_extra_state(self) -> dict[str, int]:
        return {"number": self.number}

    def set_extra_state(self, state: dict[str, int]) -> None:
        self.number = state["number"]


def test_extra_state_and_complex_numbers_are_kept(tmp_path: Path) -> None:
    stored.save(tmp_path / "a", Extra(5), {})
    made = tn.nn.load(tmp_path / "a", Extra())
    assert made.number == 5
    assert torch.equal(made.z, Extra(5).z)
    with pytest.raises(FileError, match="cannot write '/'"):
        stored.save("/", Extra(), {})
