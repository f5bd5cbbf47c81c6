"""What every linear layer must be: checks that a test calls with a layer of its family.

Those that take a module and its inputs hold for any layer.
"""

from __future__ import annotations

import copy
import io
import json
import pickle
from collections.abc import Callable

import safetensors.torch
import torch
from torch import Tensor, nn

from tenfold.nn import LinearMap
from tenfold.nn.recipes import module_of, recipe_of


def check_linear(layer: LinearMap) -> None:
    """All that is cheap, on a layer of float64 numbers."""
    check_is_its_matrix(layer)
    check_shapes(layer)
    check_adjoint(layer)
    check_numbers(layer)
    check_copies(layer, inputs_for(layer, 3))
    check_half(layer, inputs_for(layer, 3))
    check_recipe(layer, inputs_for(layer, 3))


def inputs_for(layer: LinearMap, *batch: int, seed: int = 0) -> Tensor:
    """Vectors of normal numbers for a layer."""
    generator = torch.Generator().manual_seed(seed)
    dtype = next((p.dtype for p in layer.parameters()), torch.float64)
    return torch.randn(*batch, layer.in_features, dtype=dtype, generator=generator)


def bias_of(layer: LinearMap) -> Tensor | float:
    """The bias, which is made other than zero first."""
    if layer.bias is None:
        return 0.0
    with torch.no_grad():
        layer.bias.normal_(generator=torch.Generator().manual_seed(1))
    return layer.bias


def check_is_its_matrix(layer: LinearMap) -> None:
    """A call is the product with the matrix, which is what the unit vectors go to."""
    bias = bias_of(layer)
    x = inputs_for(layer, 5)
    matrix = layer.to_dense()
    assert tuple(matrix.shape) == (layer.out_features, layer.in_features)
    assert matrix.dtype == x.dtype
    torch.testing.assert_close(layer(x), x @ matrix.T + bias)
    unit = torch.eye(layer.in_features, dtype=x.dtype)
    torch.testing.assert_close((layer(unit) - bias).T, matrix)
    training = layer.training
    with torch.no_grad():
        for mode in (True, False):
            layer.train(mode)
            for batch in (1, 2, 7):
                x = inputs_for(layer, batch)
                torch.testing.assert_close(layer(x), x @ matrix.T + bias)
    layer.train(training)


def check_shapes(layer: LinearMap) -> None:
    """Any number of leading axes, none of them, empty ones; inputs that are not contiguous."""
    matrix, bias = layer.to_dense(), bias_of(layer)
    for batch in ((), (1,), (2, 3), (2, 1, 3), (0,), (2, 0, 3)):
        x = inputs_for(layer, *batch)
        made = layer(x)
        assert made.shape == (*batch, layer.out_features)
        assert made.is_contiguous()
        torch.testing.assert_close(made, x @ matrix.T + bias)
    wide = inputs_for(layer, 3, 4)
    for x in (wide.transpose(0, 1), wide[::2], wide[:1].expand(5, 4, -1)):
        with torch.no_grad():
            torch.testing.assert_close(layer(x), x @ matrix.T + bias)
        torch.testing.assert_close(layer(x), x @ matrix.T + bias)
    strided = wide.new_zeros(3, 4, 2 * layer.in_features)[..., ::2]
    strided.copy_(wide)
    torch.testing.assert_close(layer(strided), wide @ matrix.T + bias)


def check_adjoint(layer: LinearMap) -> None:
    """``<L x, y> = <x, L^T y>``, with the adjoint from the gradient, which is the product with the matrix."""
    x = inputs_for(layer, 3).requires_grad_()
    made = layer(x)
    y = torch.randn(made.shape, dtype=made.dtype, generator=torch.Generator().manual_seed(2))
    (back,) = torch.autograd.grad(made, x, y, materialize_grads=True)
    torch.testing.assert_close(back, y @ layer.to_dense())


def check_gradients(layer: LinearMap) -> None:
    """Derivatives by differences, for a layer of float64 numbers and few features."""
    names = [name for name, p in layer.named_parameters() if p.requires_grad]
    values = [p.detach().clone().requires_grad_() for p in layer.parameters() if p.requires_grad]
    x = inputs_for(layer, 2).requires_grad_()

    def call(x: Tensor, *numbers: Tensor) -> Tensor:
        return torch.func.functional_call(layer, dict(zip(names, numbers, strict=True)), (x,))

    assert torch.autograd.gradcheck(call, (x, *values))
    whole = _Dense(layer)

    def matrix(*numbers: Tensor) -> Tensor:
        given = {f"layer.{name}": number for name, number in zip(names, numbers, strict=True)}
        return torch.func.functional_call(whole, given, ())

    assert torch.autograd.gradcheck(matrix, tuple(values))


def check_numbers(layer: LinearMap) -> None:
    """The count of numbers is that of the parameters; the layer prints and says what it costs."""
    count = sum(p.numel() for p in layer.parameters())
    assert layer.parameters_of_matrix == count - (layer.out_features if layer.bias is not None else 0)
    assert str(layer.in_features) in repr(layer)
    one, many = layer.flops(1), layer.flops(64)
    assert 0 <= one <= many <= 64 * one or one == 0


def check_copies(module: nn.Module, *inputs: Tensor) -> None:
    """deepcopy, pickle, torch.save, state_dict and safetensors bring back a module that does the same.

    Also after the module has run without gradients, when it may keep something of its own.
    """
    with torch.no_grad():
        module(*inputs)
        module.eval()
        wanted = module(*inputs)
        for other in (copy.deepcopy(module), pickle.loads(pickle.dumps(module)), _saved(module)):
            torch.testing.assert_close(other(*inputs), wanted)
            assert set(other.state_dict()) == set(module.state_dict())
        other = copy.deepcopy(module)
        for p in (*other.parameters(), *other.buffers()):
            if p.is_floating_point():
                p.zero_()
        assert not torch.equal(other(*inputs), wanted) or not wanted.any()
        other.load_state_dict(module.state_dict())
        torch.testing.assert_close(other(*inputs), wanted)
        for p in (*other.parameters(), *other.buffers()):
            if p.is_floating_point():
                p.zero_()
        other(*inputs)
        other.load_state_dict(safetensors.torch.load(safetensors.torch.save(dict(module.state_dict()))))
        torch.testing.assert_close(other(*inputs), wanted)
        module.train()


def check_recipe(module: nn.Module, *inputs: Tensor) -> None:
    """The words that JSON keeps of a layer, and its numbers, make it again."""
    other = module_of(json.loads(json.dumps(recipe_of(module))))
    other.load_state_dict(module.state_dict())
    torch.testing.assert_close(other(*inputs), module(*inputs))
    assert repr(other) == repr(module)


def check_half(module: nn.Module, *inputs: Tensor) -> None:
    """Autocast to half precision runs on the CPU and is near; so does a module of such numbers. NaN stays NaN."""
    single, given = copy.deepcopy(module).float(), [x.float() for x in inputs]
    wanted = single(*given)
    for dtype in (torch.bfloat16, torch.float16):
        for context in (torch.enable_grad(), torch.no_grad()):
            with context, torch.autocast("cpu", dtype=dtype):
                made = single(*given)
            assert _apart(made, wanted) < 0.05
        with torch.no_grad():
            halved = copy.deepcopy(module).to(dtype)
            made = halved(*[x.to(dtype) for x in inputs])
        assert made.dtype == dtype
        assert _apart(made, wanted) < 0.05
    if given[0].numel() and wanted.numel():
        spoiled = given[0].clone()
        spoiled.view(-1)[0] = torch.nan
        assert single(spoiled, *given[1:]).isnan().any()


def check_compiles(module: nn.Module, *inputs: Tensor) -> None:
    """One graph of ``torch.compile``, forward and backward."""
    torch._dynamo.reset()
    compiled = torch.compile(module, fullgraph=True, backend="aot_eager")
    given = [x.clone().requires_grad_() for x in inputs]
    same = [x.clone().requires_grad_() for x in inputs]
    made, wanted = compiled(*given), module(*same)
    torch.testing.assert_close(made, wanted)
    made.square().sum().backward()
    wanted.square().sum().backward()
    for a, b in zip(given, same, strict=True):
        torch.testing.assert_close(a.grad, b.grad)


def check_exports(module: nn.Module, make: Callable[[int], Tensor]) -> None:
    """``torch.export`` with a batch of any size; ``make`` gives inputs for one."""
    module.eval()
    batch = torch.export.Dim("batch", min=2, max=64)
    exported = torch.export.export(module, (make(3),), dynamic_shapes=({0: batch},))
    with torch.no_grad():
        for size in (2, 5, 64):
            torch.testing.assert_close(exported.module()(make(size)), module(make(size)))
    module.train()


class _Dense(nn.Module):
    def __init__(self, layer: LinearMap) -> None:
        super().__init__()
        self.layer = layer

    def forward(self) -> Tensor:
        return self.layer.to_dense()


def _saved(module: nn.Module) -> nn.Module:
    file = io.BytesIO()
    torch.save(module, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


def _apart(made: Tensor, wanted: Tensor) -> float:
    return (
        float((made.detach().float() - wanted.detach()).norm() / wanted.detach().norm().clamp(min=1e-6))
        if wanted.numel()
        else 0.0
    )
