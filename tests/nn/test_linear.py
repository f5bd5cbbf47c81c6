from __future__ import annotations

import pytest
import torch
from nn.linear_oracles import check_compiles, check_exports, check_gradients, check_linear, inputs_for
from torch import nn

from tenfold import formats
from tenfold.errors import DataError, StructureError, TenfoldError
from tenfold.nn import (
    BlockDiagonalLinear,
    StructuredConv,
    StructuredEmbedding,
    StructuredLinear,
    ToeplitzLinear,
    param_groups,
)
from tenfold.structure import Structure

FAMILIES = [
    formats.low_rank(12, 20, 3),
    formats.kronecker((3, 4), (5, 4), 2),
    formats.phm(12, 20, 4),
    formats.monarch((3, 4), (5, 4)),
    formats.block_tensor_train((3, 4), (5, 4), 2),
    formats.block_tensor_train((2, 2, 3), (2, 5, 2), (2, 3)),
    formats.tensor_train_matrix((3, 2, 2), (5, 2, 2), (3, 2)),
    Structure("U[i r], U[j r], w[r] -> i j", i=9, j=9, r=2),
]


@pytest.mark.parametrize("structure", FAMILIES, ids=lambda s: s.pattern)
def test_a_layer_is_its_matrix(structure: Structure) -> None:
    layer = StructuredLinear(structure, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    check_linear(layer)
    assert layer.parameters_of_matrix == structure.parameters


def test_a_sum_adds_matrices_and_a_fixed_core_is_not_trained() -> None:
    parts = (formats.low_rank(12, 20, 2), formats.kronecker((3, 4), (5, 4), 2))
    core = torch.ones(2, 3, 5)
    layer = StructuredLinear(parts, fixed={"core0_1": core})
    x = torch.randn(4, 20)
    torch.testing.assert_close(layer(x), x @ layer.to_dense().T)
    assert "cores.core0_1" not in dict(layer.named_parameters())
    torch.testing.assert_close(dict(layer.named_buffers())["fixed_core0_1"], core)
    check_linear(layer.double())


def test_low_rank_from_dense_is_best_where_the_data_lies() -> None:
    torch.manual_seed(0)
    weight, mixing = torch.randn(12, 20, dtype=torch.float64), torch.randn(20, 20, dtype=torch.float64)
    covariance = mixing @ mixing.T
    layer = StructuredLinear.from_dense(weight, formats.low_rank(12, 20, 5), covariance=covariance)
    left = weight - layer.to_dense()
    values = torch.linalg.svdvals(weight @ torch.linalg.cholesky(covariance))
    assert torch.trace(left @ covariance @ left.T).item() == pytest.approx(values[5:].square().sum().item(), rel=1e-5)


def test_what_is_no_matrix_is_refused() -> None:
    with pytest.raises(StructureError, match="2 output axes"):
        StructuredLinear(formats.cp((2, 3, 4), 2))
    with pytest.raises(StructureError, match="one shape"):
        StructuredLinear((formats.low_rank(3, 4, 1), formats.low_rank(4, 3, 1)))
    with pytest.raises(DataError, match="20 numbers"):
        StructuredLinear(formats.low_rank(12, 20, 3))(torch.ones(2, 12))


@pytest.mark.parametrize("structure", FAMILIES, ids=lambda s: s.pattern)
def test_derivatives(structure: Structure) -> None:
    small = structure.replace({index: min(size, 2) for index, size in structure.sizes.items()})
    check_gradients(StructuredLinear(small, dtype=torch.float64, generator=torch.Generator().manual_seed(0)))


def test_from_dense_takes_a_layer() -> None:
    dense, structure = nn.Linear(8, 8), formats.low_rank(8, 8, 8)
    layer = StructuredLinear.from_dense(dense, structure)
    x = torch.randn(3, 8)
    torch.testing.assert_close(layer(x), dense(x))
    assert StructuredLinear.from_dense(nn.Linear(8, 8, bias=False), structure).bias is None
    other = torch.ones(8)
    torch.testing.assert_close(StructuredLinear.from_dense(dense, structure, bias=other)(x), dense(x) - dense.bias + 1)
    with pytest.raises(TenfoldError, match=r"a matrix or nn\.Linear, not a Conv1d"):
        StructuredLinear.from_dense(nn.Conv1d(8, 8, 1), structure)


def test_a_pattern_alone_is_no_structure() -> None:
    for given in ("i r, r j -> i j", ["i r, r j -> i j"]):
        with pytest.raises(StructureError, match=r"not 'i r, r j -> i j': give tn.Structure\(pattern, sizes\)"):
            StructuredLinear(given)


def normalised(*structures: Structure, **more: object) -> StructuredLinear:
    made = StructuredLinear(
        structures, normalize=True, dtype=torch.float64, generator=torch.Generator().manual_seed(0), **more
    )
    with torch.no_grad():
        for gain in made.gains.values():
            gain.uniform_(0.5, 1.5, generator=torch.Generator().manual_seed(1))
    return made


@pytest.mark.parametrize("structure", [FAMILIES[4], FAMILIES[7]], ids=lambda s: s.pattern)
def test_a_normalised_layer_is_its_matrix(structure: Structure) -> None:
    check_linear(normalised(structure))
    layer = normalised(FAMILIES[0], FAMILIES[1], fixed={"core0_1": torch.ones(2, 3, 5)})
    # Gains are of the cores that are trained.
    assert set(layer.gains) == set(layer.cores) == {"core0_0", "core1_0", "core1_1"}
    check_linear(layer)


def test_derivatives_of_normalised_cores() -> None:
    layer = normalised(FAMILIES[4].replace({index: min(size, 2) for index, size in FAMILIES[4].sizes.items()}))
    with torch.no_grad():
        layer.cores["core0"] *= 3.0
        layer.cores["core1"] *= 0.2
    check_gradients(layer)
    # Along a core that is above its level nothing changes: the gradient is perpendicular to it.
    layer(inputs_for(layer, 3)).square().sum().backward()
    above, below = layer.cores["core0"], layer.cores["core1"]
    assert abs((above.grad * above).sum()) < 1e-6 * above.grad.norm() * above.norm()
    assert abs((below.grad * below).sum()) > 1e-3 * below.grad.norm() * below.norm()


def test_a_core_is_held_at_the_size_of_its_start() -> None:
    structure = formats.monarch((8, 8), (8, 8))
    layer = StructuredLinear(structure, normalize=True, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    x = inputs_for(layer, 4)
    core = layer.cores["core0"]
    level = layer.fans()["cores.core0"].std
    with torch.no_grad():
        core *= level / core.square().mean().sqrt()
        wanted = layer(x)
        # The number that keeps roots from zero is seen in the eighth digit only.
        core *= 10
        torch.testing.assert_close(layer(x), wanted, rtol=1e-6, atol=1e-6)
        torch.testing.assert_close(layer.to_dense() @ x.T, wanted.T, rtol=1e-6, atol=1e-6)
        core /= 100
        torch.testing.assert_close(layer(x), 0.1 * wanted, rtol=1e-6, atol=1e-6)
        layer.gains["core0"].fill_(3.0)
        torch.testing.assert_close(layer(x), 0.3 * wanted, rtol=1e-6, atol=1e-6)


def test_what_was_fitted_or_fixed_is_not_changed_by_normalising() -> None:
    torch.manual_seed(0)
    weight = 20 * torch.randn(12, 20, dtype=torch.float64)
    for structure in (formats.low_rank(12, 20, 3), [formats.low_rank(12, 20, 2), formats.kronecker((3, 4), (5, 4), 2)]):
        plain = StructuredLinear.from_dense(weight, structure)
        layer = StructuredLinear.from_dense(weight, structure, normalize=True)
        assert max(layer.gains.values()) > 2
        torch.testing.assert_close(layer.to_dense(), plain.to_dense())
    # Other cores begin larger where a fixed one is small, and gains let them.
    given = {"core0": torch.full((2, 3, 5), 1e-2)}
    parts = [
        StructuredLinear(
            formats.kronecker((3, 4), (5, 4), 2), fixed=given, normalize=yes, generator=torch.Generator().manual_seed(0)
        )
        for yes in (False, True)
    ]
    sizes = [part.to_dense().norm().item() for part in parts]
    assert sizes[1] == pytest.approx(sizes[0], rel=0.3)


def test_gains_learn_at_the_rate_that_is_given() -> None:
    layer = normalised(formats.monarch((8, 8), (8, 8)))
    rates = {name: group["lr"] for group in param_groups(layer, 0.1, base_width=64) for name in group["names"]}
    assert rates["gains.core0"] == rates["gains.core1"] == rates["bias"] == 0.1
    assert rates["cores.core0"] != 0.1


def test_what_is_made_of_normalised_cores_is_kept_until_they_change() -> None:
    layer = normalised(formats.low_rank(12, 20, 3), execution="materialised")
    x = inputs_for(layer, 4)
    with torch.no_grad():
        layer(x)
        (kept,) = (made for _, made, _ in layer._execution._kept.values())
        layer(x)
        assert next(made for _, made, _ in layer._execution._kept.values()) is kept
        before = layer(x)
        for change in (layer.gains["core0"], layer.cores["core1"]):
            change *= 0.1
            assert not torch.allclose(layer(x), before)
            torch.testing.assert_close(layer(x), x @ layer.to_dense().T + layer.bias)


@pytest.mark.slow
def test_a_normalised_layer_compiles_and_exports() -> None:
    layer = normalised(formats.block_tensor_train((3, 4), (5, 4), 2))
    check_compiles(layer, inputs_for(layer, 3))
    check_exports(layer, lambda size: inputs_for(layer, size))


@pytest.mark.parametrize("normalize", [False, True])
@pytest.mark.parametrize("structure", [formats.low_rank(8, 8, 2), formats.block_tensor_train((2, 4), (4, 2), 2)])
def test_a_layer_from_zeros_can_be_trained(structure: Structure, normalize: bool) -> None:
    layer = StructuredLinear.from_dense(torch.zeros(8, 8), structure, normalize=normalize)
    assert not layer.to_dense().any()
    (layer(torch.randn(9, 8)) - 1).square().sum().backward()
    assert any(core.grad.any() for core in layer.cores.values())


def test_weights_that_are_not_real_are_refused() -> None:
    structure = formats.low_rank(6, 8, 2)
    for dtype in (torch.complex64, torch.int64):
        weight = torch.ones(6, 8, dtype=dtype)
        for make in (
            lambda weight=weight: StructuredLinear.from_dense(weight, structure),
            lambda weight=weight: BlockDiagonalLinear.from_dense(weight, [(6, 8)]),
            lambda weight=weight: ToeplitzLinear.from_dense(weight),
            lambda weight=weight: StructuredEmbedding.from_dense(weight, structure),
            lambda weight=weight: StructuredConv.from_dense(weight[..., None], formats.tucker((6, 8, 1), (1, 1, 1))),
        ):
            with pytest.raises(DataError, match="real numbers"):
                make()
