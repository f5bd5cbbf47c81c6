"""Products of functions on the sphere: values at the points of a grid, multiplied there, and integrated.

Whatever is multiplied, scalars or vectors, values or slopes, the form ``T(left, right, out)`` keeps its value when its
three arguments go around in a circle. So derivatives are sums of such products with the arguments moved on, however
often one differentiates: one operator for such sums takes each signal to the sphere once.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from tenfold.so3._transforms import followed
from tenfold.so3._wigner3j import real_3j
from tenfold.so3.products import _sphere_tables as tables
from tenfold.so3.products._signals import chosen, filled, spread
from tenfold.so3.products._sphere_plans import TERMS, Plan, plan

# What the values of a chunk may take: what stays in the second cache of a core, and what a GPU has to spare.
_BYTES = {"cpu": 2**20, "cuda": 2**28}


@dataclass(frozen=True)
class Form:
    """How two functions are multiplied at each point of a grid, where each may have several fields.

    Attributes:
        left: values of each component of the left, for each of its fields.
        right: the same of the right.
        out: what is integrated against, areas included.
        terms: ``out[c] += sign left[a] right[b]`` for each ``a, b, c, sign``.
    """

    left: np.ndarray
    right: np.ndarray
    out: np.ndarray
    terms: tuple[tuple[int, int, int, int], ...]


@cache
def form(kind: str, degrees: tuple[int, int, int], rings: int, steps: int) -> Form:
    """The tables of a product of signals with all degrees up to these.

    ``"multiply"`` multiplies values, ``"bracket"`` is ``(dA/db dB/da - dA/da dB/db) / sin b`` of the angle from the
    pole and the one around it, ``"cross"`` is the cross product of vector fields.
    """
    grid = tables.grid(rings, steps)
    sine = np.sqrt(1 - grid.cosine**2)
    area = np.repeat(grid.area, steps)[:, None]

    def value(degree: int) -> np.ndarray:
        return tables.values(degree, tables.legendre(degree, grid.cosine, sine), tables.waves(degree, grid.turn))

    if kind == "multiply":
        left, right, out = (value(degree)[None] for degree in degrees)
        return Form(left, right, out * area, TERMS[kind])
    if kind == "bracket":

        def gradient(degree: int) -> np.ndarray:
            polar, slope = (f(degree, grid.cosine, sine) for f in (tables.legendre, tables.slopes))
            down = tables.values(degree, slope, tables.waves(degree, grid.turn))
            return np.stack([down, tables.values(degree, polar, tables.wave_slopes(degree, grid.turn))])

        out = value(degrees[2])[None] * area
        right = gradient(degrees[1]) / np.repeat(sine, steps)[:, None]
        return Form(gradient(degrees[0]), right, out, TERMS[kind])

    def vectors(degree: int) -> np.ndarray:
        below = value(max(degree - 1, 0))
        found = np.zeros((3, len(below), (degree + 1) ** 2))
        for j in range(1, degree + 1):
            couple = math.sqrt(2 * j + 1) * real_3j(1, j - 1, j)
            found[:, :, j * j : (j + 1) ** 2] = np.einsum("pi,cik->cpk", below[:, (j - 1) ** 2 : j * j], couple)
        return found

    left, right, out = (vectors(degree) for degree in degrees)
    return Form(left, right, out * area, TERMS[kind])


def total(kind: str, degrees: Sequence[int]) -> int:
    """The degree of the polynomial that is integrated."""
    if kind == "cross":
        return sum(max(degree - 1, 0) for degree in degrees)
    return sum(degrees)


@lru_cache(maxsize=128)
def _dense_tables(
    kind: str, degrees: tuple[int, int, int], rings: int, steps: int, dtype: torch.dtype, device: torch.device
) -> tuple[Tensor, Tensor, Tensor]:
    made = form(kind, degrees, rings, steps)
    left, right, out = (
        torch.tensor(table).to(dtype=dtype, device=device).flatten(0, 1) for table in (made.left, made.right, made.out)
    )
    return left, right, out.T.contiguous()


def dense(
    left: Float[Tensor, "batch left mul"],
    right: Float[Tensor, "batch right mul"],
    kind: str,
    degrees: tuple[int, int, int],
    size: tuple[int, int] | None = None,
) -> Float[Tensor, "batch out mul"]:
    """Three matrix products for each chunk: to the grid, to the grid, and back.

    Args:
        size: rings and steps; by default the fewest that are exact.
    """
    rings, steps = size or tables.sizes(total(kind, degrees))
    terms = form(kind, degrees, rings, steps).terms
    into_left, into_right, back = _dense_tables(kind, degrees, rings, steps, left.dtype, left.device)
    points, batch, mul = rings * steps, left.shape[0], left.shape[2]
    out = left.new_empty(batch, len(back), mul)
    fields = back.shape[1] // points
    rows = (len(into_left) + len(into_right) + back.shape[1]) * left.element_size() * mul
    budget = _BYTES["cpu" if left.device.type == "cpu" else "cuda"]
    for part in range(0, batch, step := max(1, budget // max(rows, 1))):
        here = slice(part, min(part + step, batch))
        first = into_left @ left[here].transpose(0, 1).flatten(1)
        second = into_right @ right[here].transpose(0, 1).flatten(1)
        if len(terms) == 1:
            multiplied = first.mul_(second)
        else:
            multiplied = _combined(first.unflatten(0, (-1, points)), second.unflatten(0, (-1, points)), terms, fields)
        out[here] = (back @ multiplied).unflatten(1, (-1, mul)).transpose(0, 1)
    return out


def plain(
    left: Float[Tensor, "batch left mul"],
    right: Float[Tensor, "batch right mul"],
    kind: str,
    degrees: tuple[int, int, int],
) -> Float[Tensor, "batch out mul"]:
    """`dense` for all rows at once, nothing written over: what `torch.func` and forward mode differentiate."""
    rings, steps = tables.sizes(total(kind, degrees))
    into_left, into_right, back = _dense_tables(kind, degrees, rings, steps, left.dtype, left.device)
    points = rings * steps
    first, second = (into_left @ left).unflatten(1, (-1, points)), (into_right @ right).unflatten(1, (-1, points))
    fields: list[Tensor | None] = [None] * (back.shape[1] // points)
    for a, b, c, sign in form(kind, degrees, rings, steps).terms:
        part, before = sign * first[:, a] * second[:, b], fields[c]
        fields[c] = part if before is None else before + part
    return back @ torch.cat([field for field in fields if field is not None], dim=1)


def _combined(first: Tensor, second: Tensor, terms: tuple[tuple[int, int, int, int], ...], fields: int) -> Tensor:
    found = first.new_zeros(fields, *first.shape[1:])
    for a, b, c, sign in terms:
        found[c].addcmul_(first[a], second[b], value=sign)
    return found.flatten(0, 1)


@lru_cache(maxsize=128)
def _separable_tables(
    degrees: tuple[int, int, int], dtype: torch.dtype, device: torch.device
) -> tuple[tuple[Tensor, Tensor, Tensor], ...]:
    """For each signal: the row of each component among all of ``[order, degree]``, and the two transforms."""
    grid = tables.grid(*tables.sizes(sum(degrees)))
    sine = np.sqrt(1 - grid.cosine**2)
    found: list[tuple[Tensor, Tensor, Tensor]] = []
    for degree in degrees:
        orders = np.arange(-degree, degree + 1)
        polar = tables.legendre(degree, grid.cosine, sine)[:, abs(orders)].transpose(1, 2, 0)
        rows = np.array([(m + degree) * (degree + 1) + n for n, m in tables.components(degree)])
        area = grid.area[None, :, None] if len(found) == 2 else 1.0
        around = tables.waves(degree, grid.turn).T
        there, turned = (torch.tensor(table).to(dtype=dtype, device=device) for table in (polar * area, around))
        found.append((torch.from_numpy(rows).to(device), there, turned))
    return tuple(found)


def separable(
    left: Float[Tensor, "batch left mul"], right: Float[Tensor, "batch right mul"], degrees: tuple[int, int, int]
) -> Float[Tensor, "batch out mul"]:
    """Sums over degrees for each order, then over orders for each ring: two matrix products each way.

    Cost: ``O(L^3)`` for each channel.
    """
    one, two, (rows, polar, around) = _separable_tables(degrees, left.dtype, left.device)
    rings, steps = polar.shape[1], around.shape[0]
    batch, mul = left.shape[0], left.shape[2]
    out = left.new_empty(batch, len(rows), mul)
    budget = _BYTES["cpu" if left.device.type == "cpu" else "cuda"]
    bytes_each = 2 * rings * (steps + 2 * max(degrees) + 1) * left.element_size() * mul
    for part in range(0, batch, step := max(1, budget // max(bytes_each, 1))):
        here = slice(part, min(part + step, batch))
        points = _to_points(left[here], *one).mul_(_to_points(right[here], *two))
        orders = (around.T @ points).unflatten(1, (rings, -1))
        signal = torch.bmm(polar.mT, orders).flatten(0, 1).index_select(0, rows)
        out[here] = signal.unflatten(1, (-1, mul)).transpose(0, 1)
    return out


def _to_points(signal: Tensor, rows: Tensor, polar: Tensor, around: Tensor) -> Tensor:
    columns = signal.shape[0] * signal.shape[2]
    padded = signal.new_zeros(polar.shape[0] * polar.shape[2], columns)
    padded.index_copy_(0, rows, signal.transpose(0, 1).flatten(1))
    rings = torch.bmm(polar, padded.unflatten(0, (polar.shape[0], -1)))
    return around @ rings.flatten(1)


@lru_cache(maxsize=256)
def faster(degrees: tuple[int, int, int], dtype: torch.dtype, device: torch.device) -> str:
    """Which of ``"dense"`` and ``"separable"`` takes less time here: measured once, for a thousand channels or so."""
    shape = [(32, (degree + 1) ** 2, 32) for degree in degrees[:2]]
    left, right = (torch.ones(one, dtype=dtype, device=device) for one in shape)
    best = {}
    for method in ("dense", "separable"):
        _by(method, left, right, degrees)
        times = []
        for _ in range(3):
            _wait(device)
            begin = time.perf_counter()
            _by(method, left, right, degrees)
            _wait(device)
            times.append(time.perf_counter() - begin)
        best[method] = min(times)
    return min(best, key=lambda method: best[method])


def _by(method: str, left: Tensor, right: Tensor, degrees: tuple[int, int, int]) -> Float[Tensor, "batch out mul"]:
    return dense(left, right, "multiply", degrees) if method == "dense" else separable(left, right, degrees)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def on_sphere(
    left: Float[Tensor, "batch left mul"],
    right: Float[Tensor, "batch right mul"],
    kind: str,
    degrees: Sequence[Sequence[int]],
    scale: Sequence[float],
    method: str = "auto",
) -> Float[Tensor, "batch out mul"]:
    """Two signals multiplied.

    Args:
        kind: as of `form`.
        degrees: those that left, right and out have.
        scale: what each degree out is multiplied by.
        method: ``"dense"``, ``"separable"`` or ``"auto"``; without a kernel there is one way only for kinds but
            ``"multiply"``.
    """
    if followed(left, right):
        one, two = filled(left, degrees[0]), filled(right, degrees[1])
        limits = (degrees[0][-1], degrees[1][-1], degrees[2][-1])
        return chosen(plain(one, two, kind, limits), degrees[2]) * spread(scale, degrees[2], left)
    (out,) = multiplied([left, right], [0, 1], [0, 1, 0], [2], kind, *map(list, degrees), list(scale), method)
    return out


def operations(kind: str, degrees: tuple[tuple[int, ...], ...]) -> int:
    """Multiplications of a product on an octant, for one channel."""
    whole = total(kind, [one[-1] for one in degrees])
    return plan(kind, degrees, (1.0,) * len(degrees[2]), whole, 1, "float64").operations


@torch.library.custom_op("tenfold::so3_on_sphere", mutates_args=())
def multiplied(
    given: Sequence[Tensor],
    roles: Sequence[int],
    terms: Sequence[int],
    wanted: Sequence[int],
    kind: str,
    left: Sequence[int],
    right: Sequence[int],
    out: Sequence[int],
    scale: Sequence[float],
    method: str,
) -> list[Tensor]:
    """Sums of products of signals ``[batch, component, mul]``.

    Args:
        given: the signals.
        roles: whether each is such a one as goes in left (0) or right (1), or comes out (2).
        terms: three numbers each: two of the signals, and which sum their product is added to. Their roles and that of
            the sum follow each other in a circle.
        wanted: the role of each sum.
        kind, scale, method: as of `on_sphere`; ``left``, ``right`` and ``out`` are its degrees.
    """
    triples = [(terms[n], terms[n + 1], terms[n + 2]) for n in range(0, len(terms), 3)]
    degrees = (tuple(left), tuple(right), tuple(out))
    dtype = given[0].dtype
    if method != "dense" and (computed := kernel_dtype(given[0])):
        found = _fused([one.to(computed) for one in given], roles, triples, wanted, kind, degrees, scale)
        return [one.to(dtype) for one in found]
    sums: list[Tensor | None] = [None] * len(wanted)
    for one, two, to in triples:
        part = _plain(given[one], given[two], roles[one], kind, degrees, scale, method)
        before = sums[to]
        sums[to] = part if before is None else before.add_(part)
    return [one for one in sums if one is not None]


def kernel_dtype(like: Tensor) -> torch.dtype | None:
    """What kernels compute in; None where there is none for this device or dtype."""
    if like.device.type != "cpu":
        return None
    return torch.float32 if like.dtype.itemsize == 2 else like.dtype


def _fused(
    given: Sequence[Tensor],
    roles: Sequence[int],
    terms: Sequence[tuple[int, int, int]],
    wanted: Sequence[int],
    kind: str,
    degrees: tuple[tuple[int, ...], ...],
    scale: Sequence[float],
) -> list[Tensor]:
    """By a compiled kernel on an octant; for the CPU, single and double precision."""
    from tenfold.so3.products._sphere_kernels import multiply  # loads Numba, which takes long

    made = plan_for(kind, degrees, scale, given[0].dtype)
    return multiply([one.detach().contiguous() for one in given], roles, terms, wanted, made)


def plan_for(kind: str, degrees: tuple[tuple[int, ...], ...], scale: Sequence[float], dtype: torch.dtype) -> Plan:
    """The plan of a kernel for the CPU, in single or double precision."""
    from tenfold.so3.products._sphere_kernels import TILE

    whole = total(kind, [one[-1] for one in degrees])
    name = "float32" if dtype == torch.float32 else "float64"
    return plan(kind, degrees, tuple(scale), whole, TILE, name)


def _plain(
    left: Tensor,
    right: Tensor,
    role: int,
    kind: str,
    degrees: tuple[tuple[int, ...], ...],
    scale: Sequence[float],
    method: str,
) -> Float[Tensor, "batch out mul"]:
    """The product of a signal of this role and one of the next, by operations of torch."""
    roles = (role, (role + 1) % 3, (role + 2) % 3)
    some = [degrees[one] for one in roles]
    factors = spread(scale, degrees[2], left)
    one, two = (
        filled(signal * factors if which == 2 else signal, own)
        for signal, which, own in zip((left, right), roles, some, strict=False)
    )
    limits = (some[0][-1], some[1][-1], some[2][-1])
    if kind != "multiply":
        found = dense(one, two, kind, limits)
    else:
        found = _by(faster(limits, left.dtype, left.device) if method == "auto" else method, one, two, limits)
    found = chosen(found, some[2])
    return found * factors if roles[2] == 2 else found


@multiplied.register_fake
def _(
    given: Sequence[Tensor],
    roles: Sequence[int],
    terms: Sequence[int],
    wanted: Sequence[int],
    kind: str,
    left: Sequence[int],
    right: Sequence[int],
    out: Sequence[int],
    scale: Sequence[float],
    method: str,
) -> list[Tensor]:
    sizes = [sum(2 * degree + 1 for degree in one) for one in (left, right, out)]
    first = given[0]
    return [first.new_empty(first.shape[0], sizes[role], first.shape[2]) for role in wanted]


def _keep(ctx: Any, inputs: Any, output: list[Tensor]) -> None:
    given, ctx.roles, ctx.terms, ctx.wanted, *ctx.options = inputs
    ctx.save_for_backward(*given)


def _backward(ctx: Any, grads: list[Tensor | None]) -> tuple[Any, ...]:
    given, needed = ctx.saved_tensors, ctx.needs_input_grad[0]
    signals, roles = list(given), list(ctx.roles)
    places = {}
    for out, (grad, role) in enumerate(zip(grads, ctx.wanted, strict=True)):
        if grad is not None:
            places[out] = len(signals)
            signals.append(grad)
            roles.append(role)
    # What each argument is given back, by the number of the argument.
    terms: list[tuple[int, int, int]] = []
    for n in range(0, len(ctx.terms), 3):
        one, two, out = ctx.terms[n : n + 3]
        if out in places:
            terms += [(two, places[out], one)] * needed[one] + [(places[out], one, two)] * needed[two]
    back: list[Tensor | None] = [None] * len(given)
    if terms:
        used = sorted({signal for one, two, _ in terms for signal in (one, two)})
        reached = sorted({to for _, _, to in terms})
        flat = [n for one, two, to in terms for n in (used.index(one), used.index(two), reached.index(to))]
        found = multiplied(
            [signals[n] for n in used],
            [roles[n] for n in used],
            flat,
            [ctx.roles[n] for n in reached],
            *ctx.options,
        )
        for n, grad in zip(reached, found, strict=True):
            back[n] = grad
    return back, *[None] * (3 + len(ctx.options))


multiplied.register_autograd(_backward, setup_context=_keep)


@torch.library.register_vmap("tenfold::so3_on_sphere")
def _(info: Any, dims: Any, given: Sequence[Tensor], *options: Any) -> tuple[list[Tensor], list[int]]:
    size = info.batch_size
    merged = [
        (one.expand(size, *one.shape) if dim is None else one.movedim(dim, 0)).flatten(0, 1)
        for one, dim in zip(given, dims[0], strict=True)
    ]
    found = multiplied(merged, *options)
    return [one.unflatten(0, (size, -1)) for one in found], [0] * len(found)
