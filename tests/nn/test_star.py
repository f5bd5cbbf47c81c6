"""StarNets: sizes of the paper, and blocks against what they are written as."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from tenfold.errors import TenfoldError
from tenfold.nn import StarBlock, StarNet


@pytest.fixture(autouse=True)
def same_numbers_every_time() -> None:
    torch.manual_seed(0)


@pytest.mark.parametrize(
    ("size", "millions"), [("s050", 0.54), ("s100", 1.04), ("s150", 1.56), ("s1", 2.87), ("s2", 3.68)]
)
def test_as_many_parameters_as_in_the_paper(size: str, millions: float) -> None:
    with torch.device("meta"):
        assert sum(p.numel() for p in StarNet(size).parameters()) / 1e6 == pytest.approx(millions, abs=0.006)


def test_a_block_is_what_it_says() -> None:
    block = StarBlock(4, 3).double().eval()
    x = torch.randn(2, 4, 9, 8, dtype=torch.float64)
    for norm in (block.dwconv.bn, block.g.bn):
        norm.running_mean.normal_()
        norm.running_var.uniform_(0.5, 2)
    y = nn.functional.conv2d(x, block.dwconv.conv.weight, block.dwconv.conv.bias, padding=3, groups=4)
    y = block.dwconv.bn(y)
    matrices = [(f.conv.weight[:, :, 0, 0], f.conv.bias) for f in (block.f1, block.f2)]
    first, second = (torch.einsum("oc,bchw->bohw", w, y) + b[:, None, None] for w, b in matrices)
    y = block.g.bn(block.g.conv(first.clamp(0, 6) * second))
    y = nn.functional.conv2d(y, block.dwconv2.conv.weight, block.dwconv2.conv.bias, padding=3, groups=4)
    torch.testing.assert_close(block(x), x + y)
    assert {name.split(".")[0] for name, _ in block.named_parameters()} == {"dwconv", "f1", "f2", "g", "dwconv2"}


def test_skipped_samples_are_left_alone_in_training_only() -> None:
    torch.manual_seed(0)
    block = StarBlock(2, 2, drop_path=0.5)
    x = torch.randn(64, 2, 4, 4)
    same = (block(x) == x).flatten(1).all(dim=1)
    assert 16 < int(same.sum()) < 48
    assert not (block.eval()(x) == x).flatten(1).all(dim=1).any()


def test_a_net_trains_and_its_state_loads() -> None:
    torch.manual_seed(0)
    net = StarNet("s050", 10, channels=1)
    x = torch.randn(4, 1, 32, 32)
    out = net(x)
    assert out.shape == (4, 10)
    out.square().sum().backward()
    assert all(p.grad is not None for p in net.parameters())
    twin = StarNet("s050", 10, channels=1)
    twin.load_state_dict(net.state_dict())
    torch.testing.assert_close(twin.eval()(x), net.eval()(x))
    torch.testing.assert_close(copy.deepcopy(net)(x), net(x))


def test_refusals() -> None:
    with pytest.raises(TenfoldError, match=r"size must be one of s050, .*, not 's5'"):
        StarNet("s5")
    with pytest.raises(TenfoldError, match="drop_path must be a probability below 1, not 1"):
        StarBlock(2, drop_path=1)
