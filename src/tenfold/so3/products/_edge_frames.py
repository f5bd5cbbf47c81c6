"""Features seen from edges: turned so that the edge is the polar axis, and back.

Around the edge a frame is free to turn, and no choice of it is smooth over the whole sphere. A convolution does not
depend on the choice, so its derivative may be taken with the frame that turns along with the edge and not around it.
Such a frame moves by ``dv x v / |v|^2`` at every edge: no angle is differentiated, and the poles are
like any other place.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Sequence
from functools import cache
from itertools import accumulate
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from tenfold.so3._transforms import followed
from tenfold.so3._wigner3j import real_3j
from tenfold.so3.products._ends import check_ends
from tenfold.so3.wigner_d import wigner_d, wigner_d_all, wigner_d_from_angles

if TYPE_CHECKING:
    from tenfold.so3.products._edge_frame_kernels import Side, Turns


def to_edge_frames(
    features: Float[Tensor, "nodes component mul"],
    vectors: Float[Tensor, "edges 3"],
    source: Int[Tensor, " edges"] | None,
    degrees: Sequence[int],
    orders: int,
) -> Float[Tensor, "edges cut mul"]:
    """Features of the nodes that edges come from, as seen with the edge as polar axis.

    Args:
        features: with these degrees, channels last.
        vectors: of the edges; along y the frame is that of space or, down, half a turn around x; so it is for length 0.
        source: rows of ``features``; without it, one for each edge.
        degrees: which occur, increasing.
        orders: components up to this order are kept.

    Derivatives are those of whatever does not depend on how a frame is turned around its edge; of other quantities
    they are those for a frame that does not turn around its edge.

    Cost: ``O(L^3)`` for each edge and channel; besides the result nothing is kept for an edge.
    """
    if followed(features, vectors):
        return plain_to_frames(gathered(features, source), plain_frames(vectors, degrees, orders))
    return _to_frames(features, vectors, source, list(degrees), orders)


def from_edge_frames(
    seen: Float[Tensor, "edges cut mul"],
    vectors: Float[Tensor, "edges 3"],
    target: Int[Tensor, " edges"] | None,
    nodes: int,
    degrees: Sequence[int],
    orders: int,
) -> Float[Tensor, "rows component mul"]:
    """The way back, with the transpose: summed at the nodes of ``target``, or one row for each edge without it."""
    if followed(seen, vectors):
        return summed(plain_from_frames(seen, plain_frames(vectors, degrees, orders)), target, nodes)
    return _from_frames(seen, vectors, target, nodes, list(degrees), orders)


def gathered(features: Tensor, index: Tensor | None) -> Tensor:
    """Rows at an index; all of them where there is none."""
    return features if index is None else features.index_select(0, index)


def summed(rows: Tensor, index: Tensor | None, nodes: int) -> Tensor:
    """Rows added up where an index says; as they are where there is none."""
    return rows if index is None else rows.new_zeros(nodes, *rows.shape[1:]).index_add(0, index, rows)


def swirl(
    features: Float[Tensor, "edges component mul"], turn: Float[Tensor, "edges 3"], degrees: Sequence[int]
) -> Float[Tensor, "edges component mul"]:
    """What features change by, to first order, when they are turned by ``|turn|`` around ``turn``."""
    return _swirl(features, turn, list(degrees))


def torque(
    left: Float[Tensor, "edges component mul"], right: Float[Tensor, "edges component mul"], degrees: Sequence[int]
) -> Float[Tensor, "edges 3"]:
    """The vector whose product with any ``turn`` is ``sum(left * swirl(right, turn))``."""
    return _torque(left, right, list(degrees))


def turn_of(vectors: Float[Tensor, "edges 3"], change: Float[Tensor, "edges 3"]) -> Float[Tensor, "edges 3"]:
    """The rotation, around an axis across the edge, that goes with a change of its vector; none for length zero."""
    scaled, scale, inverse = _scaled(vectors)
    return torch.linalg.cross(scaled, change / scale) * inverse


def turn_of_backward(
    vectors: Float[Tensor, "edges 3"], change: Float[Tensor, "edges 3"], coming: Float[Tensor, "edges 3"]
) -> Float[Tensor, "edges 3"]:
    """The gradient of ``(coming * turn_of(vectors, change)).sum()`` with respect to vectors."""
    scaled, scale, inverse = _scaled(vectors)
    along = (coming * turn_of(vectors, change)).sum(dim=-1, keepdim=True)
    return (torch.linalg.cross(change / scale, coming) - 2 * along * scaled) * inverse / scale


def change_of(vectors: Float[Tensor, "edges 3"], turn: Float[Tensor, "edges 3"]) -> Float[Tensor, "edges 3"]:
    """The gradient with respect to vectors where that with respect to their rotation is known."""
    scaled, scale, inverse = _scaled(vectors)
    return torch.linalg.cross(turn, scaled) * inverse / scale


def plain_frames(
    vectors: Float[Tensor, "edges 3"], degrees: Sequence[int], orders: int
) -> list[Float[Tensor, "edges component kept"]]:
    """The frames as matrices, one for each degree: their columns are the components kept, up to an order."""
    transformed = followed(vectors)
    given = vectors.detach() if transformed else vectors
    x, y, z = given.unbind(-1)
    scale = given.abs().amax(dim=-1).clamp(min=torch.finfo(vectors.dtype).tiny)
    x, y, z = x / scale, y / scale, z / scale
    alpha, beta = torch.atan2(x, z), torch.atan2(torch.hypot(x, z), y)
    found = []
    for degree in degrees:
        kept = min(degree, orders)
        turned = wigner_d_from_angles(degree, alpha, beta, torch.zeros_like(beta))
        found.append(turned[..., degree - kept : degree + kept + 1])
    if not transformed:
        return found
    # Angles have no derivatives at the poles. What turns the edge from where it is to where it goes has them.
    turn = wigner_d_all(max(degrees), _turn_from_itself(vectors))
    return [turn[degree] @ frame for degree, frame in zip(degrees, found, strict=True)]


def _turn_from_itself(vectors: Float[Tensor, "edges 3"]) -> Float[Tensor, "edges 3 3"]:
    """The least rotation from the direction of a vector to itself: the identity, with the derivatives of a turn."""
    scale = vectors.detach().abs().amax(dim=-1, keepdim=True)
    away = torch.where(scale == 0, vectors.new_tensor([0.0, 1.0, 0.0]), vectors / torch.where(scale == 0, 1.0, scale))
    direction = away / torch.linalg.vector_norm(away, dim=-1, keepdim=True)
    before = direction.detach()
    x, y, z = torch.linalg.cross(before, direction).unbind(-1)
    zero = torch.zeros_like(x)
    rows = ((zero, -z, y), (z, zero, -x), (-y, x, zero))
    around = torch.stack([torch.stack(row, dim=-1) for row in rows], dim=-2)
    cosine = (before * direction).sum(dim=-1)[..., None, None]
    return torch.eye(3, dtype=vectors.dtype, device=vectors.device) + around + around @ around / (1 + cosine)


def plain_to_frames(
    features: Float[Tensor, "edges component mul"], frames: Sequence[Tensor]
) -> Float[Tensor, "edges cut mul"]:
    """Features as seen from frames that are given as matrices."""
    parts = features.split([frame.shape[-2] for frame in frames], dim=1)
    return torch.cat([frame.mT @ part for frame, part in zip(frames, parts, strict=True)], dim=1)


def plain_from_frames(
    seen: Float[Tensor, "edges cut mul"], frames: Sequence[Tensor]
) -> Float[Tensor, "edges component mul"]:
    """The way back."""
    parts = seen.split([frame.shape[-1] for frame in frames], dim=1)
    return torch.cat([frame @ part for frame, part in zip(frames, parts, strict=True)], dim=1)


def plain_swirl(
    features: Float[Tensor, "edges component mul"], turn: Float[Tensor, "edges 3"], degrees: Sequence[int]
) -> Float[Tensor, "edges component mul"]:
    """`swirl` with a matrix for each edge."""
    parts = []
    for degree, part in zip(degrees, features.split([2 * n + 1 for n in degrees], dim=1), strict=True):
        parts.append(torch.einsum("ek,kij->eij", turn, _generators(degree).to(features)) @ part)
    return torch.cat(parts, dim=1)


def plain_torque(
    left: Float[Tensor, "edges component mul"], right: Float[Tensor, "edges component mul"], degrees: Sequence[int]
) -> Float[Tensor, "edges 3"]:
    """`torque` with a matrix for each edge."""
    sizes = [2 * n + 1 for n in degrees]
    total = left.new_zeros(left.shape[0], 3)
    for degree, a, b in zip(degrees, left.split(sizes, dim=1), right.split(sizes, dim=1), strict=True):
        total = total + torch.einsum("eij,kij->ek", a @ b.mT, _generators(degree).to(left))
    return total


@torch.library.custom_op("tenfold::so3_to_edge_frames", mutates_args=())
def _to_frames(features: Tensor, vectors: Tensor, source: Tensor | None, degrees: list[int], orders: int) -> Tensor:
    check_ends("source", source, features.shape[0])
    if not by_kernel(features):
        return plain_to_frames(gathered(features, source), plain_frames(vectors, degrees, orders))
    kernels = _kernels()
    edges = vectors.shape[0]
    out = features.new_empty(edges, sum(2 * min(n, orders) + 1 for n in degrees), features.shape[2])
    ends = torch.arange(edges) if source is None else source.contiguous()
    from tenfold.so3._shares import shared

    arrays = (features.contiguous().numpy(), vectors.contiguous().numpy(), ends.numpy(), out.numpy())
    tables = (side(tuple(degrees), orders), turns(max(degrees), orders, features.dtype))
    shared(edges, lambda first, last: kernels.into_frames(first, last, *arrays, *tables))
    return out


@_to_frames.register_fake
def _(features: Tensor, vectors: Tensor, source: Tensor | None, degrees: list[int], orders: int) -> Tensor:
    return features.new_empty(vectors.shape[0], sum(2 * min(n, orders) + 1 for n in degrees), features.shape[2])


def _keep_to(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    features, vectors, source, ctx.degrees, ctx.orders = inputs
    ctx.save_for_backward(features, vectors, source)


def _to_backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
    features, vectors, source = ctx.saved_tensors
    degrees, orders, nodes = ctx.degrees, ctx.orders, features.shape[0]
    if not ctx.needs_input_grad[1]:
        return _from_frames(gradient, vectors, source, nodes, degrees, orders), None, None, None, None
    turned = _from_frames(gradient, vectors, None, vectors.shape[0], degrees, orders)
    along = change_of(vectors, torque(gathered(features, source), turned, degrees))
    return summed(turned, source, nodes), along, None, None, None


@torch.library.custom_op("tenfold::so3_from_edge_frames", mutates_args=())
def _from_frames(
    seen: Tensor, vectors: Tensor, target: Tensor | None, nodes: int, degrees: list[int], orders: int
) -> Tensor:
    check_ends("target", target, nodes)
    if not by_kernel(seen):
        return summed(plain_from_frames(seen, plain_frames(vectors, degrees, orders)), target, nodes).clone()
    kernels = _kernels()
    from tenfold.so3._shares import shared

    order, starts = edges_of(target, vectors.shape[0], nodes)
    out = seen.new_zeros(len(starts) - 1, sum(2 * n + 1 for n in degrees), seen.shape[2])
    arrays = (seen.contiguous().numpy(), vectors.contiguous().numpy(), order, starts, out.numpy())
    tables = (side(tuple(degrees), orders), turns(max(degrees), orders, seen.dtype))
    shared(len(out), lambda first, last: kernels.from_frames(first, last, *arrays, *tables))
    return out


@_from_frames.register_fake
def _(seen: Tensor, vectors: Tensor, target: Tensor | None, nodes: int, degrees: list[int], orders: int) -> Tensor:
    rows = vectors.shape[0] if target is None else nodes
    return seen.new_empty(rows, sum(2 * n + 1 for n in degrees), seen.shape[2])


def _keep_from(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    seen, vectors, target, ctx.nodes, ctx.degrees, ctx.orders = inputs
    ctx.save_for_backward(seen, vectors, target)


def _from_backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
    seen, vectors, target = ctx.saved_tensors
    degrees, orders = ctx.degrees, ctx.orders
    along = None
    if ctx.needs_input_grad[1]:
        turned = _from_frames(seen, vectors, None, vectors.shape[0], degrees, orders)
        along = change_of(vectors, torque(gathered(gradient, target), turned, degrees))
    return _to_frames(gradient, vectors, target, degrees, orders), along, None, None, None, None


torch.library.register_autograd("tenfold::so3_to_edge_frames", _to_backward, setup_context=_keep_to)
torch.library.register_autograd("tenfold::so3_from_edge_frames", _from_backward, setup_context=_keep_from)


@torch.library.custom_op("tenfold::so3_swirl", mutates_args=())
def _swirl(features: Tensor, turn: Tensor, degrees: list[int]) -> Tensor:
    if not by_kernel(features):
        return plain_swirl(features, turn, degrees)
    from tenfold.so3._shares import shared

    out = torch.zeros_like(features, memory_format=torch.contiguous_format)
    arrays = tuple(tensor.contiguous().numpy() for tensor in (features, turn, out))
    tables, kernel = _mixes(tuple(degrees), features.dtype), _kernels().swirled
    shared(len(out), lambda first, last: kernel(first, last, *arrays, *tables))
    return out


@_swirl.register_fake
def _(features: Tensor, turn: Tensor, degrees: list[int]) -> Tensor:
    return features.new_empty(features.shape)


def _swirl_backward(ctx: Any, coming: Tensor) -> tuple[Tensor | None, ...]:
    features, turn = ctx.saved_tensors
    return _swirl(coming, -turn, ctx.degrees), _torque(coming, features, ctx.degrees), None


@torch.library.custom_op("tenfold::so3_torque", mutates_args=())
def _torque(left: Tensor, right: Tensor, degrees: list[int]) -> Tensor:
    if not by_kernel(left):
        return plain_torque(left, right, degrees)
    from tenfold.so3._shares import shared

    out = left.new_zeros(left.shape[0], 3)
    arrays = tuple(tensor.contiguous().numpy() for tensor in (left, right, out))
    tables, kernel = _mixes(tuple(degrees), left.dtype), _kernels().torques
    shared(len(out), lambda first, last: kernel(first, last, *arrays, *tables))
    return out


@_torque.register_fake
def _(left: Tensor, right: Tensor, degrees: list[int]) -> Tensor:
    return left.new_empty(left.shape[0], 3)


def _torque_backward(ctx: Any, coming: Tensor) -> tuple[Tensor | None, ...]:
    left, right = ctx.saved_tensors
    return _swirl(right, coming, ctx.degrees), _swirl(left, -coming, ctx.degrees), None


def _keep_two(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    one, other, ctx.degrees = inputs
    ctx.save_for_backward(one, other)


torch.library.register_autograd("tenfold::so3_swirl", _swirl_backward, setup_context=_keep_two)
torch.library.register_autograd("tenfold::so3_torque", _torque_backward, setup_context=_keep_two)


def by_kernel(tensor: Tensor) -> bool:
    """Whether compiled loops take such numbers; others go the plain way."""
    return tensor.device.type == "cpu" and tensor.dtype in (torch.float32, torch.float64)


def edges_of(index: Tensor | None, edges: int, nodes: int) -> tuple[np.ndarray, np.ndarray]:
    """Edges ordered by their node, and where those of each begin; each edge a node of its own without an index."""
    if index is None:
        return np.arange(edges), np.arange(edges + 1)
    found: tuple[np.ndarray, np.ndarray] = _kernels().grouped(index.contiguous().numpy(), nodes)
    return found


@cache
def side(degrees: tuple[int, ...], orders: int) -> Side:
    """The tables of features with these degrees."""
    kept = [min(n, orders) for n in degrees]
    full = list(accumulate((2 * n + 1 for n in degrees), initial=0))[:-1]
    cut = list(accumulate((2 * n + 1 for n in kept), initial=0))[:-1]
    pairs, mixes = [], []
    for degree, keep, begin in zip(degrees, kept, cut, strict=True):
        generators = _generators(degree).numpy()[
            [0, 2], degree - keep : degree + keep + 1, degree - keep : degree + keep + 1
        ]
        for axis, i, j in zip(*np.nonzero(np.abs(np.triu(generators)) > 1e-9), strict=True):
            pairs.append((begin + i, begin + j, axis))
            mixes.append(generators[axis, i, j])
    return _kernels().Side(
        *(np.array(numbers, dtype=np.int64) for numbers in (degrees, full, cut, kept)),
        np.array(pairs, dtype=np.int64).reshape(-1, 3),
        np.array(mixes, dtype=np.float64),
    )


@cache
def _mixes(degrees: tuple[int, ...], dtype: torch.dtype) -> tuple[np.ndarray, np.ndarray]:
    """Which components infinitesimal turns mix, around which axis, and by how much."""
    pairs, mixes, start = [], [], 0
    for degree in degrees:
        upper = np.triu(_generators(degree).numpy())
        for axis, i, j in zip(*np.nonzero(np.abs(upper) > 1e-9), strict=True):
            pairs.append((start + i, start + j, axis))
            mixes.append(upper[axis, i, j])
        start += 2 * degree + 1
    numbers = np.float32 if dtype == torch.float32 else np.float64
    return np.array(pairs, dtype=np.int64).reshape(-1, 3), np.array(mixes, dtype=numbers)


@cache
def turns(largest: int, orders: int, dtype: torch.dtype) -> Turns:
    """The tables of rotations around x, for degrees up to the largest."""
    columns, places = [], [0]
    for degree in range(largest + 1):
        swap = wigner_d(degree, torch.tensor([[0, 1, 0], [1, 0, 0], [0, 0, -1]], dtype=torch.float64)).numpy()
        # What is left of a swap, a turn around y by the angle and another swap, wave by wave.
        waves = np.zeros((2 * largest + 1, 2 * degree + 1, 2 * degree + 1))
        for m in range(-degree, degree + 1):
            one, other = swap[:, degree + m], swap[:, degree - m]
            waves[abs(m)] += np.outer(one, one)
            if m:
                waves[largest + abs(m)] -= np.sign(m) * np.outer(one, other)
        kept = min(degree, orders)
        cosines = waves[:, degree:, degree : degree + kept + 1].transpose(0, 2, 1)
        sines = waves[:, :degree, degree - kept : degree][:, ::-1, ::-1].transpose(0, 2, 1)
        columns += [cosines.reshape(2 * largest + 1, -1), sines.reshape(2 * largest + 1, -1)]
        places.append(places[-1] + cosines[0].size + sines[0].size)
    table = np.concatenate(columns, axis=1)
    begins = [places[k] for k in range(largest + 1)] + [places[k] for k in range(1, largest + 1)]
    numbers = np.float32 if dtype == torch.float32 else np.float64
    return _kernels().Turns(table.astype(numbers), np.array(begins), np.array(places))


@torch.library.custom_op("tenfold::so3_generators", mutates_args=())
def _generators(degree: int) -> Tensor:
    """Infinitesimal rotations around x, y and z: ``D(R) = 1 + turn . generators`` to first order."""
    return torch.tensor(-math.sqrt(degree * (degree + 1) * (2 * degree + 1)) * real_3j(1, degree, degree))


@_generators.register_fake
def _(degree: int) -> Tensor:
    return torch.empty(3, 2 * degree + 1, 2 * degree + 1, dtype=torch.float64)


def _scaled(vectors: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Vectors in units of their largest entry, these, and one over the squares of the former's lengths.

    Squares of what is given might be too large for numbers or too small. For length zero the last is zero, with
    derivatives of zero. Nothing depends on the units, so they are not differentiated.
    """
    scale = vectors.detach().abs().amax(dim=-1, keepdim=True)
    zero = scale == 0
    scale = torch.where(zero, 1.0, scale)
    scaled = vectors / scale
    square = torch.where(zero, 1.0, scaled.square().sum(dim=-1, keepdim=True))
    return scaled, scale, torch.where(zero, 0.0, 1 / square)


def _kernels() -> Any:
    """Numba takes longer to load than the rest of tenfold."""
    return importlib.import_module("tenfold.so3.products._edge_frame_kernels")
