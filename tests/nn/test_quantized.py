from __future__ import annotations

import copy
import math
import pickle

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from tenfold.errors import DataError, TenfoldError
from tenfold.nn import QuantizedConv, QuantizedEmbedding, QuantizedLinear, QuantizedWeight, adapters, low_rank
from tenfold.nn.recipes import module_of, recipe_of


@settings(max_examples=30, deadline=None)
@given(
    st.integers(0, 1000),
    st.integers(1, 7),
    st.integers(1, 40),
    st.sampled_from([4, 8]),
    st.sampled_from([None, 1, 5, 32]),
)
def test_each_entry_is_off_by_half_a_scale_at_most(
    seed: int, rows: int, columns: int, bits: int, group: int | None
) -> None:
    weight = torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    made = QuantizedWeight.of(weight, bits=bits, group=group)
    scale = made.scale if group is None else made.scale.repeat_interleave(group, dim=1)[:, :columns]
    assert ((made.dequantized() - weight).abs() <= scale * 0.5 * (1 + 1e-9)).all()
    again = QuantizedWeight.of(made.dequantized(), bits=bits, group=group)
    torch.testing.assert_close(again.dequantized(), made.dequantized())


def test_zero_rows_stay_zero_and_half_numbers_are_taken() -> None:
    weight = torch.randn(3, 8).half()
    weight[1] = 0
    made = QuantizedWeight.of(weight).dequantized()
    assert made.dtype == torch.float16
    assert (made[1] == 0).all()


def layers() -> list[tuple[nn.Module, torch.Tensor, torch.Tensor]]:
    torch.manual_seed(0)
    dense = nn.Linear(12, 20)
    conv = nn.Conv2d(4, 8, 3, stride=2, padding="valid", dilation=2, padding_mode="zeros")
    one = nn.Conv1d(6, 8, 3, groups=2, bias=False, padding=1, padding_mode="reflect")
    table = nn.Embedding(20, 7, padding_idx=0)
    return [
        (QuantizedLinear.from_dense(dense.weight, bias=dense.bias, bits=4), torch.randn(2, 3, 12), dense.weight),
        (QuantizedConv.from_dense(conv, bias=conv.bias), torch.randn(2, 4, 9, 9), conv.weight),
        (QuantizedConv.from_dense(one, bits=4, group=4), torch.randn(2, 6, 9), one.weight),
        (QuantizedEmbedding.from_dense(table, bits=4), torch.randint(0, 20, (3, 4)), table.weight),
    ]


@pytest.mark.parametrize("number", range(4))
def test_a_layer_can_be_made_again(number: int) -> None:
    layer, x, weight = layers()[number]
    again = module_of(recipe_of(layer))
    again.load_state_dict(layer.state_dict())
    torch.testing.assert_close(again(x), layer(x))
    torch.testing.assert_close(copy.deepcopy(layer)(x), layer(x))
    assert layer.to_dense().shape == weight.shape


@pytest.mark.parametrize("number", range(4))
def test_new_numbers_are_seen_in_evaluation_too(number: int) -> None:
    layer, x, _ = layers()[number]
    layer.eval()
    before = layer(x)
    with torch.no_grad():
        layer.quantized.scale.mul_(2)
    assert not torch.equal(layer(x), before)


def test_a_convolution_is_the_one_of_torch() -> None:
    conv = nn.Conv2d(4, 8, 3, stride=2, padding=1, padding_mode="circular")
    made = QuantizedConv.from_dense(conv, bias=conv.bias)
    with torch.no_grad():
        conv.weight.copy_(made.to_dense())
    x = torch.randn(2, 4, 9, 9)
    torch.testing.assert_close(made(x), conv(x))
    assert "conv" not in " ".join(made.state_dict())


def test_other_bits_are_refused() -> None:
    with pytest.raises(TenfoldError, match="bits must be 8 or 4, not 3"):
        QuantizedWeight((3, 4), bits=3)


def test_rounded_weights_can_be_trained() -> None:
    torch.manual_seed(0)
    x, target = torch.randn(200, 16), torch.randn(8, 16)
    layer = QuantizedLinear(16, 8, bits=4, group=8, bias=False)
    layer.quantized = QuantizedWeight.of(torch.randn(8, 16), bits=4, group=8)
    rounding = QuantizedWeight.of(target, bits=4, group=8).dequantized()
    layer.quantized.thaw()
    optimizer = torch.optim.Adam(layer.parameters(), lr=0.05)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 300)
    for _ in range(300):
        optimizer.zero_grad()
        (layer(x) - x @ target.T).square().mean().backward()
        optimizer.step()
        schedule.step()
    trained = layer(x).detach()
    layer.quantized.freeze()
    torch.testing.assert_close(layer(x), trained, rtol=1e-4, atol=1e-4)
    assert not list(layer.quantized.parameters())
    best = (x @ (rounding - target).T).square().mean()
    assert (layer(x) - x @ target.T).square().mean() < 2 * best


def test_modules_of_a_model_with_a_convolution_have_what_their_class_has() -> None:
    conv = nn.Conv2d(4, 8, 3, padding=1, padding_mode="circular")
    layer = QuantizedConv.from_dense(conv, bias=conv.bias)
    assert [type(module) for module in layer.modules()] == [QuantizedConv, QuantizedWeight]
    assert layer.extra_repr() == conv.extra_repr()
    x = torch.randn(2, 4, 6, 6)
    for again in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        assert torch.equal(again(x), layer(x))
    program = torch.export.export(nn.Sequential(layer).eval(), (x,))
    torch.testing.assert_close(program.module()(x), layer(x))


def test_layers_of_whole_numbers_are_left_alone_with_a_reason() -> None:
    conv, linear = nn.Conv2d(4, 8, 3), nn.Linear(32, 32)
    model = nn.Sequential(QuantizedConv.from_dense(conv), nn.Flatten(), QuantizedLinear.from_dense(linear.weight))
    whole = nn.Sequential(*model, nn.Linear(32, 32), nn.Conv2d(8, 8, 3))
    for scheme in (low_rank.DLRT, low_rank.TDLRT, low_rank.TrainedRankPruning, low_rank.Maestro):
        reasons = scheme(copy.deepcopy(whole)).left_alone
        assert reasons["0"] == reasons["2"] == "its weight is whole numbers"
    assert set(adapters.adapt(whole, 2).left_alone.values()) == {"has a weight of whole numbers"}
    with pytest.raises(TenfoldError, match="'0' has a weight of whole numbers; '2' has"):
        adapters.adapt(model, 2)


def test_what_is_kept_follows_the_numbers() -> None:
    layer = QuantizedLinear.from_dense(torch.randn(32, 33)).eval()
    x = torch.randn(3, 33)
    for _ in range(30):
        layer(x)
        # Memory that was given back is taken again, at the same address.
        for _ in range(2):
            layer.load_state_dict(QuantizedLinear.from_dense(torch.randn(32, 33)).state_dict(), assign=True)
        torch.testing.assert_close(layer(x), x @ layer.to_dense().T)
        given = {"quantized.scale": torch.rand(32, 1)}
        made = torch.func.functional_call(layer, given, (x,))
        torch.testing.assert_close(made, x @ (layer.quantized.numbers * given["quantized.scale"]).T)
        del given, made
    scale = torch.rand(32, 1)
    with torch.no_grad():
        torch.func.functional_call(layer, {"quantized.scale": scale}, (x,))
    scale.requires_grad_()
    assert torch.func.functional_call(layer, {"quantized.scale": scale}, (x,)).requires_grad


def test_modes_leave_nothing_behind() -> None:
    layer = QuantizedLinear.from_dense(torch.randn(32, 33)).eval()
    x = torch.randn(3, 33, requires_grad=True)
    with torch.inference_mode():
        layer(x)
        QuantizedLinear.from_dense(torch.randn(32, 33)).eval()(x)
    layer(x).sum().backward()
    layer.train().eval()
    fake = QuantizedLinear.from_dense(torch.randn(32, 33)).eval()
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        fake(mode.from_tensor(x))
    assert type(fake(x)) is torch.Tensor
    scales = torch.rand(5, 32, 1)
    made = torch.func.vmap(lambda scale: torch.func.functional_call(layer, {"quantized.scale": scale}, (x,)))(scales)
    torch.testing.assert_close(made[2], x @ (layer.quantized.numbers * scales[2]).T, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("bits", [4, 8])
def test_large_and_small_numbers(dtype: torch.dtype, bits: int) -> None:
    known = torch.finfo(dtype)
    largest = torch.full((1, 4), known.max, dtype=dtype)
    torch.testing.assert_close(
        QuantizedWeight.of(largest, bits=bits).dequantized(), largest, rtol=2 * known.eps, atol=0
    )
    step = known.smallest_normal * known.eps
    smallest = (torch.arange(1, 8, dtype=torch.float64) * step).to(dtype)[None]
    assert torch.equal(QuantizedWeight.of(smallest, bits=bits).dequantized(), smallest)


@pytest.mark.parametrize("wrong", [math.inf, math.nan, 1j])
def test_weights_that_no_numbers_are_near_are_refused(wrong: complex) -> None:
    with pytest.raises(DataError, match=r"finite|real"):
        QuantizedLinear.from_dense(torch.tensor([[1.0, wrong]]))
    with pytest.raises(DataError, match="floating point"):
        QuantizedLinear.from_dense(torch.ones(2, 3, dtype=torch.int64))


@pytest.mark.parametrize("shape", [(3, 0), (0, 3), (0, 0)])
@pytest.mark.parametrize("bits", [4, 8])
def test_a_weight_may_be_empty(shape: tuple[int, int], bits: int) -> None:
    assert QuantizedLinear.from_dense(torch.zeros(shape), bits=bits)(torch.ones(2, shape[1])).shape == (2, shape[0])
