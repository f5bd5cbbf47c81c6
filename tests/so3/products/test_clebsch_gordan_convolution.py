"""Convolutions along edges: against e3nn and plain torch, derivatives to third order, and what they refuse."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tenfold.errors import DataError, TenfoldError
from tenfold.so3 import Irrep, Irreps, random_rotations, relayout, rotate, spherical_harmonics
from tenfold.so3.layouts import Layout
from tenfold.so3.products._edge_plain import plain_edge_messages
from tenfold.so3.products.clebsch_gordan_convolution import ClebschGordanConvolution

IRREP = st.builds(Irrep, st.integers(0, 3), st.sampled_from([1, -1]))
IRREPS = st.lists(st.tuples(st.sampled_from([0, 1, 2, 5]), IRREP), min_size=1, max_size=3).map(Irreps)
LAYOUT = st.sampled_from(["mul_ir", "ir_mul"])
SEED = st.integers(0, 2**20)


class Case:
    """A convolution of a random graph, and what it is given."""

    def __init__(self, convolution: ClebschGordanConvolution, seed: int = 0, nodes: int = 5, edges: int = 13) -> None:
        self.convolution, self.nodes = convolution, nodes
        self.generator = torch.Generator().manual_seed(seed)
        self.features = self.normal(nodes, convolution.irreps_in.dim)
        # Not too short: derivatives by the vector of an edge grow with the inverse of its length.
        self.vectors = torch.nn.functional.normalize(self.normal(edges, 3), dim=-1) * (
            0.5 + self.normal(edges, 1).abs()
        )
        self.weight = self.normal(edges, convolution.weight_numel)
        # One node is at no end of any edge.
        self.source, self.target = torch.randint(nodes - 1, (2, edges), generator=self.generator)

    def normal(self, *shape: int) -> Tensor:
        return torch.randn(*shape, generator=self.generator, dtype=torch.float64)

    @property
    def given(self) -> tuple[Tensor, Tensor, Tensor]:
        return self.features, self.vectors, self.weight

    def run(self, features: Tensor, vectors: Tensor, weight: Tensor) -> Tensor:
        weights = weight if self.convolution.weight_numel else None
        return self.convolution(features, vectors, weights, source=self.source, target=self.target)

    def plain(self, features: Tensor, vectors: Tensor, weight: Tensor) -> Tensor:
        made = self.convolution
        filters = spherical_harmonics(range(made.degree + 1), vectors, normalization="component")
        last = relayout(features, made.irreps_in, made.layout, "ir_mul")
        messages = plain_edge_messages(last, filters, weight, self.source, self.target, self.nodes, made._edge_paths)
        return relayout(messages, made.irreps_out, "ir_mul", made.layout)

    def e3nn(self, features: Tensor, vectors: Tensor, weight: Tensor) -> Tensor:
        o3 = pytest.importorskip("e3nn.o3")
        made, filters = self.convolution, Irreps.harmonics(self.convolution.degree)
        kept = len(made.irreps_out) == len(made.paths)
        instructions = []
        for number, path in enumerate(made.paths):
            (into,) = [number] if kept else [n for n, block in enumerate(made.irreps_out) if block.ir == path.ir]
            instructions.append((path.left, path.right, into, "uvu", True))
        default = torch.get_default_dtype()
        torch.set_default_dtype(torch.float64)  # theirs, for constants
        try:
            product = o3.TensorProduct(
                str(made.irreps_in), str(filters), str(made.irreps_out), instructions, shared_weights=False
            )
        finally:
            torch.set_default_dtype(default)
        harmonics = o3.spherical_harmonics(str(filters), vectors, normalize=True, normalization="component")
        there = relayout(features, made.irreps_in, made.layout, "mul_ir")
        messages = product(there[self.source], harmonics, weight)
        messages = messages.new_zeros(self.nodes, messages.shape[1]).index_add(0, self.target, messages)
        return relayout(messages, made.irreps_out, "mul_ir", made.layout)


def derivatives(function, given: tuple[Tensor, ...], order: int) -> list[Tensor]:  # type: ignore[no-untyped-def]
    """The value of a function, then its derivatives in some direction that depends on everything, to some order."""
    leaves = [tensor.detach().requires_grad_() for tensor in given]
    value = function(*leaves)
    found = [value]
    scalar = (value * torch.linspace(-1, 1, value.numel(), dtype=value.dtype).reshape(value.shape)).sum()
    scalar = scalar + (value**2).sum()
    for _ in range(order):
        grads = torch.autograd.grad(scalar, leaves, create_graph=True, materialize_grads=True)
        found += grads
        scalar = sum(((grad**2).sum() for grad in grads), start=0 * scalar)
    return found


def assert_same(found: list[Tensor], expected: list[Tensor], bound: float) -> None:
    for one, other in zip(found, expected, strict=True):
        scale = float(other.detach().abs().max()) if other.numel() else 0.0
        torch.testing.assert_close(one, other, rtol=0, atol=bound * max(1.0, scale))


@pytest.mark.peer
@settings(max_examples=4, deadline=None)
@given(IRREPS, st.integers(0, 3), IRREPS, LAYOUT, SEED)
def test_it_is_e3nns_to_second_derivatives(first: Irreps, degree: int, out: Irreps, layout: Layout, seed: int) -> None:
    pytest.importorskip("e3nn.o3")
    case = Case(ClebschGordanConvolution(first, degree, out, layout=layout), seed)
    if not case.convolution.paths:
        return
    assert_same(derivatives(case.run, case.given, 2), derivatives(case.e3nn, case.given, 2), 1e-10)


@settings(max_examples=15, deadline=None)
@given(IRREPS, st.integers(0, 3), IRREPS, LAYOUT, SEED)
def test_the_kernels_do_what_plain_torch_does(
    first: Irreps, degree: int, out: Irreps, layout: Layout, seed: int
) -> None:
    case = Case(ClebschGordanConvolution(first, degree, out, layout=layout), seed)
    assert_same(derivatives(case.run, case.given, 3), derivatives(case.plain, case.given, 3), 1e-11)


@pytest.mark.peer
def test_paths_that_are_added_up_are_e3nns() -> None:
    pytest.importorskip("e3nn.o3")
    made = ClebschGordanConvolution("2x0e+2x1o+2x2e", 2, "2x1o+2x0e+2x3e", layout="mul_ir", keep_paths=False)
    assert str(made.irreps_out) == "2x1o+2x0e+2x3e"
    case = Case(made)
    assert_same(derivatives(case.run, case.given, 2), derivatives(case.e3nn, case.given, 2), 1e-10)


def test_normalisation_is_that_of_e3nn() -> None:
    """A vector times the filter of degree 0, which is 1: the factors cancel. The cross product: 3/sqrt(6) sqrt(3)."""
    made = ClebschGordanConvolution("1e", 1, "1e+1o", layout="mul_ir")
    assert made.paths == ((0, 1, Irrep("1o")), (0, 0, Irrep("1e")))
    features = torch.tensor([[0.0, 2.0, 0.0]], dtype=torch.float64)
    vectors = torch.tensor([[5.0, 0.0, 0.0]], dtype=torch.float64)
    found = made(features, vectors, torch.tensor([1.0, 3.0], dtype=torch.float64))
    cross = -2 * 3 / 6**0.5  # y times x, each component of the filter has norm sqrt(3)
    expected = torch.tensor([[0.0, 0.0, cross, 0.0, 6.0, 0.0]], dtype=torch.float64)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-14)


@pytest.mark.parametrize("dtype", [torch.float32, pytest.param(torch.float64, marks=pytest.mark.slow)])
@pytest.mark.parametrize("channels", [pytest.param(16, marks=pytest.mark.slow), 19])
def test_channels_that_fill_registers_and_others(dtype: torch.dtype, channels: int) -> None:
    """Degrees above 3 are done in pieces; with 19 channels some lanes stay empty."""
    irreps = f"{channels}x0e+{channels}x4e+{channels}x5o"
    case = Case(ClebschGordanConvolution(irreps, 2, irreps, layout="ir_mul"), nodes=4, edges=6)
    narrow = tuple(tensor.to(dtype) for tensor in case.given)
    found, expected = derivatives(case.run, narrow, 2), derivatives(case.plain, case.given, 2)
    assert all(one.dtype == dtype for one in found)
    assert_same([one.double() for one in found], expected, 1e-11 if dtype == torch.float64 else 1e-4)


@settings(max_examples=10, deadline=None)
@given(IRREPS, st.integers(0, 3), IRREPS, LAYOUT, SEED, st.booleans())
def test_messages_turn_with_space(
    first: Irreps, degree: int, out: Irreps, layout: Layout, seed: int, improper: bool
) -> None:
    case = Case(ClebschGordanConvolution(first, degree, out, layout=layout), seed)
    turn = random_rotations(1, seed=seed)[0] * (-1 if improper else 1)
    features, vectors, weight = case.given
    turned = case.run(rotate(features, first, turn, layout), vectors @ turn.T, weight)
    made = case.convolution
    if made.paths:
        expected = rotate(case.run(*case.given), made.irreps_out, turn, layout)
        torch.testing.assert_close(turned, expected, rtol=0, atol=1e-12)


def small(layout: Layout = "ir_mul") -> Case:
    return Case(ClebschGordanConvolution("2x0e+2x1o", 1, "0e+1o+1e", layout=layout), nodes=3, edges=4)


@pytest.mark.parametrize("which", [(0,), (1,), (2,), (0, 1), (0, 2), (1, 2), (0, 1, 2)])
def test_derivatives_are_finite_differences(which: tuple[int, ...]) -> None:
    """Whatever of features, vectors and weights has derivatives, and whatever has not."""
    case = small()
    given = [tensor.requires_grad_(place in which) for place, tensor in enumerate(case.given)]
    assert torch.autograd.gradcheck(case.run, given)
    assert torch.autograd.gradgradcheck(case.run, given)


def test_edges_of_length_zero_have_a_filter_of_degree_zero() -> None:
    case = small()
    features, vectors, weight = case.given
    vectors = torch.zeros_like(vectors)
    found = derivatives(case.run, (features, vectors, weight), 2)
    assert all(one.isfinite().all() for one in found)
    scalar = ClebschGordanConvolution("2x0e+2x1o", 0, "0e+1o+1e", layout="ir_mul")
    # Paths of the filter of degree 0 are the first of their irreps; the others give nothing.
    kept = [place for place, path in enumerate(case.convolution.paths) if path.right == 0]
    parts = [weight[:, 2 * place : 2 * place + 2] for place in kept]
    expected = scalar(features, vectors, torch.cat(parts, dim=1), source=case.source, target=case.target)
    blocks = [case.convolution.irreps_out.slices()[place] for place in kept]
    torch.testing.assert_close(torch.cat([found[0][:, block] for block in blocks], dim=1), expected)


def test_no_edges_no_nodes_and_nodes_without_edges() -> None:
    case = small()
    made, (features, vectors, weight) = case.convolution, case.given
    none = torch.empty(0, dtype=torch.int64)
    empty = derivatives(lambda x, v, w: made(x, v, w, source=none, target=none), (features, vectors[:0], weight[:0]), 2)
    assert empty[0].shape == (3, made.irreps_out.dim)
    assert not any(one.any() for one in empty)
    assert made(features[:0], vectors[:0], weight[:0]).shape == (0, made.irreps_out.dim)
    assert not case.run(*case.given)[2].any()
    into = made(features, vectors, weight, source=case.source, target=case.target, nodes=7)
    assert into.shape[0] == 7
    assert not into[3:].any()


def test_without_ends_there_is_a_row_for_each_edge() -> None:
    case = small()
    made, (features, vectors, weight) = case.convolution, case.given
    rows = made(features[case.source], vectors, weight)
    torch.testing.assert_close(rows, made(features, vectors, weight, source=case.source))
    summed = torch.zeros(3, made.irreps_out.dim, dtype=torch.float64).index_add(0, case.target, rows)
    torch.testing.assert_close(summed, case.run(*case.given))
    torch.testing.assert_close(summed, made(features[case.source], vectors, weight, target=case.target, nodes=3))


def test_weights_can_be_shared() -> None:
    case = small()
    features, vectors, weight = case.given
    every = derivatives(lambda x, v, w: case.run(x, v, w.repeat(4, 1)), (features, vectors, weight[0]), 2)
    assert_same(derivatives(case.run, (features, vectors, weight[0]), 2), every, 1e-11)


def test_half_precision_is_added_up_in_single() -> None:
    case = small()
    found = case.run(*(tensor.to(torch.bfloat16) for tensor in case.given))
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found.double(), case.run(*case.given), rtol=0.05, atol=0.1)


def test_threads_do_not_change_a_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    case = Case(ClebschGordanConvolution("16x0e+16x1o", 2, "0e+1o+2e", layout="ir_mul"), nodes=40, edges=300)
    results = []
    for number in (1, 2, 3):
        monkeypatch.setattr(torch, "get_num_threads", lambda number=number: number)
        results.append(derivatives(case.run, case.given, 2))
    for others in results[1:]:
        assert all(torch.equal(one, other) for one, other in zip(results[0], others, strict=True))


@pytest.mark.parametrize("name", ["source", "target"])
@pytest.mark.parametrize("wrong", [-1, 3])
def test_nodes_that_are_not_there_are_told(name: str, wrong: int) -> None:
    case = small()
    getattr(case, name)[2] = wrong
    with pytest.raises(DataError, match=rf"^{name} must be nodes from 0 to 2, not {wrong}$"):
        case.run(*case.given)


def test_channels_that_do_not_fit_are_told() -> None:
    with pytest.raises(TenfoldError, match=r"3x1o has not as many channels as 2x0e of irreps_in"):
        ClebschGordanConvolution("2x0e", 1, "3x1o", layout="ir_mul", keep_paths=False)


def test_irreps_without_paths_are_zero() -> None:
    made = ClebschGordanConvolution("2x0e", 1, "2x0e+2x3o", layout="ir_mul", keep_paths=False)
    assert made(torch.ones(1, 2), torch.ones(1, 3), torch.ones(2)).tolist() == [[1.0] * 2 + [0.0] * 14]
    nothing = ClebschGordanConvolution("2x0e", 1, "2x3o", layout="ir_mul")
    assert nothing(torch.ones(1, 2), torch.ones(1, 3)).shape == (1, 0)


def test_batches_run_under_vmap() -> None:
    case = small()
    features, vectors, weight = case.given
    several = torch.stack([features, 2 * features, features**2])

    def scalar(x: Tensor, v: Tensor) -> Tensor:
        return (case.run(x, v, weight) ** 2).sum()

    grad = torch.func.grad(scalar, argnums=(0, 1))
    found = torch.func.vmap(grad, in_dims=(0, None))(several, vectors)
    for number, one in enumerate(several):
        torch.testing.assert_close([part[number] for part in found], list(grad(one, vectors)))
    by_vectors = torch.func.vmap(lambda v: case.run(features, v, weight), in_dims=2)(vectors[..., None].expand(4, 3, 2))
    torch.testing.assert_close(by_vectors[1], case.run(*case.given))


def test_it_compiles_as_one_graph() -> None:
    case = small()
    compiled = torch.compile(case.run, fullgraph=True, backend="aot_eager")
    assert_same(derivatives(compiled, case.given, 1), derivatives(case.run, case.given, 1), 1e-12)


def test_it_can_be_exported() -> None:
    case = small("mul_ir")

    class Layer(torch.nn.Module):
        def forward(self, x: Tensor, v: Tensor, w: Tensor, source: Tensor, target: Tensor) -> Tensor:
            return case.convolution(x, v, w, source=source, target=target)

    edges = torch.export.Dim("edges")
    shapes = (None, {0: edges}, {0: edges}, {0: edges}, {0: edges})
    program = torch.export.export(Layer(), (*case.given, case.source, case.target), dynamic_shapes=shapes)
    features, vectors, weight = case.given
    fewer = (features, vectors[:3], weight[:3], case.source[:3], case.target[:3])
    torch.testing.assert_close(program.module()(*fewer), Layer()(*fewer))
