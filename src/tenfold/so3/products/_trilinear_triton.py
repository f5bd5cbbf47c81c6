"""The sum over paths and its derivatives on GPUs, by kernels of Triton.

Products of few terms have kernels of their own, in which everything is written out; others read tables. Nothing is
added up in memory by several programs, so the same numbers give the same result.
"""

from __future__ import annotations

import math
from contextlib import nullcontext
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tenfold.so3.products._terms import read
from tenfold.so3.products._trilinear_plan import plan_of

# Terms that are written out: paths up to degree three. Compiling takes time that grows faster than their number.
_WRITTEN_OUT = 700
# Terms that a program which reads tables takes, at least.
_SEGMENT = 256
# Channels and rows of a program are so many numbers together, for 128 threads.
_TILE = 128
# Sums over rows are cut into not more parts, at places that depend on the shapes only.
_PARTS = 256
# A product and the sum it goes into are one instruction, whatever Triton's own default is.
_OPTIONS = {"num_warps": 4, "enable_fp_fusion": True}


@lru_cache(maxsize=1)
def _installed() -> bool:
    return find_spec("triton") is not None


@lru_cache(maxsize=64)
def _recent(device: torch.device) -> bool:
    return torch.version.cuda is not None and torch.cuda.get_device_capability(device) >= (8, 0)


def serves(tensor: Tensor) -> bool:
    """Whether these kernels run on its device, and for its numbers."""
    return (
        tensor.device.type == "cuda"
        and tensor.dtype in (torch.float64, torch.float32, torch.float16, torch.bfloat16)
        and _installed()
        and _recent(tensor.device)
    )


def forward(
    left: Tensor, right: Tensor, weight: Tensor | None, left2: Tensor | None, right2: Tensor | None, key: str
) -> Tensor:
    """The sum over ``weight * (left * right + left2 * right2)``, the second product if there is one."""
    plan = plan_of(key)
    out = left.new_empty(left.shape[0], plan.sizes[2], left.shape[2])
    if not left.numel() or not right.numel() or not out.numel():
        return out.zero_()
    left, right, weight, left2, right2 = _contiguous(left, right, weight, left2, right2)
    if len(plan.end_values) > _WRITTEN_OUT:
        _contract(out, left, right, weight, left2, right2, role="forward", key=key)
        return out
    from tenfold.so3.products import _trilinear_triton_text as text

    kernel = text.forward(key, weighted=weight is not None, second=left2 is not None)
    second = [] if left2 is None else [left2, right2]
    _launch(kernel, [out, left, right, *second, *_given(weight)], left, right, weight)
    return out


def gradients(left: Tensor, right: Tensor, weight: Tensor | None, grad: Tensor, key: str) -> tuple[Tensor, Tensor]:
    """What ``grad`` gives back to left and right."""
    plan = plan_of(key)
    to_left, to_right = (torch.empty_like(one, memory_format=torch.contiguous_format) for one in (left, right))
    if not left.numel() or not right.numel() or not grad.numel():
        return to_left.zero_(), to_right.zero_()
    left, right, weight, grad = _contiguous(left, right, weight, grad)
    narrow = right.shape[2] != left.shape[2]
    sums = _parts_of_channels(to_right, left.shape[2]) if narrow else to_right
    if len(plan.end_values) > _WRITTEN_OUT:
        _contract(to_left, grad, right, weight, role="left", key=key)
        _contract(sums, grad, left, weight, role="right", key=key, narrow=narrow)
    else:
        from tenfold.so3.products import _trilinear_triton_text as text

        kernel = text.gradients(key, weighted=weight is not None, narrow=narrow)
        _launch(kernel, [to_left, sums, left, right, *_given(weight), grad], left, right, weight)
    return to_left, sums.sum(2, keepdim=True).to(right.dtype) if narrow else to_right


def weights(
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
    plan = plan_of(key)
    batch, channels = len(left), left.shape[2]
    to_weight = left.new_empty(1 if shared else batch, plan.sizes[3], 1 if narrow else channels)
    if not left.numel() or not right.numel() or not grad.numel() or not to_weight.numel():
        return to_weight.zero_()
    left, right, grad, left2, right2 = _contiguous(left, right, grad, left2, right2)
    tile = _Tile(channels)
    depth = math.ceil(batch / (tile.rows * _PARTS)) if shared else 1
    parts = math.ceil(batch / (tile.rows * depth)) if shared else batch
    sums = to_weight
    if shared or narrow:
        width = math.ceil(channels / tile.lanes) if narrow else channels
        sums = left.new_empty(parts, plan.sizes[3], width, dtype=_number(left.dtype))
    if len(plan.end_values) > _WRITTEN_OUT:
        second = (left2, right2)
        _contract(sums, left, right, grad, *second, role="weights", key=key, summed=shared, narrow=narrow, depth=depth)
    else:
        from tenfold.so3.products import _trilinear_triton_text as text

        kernel = text.weights(key, second=left2 is not None, summed=shared, narrow=narrow)
        given = [] if left2 is None else [left2, right2]
        _launch(kernel, [sums, left, right, *given, grad], left, right, None, depth if shared else None)
    axes = [axis for axis, gone in ((0, shared), (2, narrow)) if gone]
    return sums.sum(axes, keepdim=True).to(left.dtype) if axes else to_weight


# --- launching


class _Tile:
    """How many rows and channels a program takes: powers of two."""

    def __init__(self, channels: int) -> None:
        self.lanes = min(_TILE, 1 << (channels - 1).bit_length())
        self.rows = _TILE // self.lanes


def _number(dtype: torch.dtype) -> torch.dtype:
    """What sums are computed in."""
    return torch.float64 if dtype == torch.float64 else torch.float32


def _kind(dtype: torch.dtype) -> Any:
    import triton.language as tl

    return tl.float64 if dtype == torch.float64 else tl.float32


def _contiguous(*tensors: Tensor | None) -> list[Any]:
    return [None if tensor is None else tensor.contiguous() for tensor in tensors]


def _given(tensor: Tensor | None) -> list[Tensor]:
    return [] if tensor is None else [tensor]


def _parts_of_channels(like: Tensor, channels: int) -> Tensor:
    width = math.ceil(channels / _Tile(channels).lanes)
    return like.new_empty(*like.shape[:2], width, dtype=_number(like.dtype))


def _strides(weight: Tensor) -> tuple[int, int, int]:
    """Numbers between rows, between components and between channels; rows and channels of one are all the same."""
    rows, paths, width = weight.shape
    return 0 if rows == 1 else paths * width, width, int(width > 1)


def _device(tensor: Tensor) -> Any:
    return torch.cuda.device(tensor.device) if tensor.is_cuda else nullcontext()


def _launch(
    kernel: Any, tensors: list[Any], left: Tensor, right: Tensor, weight: Tensor | None, depth: int | None = None
) -> None:
    """A kernel that is written out."""
    batch, _, channels = left.shape
    tile = _Tile(channels)
    grid = math.ceil(batch / (tile.rows * (depth or 1))) * math.ceil(channels / tile.lanes)
    numbers = [batch, channels, right.shape[2]]
    constants = [tile.rows, tile.lanes, int(right.shape[2] > 1)]
    if weight is not None:
        row, component, step = _strides(weight)
        numbers += [row, component]
        constants.append(step)
    numbers += [] if depth is None else [depth]
    with _device(left):
        kernel[(grid,)](*tensors, *numbers, *constants, _kind(left.dtype), **_OPTIONS)


@dataclass(frozen=True)
class _Tables:
    """Terms by their target, on the device: `segments` of `targets`, their ends, and the terms of each."""

    segments: Tensor
    target_ends: Tensor
    end_factor: Tensor
    end_terms: Tensor
    x: Tensor
    y: Tensor
    value: Tensor


@lru_cache(maxsize=64)
def _tables(key: str, role: str, dtype: torch.dtype, device: torch.device) -> _Tables:
    terms = read(key)
    columns = {
        "forward": (terms.out, terms.path, terms.left, terms.right),
        "left": (terms.left, terms.path, terms.out, terms.right),
        "right": (terms.right, terms.path, terms.out, terms.left),
        "weights": (terms.path, terms.out, terms.left, terms.right),
    }
    number = terms.sizes[{"forward": 2, "left": 0, "right": 1, "weights": 3}[role]]
    target, factor, x, y = columns[role]
    order = np.lexsort((y, x, factor, target))
    target, factor, x, y = (column[order] for column in (target, factor, x, y))
    new = np.ones(len(order), dtype=bool)
    new[1:] = (target[1:] != target[:-1]) | (factor[1:] != factor[:-1])
    ends = np.flatnonzero(new)
    before = np.searchsorted(target, np.arange(number + 1))
    # Targets with nothing before them in their segment begin one, once enough terms have gone before.
    segments = np.flatnonzero(np.diff(before[:-1] // _SEGMENT, prepend=-1))

    def moved(numbers: np.ndarray) -> Tensor:
        return torch.from_numpy(numbers.astype(np.int32)).to(device)

    return _Tables(
        segments=moved(np.append(segments, number)),
        target_ends=moved(np.searchsorted(target[ends], np.arange(number + 1))),
        end_factor=moved(factor[ends]),
        end_terms=moved(np.append(ends, len(order))),
        x=moved(x),
        y=moved(y),
        value=torch.from_numpy(terms.value[order]).to(device, _number(dtype)),
    )


def _contract(
    out: Tensor,
    x: Tensor,
    y: Tensor,
    factor: Tensor | None,
    x2: Tensor | None = None,
    y2: Tensor | None = None,
    *,
    role: str,
    key: str,
    summed: bool = False,
    narrow: bool = False,
    depth: int = 1,
) -> None:
    """The kernel that reads tables."""
    from tenfold.so3.products._trilinear_triton_kernels import contract

    tables = _tables(key, role, x.dtype, x.device)
    batch, size, channels = x.shape
    tile = _Tile(channels)
    segments = len(tables.segments) - 1
    grid = math.ceil(batch / (tile.rows * depth)) * math.ceil(channels / tile.lanes) * segments
    row, component, step = (0, 0, 0) if factor is None else _strides(factor)
    with _device(x):
        contract[(grid,)](
            out,
            x,
            y,
            x if x2 is None else x2,
            y if y2 is None else y2,
            x if factor is None else factor,
            tables.segments,
            tables.target_ends,
            tables.end_factor,
            tables.end_terms,
            tables.x,
            tables.y,
            tables.value,
            batch,
            channels,
            segments,
            depth,
            out.shape[1],
            size,
            y.shape[1],
            y.shape[2],
            row,
            component,
            ROWS=tile.rows,
            LANES=tile.lanes,
            Y_STEP=int(y.shape[2] > 1),
            FACTOR_STEP=step,
            FACTOR=factor is not None,
            SECOND=x2 is not None,
            SUMMED=summed,
            NARROW=narrow,
            NUMBER=_kind(x.dtype),
            **_OPTIONS,
        )
