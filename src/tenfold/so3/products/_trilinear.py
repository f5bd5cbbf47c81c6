"""The sum over paths that every product with 3j coefficients is, as an operator of torch with all its derivatives.

It is linear in left, right, weight and, multiplied with a gradient, in that. So each derivative is one of three sums
with the same coefficients: for out, for left and right together, and for the weights. They are each other's
derivatives, however often one differentiates.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from tenfold.errors import DataError
from tenfold.so3 import _memory
from tenfold.so3._simd import BYTES
from tenfold.so3.products import _trilinear_triton
from tenfold.so3.products._terms import Terms
from tenfold.so3.products._trilinear_plan import Plan, plan_of

# What a kernel takes at once, as vectors, where there are so many channels.
_WIDE, _NARROW = (0, 0, 0, 0), (0,)
# More than the caches hold: writing it there would only push out what is needed again.
_STREAMED = 1 << 23
# Fewer multiplications than this are done before another thread wakes up.
_WORTH_SHARING = 200_000


def trilinear(
    left: Float[Tensor, "batch left channel"],
    right: Float[Tensor, "batch right channel_or_one"],
    weight: Float[Tensor, "batch_or_one path channel_or_one"] | None,
    terms: Terms,
) -> Float[Tensor, "batch out channel"]:
    """``out[k] = sum(value * weight[path] * left[i] * right[j])`` over terms, for each channel.

    Without weights all of them are one. It can be differentiated as often as one likes, each time at about the cost of
    the first; on the CPU by kernels, on other devices and in `torch.func` by sums of torch.

    Raises:
        DataError: shapes do not fit the terms or each other.

    Cost: a multiplication for each term and channel, and one for each pair of components; inputs are read and out is
    written once.
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
    if _differentiated_by_functions():
        return _plain_forward(left, right, weight, None, None, plan_of(terms.key))
    return _forward(left, right, weight, None, None, terms.key)


def _differentiated_by_functions() -> bool:
    """Whether this runs in `torch.func.grad` and the like, which do not know how operators are differentiated."""
    if torch.compiler.is_compiling() or not torch._C._are_functorch_transforms_active():
        return False
    levels = torch._C._functorch.get_interpreter_stack() or []
    return any(level.key() != torch._C._functorch.TransformType.Vmap for level in levels)


@torch.library.custom_op("tenfold::so3_trilinear", mutates_args=())
def _forward(
    left: Tensor, right: Tensor, weight: Tensor | None, left2: Tensor | None, right2: Tensor | None, key: str
) -> Tensor:
    """The sum over ``weight * (left * right + left2 * right2)``, the second product if there is one."""
    if _trilinear_triton.serves(left):
        return _trilinear_triton.forward(left, right, weight, left2, right2, key)
    plan, given = plan_of(key), _kernel_dtype(left)
    batch, channels = len(left), left.shape[2]
    if given is None:
        return _plain_forward(left, right, weight, left2, right2, plan)
    packed = _Packed(batch, channels, given)
    tensors = packed.pack(left, right, weight, left2, right2)
    return packed.unpack(_run_forward(*tensors, plan=plan, key=key)).to(left.dtype)


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
    plan, given = plan_of(key), _kernel_dtype(left)
    if given is None:
        return _plain_gradients(left, right, weight, grad, plan)
    packed = _Packed(len(left), left.shape[2], given)
    by_left, by_right = _run_gradients(*packed.pack(left, right, weight, grad), plan=plan, key=key)
    to_left, to_right = packed.unpack(by_left), packed.unpack(by_right) if packed.needed else by_right
    return to_left.to(left.dtype), _summed_to(to_right, right.shape).to(right.dtype)


@_gradients.register_fake
def _(left: Tensor, right: Tensor, weight: Tensor | None, grad: Tensor, key: str) -> tuple[Tensor, Tensor]:
    return (
        torch.empty_like(left, memory_format=torch.contiguous_format),
        torch.empty_like(right, memory_format=torch.contiguous_format),
    )


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
    plan, given = plan_of(key), _kernel_dtype(left)
    batch, channels = len(left), left.shape[2]
    if given is None:
        return _plain_weights(left, right, grad, left2, right2, plan, shared, narrow)
    packed = _Packed(batch, channels, given)
    tensors = packed.pack(left, right, grad, left2, right2)
    shape = torch.Size([1 if shared else batch, plan.sizes[3], 1 if narrow else channels])
    if packed.needed:
        found = packed.unpack(_run_weights(*tensors, plan=plan, key=key, summed=False, narrow=False))
    else:
        found = _run_weights(*tensors, plan=plan, key=key, summed=shared, narrow=narrow)
    return _summed_to(found, shape).to(left.dtype)


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


# --- derivatives


def _keep_forward(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    *tensors, ctx.key = inputs
    ctx.save_for_backward(*tensors)


def _forward_backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    left, right, weight, left2, right2 = ctx.saved_tensors
    by_left, by_right, by_weight, by_left2, by_right2, _ = ctx.needs_input_grad
    found: list[Tensor | None] = [None] * 6
    if by_left or by_right:
        found[0], found[1] = _gradients(left, right, weight, grad, ctx.key)
    if by_left2 or by_right2:
        found[3], found[4] = _gradients(left2, right2, weight, grad, ctx.key)
    if by_weight:
        shared, narrow = weight.shape[0] != left.shape[0], weight.shape[2] != left.shape[2]
        found[2] = _weights(left, right, grad, left2, right2, ctx.key, shared, narrow)
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
        shared, narrow = weight.shape[0] != left.shape[0], weight.shape[2] != left.shape[2]
        found[2] = _weights(to_left, right, grad, left, to_right, ctx.key, shared, narrow)
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


torch.library.register_autograd("tenfold::so3_trilinear", _forward_backward, setup_context=_keep_forward)
torch.library.register_autograd("tenfold::so3_trilinear_gradients", _gradients_backward, setup_context=_keep_gradients)
torch.library.register_autograd("tenfold::so3_trilinear_weights", _weights_backward, setup_context=_keep_weights)


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


# --- kernels


def _kernel_dtype(like: Tensor) -> torch.dtype | None:
    """What kernels compute in; None where there is none for this device or dtype."""
    if like.device.type != "cpu":
        return None
    return {torch.float64: torch.float64, torch.float32: torch.float32}.get(
        like.dtype, torch.float32 if like.dtype.itemsize == 2 else None
    )


class _Packed:
    """Few channels are no work for vectors: then rows of the batch lie side by side in their place."""

    def __init__(self, batch: int, channels: int, dtype: torch.dtype) -> None:
        lanes = BYTES // dtype.itemsize
        self.batch, self.channels, self.dtype, self.lanes = batch, channels, dtype, 4 * lanes
        self.needed = 0 < channels < lanes

    def pack(self, *tensors: Tensor | None) -> list[Any]:
        return [None if tensor is None else self._pack(tensor.to(self.dtype)) for tensor in tensors]

    def _pack(self, tensor: Tensor) -> Tensor:
        if not self.needed:
            return tensor.contiguous()
        spread = tensor.expand(self.batch, -1, self.channels).transpose(0, 1).flatten(1)
        filled = torch.nn.functional.pad(spread, (0, -spread.shape[1] % self.lanes))
        return filled.unflatten(1, (-1, self.lanes)).transpose(0, 1).contiguous()

    def unpack(self, tensor: Tensor) -> Tensor:
        if not self.needed:
            return tensor
        spread = tensor.transpose(0, 1).flatten(1)[:, : self.batch * self.channels]
        return spread.unflatten(1, (self.batch, self.channels)).transpose(0, 1).contiguous()


def _summed_to(tensor: Tensor, shape: torch.Size) -> Tensor:
    axes = [axis for axis in (0, 2) if tensor.shape[axis] != shape[axis]]
    return tensor.sum(axes, keepdim=True) if axes else tensor


@lru_cache(maxsize=256)
def _arrays(key: str, dtype: torch.dtype) -> tuple[Any, Any, np.ndarray, np.ndarray]:
    """A plan as kernels take it, by ends and by pairs, and the values of both."""
    plan = plan_of(key)
    lefts, rights, outs, paths = plan.sizes
    sizes = (lefts, rights, paths, outs, plan.most_pairs, plan.most_ends)
    groups = (plan.pair_left, plan.pair_right, plan.group_ends, plan.end_path, plan.end_out)
    by_end = (plan.group_pairs, *groups, plan.end_terms, plan.end_pairs, sizes)
    by_pair = (*plan.runs, *groups, plan.pair_terms, plan.pair_outs, plan.pair_ends, sizes)
    number = torch.empty(0, dtype=dtype).numpy().dtype
    return by_end, by_pair, plan.end_values.astype(number), plan.pair_values.astype(number)


def _strides(tensor: Tensor | None) -> tuple[int, int]:
    """How many bytes lie between rows, and between components; rows of one are shared by all."""
    if tensor is None:
        return 0, 0
    return 0 if tensor.shape[0] == 1 else tensor.stride(0) * tensor.itemsize, tensor.shape[2] * tensor.itemsize


def _address(tensor: Tensor | None) -> int:
    return 0 if tensor is None else tensor.data_ptr()


def _blocks(channels: int, itemsize: int) -> list[tuple[int, int, tuple[int, ...]]]:
    """Which bytes of the channels are taken in blocks of which size."""
    here = len(_WIDE) * BYTES
    end = channels * itemsize
    wide = end // here * here
    return [part for part in ((0, wide, _WIDE), (wide, end, _NARROW)) if part[0] < part[1]]


def _scratch(rows: int, like: Tensor) -> tuple[np.ndarray, int]:
    """So many blocks, and where they begin."""
    held = np.empty(rows * len(_WIDE) * BYTES + BYTES, dtype=np.uint8)
    return held, held.ctypes.data + -held.ctypes.data % BYTES


def _threads(rows: int, terms: int, channels: int) -> int | None:
    return 1 if rows * terms * channels < _WORTH_SHARING else None


def _run_forward(
    left: Tensor,
    right: Tensor,
    weight: Tensor | None,
    left2: Tensor | None,
    right2: Tensor | None,
    *,
    plan: Plan,
    key: str,
) -> Tensor:
    from tenfold.so3._shares import shared
    from tenfold.so3.products import _trilinear_kernels

    batch, channels = len(left), left.shape[2]
    _, rights, outs, paths = plan.sizes
    out = _memory.empty((batch, outs, channels), left.dtype)
    if not len(plan.end_values) or not left.numel() or not right.numel():
        return out.zero_()
    by_end, _, values, _ = _arrays(key, left.dtype)
    strides = (_strides(out), _strides(left), _strides(right), _strides(weight))
    streamed = (
        plan.once and out.nbytes >= _STREAMED and out.data_ptr() % BYTES == 0 and channels * out.itemsize % BYTES == 0
    )
    addresses = [_address(tensor) for tensor in (out, left, right, left2, right2, weight)]
    flags = (weight is not None, left2 is not None, plan.once, streamed)

    def run(first: int, last: int) -> None:
        held, scratch = _scratch(plan.most_pairs + 2 * rights + paths, left)
        for begin, end, block in _blocks(channels, left.itemsize):
            _trilinear_kernels.forward(
                *addresses, strides, first, last, begin, end, scratch, by_end, *flags, block, values
            )
        del held

    shared(batch, run, _threads(batch, len(values), channels))
    return out


def _run_gradients(
    left: Tensor, right: Tensor, weight: Tensor | None, grad: Tensor, *, plan: Plan, key: str
) -> tuple[Tensor, Tensor]:
    from tenfold.so3._shares import shared
    from tenfold.so3.products import _trilinear_kernels

    batch, channels = len(left), left.shape[2]
    _, rights, _, paths = plan.sizes
    by_left = _memory.empty(tuple(left.shape), left.dtype)
    by_right = torch.zeros_like(right) if right.shape[2] != channels else _memory.empty(tuple(right.shape), left.dtype)
    if not len(plan.end_values) or not left.numel() or not right.numel():
        return by_left.zero_(), by_right.zero_()
    _, by_pair, _, values = _arrays(key, left.dtype)
    strides = (_strides(left), _strides(right), _strides(weight), _strides(grad))
    addresses = [_address(tensor) for tensor in (by_left, by_right, left, right, weight, grad)]
    sums = by_right.numpy().reshape(batch, -1)

    def run(first: int, last: int) -> None:
        held, scratch = _scratch(plan.most_ends + 2 * rights + paths, left)
        for begin, end, block in _blocks(channels, left.itemsize):
            _trilinear_kernels.gradients(
                *addresses, strides, first, last, begin, end, scratch, by_pair, weight is not None, sums, block, values
            )
        del held

    shared(batch, run, _threads(batch, len(values), channels))
    return by_left, by_right


def _run_weights(
    left: Tensor,
    right: Tensor,
    grad: Tensor,
    left2: Tensor | None,
    right2: Tensor | None,
    *,
    plan: Plan,
    key: str,
    summed: bool,
    narrow: bool,
) -> Tensor:
    from tenfold.so3._shares import shared
    from tenfold.so3.products import _trilinear_kernels

    batch, channels = len(left), left.shape[2]
    _, rights, _, paths = plan.sizes
    # Sums over rows are cut at places that do not depend on how many threads there are.
    size = max(64, -(-batch // 64)) if summed else 1
    parts = -(-batch // size)
    found = torch.zeros(parts, paths, 1 if narrow else channels, dtype=left.dtype)
    if not found.numel() or not len(plan.end_values) or not left.numel() or not right.numel():
        return found.new_zeros(1 if summed else batch, *found.shape[1:])
    by_end, _, values, _ = _arrays(key, left.dtype)
    strides = (_strides(left), _strides(right), _strides(grad))
    addresses = [_address(tensor) for tensor in (left, right, left2, right2, grad)]
    into = found.numpy()

    def run(first: int, last: int) -> None:
        held, scratch = _scratch(plan.most_pairs + 2 * rights + paths, left)
        pieces = [(into[n : n + 1], n * size, min(batch, (n + 1) * size)) for n in range(first, last)]
        for to, start, stop in pieces if summed else [(into[first:last], first, last)]:
            for begin, end, block in _blocks(channels, left.itemsize):
                _trilinear_kernels.weights(
                    to, *addresses, strides, start, stop, begin, end, scratch, by_end, left2 is not None, block, values
                )
        del held

    shared(parts, run, _threads(batch, len(values), channels))
    return found.sum(0, keepdim=True) if summed else found


# --- the same in sums of torch


def _index(numbers: np.ndarray, like: Tensor) -> Tensor:
    return torch.from_numpy(numbers).to(like.device)


def _plain_pairs(left: Tensor, right: Tensor, left2: Tensor | None, right2: Tensor | None, plan: Plan) -> Tensor:
    i, j = _index(plan.pair_left, left), _index(plan.pair_right, left)
    found = left[:, i] * right[:, j]
    return found if left2 is None or right2 is None else found + left2[:, i] * right2[:, j]


def _plain_forward(
    left: Tensor, right: Tensor, weight: Tensor | None, left2: Tensor | None, right2: Tensor | None, plan: Plan
) -> Tensor:
    pairs = _plain_pairs(left, right, left2, right2, plan)
    ends = torch.einsum("brc,re->bec", pairs, plan.matrix.to(pairs))
    if weight is not None:
        ends = ends * weight[:, _index(plan.end_path, left)]
    out = left.new_zeros(left.shape[0], plan.sizes[2], left.shape[2])
    return out.index_add(1, _index(plan.end_out, left), ends)


def _plain_gradients(
    left: Tensor, right: Tensor, weight: Tensor | None, grad: Tensor, plan: Plan
) -> tuple[Tensor, Tensor]:
    i, j = _index(plan.pair_left, left), _index(plan.pair_right, left)
    ends = grad[:, _index(plan.end_out, left)]
    if weight is not None:
        ends = ends * weight[:, _index(plan.end_path, left)]
    pairs = torch.einsum("bec,re->brc", ends, plan.matrix.to(ends))
    by_left = torch.zeros_like(left).index_add(1, i, pairs * right[:, j])
    by_right = right.new_zeros(*right.shape[:2], left.shape[2]).index_add(1, j, pairs * left[:, i])
    return by_left.contiguous(), _summed_to(by_right, right.shape)


def _plain_weights(
    left: Tensor,
    right: Tensor,
    grad: Tensor,
    left2: Tensor | None,
    right2: Tensor | None,
    plan: Plan,
    shared: bool,
    narrow: bool,
) -> Tensor:
    pairs = _plain_pairs(left, right, left2, right2, plan)
    ends = torch.einsum("brc,re->bec", pairs, plan.matrix.to(pairs)) * grad[:, _index(plan.end_out, left)]
    found = left.new_zeros(left.shape[0], plan.sizes[3], left.shape[2])
    found = found.index_add(1, _index(plan.end_path, left), ends)
    return _summed_to(found, torch.Size([1 if shared else len(left), found.shape[1], 1 if narrow else found.shape[2]]))
