"""Runs loops over the terms of a plan, for plans with so many of them that writing code for each takes too long."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tenfold.so3 import _memory
from tenfold.so3._shares import shared
from tenfold.so3._simd import BYTES
from tenfold.so3.products._trilinear_channels import Packed
from tenfold.so3.products._trilinear_plain import summed_to
from tenfold.so3.products._trilinear_plan import plan_of
from tenfold.so3.products._trilinear_written import Backward

# What a kernel takes at once, as vectors, where there are so many channels.
_WIDE, _NARROW = (0, 0, 0, 0), (0,)
# More than the caches hold: writing it there would only push out what is needed again.
_STREAMED = 1 << 23
# Fewer multiplications than this are done before another thread wakes up.
_WORTH_SHARING = 200_000


def forward(
    left: Tensor, right: Tensor, weight: Tensor | None, left2: Tensor | None, right2: Tensor | None, key: str
) -> Tensor:
    """The sum over ``weight * (left * right + left2 * right2)``."""
    packed = _packed(left)
    if packed is not None:
        return packed.unpack(_forward(*packed.pack(left, right, weight, left2, right2), key=key))
    return _forward(*_contiguous(left, right, weight, left2, right2), key=key)


def backward(
    left: Tensor,
    right: Tensor,
    weight: Tensor | None,
    grad: Tensor,
    left2: Tensor | None,
    right2: Tensor | None,
    key: str,
    *,
    factors: bool,
    weights: tuple[int, int] | None,
) -> Backward:
    """What ``grad`` gives back to left and right if these are asked for, and to weights.

    Args:
        left2: with a second product only weights get something.
        weights: how many rows and channels weights have; None: nothing is asked for.
    """
    packed = _packed(left)
    to_left = to_right = to_weight = None
    if factors:
        if packed is not None:
            found = _gradients(*packed.pack(left, right, weight, grad), key=key)
            to_left, to_right = packed.unpack(found[0]), summed_to(packed.unpack(found[1]), right.shape)
        else:
            to_left, to_right = _gradients(*_contiguous(left, right, weight, grad), key=key)
    if weights is not None:
        shape = torch.Size((weights[0], plan_of(key).sizes[3], weights[1]))
        given = (left, right, grad, left2, right2)
        if packed is not None:
            found_weight = packed.unpack(_weights(*packed.pack(*given), key=key, summed=False, narrow=False))
        else:
            summed, narrow = shape[0] != len(left), shape[2] != left.shape[2]
            found_weight = _weights(*_contiguous(*given), key=key, summed=summed, narrow=narrow)
        to_weight = summed_to(found_weight, shape)
    return Backward(to_left, to_right, to_weight)


def _packed(left: Tensor) -> Packed | None:
    """Few channels are no work for vectors."""
    batch, _, channels = left.shape
    lanes = BYTES // left.itemsize
    return Packed(batch, channels, len(_WIDE) * lanes) if 0 < channels < lanes else None


def _contiguous(*tensors: Tensor | None) -> list[Any]:
    return [None if tensor is None else tensor.contiguous() for tensor in tensors]


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


def _forward(
    left: Tensor,
    right: Tensor,
    weight: Tensor | None,
    left2: Tensor | None,
    right2: Tensor | None,
    *,
    key: str,
) -> Tensor:
    from tenfold.so3.products import _trilinear_kernels

    plan = plan_of(key)
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


def _gradients(left: Tensor, right: Tensor, weight: Tensor | None, grad: Tensor, *, key: str) -> tuple[Tensor, Tensor]:
    from tenfold.so3.products import _trilinear_kernels

    plan = plan_of(key)
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


def _weights(
    left: Tensor,
    right: Tensor,
    grad: Tensor,
    left2: Tensor | None,
    right2: Tensor | None,
    *,
    key: str,
    summed: bool,
    narrow: bool,
) -> Tensor:
    from tenfold.so3.products import _trilinear_kernels

    plan = plan_of(key)
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
