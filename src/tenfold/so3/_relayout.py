"""Blocks from one layout to the other, as an operator of torch on the CPU; plain torch elsewhere.

Blocks are ``[mul, dim]`` in the layout ``"mul_ir"`` and ``[dim, mul]`` in ``"ir_mul"``. To turn them is a permutation
of the last axis: its derivative is the way back.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import lru_cache
from math import prod
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from jaxtyping import Shaped
from torch import Tensor

from tenfold.so3._memory import empty
from tenfold.so3._shares import shared
from tenfold.so3._transforms import followed

if TYPE_CHECKING:
    from tenfold.so3._code import Code

Layout = Literal["mul_ir", "ir_mul"]
# Fewer bytes than this are turned before another thread wakes up.
_WORTH_THREADS = 1 << 18


def turned(
    features: Shaped[Tensor, "*batch dim"], muls: Sequence[int], dims: Sequence[int], target: Layout
) -> Shaped[Tensor, "*batch dim"]:
    """Features of blocks with so many copies and components, from the other layout; themselves where nothing moves."""
    inward = target == "ir_mul"
    if all(mul <= 1 or dim == 1 for mul, dim in zip(muls, dims, strict=True)):
        return features
    if not _served(features):
        return _plain(features, muls, dims, inward=inward)
    traced = torch.compiler.is_compiling() or torch.jit.is_tracing() or torch._C._len_torch_dispatch_stack()
    alone = not traced and type(features) is Tensor and not torch._C._are_functorch_transforms_active()
    if alone and not (features.requires_grad and torch.is_grad_enabled()):
        # Torch's way to an operator takes as long as to turn hundreds of kilobytes.
        return _turn(features, muls, dims, inward)
    return _relayout(features, list(muls), list(dims), inward)


def _served(features: Tensor) -> bool:
    """Whether there is code for this. On Windows none was ever loaded."""
    suits = features.dtype.itemsize in (4, 8) and not features.dtype.is_complex and sys.platform != "win32"
    return suits and features.device.type == "cpu" and features.layout == torch.strided and not followed(features)


def _plain(features: Tensor, muls: Sequence[int], dims: Sequence[int], *, inward: bool) -> Tensor:
    parts = features.split([mul * dim for mul, dim in zip(muls, dims, strict=True)], dim=-1)
    shapes = zip(muls, dims, strict=True) if inward else zip(dims, muls, strict=True)
    pairs = zip(parts, shapes, strict=True)
    return torch.cat([part.unflatten(-1, shape).transpose(-1, -2).flatten(-2) for part, shape in pairs], dim=-1)


@torch.library.custom_op("tenfold::so3_relayout", mutates_args=(), device_types="cpu")
def _relayout(features: Tensor, muls: list[int], dims: list[int], inward: bool) -> Tensor:
    return _turn(features, muls, dims, inward)


@_relayout.register_fake
def _(features: Tensor, muls: list[int], dims: list[int], inward: bool) -> Tensor:
    # A compiler may know the last axis by name only, and would then know no more about the blocks.
    return features.new_empty(*features.shape[:-1], sum(mul * dim for mul, dim in zip(muls, dims, strict=True)))


def _keep(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    _, ctx.muls, ctx.dims, ctx.inward = inputs


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    return turned(grad, ctx.muls, ctx.dims, "mul_ir" if ctx.inward else "ir_mul"), None, None, None


_relayout.register_autograd(_backward, setup_context=_keep)


@_relayout.register_vmap
def _(info: Any, in_dims: Any, features: Tensor, muls: list[int], dims: list[int], inward: bool) -> tuple[Tensor, int]:
    return _relayout(features.movedim(in_dims[0], 0), muls, dims, inward), 0


def _turn(features: Tensor, muls: Sequence[int], dims: Sequence[int], inward: bool) -> Tensor:
    count = prod(features.shape[:-1])
    out = empty((count, features.shape[-1]), features.dtype)
    if out.numel():
        # Of a view that is negative, the address tells the numbers without their sign.
        rows = features.resolve_neg().reshape(out.shape)
        rows = rows if rows.stride(1) == 1 else rows.contiguous()
        code = _code(tuple(muls), tuple(dims), out.itemsize, inward)
        addresses = np.array([rows.data_ptr(), out.data_ptr()])
        steps = np.array([rows.stride(0), out.stride(0)]) * out.itemsize

        def run(first: int, last: int) -> None:
            arguments = np.array([last - first, *(addresses + first * steps), *steps], np.int64)
            code(arguments.ctypes.data)

        shared(count, run, None if out.nbytes >= _WORTH_THREADS else 1)
    return out.view(features.shape)


@lru_cache(maxsize=256)
def _code(muls: tuple[int, ...], dims: tuple[int, ...], item: int, inward: bool) -> Code:
    from tenfold.so3._relayout_code import code

    blocks: list[tuple[int, int]] = []
    for mul, dim in zip(muls, dims, strict=True):
        if mul > 1 and dim > 1:
            blocks.append((mul, dim))
        elif mul and blocks and blocks[-1][1] == 1:
            blocks[-1] = (blocks[-1][0] + mul * dim, 1)  # what stays as it is makes one piece
        elif mul:
            blocks.append((mul * dim, 1))
    return code(tuple(blocks), item, inward=inward)
