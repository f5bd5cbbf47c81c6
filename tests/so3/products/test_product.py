"""What all products of two features share: shapes, batches, weights and errors."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from tenfold.errors import DataError, TenfoldError
from tenfold.so3.products import Product


class Scaled(Product):
    """A vector times a scalar times two weights."""

    def __init__(self, **options: Any) -> None:
        super().__init__("1o", "0e", "1o", weight_numel=2, **options)

    def _product(self, left: Tensor, right: Tensor, weight: Tensor | None) -> Tensor:
        assert left.ndim == right.ndim == 2
        assert weight is not None
        assert weight.ndim == 1 or weight.shape == (len(left), 2)
        return left * right * weight.prod(-1, keepdim=True)


class Plain(Product):
    """The same without weights."""

    def __init__(self) -> None:
        super().__init__("1o", "0e", "1o", layout="mul_ir")

    def _product(self, left: Tensor, right: Tensor, weight: Tensor | None) -> Tensor:
        assert weight is None
        return left * right


SCALED, PLAIN = Scaled(layout="mul_ir"), Plain()


def drawn(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(len(shape)))


@pytest.mark.parametrize(
    ("left", "right", "weight", "out"),
    [
        ((), (), (), ()),
        ((4,), (4,), (), (4,)),
        ((4,), (4,), (4,), (4,)),
        ((4,), (), (4,), (4,)),
        ((5, 1), (4,), (), (5, 4)),
        ((5, 1), (4,), (5, 4), (5, 4)),
        ((), (), (3,), (3,)),
        ((0,), (0,), (), (0,)),
        ((2, 0), (1,), (), (2, 0)),
    ],
)
def test_batches_broadcast(left: Any, right: Any, weight: Any, out: Any) -> None:
    one, other, factors = drawn(*left, 3), drawn(*right, 1), drawn(*weight, 2)
    found = SCALED(one, other, factors)
    assert found.shape == (*out, 3)
    torch.testing.assert_close(found, (one * other * factors.prod(-1, keepdim=True)).expand(*out, 3))


@pytest.mark.parametrize(
    ("tensors", "word"),
    [
        ((drawn(2, 4), drawn(2, 1), drawn(2)), "left of shape (2, 4) must end with the 3 of '1x1o'"),
        ((drawn(2, 3), drawn(2, 3), drawn(2)), "right of shape (2, 3) must end with the 1 of '1x0e'"),
        ((torch.tensor(1.0), drawn(2, 1), drawn(2)), "left of shape ()"),
        ((drawn(2, 3), drawn(2, 1)), "weight must end with 2 numbers, and is missing"),
        ((drawn(2, 3), drawn(2, 1), drawn(3)), "weight must end with 2 numbers, not have shape (3,)"),
        ((drawn(2, 3), drawn(2, 1), torch.tensor(1.0)), "weight must end with 2 numbers, not have shape ()"),
        ((drawn(2, 3), drawn(3, 1), drawn(2)), "batches of shape (2,) and (3,) and () do not broadcast"),
        ((drawn(2, 3), drawn(2, 1), drawn(3, 2)), "do not broadcast"),
        ((drawn(2, 3), drawn(2, 1).double(), drawn(2)), "left is torch.float32 and right torch.float64: convert one"),
        ((drawn(2, 3), drawn(2, 1), drawn(2).half()), "left is torch.float32 and weight torch.float16: convert one"),
        ((drawn(2, 3).long(), drawn(2, 1), drawn(2)), "must be floating, not torch.int64"),
        ((drawn(2, 3), drawn(2, 1).to("meta"), drawn(2)), "left is on cpu and right on meta: move one"),
    ],
)
def test_what_does_not_fit(tensors: tuple[Tensor, ...], word: str) -> None:
    with pytest.raises(DataError) as caught:
        SCALED(*tensors)
    assert word in str(caught.value)
    assert "\n" not in str(caught.value)


def test_weights_that_nobody_wants() -> None:
    with pytest.raises(DataError, match="weight must be None: Plain of these irreps takes none"):
        PLAIN(drawn(2, 3), drawn(2, 1), drawn(2))


def test_a_layout_that_is_none() -> None:
    with pytest.raises(TenfoldError, match="a layout is 'mul_ir' or 'ir_mul', not 'mul'"):
        Scaled(layout="mul")


def test_coefficients_are_the_map() -> None:
    weight, left, right = drawn(2), drawn(6, 3), drawn(6, 1)
    table = SCALED.coefficients(weight)
    assert table.dtype == torch.float64
    found = torch.einsum("bi,bj,ijk->bk", left.double(), right.double(), table)
    torch.testing.assert_close(found.float(), SCALED(left, right, weight))
    torch.testing.assert_close(PLAIN.coefficients()[:, 0], torch.eye(3, dtype=torch.float64))


def test_random_weights() -> None:
    weight = SCALED.random_weight(4, seed=3, dtype=torch.float64)
    assert (weight.shape, weight.dtype) == ((4, 2), torch.float64)
    assert torch.equal(weight, SCALED.random_weight(4, seed=3, dtype=torch.float64))
    assert not torch.equal(weight, SCALED.random_weight(4, seed=4, dtype=torch.float64))
    assert PLAIN.random_weight().shape == (0,)


def test_its_name() -> None:
    assert repr(SCALED) == "Scaled(1x1o x 1x0e -> 1x1o, 2 weights)"
    assert repr(PLAIN) == "Plain(1x1o x 1x0e -> 1x1o)"
