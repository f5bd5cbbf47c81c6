"""Convolutions whose filter turns with the edge, as operators of torch.

Seen from an edge, the harmonics of its direction are zero but for order 0, and a filter keeps the order of what it
takes up to its sign: ``y_m = p_m x_m + q_m x_-m`` and ``y_-m = p_m x_-m - q_m x_m``. The numbers ``p`` and ``q`` of two
degrees are as many as the ways to couple them, and determine the weights of those.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from tenfold.so3._wigner3j import gaunt_factor, real_3j
from tenfold.so3.products import _edge_frames as frames

if TYPE_CHECKING:
    from tenfold.so3.products._aligned_kernels import Filter, Sparse

Basis = Literal["frame", "paths", "degrees"]
_BASES: tuple[Basis, ...] = ("frame", "paths", "degrees")

# Weights that all edges share are summed in so many parts, whatever the number of threads.
_PARTS = 64
# How many numbers of features are taken together where something is made for each edge.
_TOGETHER = 2**20


class Slot(NamedTuple):
    """A weight of the frame: degrees in and out, whether it turns the sign of the order around, and the order."""

    inner: int
    outer: int
    crossed: bool
    order: int


@dataclass(frozen=True)
class Form:
    """A filter along edges, without its weights.

    Attributes:
        basis: what weights are: those of the frame; of the paths of a Clebsch-Gordan product with the harmonics of the
            edge, as many as there are triples of degrees; or one for each degree of a function on the sphere.
        inner: degrees of the features.
        outer: degrees of the messages.
        degree: the largest of the filter.
        orders: components of the frame of larger order are left out.
        even: whether paths of an even sum of degrees occur.
        odd: whether those of an odd sum do.
    """

    basis: Basis
    inner: tuple[int, ...]
    outer: tuple[int, ...]
    degree: int
    orders: int
    even: bool
    odd: bool

    def numbers(self) -> list[int]:
        """The same as numbers, which operators take."""
        flags = [_BASES.index(self.basis), self.degree, self.orders, self.even, self.odd, len(self.inner)]
        return [*map(int, flags), *self.inner, *self.outer]

    @classmethod
    def of(cls, numbers: list[int]) -> Form:
        """The inverse of `numbers`."""
        basis, degree, orders, even, odd, count = numbers[:6]
        degrees = tuple(numbers[6:])
        return cls(_BASES[basis], degrees[:count], degrees[count:], degree, orders, bool(even), bool(odd))

    def slots(self) -> tuple[Slot, ...]:
        """The weights of the frame in their order."""
        return tuple(self._slots())

    def _slots(self) -> Iterator[Slot]:
        for inner in self.inner:
            for outer in self.outer:
                most = min(inner, outer, self.orders)
                if self.even:
                    yield from (Slot(inner, outer, False, m) for m in range(most + 1))
                if self.odd:
                    yield from (Slot(inner, outer, True, m) for m in range(1, most + 1))

    def paths(self) -> tuple[tuple[int, int, int], ...]:
        """The degrees in, of the filter, and out of each path, in the order of `Irreps.paths`."""
        return tuple(
            (inner, middle, outer)
            for inner in self.inner
            for middle in range(self.degree + 1)
            for outer in self.outer
            if abs(inner - outer) <= middle <= inner + outer
            and (self.odd if (inner + middle + outer) % 2 else self.even)
        )

    def scale(self, outer: int) -> float:
        """The factor of weights that lead to a degree: e3nn's, which keeps variances with independent weights."""
        if self.basis == "degrees":
            square = sum(gaunt_factor(*path) ** 2 for path in self.paths() if path[2] == outer)
            return math.sqrt((2 * outer + 1) / square) if square else 0.0
        count = sum(path[2] == outer for path in self.paths())
        return math.sqrt((2 * outer + 1) / count) if count else 0.0

    def mixing(self) -> np.ndarray:
        """Weights of the frame from those given: ``[slots, weights]``.

        From those of all paths it is orthogonal, from fewer paths its columns are orthonormal.
        """
        return _mixing(self)

    def blind(self) -> np.ndarray:
        """What is left of the frame's weights where the filter is of degree 0 alone: ``[slots, slots]``."""
        slots = self.slots()
        found = np.zeros((len(slots), len(slots)))
        for r, one in enumerate(slots):
            if one.inner != one.outer or one.crossed or one.inner > self.orders:
                continue
            for c, other in enumerate(slots):
                if other[:3] == one[:3]:
                    found[r, c] = math.sqrt(_twice(one.order) * _twice(other.order)) / (2 * one.inner + 1)
        return found

    def terms(self) -> list[tuple[int, int, int, float]]:
        """The filter as a trilinear form: components out and in, the slot, and a factor."""
        places = []
        for degrees in (self.inner, self.outer):
            middles, start = {}, 0
            for degree in degrees:
                middles[degree] = start + min(degree, self.wide)
                start += 2 * min(degree, self.wide) + 1
            places.append(middles)
        found = []
        for number, (inner, outer, crossed, m) in enumerate(self.slots()):
            i, k, factor = places[0][inner], places[1][outer], self.scale(outer) / math.sqrt(_twice(m))
            if crossed:
                found += [(k + m, i - m, number, factor), (k - m, i + m, number, -factor)]
            elif m:
                found += [(k + m, i + m, number, factor), (k - m, i - m, number, factor)]
            else:
                found.append((k, i, number, factor))
        return found

    @property
    def wide(self) -> int:
        """The orders that frames keep: one more than the filter, for what infinitesimal turns mix with those."""
        return min(self.orders + 1, max(*self.inner, *self.outer))


def messages(
    form: Form,
    features: Float[Tensor, "nodes component mul"],
    vectors: Float[Tensor, "edges 3"],
    weight: Float[Tensor, "some weights one"],
    source: Int[Tensor, " edges"] | None,
    target: Int[Tensor, " edges"] | None,
    nodes: int,
) -> Float[Tensor, "rows component mul"]:
    """Features of nodes, filtered along edges, at the edges or added up at nodes.

    Weights are of each edge, or one row of them for all; of each channel, or one for all.

    Cost: ``O(L^3)`` for each edge and channel; nothing is kept for an edge.
    """
    return _messages(features, vectors, weight.contiguous(), source, target, nodes, form.numbers())


@torch.library.custom_op("tenfold::so3_aligned", mutates_args=())
def _messages(
    features: Tensor,
    vectors: Tensor,
    weight: Tensor,
    source: Tensor | None,
    target: Tensor | None,
    nodes: int,
    numbers: list[int],
) -> Tensor:
    frames.check_ends("source", source, len(features))
    frames.check_ends("target", target, nodes)
    form = Form.of(numbers)
    if not frames.by_kernel(features):
        return plain_messages(form, features, vectors, weight, source, target, nodes)
    from tenfold.so3._shares import shared

    edges = len(vectors)
    order, starts = frames.edges_of(target, edges, nodes)
    out = features.new_zeros(len(starts) - 1, sum(2 * n + 1 for n in form.outer), features.shape[2])
    arrays = (_array(features), _array(vectors), _array(weight), _ends(source, edges), order, starts, _array(out))
    tables = _tables(form, features.dtype)
    kernel = _kernels().messages
    shared(len(out), lambda first, last: kernel(first, last, *arrays, *tables))
    return out


@_messages.register_fake
def _(
    features: Tensor,
    vectors: Tensor,
    weight: Tensor,
    source: Tensor | None,
    target: Tensor | None,
    nodes: int,
    numbers: list[int],
) -> Tensor:
    rows = len(vectors) if target is None else nodes
    return features.new_empty(rows, sum(2 * n + 1 for n in Form.of(numbers).outer), features.shape[2])


@torch.library.custom_op("tenfold::so3_aligned_gradients", mutates_args=())
def _gradients(
    coming: Tensor,
    features: Tensor,
    vectors: Tensor,
    weight: Tensor,
    source: Tensor | None,
    target: Tensor | None,
    numbers: list[int],
    of_weight: bool,
    of_vectors: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """The gradients of ``(coming * messages).sum()``; those that nobody asks for are empty."""
    form = Form.of(numbers)
    if not frames.by_kernel(features):
        return plain_gradients(form, coming, features, vectors, weight, source, target, of_weight, of_vectors)
    from tenfold.so3._shares import shared

    edges = len(vectors)
    order, starts = frames.edges_of(source, edges, len(features))
    parts = max(1, min(_PARTS, len(starts) - 1))
    to_features = torch.zeros_like(features, memory_format=torch.contiguous_format)
    several = (parts if len(weight) == 1 else len(weight)) if of_weight else 0
    # Zeros where sums begin; memory that is written only once need not be.
    make = weight.new_zeros if len(weight) == 1 else weight.new_empty
    to_weight = make(several, *weight.shape[1:])
    to_vectors = vectors.new_empty(edges if of_vectors else 0, 3)
    given = (coming, features, vectors, weight)
    ends = (_ends(target, edges), _ends(source, edges), order, starts)
    out = (to_features, to_weight, to_vectors)
    tables = _tables(form, features.dtype)
    kernel, arrays = _kernels().gradients, (*map(_array, given), *ends, *map(_array, out))
    shared(parts, lambda first, last: kernel(first, last, parts, *arrays, *tables))
    if of_weight and len(weight) == 1:
        to_weight = to_weight.sum(dim=0, keepdim=True)
    return to_features, to_weight, to_vectors


@_gradients.register_fake
def _(
    coming: Tensor,
    features: Tensor,
    vectors: Tensor,
    weight: Tensor,
    source: Tensor | None,
    target: Tensor | None,
    numbers: list[int],
    of_weight: bool,
    of_vectors: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    to_weight = weight.new_empty(len(weight) if of_weight else 0, *weight.shape[1:])
    return features.new_empty(features.shape), to_weight, vectors.new_empty(len(vectors) if of_vectors else 0, 3)


def _keep(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    features, vectors, weight, source, target, _, ctx.numbers = inputs
    ctx.save_for_backward(features, vectors, weight, source, target)


def _backward(ctx: Any, coming: Tensor) -> tuple[Tensor | None, ...]:
    features, vectors, weight, source, target = ctx.saved_tensors
    _, of_vectors, of_weight = ctx.needs_input_grad[:3]
    to_features, to_weight, to_vectors = _gradients(
        coming.contiguous(), features, vectors, weight, source, target, ctx.numbers, of_weight, of_vectors
    )
    found = (to_features, to_vectors if of_vectors else None, to_weight if of_weight else None)
    return (*found, None, None, None, None)


def _keep_gradients(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    coming, features, vectors, weight, source, target, ctx.numbers, ctx.of_weight, ctx.of_vectors = inputs
    ctx.save_for_backward(coming, features, vectors, weight, source, target)
    # Nobody asks for all of them: forces are those of vectors alone.
    ctx.set_materialize_grads(False)


def _gradients_backward(
    ctx: Any, on_features: Tensor | None, on_weight: Tensor | None, on_vectors: Tensor | None
) -> tuple[Any, ...]:
    """Gradients are the same trilinear form with other arguments, so their gradients are too.

    ``F`` is the form of what comes, features and weights; a change of vectors turns the frames, and that is as good as
    turning features and what comes the other way around. So the quantity to be derived is
    ``F(g, on_features - turn x, w) + F(-turn g, x, w) + F(g, x, on_weight)`` with the turn that goes with on_vectors.
    """
    coming, features, vectors, weight, source, target = ctx.saved_tensors
    form, edges, each = Form.of(ctx.numbers), len(vectors), len(weight) > 1
    on_vectors = on_vectors if ctx.of_vectors else None
    on_weight = on_weight if ctx.of_weight else None
    to_coming, to_features = torch.zeros_like(coming), torch.zeros_like(features)
    to_vectors, to_weight = [vectors[:0]], [weight[:0]]
    # Some edges at a time: what is made for each edge on the way stays in caches.
    step = max(1, _TOGETHER // max(1, features[:1].numel()))
    for first in range(0, edges, step):
        part = slice(first, min(edges, first + step))
        from_, to = (
            torch.arange(edges)[part].to(vectors.device) if end is None else end[part] for end in (source, target)
        )
        g, x, *on = _gradients_of_part(
            form,
            coming.index_select(0, to),
            features.index_select(0, from_),
            vectors[part],
            weight[part] if each else weight,
            None if on_features is None else on_features.index_select(0, from_),
            None if on_weight is None else on_weight[part] if each else on_weight,
            None if on_vectors is None else on_vectors[part],
        )
        to_coming, to_features = to_coming.index_add(0, to, g), to_features.index_add(0, from_, x)
        to_vectors.append(on[0])
        to_weight.append(on[1])
    total = torch.cat(to_weight) if each else torch.stack([torch.zeros_like(weight), *to_weight[1:]]).sum(dim=0)
    return to_coming, to_features, torch.cat(to_vectors), total, None, None, None, None, None


def _gradients_of_part(
    form: Form,
    g: Tensor,
    x: Tensor,
    vectors: Tensor,
    weight: Tensor,
    on_features: Tensor | None,
    on_weight: Tensor | None,
    on_vectors: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The same for some edges, with what they bring: gradients for what came, features, vectors and weights."""
    numbers, edges = form.numbers(), len(vectors)

    def run(given: Tensor, factors: Tensor) -> Tensor:
        return _messages(given, vectors, factors, None, None, edges, numbers)

    def derived(left: Tensor, right: Tensor, factors: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return _gradients(left, right, vectors, factors, None, None, numbers, True, True)

    to_g, to_x = torch.zeros_like(g), torch.zeros_like(x)
    to_vectors, to_weight = torch.zeros_like(vectors), torch.zeros_like(weight)
    a = on_features
    if on_vectors is not None:
        turn = frames.turn_of(vectors, on_vectors)
        turned = frames.swirl(x, turn, form.inner)
        a = -turned if a is None else a - turned
    if a is not None:
        to_a, to_weight, to_vectors = derived(g, a, weight)
        to_g = run(a, weight)
    if on_vectors is not None:
        plain = run(x, weight)
        more = derived(-frames.swirl(g, turn, form.outer), x, weight)
        to_x, to_weight, to_vectors = to_x + more[0], to_weight + more[1], to_vectors + more[2]
        to_g = to_g + frames.swirl(plain, turn, form.outer)
        to_x = to_x + frames.swirl(to_a, turn, form.inner)
        to_turn = frames.torque(g, plain, form.outer) - frames.torque(to_a, x, form.inner)
        to_vectors = to_vectors + frames.turn_of_backward(vectors, on_vectors, to_turn)
    if on_weight is not None:
        more = derived(g, x, on_weight)
        to_x, to_vectors = to_x + more[0], to_vectors + more[2]
        to_g = to_g + run(x, on_weight)
    return to_g, to_x, to_vectors, to_weight


torch.library.register_autograd("tenfold::so3_aligned", _backward, setup_context=_keep)
torch.library.register_autograd("tenfold::so3_aligned_gradients", _gradients_backward, setup_context=_keep_gradients)


def plain_messages(
    form: Form,
    features: Float[Tensor, "nodes component mul"],
    vectors: Float[Tensor, "edges 3"],
    weight: Float[Tensor, "some weights one"],
    source: Int[Tensor, " edges"] | None,
    target: Int[Tensor, " edges"] | None,
    nodes: int,
) -> Float[Tensor, "rows component mul"]:
    """What the kernel does, with dense matrices for each edge."""
    inner, outer = (frames.plain_frames(vectors, degrees, form.wide) for degrees in (form.inner, form.outer))
    seen = frames.plain_to_frames(frames.gathered(features, source), inner)
    made = torch.einsum("ekic,eic->ekc", _dense(form, vectors, weight), seen)
    return frames.summed(frames.plain_from_frames(made, outer), target, nodes)


def plain_gradients(
    form: Form,
    coming: Float[Tensor, "rows component mul"],
    features: Float[Tensor, "nodes component mul"],
    vectors: Float[Tensor, "edges 3"],
    weight: Float[Tensor, "some weights one"],
    source: Int[Tensor, " edges"] | None,
    target: Int[Tensor, " edges"] | None,
    of_weight: bool,
    of_vectors: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """What the kernel of gradients does, with dense matrices for each edge."""
    inner, outer = (frames.plain_frames(vectors, degrees, form.wide) for degrees in (form.inner, form.outer))
    x, g = frames.gathered(features, source), frames.gathered(coming, target)
    seen, behind = frames.plain_to_frames(x, inner), frames.plain_to_frames(g, outer)
    filters = _dense(form, vectors, weight)
    before = torch.einsum("ekic,ekc->eic", filters, behind)
    turned = frames.plain_from_frames(before, inner)
    to_weight, to_vectors = weight.new_zeros(0, *weight.shape[1:]), vectors.new_zeros(0, 3)
    if of_weight:
        k, i, slot, value = _columns(form, features)
        products = value[:, None] * behind[:, k] * seen[:, i]
        if weight.shape[2] == 1:
            products = products.sum(dim=-1, keepdim=True)
        to_slots = products.new_zeros(len(products), len(form.slots()), products.shape[2]).index_add(1, slot, products)
        blind = torch.tensor(form.blind()).to(to_slots)
        to_slots = torch.where(_zero(vectors), blind.T @ to_slots, to_slots)
        to_weight = torch.tensor(form.mixing()).to(to_slots).T @ to_slots
        if len(weight) == 1:
            to_weight = to_weight.sum(dim=0, keepdim=True)
    if of_vectors:
        made = frames.plain_from_frames(torch.einsum("ekic,eic->ekc", filters, seen), outer)
        to_turn = frames.plain_torque(g, made, form.outer) - frames.plain_torque(turned, x, form.inner)
        to_vectors = frames.change_of(vectors, to_turn)
    to_features = frames.summed(turned, source, len(features))
    return to_features.clone(), to_weight, to_vectors


def _dense(form: Form, vectors: Tensor, weight: Tensor) -> Tensor:
    """The filters as matrices: ``[edges, out, in, channels]``."""
    slots = torch.tensor(form.mixing()).to(weight) @ weight
    slots = torch.where(_zero(vectors), torch.tensor(form.blind()).to(slots) @ slots, slots)
    k, i, slot, value = _columns(form, weight)
    sizes = [sum(2 * min(n, form.wide) + 1 for n in degrees) for degrees in (form.outer, form.inner)]
    found = slots.new_zeros(len(slots), sizes[0], sizes[1], slots.shape[2])
    # No two slots belong to one pair of components.
    found[:, k, i] = value[:, None] * slots[:, slot]
    return found


def _zero(vectors: Tensor) -> Tensor:
    return (vectors == 0).all(dim=-1)[:, None, None]


def _columns(form: Form, like: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    terms = form.terms()
    k, i, slot = (torch.tensor([term[n] for term in terms], device=like.device) for n in range(3))
    return k, i, slot, like.new_tensor([term[3] for term in terms])


@cache
def _mixing(form: Form) -> np.ndarray:
    slots, paths = form.slots(), form.paths()
    if form.basis == "frame":
        return np.eye(len(slots))
    found = np.zeros((len(slots), len(paths) if form.basis == "paths" else form.degree + 1))
    number = {slot: n for n, slot in enumerate(slots)}
    for column, (inner, middle, outer) in enumerate(paths):
        table, crossed = real_3j(inner, middle, outer)[:, middle], bool((inner + middle + outer) % 2)
        factor = math.sqrt(2 * middle + 1)
        if form.basis == "degrees":
            # The scale of the component out is with the slots.
            factor *= gaunt_factor(inner, middle, outer)
            column = middle
        for m in range(crossed, min(inner, outer, form.orders) + 1):
            taken = table[inner - m if crossed else inner + m, outer + m]
            found[number[Slot(inner, outer, crossed, m)], column] += factor * math.sqrt(_twice(m)) * taken
    return found


@cache
def _tables(form: Form, dtype: torch.dtype) -> tuple[Any, ...]:
    """What the kernels take besides numbers: both sides, the turns, and the filter."""
    inner, outer = frames.side(form.inner, form.wide), frames.side(form.outer, form.wide)
    largest = max(*form.inner, *form.outer)
    numbers = np.float32 if dtype == torch.float32 else np.float64
    terms = form.terms()
    k, i, slot = (np.array([term[n] for term in terms], dtype=np.int64) for n in range(3))
    value = np.array([term[3] for term in terms])
    rows_out, rows_in = (int(s.cut[-1] + 2 * s.orders[-1] + 1) for s in (outer, inner))
    mixing, blind, slots = form.mixing(), form.blind(), len(form.slots())
    own = np.zeros((0, slots)) if form.basis == "frame" else mixing
    made: Filter = _kernels().Filter(
        _sparse(rows_out, k, i, slot, value, numbers),
        _sparse(rows_in, i, k, slot, value, numbers),
        _sparse(slots, slot, k, i, value, numbers),
        *(_matrix(matrix, numbers) for matrix in (own, own.T if len(own) else own, blind, blind.T)),
    )
    return inner, outer, frames.turns(largest, form.wide, dtype), made


def _sparse(rows: int, row: np.ndarray, one: np.ndarray, two: np.ndarray, value: np.ndarray, kind: Any) -> Sparse:
    order = np.argsort(row, kind="stable")
    starts = np.concatenate([[0], np.cumsum(np.bincount(row, minlength=rows))]).astype(np.int64)
    made: Sparse = _kernels().Sparse(starts, one[order], two[order], value[order].astype(kind))
    return made


def _matrix(matrix: np.ndarray, kind: Any) -> Sparse:
    row, column = np.nonzero(np.abs(matrix) > 1e-12)
    return _sparse(len(matrix), row, column, column, matrix[row, column], kind)


def _twice(order: int) -> int:
    """How many components have this order, up to its sign."""
    return 2 if order else 1


def _array(tensor: Tensor) -> np.ndarray:
    return tensor.detach().contiguous().numpy()


def _ends(index: Tensor | None, edges: int) -> np.ndarray:
    return np.arange(edges) if index is None else index.contiguous().numpy()


def _kernels() -> Any:
    """Numba takes longer to load than the rest of tenfold."""
    return importlib.import_module("tenfold.so3.products._aligned_kernels")
