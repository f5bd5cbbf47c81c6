"""The linear layer against its definition, block by block, and against e3nn."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tenfold.errors import DataError
from tenfold.nn.so3 import Linear
from tenfold.so3 import Irrep, Irreps, join, relayout, split

IRREPS = st.lists(
    st.tuples(st.integers(0, 4), st.builds(Irrep, st.integers(0, 3), st.sampled_from([1, -1]))), max_size=5
).map(Irreps)
LAYOUT = st.sampled_from(["mul_ir", "ir_mul"])


def by_pairs(features: Tensor, weight: Tensor, bias: Tensor | None, irreps_in: Irreps, irreps_out: Irreps) -> Tensor:
    """One product for each pair of blocks, with weights in e3nn's order: what the layer is short for."""
    incoming = split(features, irreps_in)
    found = [features.new_zeros(*features.shape[:-1], block.mul, block.ir.dim) for block in irreps_out]
    used = 0
    for block, part in zip(irreps_in, incoming, strict=True):
        for position, out in enumerate(irreps_out):
            if out.ir == block.ir:
                numbers = weight[used : used + block.mul * out.mul].reshape(block.mul, out.mul)
                used += numbers.numel()
                path = torch.einsum("uw,...ui->...wi", numbers, part)
                found[position] = found[position] + path / math.sqrt(max(irreps_in.count(out.ir), 1))
    assert used == weight.numel()
    used = 0
    for position, out in enumerate(irreps_out):
        if bias is not None and out.ir == Irrep("0e"):
            found[position] = found[position] + bias[used : used + out.mul, None]
            used += out.mul
    return join(found) if found else features.new_zeros(*features.shape[:-1], 0)


@settings(max_examples=150)
@given(IRREPS, IRREPS, LAYOUT, st.booleans(), st.integers(0, 2**20))
def test_it_is_the_sum_over_pairs_of_equal_irreps(
    irreps_in: Irreps, irreps_out: Irreps, layout: str, bias: bool, seed: int
) -> None:
    torch.manual_seed(seed)
    layer = Linear(irreps_in, irreps_out, bias=bias, layout=layout, dtype=torch.float64)
    if layer.bias is not None:
        torch.nn.init.normal_(layer.bias)
    features = torch.randn(3, irreps_in.dim, dtype=torch.float64)
    expected = by_pairs(features, layer.e3nn_weight(), layer.bias, irreps_in, irreps_out)
    found = relayout(layer(relayout(features, irreps_in, "mul_ir", layout)), irreps_out, layout, "mul_ir")
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-13)


@given(IRREPS, IRREPS, st.integers(0, 2**20))
def test_weights_go_to_the_order_of_e3nn_and_back(irreps_in: Irreps, irreps_out: Irreps, seed: int) -> None:
    torch.manual_seed(seed)
    layer, other = (Linear(irreps_in, irreps_out, bias=True) for _ in range(2))
    if layer.bias is not None:
        torch.nn.init.normal_(layer.bias)
    other.load_e3nn(layer.e3nn_weight(), layer.bias)
    assert torch.equal(other.weight, layer.weight)
    assert (other.bias is None) == (layer.bias is None) == (not irreps_out.count("0e"))
    assert layer.bias is None or torch.equal(other.bias, layer.bias)


def test_the_order_is_that_of_e3nn_where_each_irrep_has_one_block() -> None:
    layer = Linear("2x1o+3x0e+1e", "4x0e+2x2e+1x1o")
    assert layer.weight.numel() == 2 * 1 + 3 * 4
    assert torch.equal(layer.e3nn_weight(), layer.weight)


def test_the_variance_of_what_comes_out_is_one() -> None:
    torch.manual_seed(0)
    layer = Linear("64x0e+32x1o+64x0e+96x2e", "400x0e+400x1o+400x2e", dtype=torch.float64)
    found = layer(torch.randn(400, layer.irreps_in.dim, dtype=torch.float64))
    for block in split(found, layer.irreps_out):
        assert float(block.detach().var()) == pytest.approx(1, abs=0.1)


def test_only_even_scalars_have_biases_and_what_the_input_lacks_is_only_bias() -> None:
    layer = Linear("2x1o", "2x0e+3x0o+1o", bias=True, dtype=torch.float64)
    with torch.no_grad():
        layer.bias.copy_(torch.tensor([3.0, 4.0]))
    found = layer(torch.ones(2, 6, dtype=torch.float64))
    assert found[:, :5].tolist() == [[3, 4, 0, 0, 0]] * 2
    assert found[:, 5:].abs().min() > 0
    assert Linear("2x0o", "3x0o", bias=True).bias is None
    assert Linear("2x0e", "3x0e").bias is None


def test_weights_of_another_layer_are_refused() -> None:
    layer = Linear("2x0e", "3x0e", bias=True)
    with pytest.raises(DataError, match="weight of 5 and bias of 3 numbers are not of this layer, which has 6 and 3"):
        layer.load_e3nn(torch.zeros(5), torch.zeros(3))
    with pytest.raises(DataError, match="weight of 6 and bias of 0 numbers"):
        layer.load_e3nn(torch.zeros(6))


@pytest.mark.peer
@settings(max_examples=15)
@given(IRREPS, IRREPS, LAYOUT, st.booleans(), st.integers(0, 2**20))
def test_results_are_those_of_e3nn(irreps_in: Irreps, irreps_out: Irreps, layout: str, bias: bool, seed: int) -> None:
    o3 = pytest.importorskip("e3nn.o3")
    torch.manual_seed(seed)
    # e3nn itself fails on a bias of irreps that its input lacks, and on layers without any path.
    bias = bias and irreps_in.count("0e") > 0
    if not any(irreps_in.count(block.ir) for block in irreps_out):
        return
    theirs = o3.Linear(str(irreps_in), str(irreps_out), biases=bias).double()
    if theirs.bias.numel():
        torch.nn.init.normal_(theirs.bias)
    layer = Linear(irreps_in, irreps_out, bias=bias, layout=layout, dtype=torch.float64)
    layer.load_e3nn(theirs.weight, theirs.bias if theirs.bias.numel() else None)
    assert torch.equal(layer.e3nn_weight(), theirs.weight)
    features = torch.randn(3, irreps_in.dim, dtype=torch.float64)
    found = relayout(layer(relayout(features, irreps_in, "mul_ir", layout)), irreps_out, layout, "mul_ir")
    torch.testing.assert_close(found, theirs(features), rtol=0, atol=1e-12)
