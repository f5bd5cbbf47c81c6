from __future__ import annotations

import pytest
import torch
from torch import nn

from tenfold.compression import census
from tenfold.nn import QuantizedConv, QuantizedEmbedding, QuantizedLinear


class Model(nn.Module):
    """Every reason not to replace a layer, and two layers that can be."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(50, 32)
        self.head = nn.Linear(32, 50, bias=False)
        self.head.weight = self.table.weight
        self.hooked = nn.Linear(32, 32)
        self.hooked.register_forward_hook(lambda *_: None)
        self.normed = nn.utils.parametrizations.weight_norm(nn.Linear(32, 32))
        self.depthwise = nn.Conv1d(32, 32, 9, groups=32)
        self.tiny = nn.Linear(3, 4)
        self.broken = nn.Linear(32, 32)
        self.lazy = nn.LazyLinear(7)
        self.attention = nn.MultiheadAttention(32, 4)
        self.recurrent = nn.LSTM(32, 32)
        self.good = nn.Linear(32, 32)
        self.twice = self.good
        self.frozen = nn.Linear(32, 32).requires_grad_(False)
        self.empty = nn.Linear(0, 5)
        self.rounded = QuantizedLinear(32, 32)
        self.kernel = QuantizedConv(nn.Conv2d(8, 8, 3))
        self.words = QuantizedEmbedding(32, 32)
        with torch.no_grad():
            self.broken.weight[0, 0] = float("nan")


@pytest.fixture(scope="module")
def found():
    return census(Model())


def test_what_can_be_replaced(found) -> None:
    assert [site.name for site in found.sites] == ["good", "frozen"]
    assert found.sites[0].names == ("good", "twice")


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("table", "shared with another layer"),
        ("head", "shared with another layer"),
        ("hooked", "hooks"),
        ("normed", "parametrization"),
        ("depthwise", "32 groups"),
        ("tiny", "small"),
        ("broken", "not finite"),
        ("lazy", "no values yet"),
        ("attention", "no method replaces"),
        ("attention.out_proj", "attention reads its weight"),
        ("recurrent", "no method replaces"),
        ("empty", "no weights"),
        ("rounded", "whole numbers"),
        ("kernel", "whole numbers"),
        ("words", "whole numbers"),
    ],
)
def test_why_layers_are_left_alone(found, name: str, why: str) -> None:
    (reason,) = [one.why for one in found.left_alone if one.name == name]
    assert why in reason


def test_shared_numbers_count_once() -> None:
    model = nn.Sequential(nn.Linear(8, 8, bias=False), nn.Linear(8, 8, bias=False))
    model[1].weight = model[0].weight
    assert census(model).bytes == 8 * 8 * 4


def test_parameters_beside_layers_are_named() -> None:
    class Positions(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table = nn.Parameter(torch.zeros(1, 50, 32))
            self.layer = nn.Linear(32, 32)

    (one,) = census(Positions()).left_alone
    assert one.why == "parameter `table` (6.4 kB) of the model itself"
    assert one.bytes == 6400
    (inside,) = census(nn.Sequential(Positions())).left_alone
    assert inside.why == "parameter `table` (6.4 kB) of the module itself"
    tied = nn.Sequential(nn.Linear(32, 32, bias=False), nn.Linear(32, 32, bias=False))
    tied[1].weight = tied[0].weight
    assert [one.bytes for one in census(tied).left_alone] == [4096, 0]


def test_patterns_skip_and_choose() -> None:
    model = nn.ModuleDict({"a": nn.Linear(32, 32), "b": nn.Linear(32, 32)})
    assert [site.name for site in census(model, skip=["a"]).sites] == ["b"]
    assert [site.name for site in census(model, only=["a*"]).sites] == ["a"]
