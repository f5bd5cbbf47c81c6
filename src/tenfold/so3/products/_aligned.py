"""Convolutions whose filter turns with the edge, as operators of torch: messages, and two derivatives.

Messages are linear in features and weights, and a change of an edge's vector turns its frame. That is as good as
turning features and what comes the other way around, so every derivative is made of the same steps.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from tenfold.so3._memory import empty
from tenfold.so3.products import _aligned_written
from tenfold.so3.products import _edge_frames as frames
from tenfold.so3.products._aligned_form import Form, tables
from tenfold.so3.products._aligned_plain import plain_gradients, plain_messages
from tenfold.so3.products._ends import check_ends

# Weights that all edges share are summed in so many parts, whatever the number of threads.
_PARTS = 64


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
    check_ends("source", source, features.shape[0])
    check_ends("target", target, nodes)
    form = Form.of(numbers)
    if not frames.by_kernel(features):
        return plain_messages(form, features, vectors, weight, source, target, nodes)
    from tenfold.so3._shares import shared

    edges = vectors.shape[0]
    order, starts = frames.edges_of(target, edges, nodes)
    rows, size = len(starts) - 1, sum(2 * n + 1 for n in form.outer)
    if _aligned_written.suits(form, features, vectors, weight, each=False):
        out = empty((rows, size, features.shape[2]), features.dtype)
        given = {"features": features, "vectors": vectors, "weight": weight, "to": out}
        _written(form, rows, "messages", {}, given, _ends(source, edges), order, starts)
        return out
    out = features.new_zeros(rows, size, features.shape[2])
    arrays = (_array(features), _array(vectors), _array(weight), _ends(source, edges), order, starts, _array(out))
    kernel, with_tables = _kernels().messages, tables(form, features.dtype, 0)
    shared(len(out), lambda first, last: kernel(first, last, *arrays, *with_tables))
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
    rows = vectors.shape[0] if target is None else nodes
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

    edges = vectors.shape[0]
    order, starts = frames.edges_of(source, edges, features.shape[0])
    if _aligned_written.suits(form, features, vectors, weight, each=of_weight):
        to_features = empty(tuple(features.shape), features.dtype)
        to_weight = empty((weight.shape[0] if of_weight else 0, *weight.shape[1:]), weight.dtype)
        to_vectors = vectors.new_empty(edges if of_vectors else 0, 3)
        named = {"features": features, "vectors": vectors, "weight": weight, "coming": coming}
        named |= {"to": to_features, "to_weight": to_weight, "to_vectors": to_vectors}
        flags = {"vectors": of_vectors, "weight": of_weight}
        _written(form, features.shape[0], "gradients", flags, named, _ends(target, edges), order, starts)
        return to_features, to_weight, to_vectors
    parts = max(1, min(_PARTS, len(starts) - 1))
    to_features = torch.zeros_like(features, memory_format=torch.contiguous_format)
    several = (parts if weight.shape[0] == 1 else weight.shape[0]) if of_weight else 0
    # Zeros where sums begin; memory that is written only once need not be.
    make = weight.new_zeros if weight.shape[0] == 1 else weight.new_empty
    to_weight = make(several, *weight.shape[1:])
    to_vectors = vectors.new_empty(edges if of_vectors else 0, 3)
    given = (coming, features, vectors, weight)
    ends = (_ends(target, edges), _ends(source, edges), order, starts)
    out = (to_features, to_weight, to_vectors)
    with_tables = tables(form, features.dtype, 1 if of_vectors else 0)
    kernel, arrays = _kernels().gradients, (*map(_array, given), *ends, *map(_array, out))
    shared(parts, lambda first, last: kernel(first, last, parts, *arrays, *with_tables))
    if of_weight and weight.shape[0] == 1:
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
    to_weight = weight.new_empty(weight.shape[0] if of_weight else 0, *weight.shape[1:])
    return features.new_empty(features.shape), to_weight, vectors.new_empty(vectors.shape[0] if of_vectors else 0, 3)


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
    coming, features, vectors, weight, source, target = ctx.saved_tensors
    on_vectors = on_vectors if ctx.of_vectors else None
    on_weight = on_weight if ctx.of_weight else None
    if on_features is None and on_weight is None and on_vectors is None:
        return (None,) * 9
    found = _second(coming, features, vectors, weight, on_features, on_vectors, on_weight, source, target, ctx.numbers)
    return *found, None, None, None, None, None


@torch.library.custom_op("tenfold::so3_aligned_second", mutates_args=())
def _second(
    coming: Tensor,
    features: Tensor,
    vectors: Tensor,
    weight: Tensor,
    on_features: Tensor | None,
    on_vectors: Tensor | None,
    on_weight: Tensor | None,
    source: Tensor | None,
    target: Tensor | None,
    numbers: list[int],
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The gradients of ``sum((on * gradient).sum())`` for what came, features, vectors and weights."""
    form = Form.of(numbers)
    given = (coming, features, vectors, weight, on_features, on_vectors, on_weight)
    if not frames.by_kernel(features):
        return _composed(form, given, source, target)
    from tenfold.so3._shares import shared

    edges = vectors.shape[0]
    if _aligned_written.suits(form, features, vectors, weight, each=True):
        names = ("coming", "features", "vectors", "weight", "on_features", "on_vectors", "on_weight")
        there = {name: tensor for name, tensor in zip(names, given, strict=True) if tensor is not None}
        flags = {name: f"on_{name}" in there for name in ("features", "vectors", "weight")}
        to = [empty(tuple(one.shape), one.dtype) for one in (coming, features, vectors, weight)]
        order, starts = frames.edges_of(target, edges, coming.shape[0])
        along = flags | {"along": True}
        _written(form, coming.shape[0], "messages", along, there | {"to": to[0]}, _ends(source, edges), order, starts)
        order, starts = frames.edges_of(source, edges, features.shape[0])
        there |= {"to": to[1], "to_vectors": to[2], "to_weight": to[3]}
        _written(form, features.shape[0], "gradients", along, there, _ends(target, edges), order, starts)
        return to[0], to[1], to[2], to[3]
    kernels, with_tables = _kernels(), tables(form, features.dtype, 2)
    # What is not there is an array without rows.
    arrays = [
        _array(like.new_empty(0, *like.shape[1:]) if tensor is None else tensor)
        for tensor, like in zip(given, (coming, features, vectors, weight, features, vectors, weight), strict=True)
    ]
    ends = _ends(target, edges), _ends(source, edges)
    to_coming, to_features = (torch.zeros_like(one, memory_format=torch.contiguous_format) for one in given[:2])
    grouped = frames.edges_of(target, edges, coming.shape[0])
    into = (*arrays[1:], ends[1], *grouped, _array(to_coming))
    shared(coming.shape[0], lambda first, last: kernels.messages_along(first, last, *into, *with_tables))
    grouped = frames.edges_of(source, edges, features.shape[0])
    parts = max(1, min(_PARTS, features.shape[0]))
    make = weight.new_zeros if weight.shape[0] == 1 else weight.new_empty
    to_weight = make(parts if weight.shape[0] == 1 else weight.shape[0], *weight.shape[1:])
    to_vectors = vectors.new_empty(edges, 3)
    back = (*arrays, *ends, *grouped, *map(_array, (to_features, to_weight, to_vectors)))
    shared(parts, lambda first, last: kernels.gradients_along(first, last, parts, *back, *with_tables))
    if weight.shape[0] == 1:
        to_weight = to_weight.sum(dim=0, keepdim=True)
    return to_coming, to_features, to_vectors, to_weight


@_second.register_fake
def _(
    coming: Tensor,
    features: Tensor,
    vectors: Tensor,
    weight: Tensor,
    on_features: Tensor | None,
    on_vectors: Tensor | None,
    on_weight: Tensor | None,
    source: Tensor | None,
    target: Tensor | None,
    numbers: list[int],
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    coming, features, vectors, weight = (one.new_empty(one.shape) for one in (coming, features, vectors, weight))
    return coming, features, vectors, weight


def _keep_second(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    *tensors, ctx.numbers = inputs
    ctx.save_for_backward(*tensors)


def _second_backward(ctx: Any, *coming: Tensor) -> tuple[Any, ...]:
    """Third derivatives, and all others: those of the same made of steps that have derivatives."""
    *given, source, target = ctx.saved_tensors
    again = torch.is_grad_enabled()
    with torch.enable_grad():
        # Views, so that what tensors have to do with each other is left to those who call.
        own = [
            None
            if one is None
            else one.view_as(one)
            if again and one.requires_grad
            else one.detach().requires_grad_(one.requires_grad)
            for one in given
        ]
        made = _composed(Form.of(ctx.numbers), own, source, target)
        asked = [one for one, need in zip(own, ctx.needs_input_grad, strict=False) if need and one is not None]
        found = iter(
            torch.autograd.grad(made, asked, coming, create_graph=again, allow_unused=True, materialize_grads=True)
        )
    return (*(next(found) if need else None for need in ctx.needs_input_grad[:7]), None, None, None)


def _composed(
    form: Form, given: Sequence[Tensor | None], source: Tensor | None, target: Tensor | None
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """What `_second` computes, by messages, gradients and little turns at every edge.

    ``F`` is the form of what comes, features and weights. The quantity to be derived is
    ``F(g, on_features - turn x, w) + F(-turn g, x, w) + F(g, x, on_weight)`` with the turn that goes with on_vectors.
    """
    coming, features, vectors, weight, on_features, on_vectors, on_weight = given
    assert coming is not None
    assert features is not None
    assert vectors is not None
    assert weight is not None
    numbers, edges = form.numbers(), vectors.shape[0]
    g, x = frames.gathered(coming, target), frames.gathered(features, source)

    def run(given: Tensor, factors: Tensor) -> Tensor:
        return _messages(given, vectors, factors, None, None, edges, numbers)

    def derived(left: Tensor, right: Tensor, factors: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        found: tuple[Tensor, Tensor, Tensor] = _gradients(
            left.contiguous(), right, vectors, factors, None, None, numbers, True, True
        )
        return found

    to_g, to_x = torch.zeros_like(g), torch.zeros_like(x)
    to_vectors, to_weight = torch.zeros_like(vectors), torch.zeros_like(weight)
    a = None if on_features is None else frames.gathered(on_features, source)
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
    to_coming, to_features = (
        frames.summed(to_g, target, coming.shape[0]),
        frames.summed(to_x, source, features.shape[0]),
    )
    return to_coming, to_features, to_vectors, to_weight


torch.library.register_autograd("tenfold::so3_aligned", _backward, setup_context=_keep)
torch.library.register_autograd("tenfold::so3_aligned_gradients", _gradients_backward, setup_context=_keep_gradients)
torch.library.register_autograd("tenfold::so3_aligned_second", _second_backward, setup_context=_keep_second)


def _written(
    form: Form,
    rows: int,
    kind: str,
    flags: dict[str, bool],
    given: dict[str, Tensor],
    other: np.ndarray,
    order: np.ndarray,
    starts: np.ndarray,
) -> None:
    """Has the code that is written for a form do it."""
    arrays = {"other": other, "order": order, "starts": starts}
    whole = {name: tensor.detach().contiguous() for name, tensor in given.items()}
    _aligned_written.run(form, rows, kind, whole["features"], flags, whole | arrays)


def _array(tensor: Tensor) -> np.ndarray:
    return tensor.detach().contiguous().numpy()


def _ends(index: Tensor | None, edges: int) -> np.ndarray:
    return np.arange(edges) if index is None else index.contiguous().numpy()


def _kernels() -> Any:
    """Numba takes longer to load than the rest of tenfold."""
    return importlib.import_module("tenfold.so3.products._aligned_kernels")
