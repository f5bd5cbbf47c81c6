"""Features in the two layouts."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tenfold.errors import DataError, TenfoldError
from tenfold.so3 import Irrep, Irreps, join, relayout, split

IRREPS = st.lists(
    st.tuples(st.integers(0, 4), st.builds(Irrep, st.integers(0, 3), st.sampled_from([1, -1]))), min_size=1, max_size=4
).map(Irreps)


def test_what_the_layouts_are() -> None:
    irreps = Irreps("2x1o+3x0e")
    features = torch.arange(9.0)
    assert relayout(features, irreps, "mul_ir", "ir_mul").tolist() == [0, 3, 1, 4, 2, 5, 6, 7, 8]
    vectors, scalars = split(features, irreps)
    assert vectors.tolist() == [[0, 1, 2], [3, 4, 5]]
    assert scalars.tolist() == [[6], [7], [8]]
    assert split(features, irreps, "ir_mul")[0].tolist() == [[0, 2, 4], [1, 3, 5]]


@given(IRREPS, st.lists(st.integers(0, 3), max_size=2))
def test_there_and_back(irreps: Irreps, batch: list[int]) -> None:
    features = torch.randn(*batch, irreps.dim, generator=torch.Generator().manual_seed(0))
    turned = relayout(features, irreps, "mul_ir", "ir_mul")
    assert turned.shape == features.shape
    assert torch.equal(relayout(turned, irreps, "ir_mul", "mul_ir"), features)
    for one, other in zip(split(features, irreps, "mul_ir"), split(turned, irreps, "ir_mul"), strict=True):
        assert torch.equal(one, other)
    for layout in ("mul_ir", "ir_mul"):
        assert torch.equal(join(split(features, irreps, layout), layout), features)


def test_views_carry_gradients_and_share_memory() -> None:
    features = torch.randn(5, 7, requires_grad=True)
    blocks = split(features, "2x1o+0e", "ir_mul")
    assert all(block.untyped_storage().data_ptr() == features.untyped_storage().data_ptr() for block in blocks)
    (grad,) = torch.autograd.grad(blocks[0][:, 1].sum(), features)
    assert grad[0].tolist() == [0, 1, 0, 1, 0, 1, 0]


def test_nothing_moves_where_nothing_changes_place() -> None:
    features = torch.randn(3, 4)
    assert relayout(features, "4x0e", "mul_ir", "ir_mul") is features
    assert relayout(features, "1x0e+1x1o", "ir_mul", "mul_ir") is features


def test_what_does_not_fit_is_told() -> None:
    with pytest.raises(DataError, match=r"features of shape \(3, 5\) must end with the 6 of '2x1o'"):
        split(torch.zeros(3, 5), "2x1o")
    with pytest.raises(DataError, match="must end with the 1"):
        split(torch.tensor(0.0), "0e")
    with pytest.raises(TenfoldError, match=r"a layout is 'mul_ir' or 'ir_mul', not 'irmul' \(did you mean 'ir_mul'"):
        relayout(torch.zeros(6), "2x1o", "mul_ir", "irmul")
    with pytest.raises(DataError, match="at least one tensor"):
        join([])
