"""Convolutions by products of functions on the sphere, against the integrals of three harmonics."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck

from tenfold.so3 import Irreps, gaunt, join, random_rotations, rotate, spherical_harmonics, split
from tenfold.so3.products import GauntConvolution, Unsuited

SOURCE = torch.tensor([0, 1, 2, 3, 0, 1, 3])
TARGET = torch.tensor([3, 3, 0, 1, 1, 1, 0])


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def edges() -> Tensor:
    """Along the polar axis both ways, close to it, of no length, and two of any kind."""
    given = [[0, 1, 0], [0, -2, 0], [1e-9, 1, -1e-9], [1e-7, -1, 0], [0, 0, 0]]
    return torch.cat([torch.tensor(given, dtype=torch.float64), normal(2, 3)])


def irreps(degrees: Any, channels: int = 2, sign: int = 1) -> Irreps:
    return Irreps([(channels, (n, sign * (-1) ** n)) for n in degrees])


def multiplied(
    features: Tensor, vectors: Tensor, weight: Tensor, first: Irreps, degree: int, out: Irreps, layout: Any
) -> Tensor:
    """Gaunt coefficients times features and harmonics, with the scale of unit variance: messages at edges."""
    blocks, found = split(features, first, layout), []
    weights = weight.unflatten(-1, (degree + 1, -1))
    for block in out:
        total, square = features.new_zeros(len(vectors), block.mul, block.ir.dim), 0.0
        for left, part in zip(first, blocks, strict=True):
            for middle in range(degree + 1):
                table = gaunt(left.ir.l, middle, block.ir.l)
                square += float(table.square().sum())
                harmonics = spherical_harmonics(middle, vectors, normalization="component")
                message = torch.einsum("abc,eua,eb->euc", table, part, harmonics)
                total = total + message * weights[:, middle, :, None]
        found.append(total * math.sqrt(block.ir.dim / square) if square else total)
    return join(found, layout)


DEGREES = st.sets(st.integers(0, 4), min_size=1, max_size=3).map(sorted)


@settings(max_examples=12, deadline=None)
@given(
    DEGREES, DEGREES, st.integers(0, 6), st.sampled_from([1, -1]), st.booleans(), st.sampled_from(["mul_ir", "ir_mul"])
)
def test_equal_to_the_integrals(
    inner: list[int], outer: list[int], degree: int, sign: int, channelwise: bool, layout: Any
) -> None:
    first, out = irreps(inner, sign=sign), irreps(outer, sign=sign)
    try:
        convolution = GauntConvolution(first, degree, out, channelwise=channelwise, layout=layout)
    except Unsuited:
        assert not first.paths(Irreps.harmonics(degree), out)
        return
    assert convolution.weight_numel == (degree + 1) * (2 if channelwise else 1)
    features, vectors = normal(4, first.dim), edges()
    weight = convolution.random_weight(7, dtype=torch.float64)
    expected = multiplied(features[SOURCE], vectors, weight, first, degree, out, layout)
    torch.testing.assert_close(convolution(features, vectors, weight, source=SOURCE), expected, rtol=0, atol=1e-11)
    at_nodes = convolution(features, vectors, weight, source=SOURCE, target=TARGET)
    summed = torch.zeros(4, out.dim, dtype=torch.float64).index_add(0, TARGET, expected)
    torch.testing.assert_close(at_nodes, summed, rtol=0, atol=1e-11)


@pytest.mark.parametrize("channelwise", [True, False])
@pytest.mark.parametrize("shared", [True, False])
def test_first_and_second_derivatives_at_the_poles(channelwise: bool, shared: bool) -> None:
    first, out = irreps((0, 1, 2)), irreps((1, 2))
    convolution = GauntConvolution(first, 2, out, channelwise=channelwise, layout="ir_mul")

    def ours(features: Tensor, vectors: Tensor, weight: Tensor) -> Tensor:
        return convolution(features, vectors, weight, source=SOURCE)

    def reference(features: Tensor, vectors: Tensor, weight: Tensor) -> Tensor:
        return multiplied(features[SOURCE], vectors, weight.expand(7, -1), first, 2, out, "ir_mul")

    batch = () if shared else (7,)
    inputs, found = [normal(4, first.dim), edges(), convolution.random_weight(*batch, dtype=torch.float64)], []
    for function in (ours, reference):
        given = [tensor.clone().requires_grad_() for tensor in inputs]
        firsts = torch.autograd.grad(function(*given).sin().sum(), given, create_graph=True)
        total = sum((part * normal(*part.shape, seed=n)).sum() for n, part in enumerate(firsts))
        found.append((*firsts, *torch.autograd.grad(total, given)))
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-8, atol=1e-8)


def test_numerical_derivatives() -> None:
    first = irreps((0, 2))
    convolution = GauntConvolution(first, 3, first, layout="ir_mul")
    given = [normal(3, first.dim), edges()[[0, 1, 6]], convolution.random_weight(3, dtype=torch.float64)]
    given = [tensor.requires_grad_() for tensor in given]
    assert gradcheck(convolution, given)
    assert gradgradcheck(convolution, given)


def test_messages_are_the_product_of_two_functions() -> None:
    # All degrees of the product are kept, so its values are products of values, once scales are taken out.
    first, out = irreps((0, 1, 2), 1), irreps(range(6), 1)
    convolution = GauntConvolution(first, 3, out, layout="ir_mul")
    features, vectors, weight, points = normal(7, 9), edges(), normal(7, 4, seed=1), normal(20, 3, seed=2)
    scales = [convolution._form.scale(n) for n in range(6) for _ in range(2 * n + 1)]
    message = convolution(features, vectors, weight) / torch.tensor(scales, dtype=torch.float64)
    zonal = torch.einsum(
        "el,elp->ep",
        weight,
        torch.stack(
            [
                spherical_harmonics(n, vectors, normalization="component") @ spherical_harmonics(n, points).T
                for n in range(4)
            ],
            dim=1,
        ),
    )
    values = (features @ spherical_harmonics(range(3), points).T) * zonal
    torch.testing.assert_close(message @ spherical_harmonics(range(6), points).T, values, rtol=0, atol=1e-12)


def test_equivariant_with_the_inversion() -> None:
    first, out = irreps((0, 1, 2), sign=-1), irreps((1, 3), sign=-1)
    convolution = GauntConvolution(first, 4, out, layout="mul_ir")
    features, vectors, turn = normal(7, first.dim), edges(), -random_rotations(1, seed=3)[0]
    weight = convolution.random_weight(7, dtype=torch.float64)
    turned = convolution(rotate(features, first, turn), vectors @ turn.T, weight)
    torch.testing.assert_close(turned, rotate(convolution(features, vectors, weight), out, turn), rtol=0, atol=1e-11)


def test_independent_weights_keep_variances() -> None:
    first = irreps(range(4), 64)
    convolution = GauntConvolution(first, 4, first, layout="ir_mul")
    features, vectors = normal(400, first.dim), normal(400, 3, seed=1)
    message = convolution(features, vectors, convolution.random_weight(400, dtype=torch.float64))
    for block in split(message, first, "ir_mul"):
        assert 0.9 < float(block.square().mean()) < 1.1


def test_threads_change_no_bit() -> None:
    first = irreps((0, 1, 2), 5)
    convolution = GauntConvolution(first, 2, first, layout="ir_mul")
    features, vectors = normal(30, first.dim).float(), normal(300, 3).float()
    weight, before, found = convolution.random_weight(300), torch.get_num_threads(), []
    ends = torch.randint(30, (2, 300), generator=torch.Generator().manual_seed(0))
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            given = [tensor.clone().requires_grad_() for tensor in (features, vectors, weight)]
            out = convolution(*given, source=ends[0], target=ends[1])
            found.append([out, *torch.autograd.grad(out.square().sum(), given)])
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(one, other) for one, other in zip(*found, strict=True))


def test_no_edges_and_compiled_in_one_graph() -> None:
    first = irreps((0, 1))
    convolution = GauntConvolution(first, 1, first, layout="ir_mul")
    empty = torch.empty(0, dtype=torch.float64)
    assert convolution(empty.reshape(0, 8), empty.reshape(0, 3), empty.reshape(0, 4)).shape == (0, 8)
    features, weight = normal(7, 8), normal(7, 4, seed=1)
    compiled = torch.compile(
        lambda vectors: convolution(features, vectors, weight), fullgraph=True, backend="aot_eager"
    )
    torch.testing.assert_close(compiled(edges()), convolution(features, edges(), weight))


def test_what_is_refused() -> None:
    with pytest.raises(Unsuited, match="must have the parity of irreps_in '2x0e'"):
        GauntConvolution("2x0e", 1, "2x1e", layout="ir_mul")
    with pytest.raises(Unsuited, match="no path leads from '2x0e' to '2x2e' with this filter"):
        GauntConvolution("2x0e", 1, "2x2e", layout="ir_mul")
    with pytest.raises(Unsuited, match="have 3 channels and irreps_in 2"):
        GauntConvolution("2x0e", 1, "3x1o", layout="ir_mul")
