"""The sum over paths that every product with 3j coefficients is, as an operator of torch with all its derivatives.

It is linear in left, right, weight and, multiplied with a gradient, in that. So each derivative is one of three sums
with the same coefficients: for out, for left and right together, and for the weights. They are each other's
derivatives, however often one differentiates. The last two read the gradient of out, which is the largest of all:
where both are asked for, one operator finds them together.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from tenfold.errors import DataError
from tenfold.so3._transforms import followed
from tenfold.so3.products import _trilinear_loops, _trilinear_plain, _trilinear_triton, _trilinear_written
from tenfold.so3.products._terms import Terms
from tenfold.so3.products._trilinear_plan import plan_of
from tenfold.so3.products._trilinear_written import Backward


def trilinear(
    left: Float[Tensor, "batch left channel"],
    right: Float[Tensor, "batch right channel_or_one"],
    weight: Float[Tensor, "batch_or_one path channel_or_one"] | None,
    terms: Terms,
) -> Float[Tensor, "batch out channel"]:
    """``out[k] = sum(value * weight[path] * left[i] * right[j])`` over terms, for each channel.

    Without weights all of them are one. It can be differentiated as often as one likes, each time at about the cost of
    the first; on the CPU by kernels, on other devices and in `torch.func` by sums of torch. The kernel is code written
    for these terms, compiled when it is needed first and kept on disk; where there are very many terms, it is loops.

    Raises:
        DataError: shapes do not fit the terms or each other.

    Cost: about a multiplication for two terms, and one for each pair of components, for each channel; inputs are read
    and out is written once.
    """
    lefts, rights, _, paths = terms.sizes
    if left.ndim != 3 or left.shape[1] != lefts:
        raise DataError(f"left must be of shape (batch, {lefts}, channel), not {tuple(left.shape)}")
    batch, _, channels = left.shape
    if right.ndim != 3 or right.shape[:2] != (batch, rights) or right.shape[2] not in (1, channels):
        raise DataError(f"right must be of shape ({batch}, {rights}, {channels} or 1), not {tuple(right.shape)}")
    if weight is not None and (
        weight.ndim != 3
        or weight.shape[0] not in (1, batch)
        or weight.shape[1] != paths
        or weight.shape[2] not in (1, channels)
    ):
        shape = f"({batch} or 1, {paths}, {channels} or 1)"
        raise DataError(f"weight must be of shape {shape}, not {tuple(weight.shape)}")
    if followed(left, right, weight):
        return _trilinear_plain.forward(left, right, weight, None, None, plan_of(terms.key))
    return _forward(left, right, weight, None, None, terms.key)


@torch.library.custom_op("tenfold::so3_trilinear", mutates_args=())
def _forward(
    left: Tensor, right: Tensor, weight: Tensor | None, left2: Tensor | None, right2: Tensor | None, key: str
) -> Tensor:
    """The sum over ``weight * (left * right + left2 * right2)``, the second product if there is one."""
    if _trilinear_triton.serves(left):
        return _trilinear_triton.forward(left, right, weight, left2, right2, key)
    given = _kernel_dtype(left)
    if given is None:
        return _trilinear_plain.forward(left, right, weight, left2, right2, plan_of(key))
    tensors = _as(given, left, right, weight, left2, right2)
    return _kernels(key).forward(*tensors, key).to(left.dtype)


@_forward.register_fake
def _(
    left: Tensor, right: Tensor, weight: Tensor | None, left2: Tensor | None, right2: Tensor | None, key: str
) -> Tensor:
    return left.new_empty(left.shape[0], plan_of(key).sizes[2], left.shape[2])


@torch.library.custom_op("tenfold::so3_trilinear_gradients", mutates_args=())
def _gradients(left: Tensor, right: Tensor, weight: Tensor | None, grad: Tensor, key: str) -> tuple[Tensor, Tensor]:
    """What ``grad`` gives back to left and right."""
    if _trilinear_triton.serves(left):
        return _trilinear_triton.gradients(left, right, weight, grad, key)
    given = _kernel_dtype(left)
    if given is None:
        return _trilinear_plain.gradients(left, right, weight, grad, plan_of(key))
    found = _backward(_as(given, left, right, weight, grad, None, None), key, factors=True, weights=None)
    assert found.left is not None
    assert found.right is not None
    return found.left.to(left.dtype), found.right.to(right.dtype)


@_gradients.register_fake
def _(left: Tensor, right: Tensor, weight: Tensor | None, grad: Tensor, key: str) -> tuple[Tensor, Tensor]:
    return _like(left), _like(right)


@torch.library.custom_op("tenfold::so3_trilinear_weights", mutates_args=())
def _weights(
    left: Tensor,
    right: Tensor,
    grad: Tensor,
    left2: Tensor | None,
    right2: Tensor | None,
    key: str,
    shared: bool,
    narrow: bool,
) -> Tensor:
    """What ``grad`` gives back to weights: one row for all if they are shared, one channel if they are narrow."""
    if _trilinear_triton.serves(left):
        return _trilinear_triton.weights(left, right, grad, left2, right2, key, shared, narrow)
    given = _kernel_dtype(left)
    if given is None:
        return _trilinear_plain.weights(left, right, grad, left2, right2, plan_of(key), shared, narrow)
    shape = (1 if shared else left.shape[0], 1 if narrow else left.shape[2])
    found = _backward(_as(given, left, right, None, grad, left2, right2), key, factors=False, weights=shape)
    assert found.weight is not None
    return found.weight.to(left.dtype)


@_weights.register_fake
def _(
    left: Tensor,
    right: Tensor,
    grad: Tensor,
    left2: Tensor | None,
    right2: Tensor | None,
    key: str,
    shared: bool,
    narrow: bool,
) -> Tensor:
    paths = plan_of(key).sizes[3]
    return left.new_empty(1 if shared else left.shape[0], paths, 1 if narrow else left.shape[2])


@torch.library.custom_op("tenfold::so3_trilinear_all", mutates_args=())
def _all(left: Tensor, right: Tensor, weight: Tensor, grad: Tensor, key: str) -> tuple[Tensor, Tensor, Tensor]:
    """What ``grad`` gives back to left, right and weight: `_gradients` and `_weights`."""
    shared, narrow = _shared_and_narrow(weight, left)
    if _trilinear_triton.serves(left):
        by_weight = _trilinear_triton.weights(left, right, grad, None, None, key, shared, narrow)
        return (*_trilinear_triton.gradients(left, right, weight, grad, key), by_weight)
    given = _kernel_dtype(left)
    if given is None:
        plan = plan_of(key)
        by_weight = _trilinear_plain.weights(left, right, grad, None, None, plan, shared, narrow)
        return (*_trilinear_plain.gradients(left, right, weight, grad, plan), by_weight)
    shape = (weight.shape[0], weight.shape[2])
    found = _backward(_as(given, left, right, weight, grad, None, None), key, factors=True, weights=shape)
    assert found.left is not None
    assert found.right is not None
    assert found.weight is not None
    return found.left.to(left.dtype), found.right.to(right.dtype), found.weight.to(weight.dtype)


@_all.register_fake
def _(left: Tensor, right: Tensor, weight: Tensor, grad: Tensor, key: str) -> tuple[Tensor, Tensor, Tensor]:
    return _like(left), _like(right), _like(weight)


def _kernel_dtype(like: Tensor) -> torch.dtype | None:
    """What kernels compute in; None where there is none for this device or dtype."""
    if like.device.type != "cpu":
        return None
    return {torch.float64: torch.float64, torch.float32: torch.float32}.get(
        like.dtype, torch.float32 if like.dtype.itemsize == 2 else None
    )


def _as(dtype: torch.dtype, *tensors: Tensor | None) -> list[Any]:
    return [None if tensor is None else tensor.to(dtype) for tensor in tensors]


def _kernels(key: str) -> Any:
    """Those that are faster, with the time they take to be compiled."""
    return _trilinear_written if _trilinear_written.suits(key) else _trilinear_loops


def _backward(tensors: list[Any], key: str, *, factors: bool, weights: tuple[int, int] | None) -> Backward:
    return _kernels(key).backward(*tensors, key, factors=factors, weights=weights)


def _like(tensor: Tensor) -> Tensor:
    return torch.empty_like(tensor, memory_format=torch.contiguous_format)


def _shared_and_narrow(weight: Tensor, left: Tensor) -> tuple[bool, bool]:
    """Whether all rows of left have the same weights, and all its channels."""
    return weight.shape[0] != left.shape[0], weight.shape[2] != left.shape[2]


# --- derivatives


def _keep_forward(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    *tensors, ctx.key = inputs
    ctx.save_for_backward(*tensors)


def _forward_backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    left, right, weight, left2, right2 = ctx.saved_tensors
    by_left, by_right, by_weight, by_left2, by_right2, _ = ctx.needs_input_grad
    found: list[Tensor | None] = [None] * 6
    if by_weight and left2 is None and (by_left or by_right):
        found[:3] = _all(left, right, weight, grad, ctx.key)
        return tuple(found)
    if by_left or by_right:
        found[0], found[1] = _gradients(left, right, weight, grad, ctx.key)
    if by_left2 or by_right2:
        found[3], found[4] = _gradients(left2, right2, weight, grad, ctx.key)
    if by_weight:
        found[2] = _weights(left, right, grad, left2, right2, ctx.key, *_shared_and_narrow(weight, left))
    return tuple(found)


def _keep_gradients(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    *tensors, ctx.key = inputs
    ctx.save_for_backward(*tensors)


def _gradients_backward(ctx: Any, to_left: Tensor, to_right: Tensor) -> tuple[Tensor | None, ...]:
    left, right, weight, grad = ctx.saved_tensors
    by_left, by_right, by_weight, by_grad, _ = ctx.needs_input_grad
    found: list[Tensor | None] = [None] * 5
    if by_left or by_right:
        found[0], found[1] = _gradients(to_left, to_right, weight, grad, ctx.key)
    if by_weight:
        found[2] = _weights(to_left, right, grad, left, to_right, ctx.key, *_shared_and_narrow(weight, left))
    if by_grad:
        found[3] = _forward(to_left, right, weight, left, to_right, ctx.key)
    return tuple(found)


def _keep_weights(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    *tensors, ctx.key, _, _ = inputs
    ctx.save_for_backward(*tensors)


def _weights_backward(ctx: Any, to_weight: Tensor) -> tuple[Tensor | None, ...]:
    left, right, grad, left2, right2 = ctx.saved_tensors
    by_left, by_right, by_grad, by_left2, by_right2, *_ = ctx.needs_input_grad
    found: list[Tensor | None] = [None] * 8
    if by_left or by_right:
        found[0], found[1] = _gradients(left, right, to_weight, grad, ctx.key)
    if by_left2 or by_right2:
        found[3], found[4] = _gradients(left2, right2, to_weight, grad, ctx.key)
    if by_grad:
        found[2] = _forward(left, right, to_weight, left2, right2, ctx.key)
    return tuple(found)


def _keep_all(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor, Tensor]) -> None:
    *tensors, ctx.key = inputs
    ctx.save_for_backward(*tensors)
    ctx.set_materialize_grads(False)


def _all_backward(
    ctx: Any, to_left: Tensor | None, to_right: Tensor | None, to_weight: Tensor | None
) -> tuple[Tensor | None, ...]:
    left, right, weight, grad = ctx.saved_tensors
    by_left, by_right, by_weight, by_grad, _ = ctx.needs_input_grad
    found: list[Tensor | None] = [None] * 5
    if to_left is not None or to_right is not None:
        to_left = torch.zeros_like(left) if to_left is None else to_left
        to_right = torch.zeros_like(right) if to_right is None else to_right
        if by_left or by_right:
            found[0], found[1] = _gradients(to_left, to_right, weight, grad, ctx.key)
        if by_weight:
            found[2] = _weights(to_left, right, grad, left, to_right, ctx.key, *_shared_and_narrow(weight, left))
        if by_grad:
            found[3] = _forward(to_left, right, weight, left, to_right, ctx.key)
    if to_weight is not None:
        if by_left or by_right:
            for number, one in enumerate(_gradients(left, right, to_weight, grad, ctx.key)):
                found[number] = _sum(found[number], one)
        if by_grad:
            found[3] = _sum(found[3], _forward(left, right, to_weight, None, None, ctx.key))
    return tuple(found)


def _sum(one: Tensor | None, other: Tensor) -> Tensor:
    return other if one is None else one + other


torch.library.register_autograd("tenfold::so3_trilinear", _forward_backward, setup_context=_keep_forward)
torch.library.register_autograd("tenfold::so3_trilinear_gradients", _gradients_backward, setup_context=_keep_gradients)
torch.library.register_autograd("tenfold::so3_trilinear_weights", _weights_backward, setup_context=_keep_weights)
torch.library.register_autograd("tenfold::so3_trilinear_all", _all_backward, setup_context=_keep_all)


# --- batches of batches


def _merged(size: int, dims: tuple[int | None, ...], tensors: tuple[Tensor | None, ...]) -> list[Tensor | None]:
    """Batches of vmap joined with those there are."""
    found = []
    for tensor, dim in zip(tensors, dims, strict=True):
        if tensor is not None:
            moved = tensor.expand(size, *tensor.shape) if dim is None else tensor.movedim(dim, 0)
            tensor = moved.flatten(0, 1)
        found.append(tensor)
    return found


def _merged_weight(size: int, batch: int, dim: int | None, weight: Tensor | None) -> Tensor | None:
    """The same for weights: those of one row stay so where they are the same for all."""
    if weight is None:
        return None
    rows = weight.shape[0] if dim is None else weight.movedim(dim, 0).shape[1]
    if dim is None and rows == 1:
        return weight
    moved = weight.expand(size, *weight.shape) if dim is None else weight.movedim(dim, 0)
    return moved.expand(size, batch, *moved.shape[2:]).flatten(0, 1)


def _batch(tensor: Tensor, dim: int | None) -> int:
    return tensor.shape[0] if dim is None else tensor.movedim(dim, 0).shape[1]


@torch.library.register_vmap("tenfold::so3_trilinear")
def _(
    info: Any, dims: Any, left: Tensor, right: Tensor, weight: Any, left2: Any, right2: Any, key: str
) -> tuple[Tensor, int]:
    size, batch = info.batch_size, _batch(left, dims[0])
    given = _merged(size, (dims[0], dims[1], dims[3], dims[4]), (left, right, left2, right2))
    out = _forward(given[0], given[1], _merged_weight(size, batch, dims[2], weight), given[2], given[3], key)
    return out.unflatten(0, (size, batch)), 0


@torch.library.register_vmap("tenfold::so3_trilinear_gradients")
def _(info: Any, dims: Any, left: Tensor, right: Tensor, weight: Any, grad: Tensor, key: str) -> tuple[Any, Any]:
    size, batch = info.batch_size, _batch(left, dims[0])
    given = _merged(size, (dims[0], dims[1], dims[3]), (left, right, grad))
    found = _gradients(given[0], given[1], _merged_weight(size, batch, dims[2], weight), given[2], key)
    return tuple(one.unflatten(0, (size, batch)) for one in found), (0, 0)


@torch.library.register_vmap("tenfold::so3_trilinear_weights")
def _(
    info: Any,
    dims: Any,
    left: Tensor,
    right: Tensor,
    grad: Tensor,
    left2: Any,
    right2: Any,
    key: str,
    shared: bool,
    narrow: bool,
) -> tuple[Tensor, int]:
    size, batch = info.batch_size, _batch(left, dims[0])
    given = _merged(size, dims[:5], (left, right, grad, left2, right2))
    found = _weights(*given, key, False, narrow).unflatten(0, (size, batch))
    return found.sum(1, keepdim=True) if shared else found, 0


@torch.library.register_vmap("tenfold::so3_trilinear_all")
def _(info: Any, dims: Any, left: Tensor, right: Tensor, weight: Tensor, grad: Tensor, key: str) -> tuple[Any, Any]:
    size, batch = info.batch_size, _batch(left, dims[0])
    given = _merged(size, (dims[0], dims[1], dims[3]), (left, right, grad))
    rows = _batch(weight, dims[2])
    wide = _merged_weight(size, batch, dims[2], weight)
    assert wide is not None
    wide = wide.expand(size * batch, -1, -1)
    *both, by_weight = _all(given[0], given[1], wide, given[2], key)
    by_weight = by_weight.unflatten(0, (size, batch))
    found = (*(one.unflatten(0, (size, batch)) for one in both), by_weight if rows == batch else by_weight.sum(1, True))
    return found, (0, 0, 0)
