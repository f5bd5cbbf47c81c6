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
        self.vectors = torch.nn.functional.normalize(self.normal(edges, 3), dim=-1) * (0.5 + self.normal(edges, 1).abs())
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
@settings(max_examples=8, deadline=None)
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
