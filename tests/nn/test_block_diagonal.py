from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from nn.linear_oracles import check_compiles, check_exports, check_gradients, check_linear, inputs_for

from tenfold.errors import DataError
from tenfold.nn import BlockDiagonalLinear

BLOCKS = st.lists(st.sampled_from([(2, 3), (4, 4), (1, 5), (0, 2), (3, 0)]), min_size=1, max_size=5)


@settings(max_examples=8, deadline=None)
@given(BLOCKS, st.integers(0, 3))
def test_a_layer_is_its_matrix(blocks: list[tuple[int, int]], rank: int) -> None:
    layer = BlockDiagonalLinear(blocks, rank, dtype=torch.float64)
    check_linear(layer)
    rows, columns = (sum(shape[side] for shape in blocks) for side in (0, 1))
    assert layer.parameters_of_matrix == sum(r * c for r, c in blocks) + rank * (rows + columns)


@settings(max_examples=15, deadline=None)
@given(BLOCKS, st.integers(0, 3), st.sampled_from([1, 16, 33]))
def test_the_kernel_is_the_same_product(blocks: list[tuple[int, int]], rank: int, batch: int) -> None:
    torch.manual_seed(0)
    layer = BlockDiagonalLinear([*blocks, (9, 20)], rank)
    x = inputs_for(layer, batch)
    with torch.no_grad():
        ways = layer._execution._ways
        made = ways.kernel.run(ways.subject, ways.kernel.prepare(ways.subject, layer._tensors()), x, layer.bias)
        torch.testing.assert_close(made, x @ layer.to_dense().T + layer.bias)


def test_derivatives_and_graphs() -> None:
    layer = BlockDiagonalLinear([(2, 2), (2, 2), (1, 3)], 1, execution="factorised", dtype=torch.float64)
    check_gradients(layer)
    check_compiles(layer, inputs_for(layer, 3))
    check_exports(layer, lambda batch: inputs_for(layer, batch))


def test_the_matrix_is_zero_outside_of_the_blocks() -> None:
    layer = BlockDiagonalLinear([(2, 3), (2, 3), (1, 1)])
    dense = layer.to_dense()
    assert torch.equal(dense[2:4, 3:6], layer.blocks[0][1])
    assert dense.count_nonzero() == 13


def error(weight: torch.Tensor, layer: BlockDiagonalLinear, covariance: torch.Tensor) -> float:
    left = (weight - layer.to_dense()).detach()
    return float(torch.trace(left @ covariance @ left.T))


def test_from_dense() -> None:
    torch.manual_seed(0)
    blocks, rank = [(4, 3), (4, 3), (3, 5)], 2
    planted = BlockDiagonalLinear(blocks, rank, dtype=torch.float64)
    weight = planted.to_dense().detach()
    eye = torch.eye(11, dtype=torch.float64)
    assert error(weight, BlockDiagonalLinear.from_dense(weight, blocks, rank, sweeps=2000, tol=0.0), eye) < 1e-6
    weight = torch.randn(11, 11, dtype=torch.float64)
    mixing = torch.randn(11, 12, dtype=torch.float64)
    for covariance in (eye, mixing @ mixing.T):
        given_covariance = None if covariance is eye else covariance
        alone = BlockDiagonalLinear.from_dense(weight, blocks, covariance=given_covariance)
        left = weight - alone.to_dense()
        # Least squares: the error has no slope.
        slopes = torch.autograd.grad(torch.trace(left @ covariance @ left.T), list(alone.blocks))
        assert max(float(slope.abs().max()) for slope in slopes) < 1e-8
        errors = [
            error(
                weight,
                BlockDiagonalLinear.from_dense(weight, blocks, rank, sweeps=n, covariance=given_covariance),
                covariance,
            )
            for n in (1, 2, 5, 20)
        ]
        assert errors == sorted(errors, reverse=True)
        assert errors[0] < error(weight, alone, covariance)


def test_refusals() -> None:
    with pytest.raises(DataError, match="at least 0"):
        BlockDiagonalLinear([(2, 2)], -1)
    with pytest.raises(DataError, match="empty"):
        BlockDiagonalLinear([])
    with pytest.raises(DataError, match="5 x 5, the weight is of 4 x 5"):
        BlockDiagonalLinear.from_dense(torch.ones(4, 5), [(2, 2), (3, 3)])


@pytest.mark.parametrize("blocks", [4, [4, 16], ["ab"], [(4, 2.5)]])
def test_blocks_are_pairs(blocks: object) -> None:
    with pytest.raises(DataError, match="rows and columns of each block"):
        BlockDiagonalLinear(blocks, 16)
    with pytest.raises(DataError, match=r"not a Linear: give its \.weight"):
        BlockDiagonalLinear.from_dense(torch.nn.Linear(4, 4), [(4, 4)])


def test_a_low_rank_part_without_numbers_can_be_trained() -> None:
    layer = BlockDiagonalLinear.from_dense(torch.block_diag(torch.ones(3, 4), torch.ones(2, 2)), [(3, 4), (2, 2)], 2)
    assert not (layer.left @ layer.right).any()
    layer(torch.randn(9, 6)).square().sum().backward()
    assert layer.right.grad.any(dim=1).all()
