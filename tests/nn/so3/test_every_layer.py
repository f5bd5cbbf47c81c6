"""What holds for each layer: it turns with its input, differentiates, compiles, exports, and says what does not fit."""

from __future__ import annotations

import copy
import io
import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from tenfold.errors import DataError, EquivarianceError, TenfoldError
from tenfold.nn.so3 import Activation, Dropout, EquivariantLayerNorm, EquivariantRMSNorm, Gate, Linear, NormActivation
from tenfold.so3 import Irrep, Irreps, assert_equivariant, equivariance_error, relayout, rotate

IRREPS = "3x0e+2x0o+0x2e+2x1o+1e+2x0e+2x2e+2x1o"
LAYOUTS = ("mul_ir", "ir_mul")
RANDOM_IRREPS = st.lists(
    st.tuples(st.integers(0, 3), st.builds(Irrep, st.integers(0, 3), st.sampled_from([1, -1]))), max_size=4
).map(Irreps)

# A layer for any irreps of its input: of these irreps, this layout and double precision.
LAYERS: dict[str, Callable[..., nn.Module]] = {
    "activation": lambda irreps, layout: Activation(irreps, functions(irreps)),
    "dropout": lambda irreps, layout: Dropout(irreps, 0.3, layout=layout).eval(),
    "gate": lambda irreps, layout: gate(Irreps(irreps), layout),
    "layer norm": lambda irreps, layout: EquivariantLayerNorm(irreps, layout=layout, dtype=torch.float64),
    "linear": lambda irreps, layout: Linear(
        irreps, Irreps(irreps) + "4x0e+1x3o", bias=True, layout=layout, dtype=torch.float64
    ),
    "norm activation": lambda irreps, layout: NormActivation(irreps, bias=True, layout=layout, dtype=torch.float64),
    "rms norm": lambda irreps, layout: EquivariantRMSNorm(irreps, layout=layout, dtype=torch.float64),
}
# Scalars look the same in both.
WITHOUT_LAYOUT = {"activation"}


def functions(irreps: Any) -> list[Callable[[Tensor], Tensor] | None]:
    """SiLU for even scalars, the hyperbolic tangent for odd ones, nothing for the rest."""
    chosen = {Irrep("0e"): nn.functional.silu, Irrep("0o"): torch.tanh}
    return [chosen.get(block.ir) for block in Irreps(irreps)]


def gate(irreps: Irreps, layout: str) -> Gate:
    """Half of the gates even and half odd, for whatever of these irreps is no scalar."""
    scalars = Irreps([block for block in irreps if not block.ir.l])
    gated = Irreps([block for block in irreps if block.ir.l])
    even = gated.num_irreps // 2
    gates = Irreps([(even, "0e"), (gated.num_irreps - even, "0o")])
    return Gate(scalars, functions(scalars), gates, [torch.sigmoid, torch.tanh], gated, layout=layout)


def made(name: str, irreps: Any = IRREPS, layout: str = "mul_ir") -> nn.Module:
    """The layer with parameters that are all drawn, so that none starts where it does nothing."""
    torch.manual_seed(0)
    layer = LAYERS[name](irreps, layout)
    for parameter in layer.parameters():
        nn.init.normal_(parameter)
    return layer


def drawn(layer: nn.Module, *batch: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*batch, layer.irreps_in.dim, generator=generator, dtype=torch.float64).to(dtype)


@pytest.mark.parametrize("name", LAYERS)
@settings(max_examples=25)
@given(irreps=RANDOM_IRREPS, layout=st.sampled_from(LAYOUTS), seed=st.integers(0, 2**20))
def test_it_turns_with_its_input(name: str, irreps: Irreps, layout: str, seed: int) -> None:
    layer = made(name, irreps, layout)
    assert_equivariant(layer, layer.irreps_in, layer.irreps_out, layout=layout, seed=seed, tol=1e-11)


@pytest.mark.parametrize("name", LAYERS)
def test_a_function_that_is_not_equivariant_is_found_out(name: str) -> None:
    """The same layer, with one component of what it returns bent."""
    layer = made(name)
    places = zip(layer.irreps_out, layer.irreps_out.slices(), strict=True)
    bent = next(where.start for block, where in places if block.ir.l and block.mul)

    def broken(features: Tensor) -> Tensor:
        found = layer(features).clone()
        found[..., bent] = found[..., bent] ** 3 + 1
        return found

    assert equivariance_error(broken, layer.irreps_in, layer.irreps_out) > 1e-2
    with pytest.raises(EquivarianceError, match="not equivariant: block"):
        assert_equivariant(broken, layer.irreps_in, layer.irreps_out)


@pytest.mark.parametrize("name", LAYERS)
def test_both_layouts_are_one_layer(name: str) -> None:
    layer, other = made(name), made(name, layout="ir_mul")
    other.load_state_dict(layer.state_dict())
    features = drawn(layer, 5)
    if name in WITHOUT_LAYOUT:
        assert torch.equal(other(features), layer(features))
        return
    found = other(relayout(features, layer.irreps_in, "mul_ir", "ir_mul"))
    torch.testing.assert_close(
        relayout(found, layer.irreps_out, "ir_mul", "mul_ir"), layer(features), rtol=0, atol=1e-14
    )


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", LAYERS)
def test_derivatives_of_first_and_second_order(name: str, layout: str) -> None:
    layer = made(name, "2x0e+0o+2x1o+2e", layout)
    features = drawn(layer, 2).requires_grad_()
    parameters = dict(layer.named_parameters())

    def function(x: Tensor, *values: Tensor) -> Tensor:
        return torch.func.functional_call(layer, dict(zip(parameters, values, strict=True)), (x,))

    assert torch.autograd.gradcheck(function, (features, *parameters.values()))
    assert torch.autograd.gradgradcheck(function, (features, *parameters.values()))


@pytest.mark.parametrize("name", LAYERS)
def test_zero_features_have_finite_derivatives(name: str) -> None:
    layer = made(name)
    features = torch.zeros(3, layer.irreps_in.dim, dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(layer(features).square().sum(), features, create_graph=True)
    (curvature,) = torch.autograd.grad((slope**2).sum() + slope.sum(), features)
    assert slope.isfinite().all()
    assert curvature.isfinite().all()


@pytest.mark.slow
@pytest.mark.parametrize("name", LAYERS)
def test_compiled_in_one_graph(name: str) -> None:
    # Training mode: dropout draws, with the same seed on both sides.
    layer = made(name, layout="ir_mul").train()
    torch.compiler.reset()
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    for batch in (5, 7):
        one, other = drawn(layer, batch).requires_grad_(), drawn(layer, batch).requires_grad_()
        torch.manual_seed(0)
        expected = layer(one)
        torch.manual_seed(0)
        found = compiled(other)
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-14)
        torch.testing.assert_close(
            torch.autograd.grad(found.sum(), other), torch.autograd.grad(expected.sum(), one), rtol=0, atol=1e-13
        )


@pytest.mark.parametrize("name", LAYERS)
def test_exported_for_batches_of_any_size(name: str) -> None:
    layer = made(name)
    exported = torch.export.export(layer, (drawn(layer, 5),), dynamic_shapes=({0: torch.export.Dim("batch")},))
    file = io.BytesIO()
    torch.export.save(exported, file)
    file.seek(0)
    again = torch.export.load(file).module()
    torch.testing.assert_close(again(drawn(layer, 9)), layer(drawn(layer, 9)), rtol=0, atol=1e-14)


@pytest.mark.parametrize("name", LAYERS)
def test_parameters_are_kept_in_a_file(name: str) -> None:
    layer, fresh = made(name), LAYERS[name](IRREPS, "mul_ir")
    file = io.BytesIO()
    torch.save(layer.state_dict(), file)
    file.seek(0)
    fresh.load_state_dict(torch.load(file, weights_only=True))
    features = drawn(layer, 4)
    assert torch.equal(fresh(features), layer(features))
    assert torch.equal(copy.deepcopy(layer)(features), layer(features))


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_other_precisions(name: str, dtype: torch.dtype) -> None:
    layer = made(name)
    features = drawn(layer, 4, dtype=dtype)
    found = copy.deepcopy(layer).to(dtype)(features)
    assert found.dtype == dtype
    expected = copy.deepcopy(layer).to(dtype).to(torch.float64)(features.double())
    off = (found.double() - expected).abs().max() / expected.abs().max()
    assert off < 20 * torch.finfo(dtype).eps


@pytest.mark.parametrize("name", LAYERS)
def test_batches_of_any_shape(name: str) -> None:
    layer = made(name)
    features = drawn(layer, 2, 3)
    expected = layer(features)
    assert expected.shape == (2, 3, layer.irreps_out.dim)
    torch.testing.assert_close(layer(features[1, 2]), expected[1, 2], rtol=0, atol=1e-14)
    torch.testing.assert_close(torch.vmap(layer)(features), expected, rtol=0, atol=1e-14)
    assert layer(features[:0]).shape == (0, 3, layer.irreps_out.dim)
    torch.testing.assert_close(layer(features.mT.contiguous().mT), expected, rtol=0, atol=1e-14)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("irreps", ["", "0x1o", "4x0e", "2x0o"])
def test_few_irreps_and_none(name: str, irreps: str, layout: str) -> None:
    layer = made(name, irreps, layout)
    found = layer(drawn(layer, 3))
    assert found.shape == (3, layer.irreps_out.dim)
    assert found.isfinite().all()


@pytest.mark.parametrize("name", LAYERS)
def test_autocast_is_left_to_torch(name: str) -> None:
    layer = made(name).float()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = layer(drawn(layer, 3, dtype=torch.bfloat16))
    expected = layer(drawn(layer, 3, dtype=torch.bfloat16).float())
    assert (found.float() - expected).abs().max() / expected.abs().max() < 0.05


@pytest.mark.parametrize("name", LAYERS)
def test_what_does_not_fit_is_told(name: str) -> None:
    layer = made(name)
    with pytest.raises(DataError, match=re.escape(f"must end with the {layer.irreps_in.dim} of '{layer.irreps_in}'")):
        layer(torch.zeros(3, layer.irreps_in.dim + 1, dtype=torch.float64))
    with pytest.raises(DataError, match=r"features must be floating, not torch.int64"):
        layer(torch.zeros(3, layer.irreps_in.dim, dtype=torch.int64))
    if list(layer.parameters()):
        with pytest.raises(DataError, match=r"features are torch.float32 and the layer is torch.float64"):
            layer(drawn(layer, 3, dtype=torch.float32))
    with pytest.raises(TenfoldError, match="'3x0z' is not like '16x1o'"):
        LAYERS[name]("3x0z", "mul_ir")
    if name not in WITHOUT_LAYOUT:
        with pytest.raises(TenfoldError, match="a layout is 'mul_ir' or 'ir_mul', not 'mul_irr'"):
            LAYERS[name](IRREPS, "mul_irr")


@pytest.mark.parametrize("name", LAYERS)
def test_its_repr_says_its_irreps(name: str) -> None:
    assert str(made(name).irreps_in) in repr(made(name))


def test_a_layer_is_seen_by_the_rotation_of_its_block() -> None:
    """The harness turns every block by its own matrices: a swap of parities in the output is found."""
    layer = made("linear", "2x1o")
    assert equivariance_error(layer, "2x1o", layer.irreps_out) < 1e-14
    assert equivariance_error(layer, "2x1e", layer.irreps_out) > 0.1
    assert equivariance_error(layer, "2x1e", layer.irreps_out, improper=False) < 1e-14
    assert rotate(drawn(layer, 1), "2x1o", torch.eye(3, dtype=torch.float64)).shape == (1, 6)
