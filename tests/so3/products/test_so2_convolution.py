"""Convolutions in the frames of edges are Clebsch-Gordan's, at every edge and to second order."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck

from tenfold.errors import DataError, TenfoldError
from tenfold.so3 import Irreps, join, random_rotations, rotate, spherical_harmonics, split, wigner_3j
from tenfold.so3.products import (
    SO2Convolution,
    SO2MixingConvolution,
    Unsuited,
    _aligned,
    _aligned_plain,
    _aligned_written,
)
from tenfold.so3.products._aligned_form import Form

SOURCE = torch.tensor([0, 1, 2, 3, 0, 1, 3])
TARGET = torch.tensor([3, 3, 0, 1, 1, 1, 0])


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def edges() -> Tensor:
    """Along the polar axis both ways, close to it, of no length, tiny, and two of any kind."""
    given = [[0, 1, 0], [0, -2, 0], [1e-9, 1, -1e-9], [1e-7, -1, 0], [0, 0, 0], [3e-5, 1e-5, -2e-5]]
    return torch.cat([torch.tensor(given, dtype=torch.float64), normal(1, 3)])


def irreps(degrees: Any, channels: int = 2, sign: int = 1) -> Irreps:
    return Irreps([(channels, (n, sign * (-1) ** n)) for n in degrees])


def coupled(
    features: Tensor,
    vectors: Tensor,
    weight: Tensor,
    first: Irreps,
    degree: int,
    out: Irreps,
    layout: Any,
    parity: bool,
) -> Tensor:
    """Every path with its 3j coefficients, e3nn's ``uvu`` with weights for each edge: messages at edges."""
    blocks, found = split(features, first, layout), {block.ir.l: [] for block in out}
    channels, at = first[0].mul, 0
    for inner, left in enumerate(first):
        for middle in range(degree + 1):
            for outer in out:
                low, high = abs(left.ir.l - middle), left.ir.l + middle
                kept = not parity or left.ir.p * (-1) ** middle == outer.ir.p
                if not low <= outer.ir.l <= high or not kept:
                    continue
                harmonics = spherical_harmonics(middle, vectors, normalization="component")
                w = weight[..., at * channels : (at + 1) * channels]
                table = wigner_3j(left.ir.l, middle, outer.ir.l, dtype=features.dtype)
                message = torch.einsum("abc,eua,eb->euc", table, blocks[inner], harmonics) * w[..., None]
                found[outer.ir.l].append(math.sqrt(outer.ir.dim) * message)
                at += 1
    assert at * channels == weight.shape[-1]
    zero = [features.new_zeros(len(vectors), block.mul, block.ir.dim) for block in out]
    parts = [sum(found[b.ir.l], z) / math.sqrt(max(1, len(found[b.ir.l]))) for b, z in zip(out, zero, strict=True)]
    return join(parts, layout)


def added(messages: Tensor) -> Tensor:
    return messages.new_zeros(4, messages.shape[1]).index_add(0, TARGET, messages)


DEGREES = st.sets(st.integers(0, 3), min_size=1, max_size=3).map(sorted)


@settings(max_examples=12, deadline=None)
@given(
    DEGREES, DEGREES, st.integers(0, 6), st.sampled_from([1, -1]), st.booleans(), st.sampled_from(["mul_ir", "ir_mul"])
)
def test_equal_to_clebsch_gordan(
    inner: list[int], outer: list[int], degree: int, sign: int, parity: bool, layout: Any
) -> None:
    first, out = irreps(inner), irreps(outer, sign=sign)
    try:
        convolution = SO2Convolution(first, out, degree=degree, weights="paths", parity=parity, layout=layout)
    except Unsuited:
        if parity:
            assert not first.paths(Irreps.harmonics(degree), out)
        else:
            assert all(abs(i - o) > degree for i in inner for o in outer)
        return
    features, vectors = normal(4, first.dim), edges()
    weight = convolution.random_weight(7, dtype=torch.float64)
    expected = coupled(features[SOURCE], vectors, weight, first, degree, out, layout, parity)
    at_edges = convolution(features, vectors, weight, source=SOURCE)
    torch.testing.assert_close(at_edges, expected, rtol=0, atol=1e-11)
    at_nodes = convolution(features, vectors, weight, source=SOURCE, target=TARGET)
    torch.testing.assert_close(at_nodes, added(expected), rtol=0, atol=1e-11)


@pytest.mark.parametrize("weights", ["paths", "frame"])
@pytest.mark.parametrize("shared", [False, True])
def test_first_and_second_derivatives_are_clebsch_gordans_at_the_poles_too(weights: Any, shared: bool) -> None:
    first, out = irreps((0, 1, 2)), irreps((1, 2))
    convolution = SO2Convolution(first, out, weights=weights, parity=False, layout="ir_mul")
    exact = SO2Convolution(first, out, weights="paths", parity=False, layout="ir_mul")

    def reference(features: Tensor, vectors: Tensor, weight: Tensor) -> Tensor:
        paths = weight if weights == "paths" else convolution.to_path_weights(weight)
        return added(coupled(features[SOURCE], vectors, paths, first, exact.degree, out, "ir_mul", False))

    def ours(features: Tensor, vectors: Tensor, weight: Tensor) -> Tensor:
        return convolution(features, vectors, weight, source=SOURCE, target=TARGET)

    batch = () if shared else (7,)
    inputs = [normal(4, first.dim), edges(), convolution.random_weight(*batch, dtype=torch.float64)]
    found = []
    for function in (ours, reference):
        given = [tensor.clone().requires_grad_() for tensor in inputs]
        coming = normal(4, out.dim, seed=1).requires_grad_()
        firsts = torch.autograd.grad(function(*given), given, coming, create_graph=True)
        total = sum((part * normal(*part.shape, seed=n)).sum() for n, part in enumerate(firsts))
        found.append((firsts, torch.autograd.grad(total, [*given, coming])))
    for one, other in zip(found[0][0], found[1][0], strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-10)
    for one, other in zip(found[0][1], found[1][1], strict=True):
        torch.testing.assert_close(one, other, rtol=1e-8, atol=1e-8)
    assert not found[0][0][1][4].any()  # an edge of no length has no force


@pytest.mark.parametrize("channelwise", [True, False])
def test_numerical_derivatives(channelwise: bool) -> None:
    first, out = irreps((0, 2)), irreps((1, 2))
    convolution = SO2Convolution(first, out, parity=False, channelwise=channelwise, layout="ir_mul")
    vectors = edges()[[0, 1, 6]] + torch.tensor([[0.0], [0.0], [0.1]], dtype=torch.float64)
    given = [normal(4, first.dim), vectors, convolution.random_weight(3, dtype=torch.float64)]
    given = [tensor.requires_grad_() for tensor in given]

    def run(*tensors: Tensor) -> Tensor:
        return convolution(*tensors, source=SOURCE[:3], target=TARGET[:3])

    assert gradcheck(run, given)
    assert gradgradcheck(run, given)


def test_third_derivatives() -> None:
    first = irreps((0, 1), 1)
    convolution = SO2Convolution(first, first, parity=False, layout="ir_mul")
    features, weight = normal(3, first.dim), convolution.random_weight(3, dtype=torch.float64)
    vectors = edges()[[0, 1, 6]].requires_grad_()

    def force(vectors: Tensor) -> Tensor:
        energy = convolution(features, vectors, weight).sin().sum()
        return torch.autograd.grad(energy, vectors, create_graph=True)[0]

    assert gradcheck(force, (vectors,))
    assert gradgradcheck(force, (vectors,))


@pytest.mark.parametrize("parity", [True, False])
@pytest.mark.parametrize("degree", [0, 2, 5])
def test_weights_of_paths_and_of_the_frame_say_the_same(parity: bool, degree: int) -> None:
    first, out = irreps((0, 1, 3)), irreps((0, 1, 2))
    frame = SO2Convolution(first, out, parity=parity, layout="ir_mul")
    paths = SO2Convolution(first, out, weights="paths", parity=parity, degree=frame.degree, layout="ir_mul")
    given = paths.random_weight(7, dtype=torch.float64)
    there = frame.from_path_weights(given)
    assert frame.weight_numel == paths.weight_numel
    # Orthogonal: lengths stay, and independent normal weights stay independent and normal.
    torch.testing.assert_close(there.norm(dim=-1), given.norm(dim=-1))
    torch.testing.assert_close(frame.to_path_weights(there), given, rtol=0, atol=1e-13)
    features, vectors = normal(7, first.dim), edges()
    torch.testing.assert_close(frame(features, vectors, there), paths(features, vectors, given), rtol=0, atol=1e-12)
    # A filter of fewer degrees: the same map with the scale of its own paths.
    fewer = SO2Convolution(first, out, weights="paths", parity=parity, degree=degree, layout="ir_mul")
    given = fewer.random_weight(7, dtype=torch.float64)
    torch.testing.assert_close(fewer.to_path_weights(fewer.from_path_weights(given)), given, rtol=0, atol=1e-13)
    found = split(frame(features, vectors, fewer.from_path_weights(given)), out, "ir_mul")
    expected = split(fewer(features, vectors, given), out, "ir_mul")
    for n, one, other in zip((0, 1, 2), found, expected, strict=True):
        torch.testing.assert_close(one * fewer._form.scale(n), other * frame._form.scale(n), rtol=0, atol=1e-12)


def test_the_condition_of_a_pair_without_the_factor_is_root_two() -> None:
    form = Form("paths", (3,), (2,), 5, 9, True, True)
    twice = torch.tensor([2.0 if slot.order else 1.0 for slot in form.slots()], dtype=torch.float64)
    matrix = torch.from_numpy(form.mixing()) / twice.sqrt()[:, None]
    assert matrix.shape == (5, 5)
    torch.testing.assert_close(torch.linalg.cond(matrix).item(), math.sqrt(2))
    torch.testing.assert_close(matrix.T @ (twice[:, None] * matrix), torch.eye(5, dtype=torch.float64))


@pytest.mark.parametrize("weights", ["paths", "frame"])
@pytest.mark.parametrize("m_max", [0, 1, None])
def test_equivariant_whatever_is_left_out(weights: Any, m_max: int | None) -> None:
    first, out = irreps((0, 1, 2, 3)), irreps((1, 2, 3))
    convolution = SO2Convolution(first, out, m_max=m_max, weights=weights, layout="mul_ir")
    features, vectors, turn = normal(4, first.dim), edges(), random_rotations(1, seed=3)[0]
    weight = convolution.random_weight(7, dtype=torch.float64)
    for matrix in (turn, -turn):
        turned = convolution(rotate(features, first, matrix), vectors @ matrix.T, weight, source=SOURCE, target=TARGET)
        expected = rotate(convolution(features, vectors, weight, source=SOURCE, target=TARGET), out, matrix)
        torch.testing.assert_close(turned, expected, rtol=0, atol=1e-10)


def test_turning_around_the_edge_changes_nothing() -> None:
    form = Form("frame", (0, 1, 2), (1, 2), 4, 9, True, True)
    weight = normal(1, len(form.slots()), 1)
    pole = torch.tensor([[0.0, 1.0, 0.0]], dtype=torch.float64)
    (matrix,) = _aligned_plain._dense(form, pole, weight)[..., 0]
    around = torch.linalg.matrix_exp(torch.tensor([[0.0, 0, 0.7], [0, 0, 0], [-0.7, 0, 0]], dtype=torch.float64))
    inner, outer = irreps((0, 1, 2), 1), irreps((1, 2), 1)
    one = rotate((matrix @ normal(9)), outer, around)
    other = matrix @ rotate(normal(9), inner, around)
    torch.testing.assert_close(one, other, rtol=0, atol=1e-13)


@pytest.mark.parametrize("channelwise", [True, False])
@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("channels", [3, 16])
def test_kernels_are_the_plain_version(channels: int, shared: bool, channelwise: bool) -> None:
    first, out = irreps((0, 1, 3), channels), irreps((1, 2), channels)
    # 16 channels fill vectors: there is code written for them, but not for an edge of length zero.
    vectors = edges()
    vectors[4] = vectors[4] if channels == 3 else torch.tensor([0.3, -0.1, 0.2], dtype=torch.float64)
    for weights, m_max in (("frame", None), ("paths", 1), ("frame", 0)):
        convolution = SO2Convolution(
            first, out, m_max=m_max, weights=weights, channelwise=channelwise, parity=False, layout="ir_mul"
        )
        form, copies = convolution._form, channels if channelwise else 1
        weight = convolution.random_weight(1 if shared else 7, dtype=torch.float64).unflatten(-1, (-1, copies))
        features, coming = normal(4, first.dim // channels, channels), normal(4, out.dim // channels, channels, seed=1)
        written = _aligned_written.suits(form, features, vectors, weight, each=True)
        assert written == (channels == 16 and channelwise and not shared)
        one = _aligned.messages(form, features, vectors, weight, SOURCE, TARGET, 4)
        other = _aligned_plain.plain_messages(form, features, vectors, weight, SOURCE, TARGET, 4)
        torch.testing.assert_close(one, other, rtol=0, atol=1e-12)
        args = (coming, features, vectors, weight, SOURCE, TARGET)
        for wanted in ((True, True), (True, False), (False, True), (False, False)):
            kernel = _aligned._gradients(*args, form.numbers(), *wanted)
            for a, b in zip(kernel, _aligned_plain.plain_gradients(form, *args, *wanted), strict=True):
                torch.testing.assert_close(a, b, rtol=1e-11, atol=1e-11)
        on = (normal(*features.shape, seed=2), normal(7, 3, seed=3), normal(*weight.shape, seed=4))
        for absent in ((), (0,), (1,), (2,), (0, 1), (0, 2), (1, 2)):
            changes = [None if number in absent else one for number, one in enumerate(on)]
            six = (coming, features, vectors, weight, *changes)
            second = _aligned._second(*six, SOURCE, TARGET, form.numbers())
            for a, b in zip(second, _aligned._composed(form, six, SOURCE, TARGET), strict=True):
                torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-11)


def test_half_precision_goes_the_plain_way() -> None:
    first = irreps((0, 1, 2))
    convolution = SO2Convolution(first, first, layout="ir_mul")
    features, vectors, weight = normal(7, first.dim), normal(7, 3), convolution.random_weight(7, dtype=torch.float64)
    half = [tensor.to(torch.bfloat16).requires_grad_() for tensor in (features, vectors, weight)]
    found = convolution(*half)
    expected = convolution(*(tensor.detach().double() for tensor in half))
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found.double(), expected, rtol=0.1, atol=0.1)
    assert all(torch.isfinite(part).all() for part in torch.autograd.grad(found.sum(), half))


def test_threads_change_no_bit() -> None:
    first = irreps((0, 1, 2), 5)
    convolution = SO2Convolution(first, first, parity=False, layout="ir_mul")
    features, vectors = normal(30, first.dim).float(), normal(300, 3).float()
    ends = torch.randint(30, (2, 300), generator=torch.Generator().manual_seed(0))
    before, found = torch.get_num_threads(), []
    for shared in (True, False):
        weight = convolution.random_weight(*(() if shared else (300,)))
        try:
            for threads in (1, 2):
                torch.set_num_threads(threads)
                given = [tensor.clone().requires_grad_() for tensor in (features, vectors, weight)]
                out = convolution(*given, source=ends[0], target=ends[1])
                found.append([out, *torch.autograd.grad(out.square().sum(), given)])
        finally:
            torch.set_num_threads(before)
        assert all(torch.equal(one, other) for one, other in zip(found[-2], found[-1], strict=True))


def test_no_edges_and_degree_zero() -> None:
    first = irreps((0,))
    convolution = SO2Convolution(first, first, layout="ir_mul")
    assert convolution.weight_numel == 2
    features, weight = normal(7, 2), normal(7, 2, seed=1)
    torch.testing.assert_close(convolution(features, edges(), weight), features * weight)
    none = torch.empty(0, dtype=torch.int64)
    vectors = torch.empty(0, 3, dtype=torch.float64).requires_grad_()
    found = convolution(features, vectors, weight[:0], source=none, target=none, nodes=3)
    assert found.shape == (3, 2)
    assert not found.any()
    assert torch.autograd.grad(found.sum(), vectors)[0].shape == (0, 3)


def test_compiled_in_one_graph() -> None:
    first = irreps((0, 1, 2))
    convolution = SO2Convolution(first, first, parity=False, layout="ir_mul")
    mixing = SO2MixingConvolution(first, first, parity=False, layout="ir_mul")
    features, vectors = normal(4, first.dim), edges()
    for one in (convolution, mixing):
        weight = one.random_weight(dtype=torch.float64)

        def run(vectors: Tensor, one: Any = one, weight: Tensor = weight) -> Tensor:
            return one(features, vectors, weight, source=SOURCE, target=TARGET)

        compiled = torch.compile(run, fullgraph=True, backend="aot_eager")
        found = []
        for function in (run, compiled):
            given = vectors.clone().requires_grad_()
            out = function(given)
            found.append((out, torch.autograd.grad(out.square().sum(), given)[0]))
        torch.testing.assert_close(found[0], found[1])


def test_operators_are_as_they_say() -> None:
    form = Form("paths", (0, 1), (1, 2), 3, 9, True, True)
    weight = normal(7, form.mixing().shape[1], 3).requires_grad_()
    features, vectors = normal(4, 4, 3).requires_grad_(), edges().requires_grad_()
    args = (features, vectors, weight, SOURCE, TARGET, 4, form.numbers())
    torch.library.opcheck(_aligned._messages, args)
    coming = normal(4, 8, 3).requires_grad_()
    args = (coming, features, vectors, weight, SOURCE, TARGET, form.numbers(), True, True)
    torch.library.opcheck(_aligned._gradients, args)
    args = (coming, features, vectors, weight, normal(4, 4, 3), normal(7, 3), None, SOURCE, TARGET, form.numbers())
    torch.library.opcheck(_aligned._second, args)


@pytest.mark.parametrize("parity", [True, False])
def test_mixing_is_a_channelwise_convolution_of_each_pair_of_channels(parity: bool) -> None:
    first, out = irreps((0, 1, 2), 3), irreps((1, 3), 2)
    convolution = SO2MixingConvolution(first, out, parity=parity, layout="ir_mul")
    weight = convolution.random_weight(dtype=torch.float64)
    features, vectors = normal(4, first.dim), edges()
    radial = normal(7, convolution.radial_numel, seed=5)
    found = convolution(features, vectors, weight, source=SOURCE, target=TARGET, radial=radial)
    # One channel in, one out, all pairs.
    one_in, one_out = irreps((0, 1, 2), 1), irreps((1, 3), 1)
    single = SO2Convolution(one_in, one_out, parity=parity, layout="ir_mul")
    pairs = weight.reshape(-1, 3, 2)
    seen = features[SOURCE].unflatten(-1, (9, 3)) * radial.unflatten(-1, (3, 3))[:, [0, 1, 1, 1, 2, 2, 2, 2, 2]]
    expected = torch.stack(
        [sum(single(seen[..., i].contiguous(), vectors, pairs[:, i, o]) for i in range(3)) for o in range(2)], dim=-1
    )
    torch.testing.assert_close(found, added(expected.flatten(1)) / math.sqrt(3), rtol=0, atol=1e-12)


def test_mixing_is_equivariant_with_orders_left_out_and_has_second_derivatives() -> None:
    first, out = irreps((0, 1, 2), 2), irreps((0, 1, 2), 1)
    convolution = SO2MixingConvolution(first, out, m_max=1, layout="mul_ir")
    weight = convolution.random_weight(dtype=torch.float64)
    features, vectors, turn = normal(4, first.dim), edges(), -random_rotations(1, seed=3)[0]
    turned = convolution(rotate(features, first, turn), vectors @ turn.T, weight, source=SOURCE)
    expected = rotate(convolution(features, vectors, weight, source=SOURCE), out, turn)
    torch.testing.assert_close(turned, expected, rtol=0, atol=1e-10)
    given = [features, edges()[[0, 1, 6]], weight]
    given = [tensor.requires_grad_() for tensor in given]

    def run(*tensors: Tensor) -> Tensor:
        return convolution(*tensors, source=SOURCE[:3], target=TARGET[:3])

    assert gradcheck(run, given)
    assert gradgradcheck(run, given)


def test_what_is_refused() -> None:
    first = irreps((0, 1, 2))
    with pytest.raises(Unsuited, match="are no function on the sphere"):
        SO2Convolution("2x0e+3x1o", first, layout="ir_mul")
    with pytest.raises(Unsuited, match="have 3 channels and irreps_in 2: a filter keeps channels apart"):
        SO2Convolution(first, irreps((0, 1), 3))
    with pytest.raises(Unsuited, match="no path leads from '2x0e' to '2x0o'"):
        SO2Convolution("2x0e", "2x0o", layout="ir_mul")
    with pytest.raises(Unsuited, match="no path leads from '2x0e' to '2x0o'"):
        SO2MixingConvolution("2x0e", "2x0o", layout="ir_mul")
    with pytest.raises(TenfoldError, match=r"^degree 2 of the filter leaves weights of the frame unfree, which need 4"):
        SO2Convolution(first, first, degree=2, layout="ir_mul")
    with pytest.raises(TenfoldError, match=r"^weights must be 'frame' or 'paths', not 'path'$"):
        SO2Convolution(first, first, weights="path", layout="ir_mul")  # type: ignore[arg-type]
    convolution = SO2Convolution(first, first, m_max=1, layout="ir_mul")
    with pytest.raises(TenfoldError, match="m_max 1 leaves orders out"):
        convolution.to_path_weights(convolution.random_weight())
    with pytest.raises(DataError, match=r"^weight must end with 28 numbers, not be of shape \(3,\)$"):
        SO2Convolution(first, first, layout="ir_mul").from_path_weights(torch.zeros(3))
    features, weight = normal(4, first.dim), convolution.random_weight(dtype=torch.float64)
    with pytest.raises(DataError, match=r"^source must be nodes from 0 to 3, not 4$"):
        convolution(features, edges(), weight, source=SOURCE + 1)
    mixing = SO2MixingConvolution(first, first, layout="ir_mul")
    with pytest.raises(DataError, match="all edges share it; radial is of edges"):
        mixing(features, edges(), mixing.random_weight(7, dtype=torch.float64), source=SOURCE)
    with pytest.raises(DataError, match=r"^radial must be of shape \(7, 6\) and torch.float64, not \(7, 5\)"):
        mixing(features, edges(), mixing.random_weight(dtype=torch.float64), source=SOURCE, radial=normal(7, 5))


@pytest.mark.peer
@pytest.mark.parametrize("parity", [True, False])
def test_equal_to_e3nn(parity: bool) -> None:
    o3 = pytest.importorskip("e3nn.o3")
    sign = -1 if parity else 1
    first, out = (Irreps([(3, (n, sign**n)) for n in degrees]) for degrees in ((0, 1, 2), (1, 2)))
    harmonics = Irreps([(1, (n, sign**n)) for n in range(5)])
    paths = [(p.left, p.right, [b.ir for b in out].index(p.ir), "uvu", True) for p in first.paths(harmonics, out)]
    before = torch.get_default_dtype()
    try:
        torch.set_default_dtype(torch.float64)  # their tables are made in it
        theirs = o3.TensorProduct(
            *map(str, (first, harmonics, out)), paths, shared_weights=False, internal_weights=False
        )
    finally:
        torch.set_default_dtype(before)
    ours = SO2Convolution(first, out, weights="paths", parity=parity, layout="mul_ir")
    assert theirs.weight_numel == ours.weight_numel
    features, vectors, weight = normal(7, first.dim), edges(), ours.random_weight(7, dtype=torch.float64)
    vectors[4] = 1  # their harmonics of no direction are another matter
    filters = o3.spherical_harmonics(list(range(5)), vectors, True, "component")
    expected = theirs(features, filters, weight)
    torch.testing.assert_close(ours(features, vectors, weight), expected, rtol=0, atol=1e-10)
