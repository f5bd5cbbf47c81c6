"""Convolutions along edges as operators of torch, which its compilers and its autograd take as they are.

Messages are linear in features, filters and weights. Their derivatives, and the derivatives of those, need four
operators: messages, gradients, and how both change. Each is differentiated by the others, as often as one likes.

Everywhere, features and their changes are ``[nodes, dim]``, filters ``[edges, component]``, weights ``[edges,
weight_numel]``, messages ``[nodes, out]``, and both ends of edges ``[edges]``; without ``source`` features have a row
for each edge, without ``target`` messages do. ``paths`` is the text of `EdgePaths`; channels come last.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tenfold.so3._memory import empty
from tenfold.so3._simd import BYTES
from tenfold.so3.products._edge_paths import read, tables
from tenfold.so3.products._ends import check_ends

# Features, filters and weights, or what changes or derivatives they have.
_Three = tuple[Tensor, Tensor, Tensor]


@torch.library.custom_op("tenfold::so3_edge_messages", mutates_args=())
def edge_messages(
    features: Tensor,
    filters: Tensor,
    weight: Tensor,
    source: Tensor | None,
    target: Tensor | None,
    nodes: int,
    paths: str,
) -> Tensor:
    """Messages along edges, added up at nodes."""
    return _Run((features, filters, weight), source, target, nodes, paths).by_target("messages")


@torch.library.custom_op("tenfold::so3_edge_gradients", mutates_args=())
def edge_gradients(
    features: Tensor,
    filters: Tensor,
    weight: Tensor,
    out: Tensor,
    source: Tensor | None,
    target: Tensor | None,
    paths: str,
    wanted: Sequence[bool],
) -> tuple[Tensor, Tensor, Tensor]:
    """The derivatives of the inner product of messages with ``out``; those that are not wanted are empty."""
    run = _Run((features, filters, weight), source, target, len(out), paths)
    return run.by_source("gradients", wanted, flat(out))


@torch.library.custom_op("tenfold::so3_edge_messages_along", mutates_args=())
def edge_messages_along(
    features: Tensor,
    filters: Tensor,
    weight: Tensor,
    features_change: Tensor,
    filters_change: Tensor,
    weight_change: Tensor,
    source: Tensor | None,
    target: Tensor | None,
    nodes: int,
    paths: str,
) -> Tensor:
    """How `edge_messages` change, to first order."""
    run = _Run((features, filters, weight), source, target, nodes, paths)
    return run.by_target("messages_along", _arrays(features_change, filters_change, weight_change))


@torch.library.custom_op("tenfold::so3_edge_gradients_along", mutates_args=())
def edge_gradients_along(
    features: Tensor,
    filters: Tensor,
    weight: Tensor,
    features_change: Tensor,
    filters_change: Tensor,
    weight_change: Tensor,
    out: Tensor,
    source: Tensor | None,
    target: Tensor | None,
    paths: str,
) -> tuple[Tensor, Tensor, Tensor]:
    """How `edge_gradients` change, to first order."""
    run = _Run((features, filters, weight), source, target, len(out), paths)
    changes = _arrays(features_change, filters_change, weight_change)
    return run.by_source("gradients_along", (True, True, True), changes, flat(out))


class _Run:
    """Arguments as kernels take them."""

    def __init__(self, given: _Three, source: Tensor | None, target: Tensor | None, nodes: int, paths: str) -> None:
        # Loads Numba.
        from tenfold.so3.products import _edge_kernels

        self.kernels = _edge_kernels
        self.like = given
        self.rows = len(given[0]), nodes
        self.ends = _ends("source", source, self.rows[0]), _ends("target", target, self.rows[1])
        lanes = BYTES // given[0].element_size()
        self.tables = tables(paths, given[0].dtype, lanes)
        self.partial = True if (self.tables.pieces[:, 2] % lanes).any() else None
        self.given = _arrays(*given)

    def by_target(self, kernel: str, *more: Any) -> Tensor:
        """What a kernel writes to the nodes that edges go to."""
        out = empty((self.rows[1], self.tables.sizes[2]), self.like[0].dtype)
        self._run(kernel, 1, *more, flat(out))
        return out

    def by_source(self, kernel: str, wanted: Sequence[bool], *more: Any) -> _Three:
        """What a kernel writes to the nodes that edges come from, and to the edges."""
        x, y, w = (
            empty(tuple(one.shape) if want else (0,), one.dtype) for one, want in zip(self.like, wanted, strict=True)
        )
        self._run(kernel, 0, *more, flat(x), flat(y), flat(w))
        return x, y, w

    def _run(self, kernel: str, by: int, *more: Any) -> None:
        from tenfold.so3._shares import shared

        rows, ends, others = self.rows[by], self.ends[by], self.ends[1 - by]
        edges = len(self.like[1])
        numbers = np.arange(max(edges, rows) + 1)
        order, begins = (numbers, numbers) if ends is None else self.kernels.group_edges(ends, rows)
        grouped = (order, begins, numbers if others is None else others)
        function = getattr(self.kernels, kernel)
        # Some nodes have many edges, others none: threads share both.
        work = begins[:rows] + numbers[:rows]

        def share(first: int, last: int) -> None:
            begin, end = np.searchsorted(work, (first, last))
            function(int(begin), int(end), grouped, self.tables, self.partial, self.given, *more)

        shared(edges + rows, share)


def flat(tensor: Tensor) -> np.ndarray:
    """All numbers of a tensor."""
    return tensor.detach().contiguous().numpy().reshape(-1)


def _arrays(features: Tensor, filters: Tensor, weight: Tensor) -> tuple[Any, ...]:
    """Flat arrays, and how far apart the weights of edges are; those that all edges share are there once."""
    common = len(weight) > 0 and weight.stride(0) == 0
    return flat(features), flat(filters), flat(weight[:1] if common else weight), 0 if common else weight.shape[1]


def _ends(name: str, ends: Tensor | None, nodes: int) -> Any:
    if ends is None:
        return None
    check_ends(name, ends, nodes)
    return ends.contiguous().numpy()


# What compilers are told: shapes.


@edge_messages.register_fake
def _(features, filters, weight, source, target, nodes, paths):  # type: ignore[no-untyped-def]
    return features.new_empty(nodes, read(paths).components[2])


@edge_messages_along.register_fake
def _(features, filters, weight, dx, dy, dw, source, target, nodes, paths):  # type: ignore[no-untyped-def]
    return features.new_empty(nodes, read(paths).components[2])


@edge_gradients.register_fake
def _(features, filters, weight, out, source, target, paths, wanted):  # type: ignore[no-untyped-def]
    like = zip((features, filters, weight), wanted, strict=True)
    return tuple(one.new_empty(one.shape if want else (0,)) for one, want in like)


@edge_gradients_along.register_fake
def _(features, filters, weight, dx, dy, dw, out, source, target, paths):  # type: ignore[no-untyped-def]
    return tuple(one.new_empty(one.shape) for one in (features, filters, weight))


# Derivatives. Where nothing is known of a change it is None; changes come as features, filters and weights do.


def _messages_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    *tensors, _, ctx.paths = inputs
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(*tensors)


def _messages_backward(ctx: Any, grad: Tensor | None) -> tuple[Any, ...]:
    if grad is None:
        return (None,) * 7
    *given, source, target = ctx.saved_tensors
    wanted = list(ctx.needs_input_grad[:3])
    found = edge_gradients(*given, grad, source, target, ctx.paths, wanted)
    return *_only(found, wanted), None, None, None, None


def _gradients_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    *tensors, ctx.paths, ctx.wanted = inputs
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(*tensors)


def _gradients_backward(ctx: Any, *grads: Tensor | None) -> tuple[Any, ...]:
    *given, out, source, target = ctx.saved_tensors
    needs = ctx.needs_input_grad
    changes = [grad if wanted else None for grad, wanted in zip(grads, ctx.wanted, strict=True)]
    known = [place for place, change in enumerate(changes) if change is not None]
    back: tuple[Any, ...] = (None, None, None)
    change = None
    if len(known) == 1:
        # With one of the three replaced by its change, this is what it was.
        (only,) = known
        replaced = [*given[:only], changes[only], *given[only + 1 :]]
        wanted = [need and place != only for place, need in enumerate(needs[:3])]
        if needs[3]:
            change = edge_messages(*replaced, source, target, out.shape[0], ctx.paths)
        if any(wanted):
            back = _only(edge_gradients(*replaced, out, source, target, ctx.paths, wanted), wanted)
    elif known:
        along = _filled(changes, given)
        if needs[3]:
            change = edge_messages_along(*given, *along, source, target, out.shape[0], ctx.paths)
        if any(needs[:3]):
            back = _only(edge_gradients_along(*given, *along, out, source, target, ctx.paths), needs[:3])
    return *back, change, None, None, None, None


def _messages_along_backward(ctx: Any, grad: Tensor | None) -> tuple[Any, ...]:
    if grad is None:
        return (None,) * 10
    *six, source, target = ctx.saved_tensors
    needs = ctx.needs_input_grad
    back: tuple[Any, ...] = (None, None, None)
    if any(needs[:3]):
        back = _only(edge_gradients_along(*six, grad, source, target, ctx.paths), needs[:3])
    wanted = list(needs[3:6])
    changes = _only(edge_gradients(*six[:3], grad, source, target, ctx.paths, wanted), wanted)
    return *back, *changes, None, None, None, None


def _gradients_along_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    *tensors, ctx.paths = inputs
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(*tensors)


def _gradients_along_backward(ctx: Any, *grads: Tensor | None) -> tuple[Any, ...]:
    *six, out, source, target = ctx.saved_tensors
    given, changes = six[:3], six[3:]
    ends, rows, needs = (source, target), out.shape[0], ctx.needs_input_grad
    along = _filled(grads, given)
    back: tuple[Any, ...] = (None, None, None)
    if any(needs[:3]):
        back = _only(edge_gradients_along(*along, *changes, out, *ends, ctx.paths), needs[:3])
    back_changes: tuple[Any, ...] = (None, None, None)
    if any(needs[3:6]):
        back_changes = _only(edge_gradients_along(*given, *along, out, *ends, ctx.paths), needs[3:6])
    back_out = None
    if needs[6]:
        # One of each of the three, in every order: what is left of the square of a sum without the squares.
        both = tuple(a + b for a, b in zip(given, along, strict=True))
        once, twice, thrice = (
            edge_messages_along(*at, *changes, *ends, rows, ctx.paths) for at in (both, given, along)
        )
        back_out = once - twice - thrice
    return *back, *back_changes, back_out, None, None, None


def _only(found: Sequence[Tensor], wanted: Sequence[bool]) -> tuple[Tensor | None, ...]:
    return tuple(one if want else None for one, want in zip(found, wanted, strict=True))


def _filled(changes: Sequence[Tensor | None], like: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """Zeros where there is no change; those of weights are shared by all edges."""
    return tuple(
        one.new_zeros(one.shape[1]).expand(one.shape) if change is None else change
        for change, one in zip(changes, like, strict=True)
    )


edge_messages.register_autograd(_messages_backward, setup_context=_messages_context)
edge_messages_along.register_autograd(_messages_along_backward, setup_context=_messages_context)
edge_gradients.register_autograd(_gradients_backward, setup_context=_gradients_context)
edge_gradients_along.register_autograd(_gradients_along_backward, setup_context=_gradients_along_context)
