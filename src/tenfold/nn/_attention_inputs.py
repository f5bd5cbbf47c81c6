"""What queries, keys, values and masks of attention to pairs of tokens must be."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from tenfold._arguments import quoted, real_number
from tenfold.errors import DataError


def scale_of(scale: float | None, query: Tensor) -> float:
    if scale is None:
        return 1 / math.sqrt(query.shape[-1]) if query.ndim and query.shape[-1] else 1.0
    return real_number("scale", scale, "a number")


def computed_in(*tensors: Tensor) -> tuple[torch.dtype, tuple[int, ...], list[Tensor]]:
    """The dtype to answer in, the batch, and the tensors in the dtype to compute in and of one batch."""
    names = ("query", "key1", "key2", "value1", "value2")
    for name, x in zip(names, tensors, strict=True):
        if not isinstance(x, Tensor) or x.ndim < 2 or not x.is_floating_point():
            what = f"{x.dtype} of shape {tuple(x.shape)}" if isinstance(x, Tensor) else quoted(x)
            raise DataError(f"{name} must be a real tensor of shape (*batch, tokens, size), not {what}")
    query, key1, key2, value1, value2 = tensors
    for name, x, axis, like, other in (
        ("key1", key1, -1, "query", query),
        ("key2", key2, -1, "query", query),
        ("value1", value1, -2, "key1", key1),
        ("value2", value2, -2, "key2", key2),
        ("value2", value2, -1, "value1", value1),
    ):
        if x.shape[axis] != other.shape[axis]:
            raise DataError(f"{name} of shape {tuple(x.shape)} does not fit {like} of shape {tuple(other.shape)}")
    try:
        batch = torch.broadcast_shapes(*(x.shape[:-2] for x in tensors))
    except RuntimeError:
        shapes = ", ".join(str(tuple(x.shape)) for x in tensors)
        raise DataError(f"the leading axes of {', '.join(names)} cannot be broadcast: {shapes}") from None
    dtype = query.dtype
    for x in tensors[1:]:
        dtype = torch.promote_types(dtype, x.dtype)
    single = torch.promote_types(dtype, torch.float32)
    return dtype, tuple(batch), [x.to(single).expand(*batch, *x.shape[-2:]) for x in tensors]


def mask_of(name: str, mask: Tensor | None, key: Tensor, batch: Sequence[int]) -> Tensor | None:
    if mask is None:
        return None
    if mask.dtype != torch.bool or mask.ndim < 1 or mask.shape[-1] != key.shape[-2]:
        raise DataError(
            f"{name} must be boolean with a last axis of {key.shape[-2]} keys, not {mask.dtype} of shape "
            f"{tuple(mask.shape)}"
        )
    try:
        return mask.expand(*batch, mask.shape[-1])
    except RuntimeError:
        raise DataError(f"{name} of shape {tuple(mask.shape)} does not fit a batch of {tuple(batch)}") from None


def check_causal(query: Tensor, key1: Tensor, key2: Tensor) -> None:
    if not query.shape[-2] == key1.shape[-2] == key2.shape[-2]:
        lengths = (query.shape[-2], key1.shape[-2], key2.shape[-2])
        raise DataError(
            f"causal needs as many queries as keys of each kind, not {lengths[0]}, {lengths[1]}, {lengths[2]}"
        )
