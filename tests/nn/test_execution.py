"""Every way to apply a structured matrix computes the same product, and what is kept follows the cores."""

from __future__ import annotations

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from nn.linear_oracles import check_compiles, check_exports, inputs_for
from torch import nn
from torch.autograd import forward_ad
from torch.nn.utils import parametrize, prune
from torch.testing._internal.two_tensor import TwoTensor

from tenfold import formats
from tenfold.errors import StructureError
from tenfold.nn import StructuredLinear, _execution, _structured
from tenfold.structure import Structure

SIZES = st.integers(1, 7)


@st.composite
def matrix_structures(draw: st.DrawFn) -> Structure:
    count = draw(st.integers(2, 3))
    rows, columns = (tuple(draw(SIZES) for _ in range(count)) for _ in range(2))
    rank = draw(st.integers(1, 4))
    family = draw(st.sampled_from(["low rank", "kronecker", "train", "blocks", "monarch", "mixed", "shared"]))
    if family == "low rank":
        return formats.low_rank(10 * rows[0] + rows[1], 9 * columns[0] + columns[1], rank)
    if family == "kronecker":
        return formats.kronecker(rows, columns, rank)
    if family == "train":
        return formats.tensor_train_matrix(rows, columns, rank)
    if family == "blocks":
        return formats.block_tensor_train(rows, columns, rank)
    if family == "monarch":
        return formats.monarch(rows, columns)
    if family == "mixed":
        sizes = {"a": rows[0], "b": rows[1], "c": columns[0], "d": columns[1], "r": rank, "s": 2}
        return Structure("a r s, b r, c s r, d s -> (b a) (d c)", sizes)
    return Structure(
        "U[i r], V[j r], w[r], U[k r], V[l r] -> (i k) (l j)", i=rows[0], k=rows[0], j=rows[1], l=rows[1], r=rank
    )


@settings(max_examples=25, deadline=None)
@given(matrix_structures(), st.sampled_from([1, 3, 16, 17, 33, 70]), st.booleans())
def test_all_ways_are_one_product(structure: Structure, batch: int, single: bool) -> None:
    torch.manual_seed(0)
    dtype = torch.float32 if single else torch.float64
    layer = StructuredLinear((structure, structure), dtype=dtype)
    nn.init.normal_(layer.bias)
    chains, cores, bias = layer._execution._ways.subject, layer._tensors(), layer.bias.detach()
    x = inputs_for(layer, batch)
    wanted = x @ layer.to_dense().T + bias
    with torch.no_grad():
        for way in (_structured.CONTRACTED, _structured.CHAINED, _structured.LANES, _structured.MATERIALISED):
            for rows in (x, torch.cat([x, x], 1)[:, : x.shape[1]], x.t().contiguous().t()):
                made = way.run(chains, way.prepare(chains, cores), rows, bias)
                torch.testing.assert_close(made, wanted, msg=lambda text, way=way: f"{way.name}: {text}")


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_lanes_in_threads(threads: int) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        layer = StructuredLinear(formats.monarch((6, 5), (4, 7)), execution="factorised").eval()
        _execution._table.clear()
        with torch.no_grad():
            for batch in (1, 31, 65, 1000):
                x = inputs_for(layer, batch)
                torch.testing.assert_close(layer(x), x @ layer.to_dense().T + layer.bias)
    finally:
        torch.set_num_threads(before)


def test_what_is_kept_follows_the_cores() -> None:
    layer = StructuredLinear(formats.low_rank(6, 7, 3), execution="materialised", dtype=torch.float64)
    x = inputs_for(layer, 4)

    def right() -> bool:
        return torch.allclose(layer(x), x @ layer.to_dense().T + layer.bias)

    with torch.no_grad():
        assert right()
        kept = layer._execution._kept["materialised"][1]
        assert right()
        assert layer._execution._kept["materialised"][1] is kept, "nothing changed"
        layer.cores["core0"].mul_(2)
        assert right()
        layer.cores["core1"] = nn.Parameter(torch.randn(3, 7, dtype=torch.float64))
        assert right()
        layer.load_state_dict({name: torch.randn_like(value) for name, value in layer.state_dict().items()})
        assert right()
        layer.cores["core0"].data.normal_()
        layer.eval()
        assert right()
        layer.cores["core0"].data = torch.randn(6, 3, dtype=torch.float64)
        assert right()
        x = x.float()
        layer.float()
        assert right()
    optimizer = torch.optim.SGD(layer.parameters(), 0.1)
    for _ in range(3):
        layer(x).square().sum().backward()
        optimizer.step()
        with torch.no_grad():
            assert right()
    with torch.inference_mode():
        assert right()
    x.requires_grad_()
    for core in layer.cores.values():
        core.requires_grad_(False)
    layer(x).sum().backward()
    torch.testing.assert_close(x.grad, layer.to_dense().sum(0).expand_as(x))


def test_a_copy_keeps_nothing() -> None:
    layer = StructuredLinear(formats.low_rank(6, 7, 3), execution="materialised").eval()
    with torch.no_grad():
        layer(inputs_for(layer, 2))
    other = copy.deepcopy(layer)
    assert not other._execution._kept
    assert other._execution.asked == "materialised"
    assert set(layer.state_dict()) == {"cores.core0", "cores.core1", "bias"}


def test_the_fastest_way_is_measured_once_for_a_kind_of_input() -> None:
    _execution._table.clear()
    layer = StructuredLinear(formats.low_rank(40, 40, 3)).eval()
    with torch.no_grad():
        for batch in (4, 5, 7):
            layer(inputs_for(layer, batch))
        assert len(_execution._table) == 1
        layer(inputs_for(layer, 8))
    assert len(_execution._table) == 2
    StructuredLinear(formats.low_rank(40, 40, 3)).eval()(inputs_for(layer, 4))
    assert len(_execution._table) == 3, "gradients are asked for"


def test_a_full_matrix_that_is_faster_is_made() -> None:
    # Sixteen times the operations of the matrix in full.
    layer = StructuredLinear(formats.kronecker((16, 16), (16, 16), 128)).eval()
    _execution._table.clear()
    with torch.no_grad():
        layer(inputs_for(layer, 64))
    assert [way.name for way in _execution._table.values()] == ["materialised"]
    with pytest.raises(StructureError, match="execution must be auto"):
        StructuredLinear(layer.structures, execution="fast")


@pytest.mark.parametrize("execution", ["factorised", "materialised"])
def test_compile_and_export(execution: str) -> None:
    layer = StructuredLinear(formats.monarch((3, 4), (5, 4)), dtype=torch.float64, execution=execution)
    check_compiles(layer, inputs_for(layer, 3))
    check_exports(layer, lambda batch: inputs_for(layer, batch))


def test_transforms_of_functions() -> None:
    layer = StructuredLinear(formats.monarch((3, 4), (5, 4)), dtype=torch.float64)
    x = inputs_for(layer, 3)
    torch.testing.assert_close(torch.func.vmap(layer)(x), layer(x))
    jacobian = torch.func.vmap(torch.func.jacrev(layer))(x)
    torch.testing.assert_close(jacobian, layer.to_dense().expand(3, -1, -1))


def by_kernel() -> StructuredLinear:
    """A layer that takes the kernel for 64 rows where no gradients are wanted."""
    torch.manual_seed(0)
    layer = StructuredLinear(formats.low_rank(256, 256, 16), execution="factorised").requires_grad_(False)
    nn.init.normal_(layer.bias)
    layer(torch.randn(64, 256))
    assert [way.name for way in layer._execution._chosen.values()] == ["lanes"]
    return layer


@pytest.mark.parametrize("execution", ["auto", "factorised", "materialised"])
def test_a_bias_is_trained_alone(execution: str) -> None:
    layer = StructuredLinear(formats.low_rank(256, 256, 16), execution=execution).requires_grad_(False)
    layer.bias.requires_grad_(True)
    layer(torch.randn(64, 256)).sum().backward()
    torch.testing.assert_close(layer.bias.grad, torch.full((256,), 64.0))


def test_the_kernel_reads_signs() -> None:
    layer = by_kernel()
    x = torch.randn(64, 256)
    torch.testing.assert_close(layer(torch._neg_view(x)), layer(-x))
    given = {name: torch._neg_view(value) for name, value in layer.state_dict().items()}
    wanted = layer(x) - 2 * layer.bias
    torch.testing.assert_close(torch.func.functional_call(layer, given, (x,)), wanted)


def test_the_kernel_is_for_tensors_with_numbers() -> None:
    layer = by_kernel()
    x, y = torch.randn(64, 256), torch.randn(64, 256)
    made = layer(TwoTensor(x, y))
    torch.testing.assert_close(made.a, layer(x))
    torch.testing.assert_close(made.b, layer(y))
    cores = {name: TwoTensor(value, 2 * value) for name, value in layer.state_dict().items() if "core" in name}
    made = torch.func.functional_call(layer, cores, (x,))
    torch.testing.assert_close(made.a, layer(x))
    torch.testing.assert_close(made.b, 4 * (layer(x) - layer.bias) + layer.bias)


def test_forward_derivatives() -> None:
    layer = by_kernel()
    x, direction = torch.randn(2, 64, 256)
    with forward_ad.dual_level():
        slope = forward_ad.unpack_dual(layer(forward_ad.make_dual(x, direction))).tangent
        torch.testing.assert_close(slope, layer(direction) - layer.bias)
        core = layer.cores["core0"]
        dual = forward_ad.make_dual(core, core)
        made = torch.func.functional_call(layer, {"cores.core0": dual}, (x,))
        torch.testing.assert_close(forward_ad.unpack_dual(made).tangent, layer(x) - layer.bias)


def test_what_is_kept_is_of_one_precision() -> None:
    layer = StructuredLinear(formats.low_rank(64, 64, 8), execution="materialised").requires_grad_(False)
    x = torch.randn(5, 64)
    wanted = x @ layer.to_dense().T
    for _ in range(2):
        with torch.autocast("cpu", torch.bfloat16):
            assert layer(x).dtype == torch.bfloat16
        torch.testing.assert_close(layer(x), wanted)


@pytest.mark.parametrize("normalize", [False, True])
def test_cores_may_be_made_of_others(normalize: bool) -> None:
    class Twice(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return 2 * x

    layer = StructuredLinear(formats.block_tensor_train((4, 4), (4, 4), 2), normalize=normalize)
    x = inputs_for(layer, 3)
    before = layer(x)
    held = layer.gains if normalize else layer.cores
    parametrize.register_parametrization(held, "core0", Twice())
    torch.testing.assert_close(layer(x), 2 * before)
    prune.l1_unstructured(held, "core1", amount=1.0 if normalize else 0.5)
    for _ in range(2):
        # Each call has a graph of its own.
        layer(x).sum().backward()
    torch.testing.assert_close(layer(x), x @ layer.to_dense().T)


def test_parameters_can_be_swapped_and_live_nowhere() -> None:
    layer = by_kernel()
    before = torch.__future__.get_swap_module_params_on_conversion()
    torch.__future__.set_swap_module_params_on_conversion(True)
    try:
        layer.double()
    finally:
        torch.__future__.set_swap_module_params_on_conversion(before)
    assert layer(torch.randn(64, 256, dtype=torch.float64)).dtype == torch.float64
    assert layer.to("meta")(torch.empty(64, 256, device="meta")).shape == (64, 256)
