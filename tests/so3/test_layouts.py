"""Features in the two layouts."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.autograd import forward_ad

from tenfold.errors import DataError, TenfoldError
from tenfold.so3 import Irrep, Irreps, join, relayout, split
from tenfold.so3 import _relayout as operator
from tenfold.so3.layouts import Layout

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


# More copies than vectors have lanes, and fewer, and components that fill squares or do not.
BLOCKS = st.lists(
    st.tuples(
        st.sampled_from([0, 1, 2, 3, 5, 8, 13, 16, 17, 40]), st.integers(0, 9).map(lambda degree: Irrep(degree, 1))
    ),
    min_size=1,
    max_size=4,
).map(Irreps)
WAYS = (("mul_ir", "ir_mul"), ("ir_mul", "mul_ir"))


@settings(max_examples=25)
@given(BLOCKS, st.integers(0, 5), st.sampled_from([torch.float32, torch.float64, torch.int32, torch.int64]))
def test_written_code_moves_numbers_as_torch_does(irreps: Irreps, rows: int, dtype: torch.dtype) -> None:
    features = torch.arange(rows * irreps.dim).reshape(rows, irreps.dim).to(dtype)
    for source, target in WAYS:
        assert torch.equal(relayout(features, irreps, source, target), join(split(features, irreps, source), target))


@pytest.mark.parametrize(
    "dtype",
    [torch.float16, torch.bfloat16, torch.int8, torch.bool, torch.complex64, torch.complex128, torch.int32],
)
def test_numbers_of_every_kind(dtype: torch.dtype) -> None:
    irreps = "9x1o+3x0e+17x2e"
    features = torch.arange(4 * 115).reshape(4, 115).to(dtype)
    for source, target in WAYS:
        assert torch.equal(relayout(features, irreps, source, target), join(split(features, irreps, source), target))


def test_what_lies_otherwise_in_memory() -> None:
    irreps = Irreps("9x1o+3x0e+17x2e")
    wide = torch.randn(3, 5, 2 * irreps.dim + 1)
    views = [
        wide[..., 1 : 1 + irreps.dim],
        wide[..., 1::2],
        wide[:1, :1, : irreps.dim].expand(3, 5, -1),
        wide[..., : irreps.dim].transpose(0, 1),
        wide[0, 0, : irreps.dim],
        wide[..., :1].expand(3, 5, irreps.dim),
        torch._neg_view(wide[..., : irreps.dim]),
    ]
    for features in views:
        for source, target in WAYS:
            found = relayout(features, irreps, source, target)
            assert torch.equal(found, join(split(features, irreps, source), target))
            assert found.is_contiguous()


def test_many_rows_are_shared_between_threads() -> None:
    features = torch.randn(1001, 64 * 9)
    expected = join(split(features, "64x0e+64x1o+64x2e"), "ir_mul")
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        assert torch.equal(relayout(features, "64x0e+64x1o+64x2e", "mul_ir", "ir_mul"), expected)
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize(("source", "target"), WAYS)
def test_derivatives_of_every_kind(source: Layout, target: Layout) -> None:
    irreps = Irreps("3x1o+2x0e+2x2e")

    def turn(features: Tensor) -> Tensor:
        return relayout(features, irreps, source, target)

    def plain(features: Tensor) -> Tensor:
        return join(split(features, irreps, source), target)

    features, direction = torch.randn(2, 4, irreps.dim, dtype=torch.float64)
    leaf = features.clone().requires_grad_()
    assert torch.autograd.gradcheck(turn, leaf)
    assert torch.autograd.gradgradcheck(lambda x: turn(x).pow(3), leaf)
    (grad,) = torch.autograd.grad((turn(leaf) ** 2 * direction).sum(), leaf)
    (expected,) = torch.autograd.grad((plain(leaf) ** 2 * direction).sum(), leaf)
    assert torch.equal(grad, expected)
    assert torch.equal(torch.vmap(turn)(features), turn(features))
    stacked = torch.stack([features, direction], dim=-1)
    assert torch.equal(torch.vmap(turn, in_dims=-1, out_dims=1)(stacked)[:, 1], turn(direction))
    assert torch.equal(torch.func.jvp(turn, (features,), (direction,))[1], turn(direction))
    matrix = torch.func.jacfwd(turn)(features[0])
    assert torch.equal(matrix, torch.func.jacrev(turn)(features[0]))
    torch.testing.assert_close(matrix @ direction[0], turn(direction[0]))
    with forward_ad.dual_level():
        dual = turn(forward_ad.make_dual(features, direction))
        assert torch.equal(forward_ad.unpack_dual(dual).tangent, turn(direction))


def test_it_compiles_as_one_operator() -> None:
    features = torch.randn(4, 115)
    leaf = features.clone().requires_grad_()
    function = torch.compile(
        lambda x: relayout(x * 2, "9x1o+3x0e+17x2e", "mul_ir", "ir_mul"), fullgraph=True, backend="aot_eager"
    )
    expected = relayout(features, "9x1o+3x0e+17x2e", "mul_ir", "ir_mul")
    assert torch.equal(function(features), 2 * expected)
    (grad,) = torch.autograd.grad(function(leaf), leaf, expected)
    assert torch.equal(grad, 2 * features)
    sizes = ([9, 3, 17], [3, 1, 5], True)
    torch.library.opcheck(operator._relayout, (features, *sizes))
    torch.library.opcheck(operator._relayout, (leaf, *sizes))
