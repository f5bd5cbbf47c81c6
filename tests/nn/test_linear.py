from __future__ import annotations

import pytest
import torch
from nn.linear_oracles import check_gradients, check_linear
from torch import nn

from tenfold import formats
from tenfold.errors import DataError, StructureError, TenfoldError
from tenfold.nn import StructuredLinear
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
