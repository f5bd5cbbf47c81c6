"""Products of functions on the sphere with weights by degree and channel, of both that go in and of what comes out.

A kernel multiplies by weights where numbers are loaded and stored, and takes derivatives by the weights from what lies
in the caches there. The derivatives themselves are differentiated as sums of products without weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from tenfold.so3.products._sphere_grid import kernel_dtype, multiplied, plan_for

_Signal = Float[Tensor, "batch component mul"]
_Factors = Float[Tensor, "batch degree mul"]


def on_sphere_weighted(
    signals: tuple[_Signal, _Signal],
    weights: Sequence[_Factors],
    kind: str,
    degrees: Sequence[Sequence[int]],
    scale: Sequence[float],
    method: str = "auto",
) -> _Signal:
    """`tenfold.so3.products._sphere_grid.on_sphere` of signals times weights, what comes out times weights too.

    Args:
        weights: of left, right and out, ``[batch or 1, degree, mul]``.
    """
    return _product(*signals, *weights, kind, *map(list, degrees), list(scale), method)


def scaled(signal: _Signal, factors: _Factors, degrees: Sequence[int]) -> _Signal:
    """Each component times the factor of its degree."""
    return signal * factors.repeat_interleave(_sizes(degrees, signal), dim=1, output_size=signal.shape[1])


def contracted(left: _Signal, right: _Signal, degrees: Sequence[int], items: int) -> _Factors:
    """What factors have for a derivative: products summed over orders, and over the batch where ``items`` is 1."""
    both = left * right
    found = torch.stack([part.sum(1) for part in both.split([2 * n + 1 for n in degrees], dim=1)], dim=1)
    return found if found.shape[0] == items else found.sum(0, keepdim=True)


def _sizes(degrees: Sequence[int], like: Tensor) -> Tensor:
    return torch.tensor([2 * degree + 1 for degree in degrees], device=like.device)


@torch.library.custom_op("tenfold::so3_on_sphere_weighted", mutates_args=())
def _product(
    one: Tensor,
    two: Tensor,
    by_one: Tensor,
    by_two: Tensor,
    by_out: Tensor,
    kind: str,
    left: Sequence[int],
    right: Sequence[int],
    out: Sequence[int],
    scale: Sequence[float],
    method: str,
) -> Tensor:
    """The product; the arguments are those of `on_sphere_weighted`."""
    degrees, dtype = (tuple(left), tuple(right), tuple(out)), one.dtype
    if method != "dense" and (computed := kernel_dtype(one)):
        found, _ = _fused(
            [one, two], [by_one, by_two], [by_out], [(0, 1, 0)], [True], [-1], [2], kind, degrees, scale, computed
        )
        (made,) = found
        assert made is not None
        return made.to(dtype)
    first, second = scaled(one, by_one, left), scaled(two, by_two, right)
    (made,) = multiplied([first, second], [0, 1], [0, 1, 0], [2], kind, left, right, out, scale, method)
    return scaled(made, by_out, out)


@torch.library.custom_op("tenfold::so3_on_sphere_weighted_back", mutates_args=())
def _derivatives(
    one: Tensor,
    two: Tensor,
    three: Tensor,
    by_one: Tensor,
    by_two: Tensor,
    by_out: Tensor,
    wanted: Sequence[bool],
    kind: str,
    left: Sequence[int],
    right: Sequence[int],
    out: Sequence[int],
    scale: Sequence[float],
    method: str,
) -> list[Tensor]:
    """Derivatives of `_product` times ``three``, summed up.

    Args:
        wanted: by which: left, right, their weights, and the weights of what comes out.
    """
    degrees, dtype = (tuple(left), tuple(right), tuple(out)), one.dtype
    signals, weights = [one, two, three], [by_one, by_two, by_out]
    outs, sums = [wanted[0], wanted[1], False], list(wanted[2:])
    roles = [role for role in range(3) if outs[role] or sums[role]]
    terms = [((role + 1) % 3, (role + 2) % 3, to) for to, role in enumerate(roles)]
    if method != "dense" and (computed := kernel_dtype(one)):
        against = [role if sums[role] else -1 for role in roles]
        found, by_items = _fused(
            signals,
            weights,
            [weights[role] for role in roles],
            terms,
            [outs[role] for role in roles],
            against,
            roles,
            kind,
            degrees,
            scale,
            computed,
        )
        factors = [
            part if part is None or len(weights[role]) == len(part) else part.sum(0, keepdim=True)
            for role, part in zip(roles, by_items, strict=True)
        ]
    else:
        times = [scaled(*pair) for pair in zip(signals, weights, degrees, strict=True)]
        flat = [n for term in terms for n in term]
        plain = multiplied(times, [0, 1, 2], flat, roles, kind, left, right, out, scale, method)
        found = [scaled(part, weights[role], degrees[role]) for role, part in zip(roles, plain, strict=True)]
        factors = [
            contracted(signals[role], part, degrees[role], len(weights[role]))
            for role, part in zip(roles, plain, strict=True)
        ]
    every = {("signal", role): part for role, part in zip(roles, found, strict=True)}
    every |= {("factors", role): part for role, part in zip(roles, factors, strict=True)}
    places = [("signal", 0), ("signal", 1), ("factors", 0), ("factors", 1), ("factors", 2)]
    chosen = [every[place] for place, flag in zip(places, wanted, strict=True) if flag]
    return [part.to(dtype) for part in chosen if part is not None]


def _fused(
    given: Sequence[Tensor],
    into: Sequence[Tensor],
    back: Sequence[Tensor],
    terms: Sequence[tuple[int, int, int]],
    outs: Sequence[bool],
    against: Sequence[int],
    wanted: Sequence[int],
    kind: str,
    degrees: tuple[tuple[int, ...], ...],
    scale: Sequence[float],
    dtype: torch.dtype,
) -> tuple[list[Tensor | None], list[Tensor | None]]:
    """By a compiled kernel; each signal has the role of its number."""
    from tenfold.so3.products._sphere_kernels import Weighted, multiply_weighted  # loads Numba, which takes long

    signals, into, back = ([tensor.detach().to(dtype).contiguous() for tensor in some] for some in (given, into, back))
    sizes = [[2 * degree + 1 for degree in some] for some in degrees]
    weighted = Weighted(into, back, outs, against, sizes)
    made = plan_for(kind, degrees, scale, dtype)
    return multiply_weighted(signals, range(len(signals)), terms, wanted, made, weighted)


@_product.register_fake
def _(
    one: Tensor,
    two: Tensor,
    by_one: Tensor,
    by_two: Tensor,
    by_out: Tensor,
    kind: str,
    left: Sequence[int],
    right: Sequence[int],
    out: Sequence[int],
    scale: Sequence[float],
    method: str,
) -> Tensor:
    return one.new_empty(one.shape[0], sum(2 * degree + 1 for degree in out), one.shape[2])


@_derivatives.register_fake
def _(
    one: Tensor,
    two: Tensor,
    three: Tensor,
    by_one: Tensor,
    by_two: Tensor,
    by_out: Tensor,
    wanted: Sequence[bool],
    kind: str,
    left: Sequence[int],
    right: Sequence[int],
    out: Sequence[int],
    scale: Sequence[float],
    method: str,
) -> list[Tensor]:
    return [
        like.new_empty(like.shape)
        for like, flag in zip((one, two, by_one, by_two, by_out), wanted, strict=True)
        if flag
    ]


def _keep(ctx: Any, inputs: Any, output: Tensor) -> None:
    ctx.save_for_backward(*inputs[:5])
    ctx.options = inputs[5:]


def _backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
    one, two, *weights = ctx.saved_tensors
    needed = list(ctx.needs_input_grad[:5])
    found = iter(_derivatives(one, two, grad, *weights, needed, *ctx.options))
    return *[next(found) if flag else None for flag in needed], *[None] * len(ctx.options)


_product.register_autograd(_backward, setup_context=_keep)


def _keep_again(ctx: Any, inputs: Any, output: list[Tensor]) -> None:
    ctx.save_for_backward(*inputs[:6])
    ctx.wanted, *ctx.options = inputs[6:]


def _backward_again(ctx: Any, grads: list[Tensor | None]) -> tuple[Any, ...]:
    """Each signal times its weights is moved once by each of the two: six signals, in products of three."""
    signals, weights, degrees = ctx.saved_tensors[:3], ctx.saved_tensors[3:], ctx.options[1:4]
    parts = iter(grads)
    moved = [next(parts) if flag else None for flag in ctx.wanted]
    by_signal, by_weight = [*moved[:2], None], moved[2:]
    needed = ctx.needs_input_grad
    times = [scaled(*each) for each in zip(signals, weights, degrees, strict=True)]
    roles = [0, 1, 2]
    steps: dict[int, int] = {}
    for role in range(3):
        changes = []
        if (change := by_signal[role]) is not None:
            changes.append(scaled(change, weights[role], degrees[role]))
        if (change := by_weight[role]) is not None:
            changes.append(scaled(signals[role], change, degrees[role]))
        if changes:
            steps[role] = len(times)
            times.append(sum(changes[1:], changes[0]))
            roles.append(role)
    terms: list[tuple[int, int, int]] = []
    sums: dict[tuple[str, int], int] = {}
    for role in range(3):
        if not (needed[role] or needed[role + 3]):
            continue
        second, third = (role + 1) % 3, (role + 2) % 3
        pairs = [(steps[n], m) for n, m in ((second, third),) if n in steps]
        pairs += [(second, steps[third])] if third in steps else []
        if pairs:
            to = sums.setdefault(("still", role), len(sums))
            terms += [(*pair, to) for pair in pairs]
        if role in steps:
            terms.append((second, third, sums.setdefault(("moved", role), len(sums))))
    back: list[Tensor | None] = [None] * 6
    if terms:
        made = multiplied(times, roles, [n for term in terms for n in term], [role for _, role in sums], *ctx.options)
        found = {place: made[n] for place, n in sums.items()}
        for role in range(3):
            still, turned = found.get(("still", role)), found.get(("moved", role))
            own, items = degrees[role], len(weights[role])
            ways: list[tuple[Tensor | None, Tensor | None, Tensor | None]] = [
                (still, weights[role], signals[role]),
                (turned, by_weight[role], by_signal[role]),
            ]
            for part, factors, signal in ways:
                if part is None:
                    continue
                if needed[role] and factors is not None:
                    back[role] = _sum(back[role], scaled(part, factors, own))
                if needed[role + 3] and signal is not None:
                    back[role + 3] = _sum(back[role + 3], contracted(signal, part, own, items))
    return *back, *[None] * (1 + len(ctx.options))


def _sum(before: Tensor | None, more: Tensor) -> Tensor:
    return more if before is None else before + more


_derivatives.register_autograd(_backward_again, setup_context=_keep_again)


def _merged(info: Any, dims: Any, tensors: Sequence[Tensor], signals: int) -> list[Tensor]:
    """The axis that is mapped over and the batch as one; factors become those of each item."""
    size = info.batch_size
    whole = [
        one.expand(size, *one.shape) if dim is None else one.movedim(dim, 0)
        for one, dim in zip(tensors, dims, strict=True)
    ]
    batch = whole[0].shape[1]
    return [
        (one if place < signals else one.expand(size, batch, *one.shape[2:])).flatten(0, 1)
        for place, one in enumerate(whole)
    ]


@torch.library.register_vmap("tenfold::so3_on_sphere_weighted")
def _(info: Any, dims: Any, *arguments: Any) -> tuple[Tensor, int]:
    merged = _merged(info, dims[:5], arguments[:5], 2)
    return _product(*merged, *arguments[5:]).unflatten(0, (info.batch_size, -1)), 0


@torch.library.register_vmap("tenfold::so3_on_sphere_weighted_back")
def _(info: Any, dims: Any, *arguments: Any) -> tuple[list[Tensor], list[int]]:
    merged = _merged(info, dims[:6], arguments[:6], 3)
    found = _derivatives(*merged, *arguments[6:])
    shared = [False, False] + [
        weights.shape[0 if dim is None else int(dim == 0)] == 1
        for weights, dim in zip(arguments[3:6], dims[3:6], strict=True)
    ]
    flags = [flag for flag, wanted in zip(shared, arguments[6], strict=True) if wanted]
    apart = [one.unflatten(0, (info.batch_size, -1)) for one in found]
    made = [one.sum(1, keepdim=True) if flag else one for one, flag in zip(apart, flags, strict=True)]
    return made, [0] * len(made)
