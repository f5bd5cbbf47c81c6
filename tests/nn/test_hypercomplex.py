"""Algebras, and layers over them."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from tenfold.errors import DataError, StructureError, TenfoldError
from tenfold.nn import (
    HypercomplexConv1d,
    HypercomplexConv2d,
    HypercomplexConv3d,
    StructuredLinear,
    algebra,
    algebras,
    hypercomplex_linear,
)
from tenfold.nn.algebras import multiply


def test_named_algebras_are_what_they_are_called() -> None:
    torch.testing.assert_close(algebra("complex"), torch.tensor([[[1.0, 0], [0, 1]], [[0, -1], [1, 0]]]))
    quaternion = algebra("quaternion", dtype=torch.float64)
    one, i, j, k = torch.eye(4, dtype=torch.float64)
    for left, right, made in ((i, j, k), (j, k, i), (k, i, j), (i, i, -one), (j, j, -one), (k, k, -one), (j, i, -k)):
        torch.testing.assert_close(multiply(quaternion, left, right), made)
    e = torch.tensor([0.0, 1.0])
    assert multiply(algebra("split_complex"), e, e).tolist() == [1.0, 0.0]
    assert multiply(algebra("dual"), e, e).tolist() == [0.0, 0.0]


@pytest.mark.parametrize("name", algebras())
def test_products_of_algebras(name: str) -> None:
    constants = algebra(name, dtype=torch.float64)
    p, q, r = torch.randn(3, 20, len(constants), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    torch.testing.assert_close(constants[0], torch.eye(len(constants), dtype=torch.float64))
    if name in ("real", "complex", "quaternion", "octonion"):
        torch.testing.assert_close(multiply(constants, p, q).norm(dim=1), p.norm(dim=1) * q.norm(dim=1))
    left = multiply(constants, multiply(constants, p, q), r)
    right = multiply(constants, p, multiply(constants, q, r))
    assert torch.allclose(left, right) == (name != "octonion")


def test_a_quaternion_layer_multiplies_quaternions() -> None:
    layer = hypercomplex_linear(12, 8, algebra="quaternion", dtype=torch.float64)
    assert sum(p.numel() for p in layer.parameters()) == 8 * 12 // 4 + 8
    nn.init.normal_(layer.bias)
    x = torch.randn(5, 12, dtype=torch.float64)
    weights = layer.cores["core1"]  # one quaternion from each feature to each: component, out, in
    wanted = torch.stack(
        [
            multiply(
                algebra("quaternion", dtype=torch.float64),
                weights[:, out].T.expand(5, 3, 4),
                x.reshape(5, 4, 3).mT,
            ).sum(1)
            for out in range(2)
        ],
        dim=2,
    ).reshape(5, 8)
    torch.testing.assert_close(layer(x), wanted + layer.bias)


def test_a_matrix_is_recovered_over_a_named_algebra() -> None:
    layer = hypercomplex_linear(12, 8, algebra="quaternion", dtype=torch.float64)
    (structure,) = layer.structures
    fixed = {"core0": algebra("quaternion")}
    found = StructuredLinear.from_dense(layer.to_dense(), structure, fixed=fixed)
    torch.testing.assert_close(found.cores["core1"], layer.cores["core1"], rtol=0, atol=1e-10)


def test_a_learned_algebra_finds_the_hamilton_product() -> None:
    generator = torch.Generator().manual_seed(0)
    left, right = torch.randn(2, 256, 4, generator=generator)
    wanted = multiply(algebra("quaternion"), left, right)
    learned = nn.Parameter(torch.randn(4, 4, 4, generator=generator) / 2)
    optimizer = torch.optim.Adam([learned], lr=0.1)
    for _ in range(300):
        optimizer.zero_grad()
        loss = (multiply(learned, left, right) - wanted).square().mean()
        loss.backward()
        optimizer.step()
    assert loss < 1e-6


def test_entries_start_with_the_variance_of_a_dense_layer() -> None:
    generator = torch.Generator().manual_seed(0)
    for n, constants in ((4, "learned"), (None, "quaternion"), (None, "complex")):
        made = [hypercomplex_linear(64, 128, n, algebra=constants, generator=generator).to_dense() for _ in range(20)]
        assert float(torch.stack(made).detach().var()) == pytest.approx(1 / 64, rel=0.1)
    layer = hypercomplex_linear(64, 128, 4, init="reference", generator=generator)
    bound = (6 / (4 * 4 + 4 * 4)) ** 0.5
    assert 0.9 * bound < float(layer.cores["core0"].abs().max()) <= bound
    assert 0 < float(layer.bias.abs().max()) <= 1 / 8


CONVOLUTIONS = [
    (HypercomplexConv1d, nn.Conv1d, 1),
    (HypercomplexConv2d, nn.Conv2d, 2),
    (HypercomplexConv3d, nn.Conv3d, 3),
]


@pytest.mark.parametrize(("layer", "plain", "axes"), CONVOLUTIONS)
@pytest.mark.parametrize("constants", ["learned", "quaternion"])
def test_a_convolution_is_the_plain_one_of_its_weight(layer: type, plain: type, axes: int, constants: str) -> None:
    torch.manual_seed(0)
    window = {"stride": 2, "padding": 1, "dilation": 2}
    made = layer(8, 12, 3, 4, algebra=constants, dtype=torch.float64, **window)
    nn.init.normal_(made.bias)
    assert sum(p.numel() for p in made.parameters()) == 8 * 12 * 3**axes // 4 + 12 + 64 * (constants == "learned")
    other = plain(8, 12, 3, dtype=torch.float64, **window)
    with torch.no_grad():
        other.weight.copy_(made.to_dense())
        other.bias.copy_(made.bias)
    x = torch.randn(2, 8, *[9] * axes, dtype=torch.float64)
    torch.testing.assert_close(made(x), other(x))
    torch.testing.assert_close(made(x[0]), other(x[0]))
    tap = (0,) * axes
    wanted = sum(torch.kron(made.algebra[k], made.kernels[k][(..., *tap)]) for k in range(4))
    torch.testing.assert_close(made.to_dense()[(..., *tap)], wanted)


def test_a_convolution_copies_loads_and_differentiates() -> None:
    torch.manual_seed(0)
    made = HypercomplexConv2d(4, 4, 3, 2, padding="same", dtype=torch.float64)
    x = torch.randn(1, 4, 4, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(made, (x,))
    other = HypercomplexConv2d(4, 4, 3, 2, padding="same", dtype=torch.float64)
    other.load_state_dict(made.state_dict())
    torch.testing.assert_close(other(x), copy.deepcopy(made)(x))
    variance = (
        torch.stack([HypercomplexConv2d(16, 16, 3, algebra="complex").to_dense() for _ in range(10)]).detach().var()
    )
    assert float(variance) == pytest.approx(1 / (16 * 9), rel=0.1)


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(StructureError, match="not divisible"):
        hypercomplex_linear(10, 8, 4)
    with pytest.raises(TenfoldError, match="not divisible"):
        HypercomplexConv2d(10, 8, 3, 4)
    with pytest.raises(TenfoldError, match="did you mean 'quaternion'"):
        hypercomplex_linear(8, 8, algebra="quaternions")
    with pytest.raises(TenfoldError, match="whole number"):
        hypercomplex_linear(8, 8)
    with pytest.raises(TenfoldError, match="n is 2"):
        hypercomplex_linear(8, 8, 2, algebra="quaternion")
    with pytest.raises(TenfoldError, match="init"):
        HypercomplexConv1d(8, 8, 3, 4, init="xavier")
    with pytest.raises(DataError, match="8 channels"):
        HypercomplexConv1d(8, 8, 3, 4)(torch.zeros(1, 4, 9))
