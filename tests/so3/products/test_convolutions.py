"""What holds for every convolution along edges: graphs of any kind, and vectors of any length."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tenfold.so3.products import (
    ClebschGordanConvolution,
    Convolution,
    GauntConvolution,
    SO2Convolution,
    SO2MixingConvolution,
)

FEATURES = "2x0e+2x1o+2x2e"
MADE: dict[str, Callable[[], Convolution]] = {
    "clebsch gordan": lambda: ClebschGordanConvolution(FEATURES, 2, "0e+1o+1e+2e"),
    "so2": lambda: SO2Convolution(FEATURES, FEATURES),
    "so2 of paths": lambda: SO2Convolution(FEATURES, "2x1o+2x2e", weights="paths", degree=1),
    "so2 of order 1": lambda: SO2Convolution(FEATURES, FEATURES, m_max=1),
    "mixing": lambda: SO2MixingConvolution(FEATURES, "3x0e+3x1o"),
    "gaunt": lambda: GauntConvolution(FEATURES, 3, FEATURES),
    "so2 of many channels": lambda: SO2Convolution("16x0e+16x1o", "16x1o+16x2e", layout="mul_ir"),
    "gaunt of many channels": lambda: GauntConvolution("16x0e+16x1o", 2, "16x0e+16x1o+16x2e"),
    "gaunt of scalars": lambda: GauntConvolution("2x0e", 0, "2x0e"),
}


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def derivatives(function: Callable[..., Tensor], inputs: list[Tensor]) -> list[Tensor]:
    """Values, first and second derivatives, along numbers drawn for each."""
    own = [tensor.clone().requires_grad_() for tensor in inputs]
    out = function(*own)
    firsts = torch.autograd.grad((out * normal(*out.shape, seed=7)).sum(), own, create_graph=True)
    total = sum((one * normal(*one.shape, seed=number)).sum() for number, one in enumerate(firsts))
    seconds = torch.autograd.grad(total, own, materialize_grads=True)
    return [out, *firsts, *seconds]


def weight_of(convolution: Convolution, edges: int) -> Tensor:
    batch = () if isinstance(convolution, SO2MixingConvolution) else (edges,)
    return convolution.random_weight(*batch, dtype=torch.float64)


@pytest.mark.parametrize("name", MADE)
@settings(max_examples=15, deadline=None)
@given(data=st.data())
def test_a_graph_is_the_sum_of_its_edges(name: str, data: st.DataObject) -> None:
    # Isolated nodes, repeated edges, loops and no edges at all among them.
    convolution = MADE[name]()
    nodes, rows = data.draw(st.integers(1, 4)), data.draw(st.integers(1, 4))
    pairs = data.draw(st.lists(st.tuples(st.integers(0, nodes - 1), st.integers(0, rows - 1)), max_size=6))
    source, target = (torch.tensor([pair[end] for pair in pairs], dtype=torch.int64) for end in (0, 1))

    def fused(features: Tensor, vectors: Tensor, weight: Tensor) -> Tensor:
        return convolution(features, vectors, weight, source=source, target=target, nodes=rows)

    def apart(features: Tensor, vectors: Tensor, weight: Tensor) -> Tensor:
        messages = convolution(features[source], vectors, weight)
        return messages.new_zeros(rows, messages.shape[1]).index_add(0, target, messages)

    edges = len(pairs)
    inputs = [normal(nodes, convolution.irreps_in.dim), normal(edges, 3, seed=1), weight_of(convolution, edges)]
    for one, other in zip(derivatives(fused, inputs), derivatives(apart, inputs), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", MADE)
@pytest.mark.parametrize("scale", [1e200, 1e-200, 1e-90])
def test_only_directions_matter_however_long_vectors_are(name: str, scale: float) -> None:
    convolution = MADE[name]()
    inputs = [normal(4, convolution.irreps_in.dim), normal(4, 3, seed=1), weight_of(convolution, 4)]

    def scaled(features: Tensor, vectors: Tensor, weight: Tensor) -> Tensor:
        # The vectors are as long as they are asked to be: derivatives are those of vectors of length about one.
        return convolution(features, scale * vectors, weight)

    for one, other in zip(derivatives(scaled, inputs), derivatives(convolution, inputs), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", MADE)
def test_an_edge_of_no_length_has_no_force_and_finite_derivatives(name: str) -> None:
    convolution = MADE[name]()
    vectors = torch.tensor([[0.0, 0, 0], [1, 2, 3]], dtype=torch.float64)
    inputs = [normal(2, convolution.irreps_in.dim), vectors, weight_of(convolution, 2)]
    found = derivatives(convolution, inputs)
    assert all(one.isfinite().all() for one in found)
    assert not found[2][0].any()


MANY = ("so2 of many channels", "gaunt of many channels")


@pytest.mark.parametrize("name", MANY)
def test_code_for_single_precision_computes_the_same(name: str) -> None:
    convolution = MADE[name]()
    inputs = [normal(4, convolution.irreps_in.dim), normal(4, 3, seed=1), weight_of(convolution, 4)]
    single = derivatives(convolution, [tensor.float() for tensor in inputs])
    assert all(one.dtype == torch.float32 for one in single)
    for one, other in zip(single, derivatives(convolution, inputs), strict=True):
        torch.testing.assert_close(one.double(), other, rtol=0, atol=2e-5 * float(other.detach().abs().max()))


@pytest.mark.parametrize("name", MANY)
def test_threads_do_not_change_a_bit(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    convolution = MADE[name]()
    source, target = torch.randint(20, (2, 150), generator=torch.Generator().manual_seed(0))
    inputs = [normal(20, convolution.irreps_in.dim), normal(150, 3, seed=1), weight_of(convolution, 150)]
    results = []
    for number in (1, 2, 3):
        monkeypatch.setattr(torch, "get_num_threads", lambda number=number: number)
        results.append(derivatives(lambda *given: convolution(*given, source=source, target=target), inputs))
    for others in results[1:]:
        assert all(torch.equal(one, other) for one, other in zip(results[0], others, strict=True))
