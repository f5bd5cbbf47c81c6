"""Starting values and learning rates of structured layers."""

from __future__ import annotations

import copy
import io

import pytest
import torch
from torch import nn

from tenfold import formats
from tenfold.errors import TenfoldError
from tenfold.nn import (
    BlockDiagonalLinear,
    HypercomplexConv2d,
    StructuredLinear,
    ToeplitzLinear,
    hypercomplex_linear,
    param_groups,
)
from tenfold.nn.learning_rates import Fan, fans
from tenfold.structure import Structure


def test_cores_are_batches_of_small_matrices() -> None:
    assert fans(formats.low_rank(12, 20, 3)) == (Fan(3, 12), Fan(20, 3))
    assert fans(formats.block_tensor_train((3, 4), (5, 6), 2)) == (Fan(10, 3), Fan(6, 8))
    assert fans(formats.monarch((3, 4), (5, 6))) == (Fan(5, 3), Fan(6, 4))
    assert fans(formats.tensor_train_matrix((4, 4, 4), (4, 4, 4), (2, 3))) == (Fan(8, 4), Fan(12, 8), Fan(4, 12))
    assert fans(formats.phm(12, 20, 4)) == (Fan(4, 4), Fan(20, 12))
    diagonal = Structure("U[i r], w[r], V[r j] -> i j", i=9, j=8, r=2)
    assert fans(diagonal) == (Fan(2, 9), Fan(1, 1), Fan(8, 2))
    assert not fans(diagonal)[1].is_matrix
    assert fans(Structure("U[i r], U[j r] -> i j", i=9, j=9, r=2)) == (Fan(9, 2),)


def test_spectral_norms_do_not_grow_with_the_width() -> None:
    generator = torch.Generator().manual_seed(0)
    for make in (
        lambda d: formats.low_rank(d * d, d * d, 2 * d),
        lambda d: formats.monarch((d, d), (d, d)),
        lambda d: formats.block_tensor_train((d, d), (d, d), 2),
        lambda d: formats.kronecker((d, d), (d, d), 3),
        lambda d: (formats.low_rank(d * d, d * d, d), formats.monarch((d, d), (d, d))),
    ):
        small, large = (
            torch.linalg.matrix_norm(StructuredLinear(make(d), generator=generator).to_dense(), 2) for d in (8, 16)
        )
        assert 0.6 < large / small < 1.5
        assert 0.8 < large < 3.2


def test_the_output_of_monarch_has_the_variance_of_its_input_and_low_rank_less() -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(500, 256, generator=generator)
    spread = StructuredLinear(formats.monarch((16, 16), (16, 16)), generator=generator)(x).std().item()
    assert spread == pytest.approx(1, rel=0.1)
    spread = StructuredLinear(formats.low_rank(256, 256, 16), generator=generator)(x).std().item()
    assert spread == pytest.approx((16 / 256) ** 0.5, rel=0.1)


def test_given_cores_are_made_up_for() -> None:
    generator = torch.Generator().manual_seed(0)
    structure = formats.monarch((16, 16), (16, 16))
    for size in (0.01, 100.0):
        given = size * torch.randn(16, 16, 16, generator=generator)
        layer = StructuredLinear(structure, fixed={"core1": given}, generator=generator)
        assert layer(torch.randn(200, 256, generator=generator)).std().item() == pytest.approx(1, rel=0.1)
        assert set(layer.fans()) == {"cores.core0"}


class Network(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(10, 256)
        self.hidden = StructuredLinear(formats.monarch((16, 16), (16, 16)))
        self.both = StructuredLinear((formats.low_rank(256, 256, 8), formats.monarch((16, 16), (16, 16))))
        self.phm = hypercomplex_linear(256, 256, algebra="quaternion")
        self.conv = HypercomplexConv2d(8, 8, 3, 2)
        self.plain = nn.Conv2d(32, 8, 3)
        self.norm = nn.LayerNorm(256)
        self.last = nn.Linear(256, 10)
        self.last.bias.requires_grad_(False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(self.norm(self.phm(self.both(self.hidden(self.first(x))))))


def _rates(model: nn.Module, **more: object) -> dict[str, tuple[float, float]]:
    groups = param_groups(model, 1e-3, base_width=64, weight_decay=0.1, unscaled=["first"], **more)
    names = {name: (g["lr"] / 1e-3, g["weight_decay"]) for g in groups for name in g["names"]}
    assert sum(len(g["params"]) for g in groups) == len(names)
    return names


def test_rates_are_those_of_the_small_matrices() -> None:
    found = _rates(Network())
    assert found["first.weight"] == pytest.approx((1.0, 0.1))
    assert found["hidden.cores.core0"] == pytest.approx((64 / (2 * 16), 0.1))
    assert found["hidden.bias"] == pytest.approx((1.0, 0.0))
    assert found["both.cores.core1_0"] == pytest.approx((64 / (4 * 256), 0.1))
    assert found["both.cores.core0_0"] == pytest.approx((64 / (4 * 8), 0.1))
    assert found["phm.cores.core1"] == pytest.approx((64 / 256, 0.1))
    assert found["conv.kernels"] == pytest.approx((64 / (2 * 8), 0.1))
    assert found["plain.weight"] == pytest.approx((64 / 32, 0.1))
    assert found["norm.weight"] == pytest.approx((1.0, 0.0))
    assert found["last.weight"] == pytest.approx((64 / 256, 0.1))
    assert "last.bias" not in found
    assert _rates(Network(), multipliers={"last.*": 3.0})["last.weight"][0] == pytest.approx(3 * 64 / 256)


def test_other_layers_with_a_matrix_say_what_it_is_made_of() -> None:
    for layer in (BlockDiagonalLinear([(4, 6), (4, 6), (3, 2)], rank=2), ToeplitzLinear(8, 4)):
        names = {name for name, _ in layer.named_parameters()} - {"bias"}
        assert set(layer.fans()) == names
        groups = param_groups(layer, 1.0, base_width=12)
        rates = {name: group["lr"] for group in groups for name in group["names"]}
        assert rates == {"bias": 1.0, **{name: 12 / (len(names) * fan.inputs) for name, fan in layer.fans().items()}}


def test_copies_reloaded_and_compiled_models_have_the_same_rates() -> None:
    model = Network()
    wanted = _rates(model)
    file = io.BytesIO()
    torch.save(model.state_dict(), file)
    file.seek(0)
    other = Network()
    other.load_state_dict(torch.load(file))
    for one in (model.to(torch.float64), copy.deepcopy(model), other, torch.compile(model)):
        assert _rates(one) == wanted
    hidden = param_groups(torch.compile(model.hidden), 1.0, base_width=64)
    assert {g["lr"] for g in hidden} == {1.0, 2.0}


def test_a_shared_parameter_is_in_one_group_and_the_optimizer_takes_them() -> None:
    model = nn.Sequential(nn.Linear(8, 8), nn.Embedding(5, 8))
    model.append(nn.Linear(8, 8))
    model[2].weight = model[0].weight
    groups = param_groups(model, 0.1, base_width=4)
    names = sorted(name for g in groups for name in g["names"])
    assert names == ["0.bias", "0.weight", "1.weight", "2.bias"]
    optimizer = torch.optim.AdamW(groups)
    assert sorted(g["lr"] for g in optimizer.param_groups) == pytest.approx([0.05, 0.1])


def test_what_fits_nothing_is_refused() -> None:
    with pytest.raises(TenfoldError, match="fits nothing"):
        param_groups(nn.Linear(2, 2), 1.0, base_width=2, unscaled=["frist"])
    with pytest.raises(TenfoldError, match="base_width"):
        param_groups(nn.Linear(2, 2), 1.0, base_width=0)
