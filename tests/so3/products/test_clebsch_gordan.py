"""The Clebsch-Gordan product against its definition, path by path, against e3nn, and under rotations."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor

from tenfold.errors import DataError, TenfoldError
from tenfold.so3 import Irreps, random_rotations, relayout, rotate, split, wigner_3j
from tenfold.so3.products import ClebschGordan, Unsuited, product_methods

# Channels of left, right and out, and of the weights.
LETTERS = {
    "uvw": "zui,zvj,zuvw->zwk",
    "uvu": "zui,zvj,zuv->zuk",
    "uvv": "zui,zvj,zuv->zvk",
    "uuw": "zui,zuj,zuw->zwk",
    "uuu": "zui,zuj,zu->zuk",
    "uvuv": "zui,zvj,zuv->zuvk",
    "uvu<v": "zui,zuj,zu->zuk",
}


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@st.composite
def blocks(draw: st.DrawFn) -> list[tuple[int, tuple[int, int]]]:
    one = st.tuples(st.integers(0, 3), st.tuples(st.integers(0, 2), st.sampled_from([1, -1])))
    return draw(st.lists(one, min_size=1, max_size=3))


@st.composite
def problems(draw: st.DrawFn) -> tuple[dict[str, Any], int, bool]:
    """Arguments of a product, a seed, and whether weights are shared."""
    lefts, rights = draw(blocks()), draw(blocks())
    outs: list[tuple[int, tuple[int, int]]] = []
    instructions: list[tuple[Any, ...]] = []
    for i, (u, (l1, p1)) in enumerate(lefts):
        for j, (v, (l2, p2)) in enumerate(rights):
            for degree in draw(st.sets(st.integers(abs(l1 - l2), min(l1 + l2, 3)), max_size=2)):
                modes = ["uvw", "uvu", "uvv", "uvuv", *(["uuw", "uuu", "uvu<v"] if u == v else [])]
                mode = draw(st.sampled_from(modes))
                weighted = mode == "uvw" or draw(st.booleans())
                free = draw(st.integers(0, 3)) if weighted else 1
                pairs = u * (u - 1) // 2
                mul = {"uvw": free, "uvu": u, "uvv": v, "uvuv": u * v, "uuw": free, "uuu": u, "uvu<v": pairs}[mode]
                block = (mul, (degree, p1 * p2))
                if block not in outs or draw(st.booleans()):
                    outs.append(block)
                place = max(number for number, other in enumerate(outs) if other == block)
                instructions.append((i, j, place, mode, weighted, draw(st.sampled_from([1.0, 0.5, 3.0]))))
    assume(instructions)
    arguments = {
        "irreps_in1": lefts,
        "irreps_in2": rights,
        "irreps_out": outs,
        "instructions": instructions,
        "irrep_normalization": draw(st.sampled_from(["component", "norm"])),
        "path_normalization": draw(st.sampled_from(["element", "path"])),
        "layout": draw(st.sampled_from(["mul_ir", "ir_mul"])),
    }
    return arguments, draw(st.integers(0, 1000)), draw(st.booleans())


def inputs(product: ClebschGordan, seed: int, shared: bool, batch: int = 3) -> tuple[Tensor, Tensor, Tensor | None]:
    left, right = drawn(batch, product.irreps_in1.dim, seed=seed), drawn(batch, product.irreps_in2.dim, seed=seed + 1)
    shape = (product.weight_numel,) if shared else (batch, product.weight_numel)
    return left, right, drawn(*shape, seed=seed + 2) if product.weight_numel else None


def by_definition(product: ClebschGordan, variance: Any, left: Tensor, right: Tensor, weight: Tensor | None) -> Tensor:
    """In layout mul_ir, an einsum for each path; ``variance`` is the square of the factor of each."""
    lefts, rights = split(left, product.irreps_in1), split(right, product.irreps_in2)
    found = [left.new_zeros(len(left), *block) for block in ((b.mul, b.ir.dim) for b in product.irreps_out)]
    first = 0
    for one, square in zip(product.instructions, variance, strict=True):
        x, y, out = lefts[one.left], rights[one.right], product.irreps_out[one.out]
        if one.mode == "uvu<v":
            rows, columns = torch.triu_indices(x.shape[1], x.shape[1], 1)
            x, y = x[:, rows], y[:, columns]
        letters = LETTERS[one.mode]
        sizes = {"u": x.shape[1], "v": y.shape[1], "w": out.mul}
        shape = [sizes[letter] for letter in letters.split("->")[0].split(",z")[-1]]
        factors = torch.ones(1, *shape, dtype=left.dtype)
        if one.weighted and weight is not None:
            number = math.prod(shape)
            rows = weight.reshape(-1, product.weight_numel)
            factors = rows[:, first : first + number].reshape(len(rows), *shape)
            first += number
        table = wigner_3j(product.irreps_in1[one.left].ir.l, product.irreps_in2[one.right].ir.l, out.ir.l)
        given_, result = letters.split("->")
        factors = factors.expand(len(left), *factors.shape[1:])
        value = torch.einsum(f"{given_},ijk->{result}", x, y, factors, table)
        found[one.out] = found[one.out] + math.sqrt(square) * value.reshape(len(left), out.mul, out.ir.dim)
    return torch.cat([part.flatten(1) for part in found], dim=1)


def variances(product: ClebschGordan, irrep_normalization: str, path_normalization: str) -> list[float]:
    found = []
    for one in product.instructions:

        def summands(other: Any) -> int:
            u, v = product.irreps_in1[other.left].mul, product.irreps_in2[other.right].mul
            return {"uvw": u * v, "uvu": v, "uvv": u, "uuw": u}.get(other.mode, 1)

        peers = [other for other in product.instructions if other.out == one.out]
        number = sum(map(summands, peers)) if path_normalization == "element" else summands(one) * len(peers)
        left, right = product.irreps_in1[one.left].ir.dim, product.irreps_in2[one.right].ir.dim
        dim = product.irreps_out[one.out].ir.dim if irrep_normalization == "component" else left * right
        found.append(one.path_weight * dim / max(number, 1))
    return found


def apply(product: ClebschGordan, left: Tensor, right: Tensor, weight: Tensor | None) -> Tensor:
    """Features in layout mul_ir, whatever the product's is."""
    left = relayout(left, product.irreps_in1, "mul_ir", product.layout)
    right = relayout(right, product.irreps_in2, "mul_ir", product.layout)
    return relayout(product(left, right, weight), product.irreps_out, product.layout, "mul_ir")


def close(found: Tensor, expected: Tensor, limit: float = 1e-10) -> None:
    torch.testing.assert_close(found, expected, rtol=limit, atol=limit)


def with_derivatives(function: Any, tensors: tuple[Tensor | None, ...]) -> list[Tensor]:
    """The value, its first derivatives in a direction, and the derivatives of these."""
    leaves = [None if tensor is None else tensor.clone().requires_grad_() for tensor in tensors]
    given_ = [leaf for leaf in leaves if leaf is not None]
    out = function(*leaves)
    if not out.requires_grad or not out.numel():
        return [out]
    grad = drawn(*out.shape, seed=7).requires_grad_()
    first = torch.autograd.grad(out, given_, grad, create_graph=True, materialize_grads=True)
    upstream = [drawn(*one.shape, seed=8 + n) for n, one in enumerate(first)]
    total = sum(((one * other).sum() for one, other in zip(first, upstream, strict=True)), start=torch.zeros(()))
    second = torch.autograd.grad(total, [*given_, grad], materialize_grads=True) if total.requires_grad else ()
    return [out, *first, *second]


@contextmanager
def double_precision() -> Iterator[None]:
    """e3nn makes its tables in the default dtype."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


@given(problems())
@settings(max_examples=25)
def test_it_is_its_definition(problem: tuple[dict[str, Any], int, bool]) -> None:
    arguments, seed, shared = problem
    product = ClebschGordan(**arguments)
    squares = variances(product, arguments["irrep_normalization"], arguments["path_normalization"])
    tensors = inputs(product, seed, shared)
    close(apply(product, *tensors), by_definition(product, squares, *tensors))


@pytest.mark.peer
@given(problems())
@settings(max_examples=12)
def test_it_is_e3nn_s_with_first_and_second_derivatives(problem: tuple[dict[str, Any], int, bool]) -> None:
    o3 = pytest.importorskip("e3nn.o3")
    arguments, seed, shared = problem
    product = ClebschGordan(**arguments)
    tensors = inputs(product, seed, shared)
    arguments = {name: value for name, value in arguments.items() if name != "layout"}
    with double_precision():
        theirs = o3.TensorProduct(**arguments, shared_weights=shared, internal_weights=False)
    assert theirs.weight_numel == product.weight_numel
    if not product.irreps_in1.dim or not product.irreps_in2.dim or not product.irreps_out.dim:
        return
    no_weight = drawn(0) if shared else drawn(3, 0)

    def peer(left: Tensor, right: Tensor, weight: Tensor | None) -> Tensor:
        return theirs(left, right, no_weight if weight is None else weight)

    found = with_derivatives(lambda *given_: apply(product, *given_), tensors)
    expected = with_derivatives(peer, tensors)
    for one, other in zip(found, expected, strict=False):
        close(one, other)


@pytest.mark.peer
@pytest.mark.parametrize("layout", ["mul_ir", "ir_mul"])
def test_constructors_are_e3nn_s(layout: Any) -> None:
    o3 = pytest.importorskip("e3nn.o3")
    cases = [
        (ClebschGordan.full, o3.FullTensorProduct, ("3x1o+2x0e", "2x1o+1x2e"), None),
        (ClebschGordan.full, o3.FullTensorProduct, ("1x1o+1x0e", "4x1o+4x2e"), ["0e", "1o", "2e"]),
        (ClebschGordan.full, o3.FullTensorProduct, ("4x1o+4x0e", "1x0e+1x1o"), None),
        (ClebschGordan.elementwise, o3.ElementwiseTensorProduct, ("5x1o+5x1e", "10x1e"), None),
        (ClebschGordan.elementwise, o3.ElementwiseTensorProduct, ("2x0e+3x1e", "4x1e+1x2e"), ["0e", "1e"]),
        (ClebschGordan.fully_connected, o3.FullyConnectedTensorProduct, ("5x1o+2x0e", "3x1e+0e", "7x0e+4x1o"), None),
    ]
    for ours, theirs, irreps, filtered in cases:
        product = ours(*irreps, *([] if filtered is None else [filtered]), layout=layout)
        options = {} if filtered is None else {"filter_ir_out": [o3.Irrep(ir) for ir in filtered]}
        weights = {"internal_weights": False, "shared_weights": True} if product.weight_numel else {}
        with double_precision():
            peer = theirs(*map(o3.Irreps, irreps), **options, **weights)
        assert str(product.irreps_out) == str(peer.irreps_out)
        left, right, weight = inputs(product, 0, True)
        expected = peer(left, right) if weight is None else peer(left, right, weight)
        close(apply(product, left, right, weight), expected)


def test_the_cross_product() -> None:
    product = ClebschGordan("1o", "1o", "1e", [(0, 0, 0, "uuu", False)])
    left, right = drawn(5, 3), drawn(5, 3, seed=1)
    close(product(left, right), torch.linalg.cross(left, right) / math.sqrt(2), 1e-14)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, (1 / 23, 3 / 22, 3 / 22, 1 / 23)),
        ({"path_normalization": "path"}, (1 / 16, 3 / 20, 3 / 24, 1 / 30)),
        ({"irrep_normalization": "norm"}, (1 / 23, 3 / 22, 3 / 22, 9 / 23)),
    ],
)
def test_the_variance_of_each_path(options: dict[str, Any], expected: tuple[float, ...]) -> None:
    # Numbers of e3nn 0.6 for these irreps.
    product = ClebschGordan.fully_connected("2x0e+3x1o", "4x0e+5x1o", "6x0e+7x1o", **options)
    table = product.coefficients(torch.ones(product.weight_numel))
    lefts, rights, outs = (irreps.slices() for irreps in (product.irreps_in1, product.irreps_in2, product.irreps_out))
    found = [table[lefts[one.left], rights[one.right], outs[one.out]].square().sum() for one in product.instructions]
    numbers = [2 * 4 * 6, 2 * 5 * 7, 3 * 4 * 7, 3 * 5 * 6]
    assert [float(square) / number for square, number in zip(found, numbers, strict=True)] == pytest.approx(expected)


@given(st.sampled_from(["mul_ir", "ir_mul"]), st.integers(0, 100))
@settings(max_examples=10)
def test_out_turns_with_both_features(layout: Any, seed: int) -> None:
    product = ClebschGordan.fully_connected("3x0e+2x1o+1x2e", "2x1e+1x2o", "2x0e+3x1o+2x2o+1x3e", layout=layout)
    left, right, weight = inputs(product, seed, False)
    turns = random_rotations(3, seed=seed) * torch.tensor([1.0, -1.0, 1.0])[:, None, None]
    turned = product(
        rotate(left, product.irreps_in1, turns, layout), rotate(right, product.irreps_in2, turns, layout), weight
    )
    close(turned, rotate(product(left, right, weight), product.irreps_out, turns, layout))


def test_unit_variance_comes_out() -> None:
    product = ClebschGordan.channelwise("8x0e+8x1o+8x2e", "8x0e+8x1o+8x2e")
    left, right, weight = inputs(product, 0, False, batch=4000)
    out = product(left, right, weight)
    for part in split(out, product.irreps_out):
        assert float(part.square().mean()) == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize("layout", ["mul_ir", "ir_mul"])
@pytest.mark.parametrize("right", ["4x0e+4x1o", "0e+1o"])
def test_channels_meet_channels(layout: Any, right: str) -> None:
    product = ClebschGordan.channelwise("4x0e+4x1o", right, layout=layout)
    assert str(product.irreps_out) == "4x0e+4x1o+4x1e"
    assert product.weight_numel == 5 * 4
    squares = variances(product, "component", "element")
    tensors = inputs(product, 3, False)
    close(apply(product, *tensors), by_definition(product, squares, *tensors))


def test_features_of_one_multiplicity_are_one_call_that_copies_nothing() -> None:
    for product in (
        ClebschGordan.channelwise("16x0e+16x1o+16x2e", "16x0e+16x1o", layout="ir_mul"),
        ClebschGordan.channelwise("16x0e+16x1o+16x2e", "0e+1o+2e", layout="ir_mul"),
        ClebschGordan.separate("16x0e+16x1o+16x2e", "16x0e+16x1o+16x2e", layout="ir_mul"),
        ClebschGordan.full("0e+1o", "16x0e+16x1o", layout="ir_mul"),
    ):
        assert len(product._calls) == 1
        assert product._calls[0].whole


def test_every_path_separate() -> None:
    harmonics = Irreps("5x0e+5x1o+5x2e")
    product = ClebschGordan.separate(harmonics, harmonics, "0e+1o+1e+2e+2o", layout="ir_mul")
    assert product.irreps_out.dim == 51 * 5
    assert len(product.irreps_out) == 15
    assert product.irreps_out.sort() == product.irreps_out
    tensors = inputs(product, 4, False)
    squares = variances(product, "component", "element")
    close(apply(product, *tensors), by_definition(product, squares, *tensors))


def test_what_the_registered_method_makes() -> None:
    method = product_methods()["clebsch_gordan"]
    assert method.complete
    product = method.make(Irreps("4x0e+4x1o"), Irreps("0e+1o"), Irreps("4x1o"), layout="ir_mul")
    assert isinstance(product, ClebschGordan)
    assert (product.weight_numel, product.layout) == (8, "ir_mul")
    for irreps in (("4x0e+3x1o", "0e", "4x0e"), ("4x0e", "2x0e", "4x0e"), ("4x0e", "0e", "3x0e")):
        with pytest.raises(Unsuited, match="x0e"):
            method.make(*map(Irreps, irreps), layout="ir_mul")


MIXED = ClebschGordan(
    "4x1o+4x0e",
    "2x1o+3x0e",
    "5x0e+4x1e+12x0e+2x2e",
    [
        (0, 0, 0, "uvw", True),
        (0, 0, 1, "uvu", True),
        (1, 1, 0, "uvw", True),
        (1, 1, 2, "uvuv", True),
        (0, 0, 3, "uvv", False),
    ],
)
CHANNELS = ClebschGordan.channelwise("3x0e+3x1o", "0e+1o", layout="ir_mul")


@pytest.mark.parametrize("product", [MIXED, CHANNELS])
@pytest.mark.parametrize("shared", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_it_compiles_and_exports_as_one_graph(product: ClebschGordan, shared: bool) -> None:
    class Layer(torch.nn.Module):
        def forward(self, left: Tensor, right: Tensor, weight: Tensor) -> Tensor:
            return product(left, right, weight)

    tensors = inputs(product, 0, shared, batch=6)
    expected = product(*tensors)
    close(torch.compile(Layer(), fullgraph=True, backend="aot_eager")(*tensors), expected)
    batch = torch.export.Dim("batch", min=2)
    shapes = ({0: batch}, {0: batch}, None if shared else {0: batch})
    exported = torch.export.export(Layer(), tensors, dynamic_shapes=shapes).module()
    fewer = [tensor if tensor.ndim == 1 else tensor[:4] for tensor in tensors]
    close(exported(*fewer), expected[:4])


def test_derivatives_of_a_compiled_product() -> None:
    left, right, weight = inputs(CHANNELS, 0, False)
    function = torch.compile(lambda *given_: CHANNELS(*given_).pow(2).sum(), fullgraph=True, backend="aot_eager")
    leaves = [tensor.requires_grad_() for tensor in (left, right, weight)]
    found = torch.autograd.grad(function(*leaves), leaves)
    for one, other in zip(found, torch.autograd.grad(CHANNELS(*leaves).pow(2).sum(), leaves), strict=True):
        close(one, other)


@pytest.mark.parametrize("product", [MIXED, CHANNELS])
def test_derivatives_by_differences(product: ClebschGordan) -> None:
    tensors = [tensor.requires_grad_() for tensor in inputs(product, 0, True, batch=1)]
    assert torch.autograd.gradcheck(product, tensors, fast_mode=True)
    assert torch.autograd.gradgradcheck(product, tensors, fast_mode=True)


def test_under_vmap() -> None:
    left, right, weight = inputs(MIXED, 0, False)
    close(torch.vmap(MIXED)(left, right, weight), MIXED(left, right, weight))
    jacobian = torch.func.jacrev(lambda one: MIXED(left, one, weight))(right)
    direction = drawn(*right.shape, seed=9)
    close(torch.einsum("zkyj,yj->zk", jacobian, direction), MIXED(left, direction, weight))


@pytest.mark.parametrize("product", [MIXED, CHANNELS, ClebschGordan.full("0x1o+0e", "2x0e+0x2e")])
def test_no_rows(product: ClebschGordan) -> None:
    left, right, weight = inputs(product, 0, True, batch=0)
    assert product(left, right, weight).shape == (0, product.irreps_out.dim)


def test_degree_zero_is_multiplication() -> None:
    product = ClebschGordan.channelwise("6x0e", "6x0e", "6x0e")
    left, right, weight = inputs(product, 0, True)
    close(product(left, right, weight), left * right * weight, 1e-14)


def test_blocks_without_a_path_are_zero() -> None:
    product = ClebschGordan("2x1o", "2x1o", "2x0e+3x2e+0x1e", [(0, 0, 0, "uuu", False)])
    out = product(drawn(2, 6), drawn(2, 6, seed=1))
    assert bool((out[:, 2:] == 0).all())
    assert bool((out[:, :2] != 0).all())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_other_dtypes(dtype: torch.dtype) -> None:
    tensors = inputs(MIXED, 0, True)
    found = MIXED(*(tensor.to(dtype) for tensor in tensors))
    assert found.dtype == dtype
    limit = 1e-5 if dtype == torch.float32 else 5e-2
    torch.testing.assert_close(found.double(), MIXED(*tensors), rtol=limit, atol=limit)


@pytest.mark.parametrize(
    ("instruction", "word"),
    [
        ((0, 2, 0, "uvw", True), "right 2, but '2x1o+3x0e' has 2 blocks"),
        ((0, -1, 0, "uvw", True), "right -1"),
        ((0, 0, 0, "uwv", True), "did you mean 'uvw'"),
        ((0, 1, 0, "uvw", True), "makes 0e of 1o and 0e"),
        ((0, 0, 0, "uvw", False), "mode 'uvw' must have weights"),
        ((0, 0, 0, "uuu", True), "mode 'uuu' cannot connect multiplicities 4, 2 and 5"),
        ((0, 0, 0, "uvuv", True), "cannot connect multiplicities 4, 2 and 5"),
        ((0, 0, 0, "uvw", True, -1.0), "path_weight -1.0, which must be at least 0"),
        ((0, 0, 0), "must be like (0, 1, 0, 'uvw', True)"),
    ],
)
def test_instructions_that_make_no_sense(instruction: tuple[Any, ...], word: str) -> None:
    with pytest.raises(TenfoldError) as caught:
        ClebschGordan("4x1o", "2x1o+3x0e", "5x0e", [instruction])
    assert str(caught.value).startswith(("instructions[0]", "the mode of instructions[0]"))
    assert word in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_sum_over_channels_without_weights_has_one_channel() -> None:
    product = ClebschGordan("4x1o", "4x1o", "0e", [(0, 0, 0, "uuw", False)])
    left, right = drawn(3, 12), drawn(3, 12, seed=1)
    close(product(left, right), (left * right).sum(1, keepdim=True) / math.sqrt(3 * 4), 1e-14)
    with pytest.raises(TenfoldError, match="without weights cannot connect multiplicities 4, 4 and 2"):
        ClebschGordan("4x1o", "4x1o", "2x0e", [(0, 0, 0, "uuw", False)])


def test_options_that_are_none() -> None:
    with pytest.raises(TenfoldError, match="irrep_normalization must be 'component' or 'norm', not 'components'"):
        ClebschGordan.full("1o", "1o", irrep_normalization="components")
    with pytest.raises(TenfoldError, match="path_normalization"):
        ClebschGordan.fully_connected("1o", "1o", "0e", path_normalization="none")
    with pytest.raises(TenfoldError, match="a layout is"):
        ClebschGordan.full("1o", "1o", layout="ir")
    with pytest.raises(TenfoldError, match="as many irreps as irreps_in1 '3x0e', 3, not 2"):
        ClebschGordan.elementwise("3x0e", "2x1o")


def test_mixed_dtypes() -> None:
    with pytest.raises(DataError, match="convert one of them"):
        MIXED(drawn(2, 16).float(), drawn(2, 9), drawn(MIXED.weight_numel))
