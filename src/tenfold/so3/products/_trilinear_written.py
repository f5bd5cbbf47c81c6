"""Runs the code that is written for a plan."""

from __future__ import annotations

import sys
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from tenfold.so3 import _memory
from tenfold.so3._shares import shared
from tenfold.so3._simd import BYTES
from tenfold.so3.products._trilinear_channels import Packed, cut
from tenfold.so3.products._trilinear_groups import Group, first_ends, first_uses, groups_of
from tenfold.so3.products._trilinear_plain import summed_to
from tenfold.so3.products._trilinear_plan import plan_of

if TYPE_CHECKING:
    from tenfold.so3._code import Code
    from tenfold.so3.products._trilinear_code import Work

# More coefficients than this take too long to compile, about 0.4 ms each: what replaces the loops is twice as fast.
_MOST_TERMS = 20_000
# More than the caches hold: writing it there would only push out what is needed again.
_STREAMED = 1 << 23
# Bytes of inputs that go through all groups before the next ones do: the second cache holds them.
_TILE = 1 << 16
# So many vectors of channels are made of rows that have few channels each.
_TOGETHER = 4
# Fewer multiplications than this are done before another thread wakes up.
_WORTH_SHARING = 200_000


class Backward(NamedTuple):
    """What is given back to left, right and weights; None where that was not asked for."""

    left: Tensor | None
    right: Tensor | None
    weight: Tensor | None


class _Prepared(NamedTuple):
    groups: tuple[Group, ...]
    first_left: list[bool]
    first_right: list[bool]
    first_paths: list[bool]
    first_ends: list[tuple[bool, ...]]
    terms: int


@lru_cache(maxsize=256)
def _prepared(key: str) -> _Prepared:
    plan = plan_of(key)
    groups = groups_of(plan)
    return _Prepared(
        groups,
        first_uses([group.lefts for group in groups], plan.sizes[0]),
        first_uses([group.rights for group in groups], plan.sizes[1]),
        first_uses([group.paths for group in groups], plan.sizes[3]),
        first_ends(groups, plan.sizes[2]),
        sum({id(group.shape): group.shape.terms for group in groups}.values()),
    )


def suits(key: str) -> bool:
    """Whether there are few enough terms, on a system where such code was loaded or is like one where it was.

    On Windows objects may ask for functions of the compiler's runtime: loops run there.
    """
    return sys.platform != "win32" and _prepared(key).terms <= _MOST_TERMS


@lru_cache(maxsize=512)
def _code(key: str, work: Work) -> Code:
    from tenfold.so3.products._trilinear_code import Firsts, code

    prepared = _prepared(key)
    # What right gets with one channel is added up over vectors, too.
    first_right = [False] * len(prepared.groups) if work.narrow else prepared.first_right
    return code(prepared.groups, Firsts(prepared.first_left, first_right, prepared.first_ends), work)


@lru_cache(maxsize=512)
def _table(key: str, steps: tuple[int, ...]) -> np.ndarray:
    """Where components of each group lie, in the order of `PLACES`, whose steps these are."""
    parts = []
    for group in _prepared(key).groups:
        numbers = (group.lefts, group.rights, group.rights, group.outs, group.paths, group.paths)
        parts += [component * step for component, step in zip(numbers, steps, strict=True)]
    return np.concatenate(parts).astype(np.int64)


def forward(
    left: Tensor, right: Tensor, weight: Tensor | None, left2: Tensor | None, right2: Tensor | None, key: str
) -> Tensor:
    """The sum over ``weight * (left * right + left2 * right2)``."""
    plan = plan_of(key)
    batch, channels = len(left), left.shape[2]
    shape = (batch, plan.sizes[2], channels)
    if not len(plan.end_values) or not left.numel() or not right.numel():
        return left.new_zeros(shape)
    given = [None if tensor is None else tensor.contiguous() for tensor in (left, right, left2, right2, weight)]
    lanes = BYTES // left.itemsize
    whole = channels // lanes * lanes
    # Components that no path leads to are zero; those that several lead to are overwritten by the first.
    out = _cleared(shape, left, len(np.unique(plan.end_out)) < shape[1])
    if whole:
        _forward_into(key, cut(out, 0, whole, channels), *(cut(one, 0, whole, channels) for one in given))
    if whole < channels:
        packed = Packed(batch, channels - whole, _TOGETHER * lanes)
        some = packed.pack(*(cut(one, whole, channels, channels) for one in given))
        part = torch.zeros(packed.rows, plan.sizes[2], packed.lanes, dtype=left.dtype)
        _forward_into(key, part, *some)
        out[:, :, whole:] = packed.unpack(part)
    return out


def _forward_into(
    key: str,
    out: Tensor,
    left: Tensor,
    right: Tensor,
    left2: Tensor | None,
    right2: Tensor | None,
    weight: Tensor | None,
) -> None:
    from tenfold.so3.products._trilinear_code import Work

    once = plan_of(key).once
    aligned = not any(number * out.itemsize % BYTES for number in out.stride()[:2]) and not out.data_ptr() % BYTES
    work = Work(
        ("out",),
        item=left.itemsize,
        weight=_weight_kind(weight, left),
        narrow=right.shape[2] != left.shape[2],
        twice=left2 is not None,
        streamed=once and aligned and out.nbytes >= _STREAMED,
    )
    tensors = {"out": out, "left": left, "right": right, "left2": left2, "right2": right2, "weight": weight}
    _run(key, work, tensors)


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
    plan = plan_of(key)
    batch, channels = len(left), left.shape[2]
    shape = None if weights is None else torch.Size((weights[0], plan.sizes[3], weights[1]))
    if not len(plan.end_values) or not left.numel() or not right.numel():
        return Backward(
            left.new_zeros(left.shape) if factors else None,
            right.new_zeros(right.shape) if factors else None,
            None if shape is None else left.new_zeros(shape),
        )
    given = [None if one is None else one.contiguous() for one in (left, right, weight, grad, left2, right2)]
    lanes = BYTES // left.itemsize
    whole = channels // lanes * lanes
    found = []
    if whole:
        each = None if shape is None else torch.Size((*shape[:2], min(shape[2], whole)))
        found.append(_backward_of(key, factors, each, channels, *(cut(one, 0, whole, channels) for one in given)))
    if whole < channels:
        packed = Packed(batch, channels - whole, _TOGETHER * lanes)
        some = packed.pack(*(cut(one, whole, channels, channels) for one in given))
        each = None if shape is None else torch.Size((packed.rows, plan.sizes[3], packed.lanes))
        part = _backward_of(key, factors, each, packed.lanes, *some)
        found.append(Backward(*(None if one is None else packed.unpack(one) for one in part)))
    shapes = (left.shape, right.shape, shape)
    return Backward(*(_joined(parts, given) for parts, given in zip(zip(*found, strict=True), shapes, strict=True)))


def _joined(parts: tuple[Tensor | None, ...], shape: torch.Size | None) -> Tensor | None:
    """What channels that fill vectors and the others get."""
    given = [part for part in parts if part is not None]
    if not given or shape is None:
        return None
    if len(given) == 1:
        return summed_to(given[0], shape)
    wide = torch.Size((*shape[:2], given[1].shape[2]))
    if shape[2] == 1:
        return given[0] + summed_to(given[1], shape)
    return torch.cat([given[0], summed_to(given[1], wide)], dim=2)


def _backward_of(
    key: str,
    factors: bool,
    shape: torch.Size | None,
    width: int,
    left: Tensor,
    right: Tensor,
    weight: Tensor | None,
    grad: Tensor,
    left2: Tensor | None,
    right2: Tensor | None,
) -> Backward:
    from tenfold.so3.products._trilinear_code import Work

    # Channels may be some of ``width``.
    prepared = _prepared(key)
    batch, channels = len(left), left.shape[2]
    lanes = BYTES // left.itemsize
    narrow = right.shape[2] != channels
    tensors: dict[str, Tensor | None] = {"left": left, "right": right, "left2": left2, "right2": right2}
    tensors |= {"weight": weight, "grad": grad}
    wanted: tuple[str, ...] = ()
    part = 0
    if factors:
        wanted += ("to_left", "to_right")
        # Their components must lie as far from each other as those of left and right.
        cleared = narrow or not any(prepared.first_right)
        to_left = _cleared((batch, left.shape[1], width), left, not any(prepared.first_left))
        to_right = _cleared((batch, right.shape[1], lanes if narrow else width), left, cleared)
        tensors |= {"to_left": to_left[:, :, :channels], "to_right": to_right if narrow else to_right[:, :, :channels]}
    fixed = together = added = False
    if shape is not None:
        wanted += ("to_weight",)
        fixed, together = shape[2] != channels, shape[0] != batch
        # Sums over rows are cut at places that do not depend on how many threads there are.
        part = max(64, -(-batch // 64)) if together else 0
        rows = -(-batch // part) if together else batch
        added = fixed or together or not all(prepared.first_paths)
        tensors["to_weight"] = _cleared((rows, shape[1], lanes if fixed else channels), left, added)
    work = Work(
        wanted,
        item=left.itemsize,
        weight=_weight_kind(weight, left) if factors else "",
        narrow=narrow,
        twice=left2 is not None,
        added=added,
        fixed=fixed,
    )
    _run(key, work, tensors, part)
    shapes = {"to_left": left.shape, "to_right": right.shape, "to_weight": shape}
    return Backward(
        *(
            None if (found := tensors.get(name)) is None or size is None else summed_to(found, size)
            for name, size in shapes.items()
        )
    )


def _cleared(shape: tuple[int, ...], like: Tensor, cleared: bool) -> Tensor:
    return torch.zeros(shape, dtype=like.dtype) if cleared else _memory.empty(shape, like.dtype)


def _weight_kind(weight: Tensor | None, left: Tensor) -> Any:
    if weight is None:
        return ""
    return "wide" if weight.shape[2] == left.shape[2] else "narrow"


def _run(key: str, work: Work, tensors: dict[str, Tensor | None], part: int = 0) -> None:
    """Runs the code for all rows.

    Args:
        part: so many rows have one row of what weights get; 0: each has its own.
    """
    from tenfold.so3.products._trilinear_code import PLACES

    code = _code(key, work)
    given = {name: tensor for name in work.tensors if (tensor := tensors[name]) is not None}
    item = work.item
    tables = {place: tensors.get("grad" if place == "out" and "grad" in given else place) for place in PLACES}
    table = _table(key, tuple(0 if one is None else one.stride(1) * item for one in tables.values()))
    addresses = [tensor.data_ptr() for tensor in given.values()]
    steps = [0 if len(tensor) == 1 else tensor.stride(0) * item for tensor in given.values()]
    batch, channels = len(given["left"]), given["left"].shape[2]
    kept = sum(tensor[0].numel() * item for name, tensor in given.items() if name not in ("out", "grad"))
    tile = max(1, min(64, _TILE // max(kept, 1)))
    summed = list(given).index("to_weight") if part else -1
    if part:
        piece = steps[summed] if len(given["to_weight"]) > 1 else 0
        steps[summed] = 0

    def rows(first: int, last: int, places: list[int]) -> None:
        numbers = np.array([*places, *steps, table.ctypes.data, channels * item, first, last, tile], dtype=np.int64)
        code(numbers.ctypes.data)

    def pieces(first: int, last: int) -> None:
        for number in range(first, last):
            places = list(addresses)
            places[summed] += number * piece
            rows(number * part, min(batch, (number + 1) * part), places)

    threads = 1 if batch * len(plan_of(key).end_values) * channels < _WORTH_SHARING else None
    if part:
        shared(len(given["to_weight"]), pieces, threads)
    else:
        shared(batch, lambda first, last: rows(first, last, addresses), threads)
