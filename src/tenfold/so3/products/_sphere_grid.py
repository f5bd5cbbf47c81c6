"""Products of functions on the sphere: values at the points of a grid, multiplied there, and integrated.

Whatever is multiplied, scalars or vectors, values or slopes, the form ``T(left, right, out)`` keeps its value when its
three arguments go around in a circle. So its derivatives are the same operator with the arguments moved on.
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


# Even permutations of three axes, then odd ones.
_CROSS = ((0, 1, 2, 1), (1, 2, 0, 1), (2, 0, 1, 1), (1, 0, 2, -1), (2, 1, 0, -1), (0, 2, 1, -1))


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
        return Form(left, right, out * area, ((0, 0, 0, 1),))
    if kind == "bracket":

        def gradient(degree: int) -> np.ndarray:
            polar, slope = (f(degree, grid.cosine, sine) for f in (tables.legendre, tables.slopes))
            down = tables.values(degree, slope, tables.waves(degree, grid.turn))
            return np.stack([down, tables.values(degree, polar, tables.wave_slopes(degree, grid.turn))])

        out = value(degrees[2])[None] * area
        right = gradient(degrees[1]) / np.repeat(sine, steps)[:, None]
        return Form(gradient(degrees[0]), right, out, ((0, 1, 0, 1), (1, 0, 0, -1)))

    def vectors(degree: int) -> np.ndarray:
        below = value(max(degree - 1, 0))
        found = np.zeros((3, len(below), (degree + 1) ** 2))
        for j in range(1, degree + 1):
            couple = math.sqrt(2 * j + 1) * real_3j(1, j - 1, j)
            found[:, :, j * j : (j + 1) ** 2] = np.einsum("pi,cik->cpk", below[:, (j - 1) ** 2 : j * j], couple)
        return found

    left, right, out = (vectors(degree) for degree in degrees)
    return Form(left, right, out * area, _CROSS)


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


def fused(
    left: Float[Tensor, "batch left mul"], right: Float[Tensor, "batch right mul"], degrees: tuple[int, int, int]
) -> Float[Tensor, "batch out mul"]:
    """The same as `separable` by a compiled kernel, on a folded grid; for the CPU, single and double precision."""
    from tenfold.so3.products._sphere_kernels import multiply  # compiles with Numba, which takes long to load

    out = left.new_empty(left.shape[0], (degrees[2] + 1) ** 2, left.shape[2])
    if out.numel():
        multiply(left.detach().contiguous().numpy(), right.detach().contiguous().numpy(), out.numpy(), degrees)
    return out


def _kernel_takes(tensor: Tensor) -> bool:
    return tensor.device.type == "cpu" and tensor.dtype in (torch.float32, torch.float64)


def _by(method: str, left: Tensor, right: Tensor, degrees: tuple[int, int, int]) -> Float[Tensor, "batch out mul"]:
    if method == "dense":
        return dense(left, right, "multiply", degrees)
    return fused(left, right, degrees) if _kernel_takes(left) else separable(left, right, degrees)


@lru_cache(maxsize=256)
def faster(degrees: tuple[int, int, int], dtype: torch.dtype, device: torch.device, threads: int) -> str:
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


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def on_sphere_anyhow(
    left: Float[Tensor, "batch left mul"],
    right: Float[Tensor, "batch right mul"],
    kind: str,
    degrees: tuple[int, int, int],
    method: str,
) -> Float[Tensor, "batch out mul"]:
    """`on_sphere`, or its plain version where that could not be differentiated."""
    if followed(left, right):
        return plain(left, right, kind, degrees)
    return on_sphere(left, right, kind, degrees, method)


@torch.library.custom_op("tenfold::so3_on_sphere", mutates_args=())
def on_sphere(left: Tensor, right: Tensor, kind: str, degrees: Sequence[int], method: str) -> Tensor:
    """Signals ``[batch, component, mul]`` with all degrees up to ``degrees[0]`` and ``degrees[1]``, multiplied.

    Args:
        kind: as of `form`.
        degrees: the largest of left, right and out.
        method: ``"dense"``, ``"separable"`` or ``"auto"``; there is one way only for kinds but ``"multiply"``.
    """
    one, two, three = degrees
    limits = (one, two, three)
    if kind != "multiply":
        return dense(left, right, kind, limits)
    if method == "auto":
        method = faster(limits, left.dtype, left.device, torch.get_num_threads())
    return _by(method, left, right, limits)


@on_sphere.register_fake
def _(left: Tensor, right: Tensor, kind: str, degrees: Sequence[int], method: str) -> Tensor:
    return left.new_empty(left.shape[0], (degrees[2] + 1) ** 2, left.shape[2])


def _keep(ctx: Any, inputs: Any, output: Tensor) -> None:
    left, right, ctx.kind, ctx.degrees, ctx.method = inputs
    ctx.save_for_backward(left, right)


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, None, None, None]:
    left, right = ctx.saved_tensors
    one, two, three = ctx.degrees
    first = second = None
    if ctx.needs_input_grad[0]:
        first = on_sphere(right, grad, ctx.kind, [two, three, one], ctx.method)
    if ctx.needs_input_grad[1]:
        second = on_sphere(grad, left, ctx.kind, [three, one, two], ctx.method)
    return first, second, None, None, None


on_sphere.register_autograd(_backward, setup_context=_keep)
