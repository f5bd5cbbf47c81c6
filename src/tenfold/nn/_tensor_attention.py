"""Blocks of exact tensor attention, forward and backward, as operators that autograd, compile and export see.

Scores are kept as powers of two: torch's ``exp2`` takes a third of the time of its ``exp``.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

# Scores that are held at once: they stay in the processor's cache between two products.
_HELD = {"cpu": 2**19}
_HELD_ELSEWHERE = 2**26
# Keys of the second kind in a block, and keys of the first: products are then large enough to run at full rate.
_SECOND, _FIRST = 2048, 32
# Sums of powers of two as large or small as this, times values, are numbers in single precision.
_SAFE = 100.0


class _Block(NamedTuple):
    batch: slice
    query: slice
    first: slice
    second: slice


class _Scratch:
    """Memory for the scores of one block, used again and again: fresh memory costs more than what is done with it."""

    def __init__(self, like: Tensor) -> None:
        self._memory = like.new_empty(0)

    def product(self, left: Tensor, right: Tensor) -> Tensor:
        """``left @ right`` of two batches of matrices, valid until the next call."""
        shape = (left.shape[0], left.shape[1], right.shape[2])
        if self._memory.numel() < math.prod(shape):
            self._memory = left.new_empty(math.prod(shape))
        return torch.bmm(left, right, out=self._memory[: math.prod(shape)].view(shape))


def _blocks(query: Tensor, key1: Tensor, key2: Tensor, causal: bool) -> Iterator[tuple[slice, slice, list[_Block]]]:
    """For some queries of some sequences, all blocks of pairs of keys that they attend to."""
    batch, length, _ = query.shape
    first, second = key1.shape[1], key2.shape[1]
    width = max(1, min(second, _SECOND))
    rows = max(1, _HELD.get(query.device.type, _HELD_ELSEWHERE) // width)
    of_first = max(1, min(first, _FIRST, rows))
    of_query = max(1, min(length, rows // of_first))
    together = max(1, min(batch, rows // (of_first * of_query)))
    for b in _slices(batch, together):
        for i in _slices(length, of_query):
            # Keys behind the last of these queries are of no use to any of them.
            most1, most2 = (min(first, i.stop), min(second, i.stop)) if causal else (first, second)
            pairs = [_Block(b, i, j, k) for j in _slices(most1, of_first) for k in _slices(most2, width)]
            yield b, i, pairs


def _slices(length: int, step: int) -> list[slice]:
    return [slice(start, min(start + step, length)) for start in range(0, length, step)]


def _rows(left: Tensor, right: Tensor, at: _Block) -> Tensor:
    """Products of some queries with some first keys, component by component: one row for each pair."""
    return (left[at.batch, at.query, None] * right[at.batch, None, at.first]).flatten(1, 2)


def _scores(
    scratch: _Scratch, rows: Tensor, key2: Tensor, mask1: Tensor | None, mask2: Tensor | None, causal: bool, at: _Block
) -> Tensor:
    """Scores of a block ``[batch, query, first, second]``, minus infinity where a key may not be attended to."""
    scores = scratch.product(rows, key2[at.batch, at.second].mT)
    scores = scores.unflatten(1, (at.query.stop - at.query.start, at.first.stop - at.first.start))
    if mask1 is not None:
        scores.masked_fill_(~mask1[at.batch, None, at.first, None], -math.inf)
    if mask2 is not None:
        scores.masked_fill_(~mask2[at.batch, None, None, at.second], -math.inf)
    if causal:
        for axis, keys in ((2, at.first), (3, at.second)):
            start = max(keys.start, at.query.start + 1)
            if start < keys.stop:
                late = torch.arange(start, keys.stop, device=rows.device)
                late = late > torch.arange(at.query.start, at.query.stop, device=rows.device)[:, None]
                late = late[:, :, None] if axis == 2 else late[:, None]
                scores.narrow(axis, start - keys.start, keys.stop - start).masked_fill_(late, -math.inf)
    return scores


def _within_range(query: Tensor, key1: Tensor, key2: Tensor, largest: float) -> bool:
    """Whether no score of these queries is so large that powers of two overflow or vanish.

    |sum_l q_l a_l b_l| <= |q * a| |b|, for the price of a product of two matrices.
    """
    most = torch.bmm(query.square(), key1.square().mT).amax().sqrt() * key2.norm(dim=2).amax()
    return bool(most + largest < _SAFE)


def attend_by_operators(
    query: Tensor,
    key1: Tensor,
    key2: Tensor,
    value1: Tensor,
    value2: Tensor,
    mask1: Tensor | None,
    mask2: Tensor | None,
    scale: float,
    causal: bool,
) -> Tensor:
    """The outputs of `attend`, by operators that torch can differentiate in any direction and any number of times.

    Memory for all scores, where they are needed for derivatives.
    """
    batch, first, second = value1.shape[0], key1.shape[1], key2.shape[1]
    parts = [value1.new_zeros(batch, 0, value1.shape[2])]
    step = max(1, _HELD.get(query.device.type, _HELD_ELSEWHERE) // max(1, batch * first * second))
    with torch.autocast(query.device.type, enabled=False):
        for at in _slices(query.shape[1], step):
            rows = query[:, at, None] * key1[:, None] * scale
            scores = rows @ key2.mT[:, None]
            for axis, mask in ((3, mask1), (2, mask2)):
                if mask is not None:
                    scores = scores.masked_fill(~mask[:, None].unsqueeze(axis), -math.inf)
            if causal:
                places = torch.arange(query.shape[1], device=query.device)
                late = places > places[at, None]
                scores = scores.masked_fill(late[:, :, None] | late[:, None], -math.inf)
            flat = scores.flatten(2)
            most = flat.detach().amax(dim=2, keepdim=True) if first and second else flat.new_zeros(())
            weights = torch.exp(flat - most.masked_fill(most == -math.inf, 0.0))
            sums = weights.sum(dim=2, keepdim=True)
            weighted = weights.view_as(scores) @ value2[:, None]
            parts.append((weighted * value1[:, None]).sum(dim=2) / sums.masked_fill(sums == 0, 1.0))
    return torch.cat(parts, 1)


@torch.library.custom_op("tenfold::tensor_attention", mutates_args=())
def attend(
    query: Tensor,
    key1: Tensor,
    key2: Tensor,
    value1: Tensor,
    value2: Tensor,
    mask1: Tensor | None,
    mask2: Tensor | None,
    scale: float,
    causal: bool,
) -> tuple[Tensor, Tensor]:
    """Outputs, and the logarithms (to base two) of the sums of the powers of two of the scores.

    Everything has one batch axis in front and is single or double precision.
    """
    batch, length, _ = query.shape
    out = value1.new_zeros(batch, length, value1.shape[2])
    log_sums = query.new_zeros(batch, length)
    if 0 in (batch, length, key1.shape[1], key2.shape[1]):
        return out, log_sums
    with torch.autocast(query.device.type, enabled=False):
        query = query * (scale * math.log2(math.e))
        pairs = math.log2(key1.shape[1] * key2.shape[1])
        largest = pairs + sum(float(value.abs().amax().log2().abs()) for value in (value1, value2))
        scratch = _Scratch(query)
        for b, i, blocks in _blocks(query, key1, key2, causal):
            # Elsewhere than on a CPU, asking takes longer than the passes that it saves.
            small = query.device.type == "cpu" and _within_range(query[b, i], key1[b], key2[b], largest)
            total = out.new_zeros(b.stop - b.start, i.stop - i.start, out.shape[2])
            sums = total.new_zeros(total.shape[:2])
            most = torch.full_like(sums, 0.0 if small else -math.inf)
            for at in blocks:
                scores = _scores(scratch, _rows(query, key1, at), key2, mask1, mask2, causal, at)
                if not small:
                    more = torch.maximum(most, scores.amax(dim=(2, 3)))
                    shift = torch.where(more == -math.inf, 0.0, more)
                    less = torch.exp2(most - shift)
                    most, sums, total = more, sums * less, total * less[..., None]
                    scores -= shift[..., None, None]
                sums += scores.exp2_().sum(dim=(2, 3))
                weighted = torch.bmm(scores.flatten(1, 2), value2[b, at.second])
                total += (weighted.unflatten(1, scores.shape[1:3]) * value1[b, None, at.first]).sum(dim=2)
            # Where no key may be attended to there is nothing to add up: zero.
            nothing = sums == 0
            out[b, i] = total / sums.masked_fill(nothing, 1.0)[..., None]
            log_sums[b, i] = (most + sums.log2()).masked_fill(nothing, 0.0)
    return out, log_sums


@attend.register_fake
def _(
    query: Tensor,
    key1: Tensor,
    key2: Tensor,
    value1: Tensor,
    value2: Tensor,
    mask1: Tensor | None,
    mask2: Tensor | None,
    scale: float,
    causal: bool,
) -> tuple[Tensor, Tensor]:
    return value1.new_empty(query.shape[0], query.shape[1], value1.shape[2]), query.new_empty(query.shape[:2])


@torch.library.custom_op("tenfold::tensor_attention_backward", mutates_args=())
def _attend_backward(
    slope: Tensor,
    query: Tensor,
    key1: Tensor,
    key2: Tensor,
    value1: Tensor,
    value2: Tensor,
    mask1: Tensor | None,
    mask2: Tensor | None,
    out: Tensor,
    log_sums: Tensor,
    scale: float,
    causal: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Derivatives in queries, keys and values; the weights of each block are computed again."""
    to_query, to_key1, to_key2 = (torch.zeros_like(x) for x in (query, key1, key2))
    to_value1, to_value2 = torch.zeros_like(value1), torch.zeros_like(value2)
    gradients = to_query, to_key1, to_key2, to_value1, to_value2
    if 0 in (query.shape[0], query.shape[1], key1.shape[1], key2.shape[1]):
        return gradients
    with torch.autocast(query.device.type, enabled=False):
        query = query * (scale * math.log2(math.e))
        mean = (slope * out).sum(dim=-1)
        for_weights, for_slopes = _Scratch(query), _Scratch(query)
        for b, i, blocks in _blocks(query, key1, key2, causal):
            for at in blocks:
                rows, slopes = _rows(query, key1, at), _rows(slope, value1, at)
                scores = _scores(for_weights, rows, key2, mask1, mask2, causal, at)
                weights = scores.sub_(log_sums[b, i, None, None]).exp2_()
                weighted = torch.bmm(weights.flatten(1, 2), value2[b, at.second]).unflatten(1, scores.shape[1:3])
                to_value1[b, at.first] += (weighted * slope[b, i, None]).sum(dim=1)
                to_value2[b, at.second] += torch.bmm(weights.flatten(1, 2).mT, slopes)
                of_scores = for_slopes.product(slopes, value2[b, at.second].mT).view_as(weights)
                of_scores.sub_(mean[b, i, None, None]).mul_(weights)
                back = torch.bmm(of_scores.flatten(1, 2), key2[b, at.second]).unflatten(1, scores.shape[1:3])
                to_query[b, i] += (back * key1[b, None, at.first]).sum(dim=2)
                to_key1[b, at.first] += (back * query[b, i, None]).sum(dim=1)
                to_key2[b, at.second] += torch.bmm(of_scores.flatten(1, 2).mT, rows)
        to_query *= scale
        # Queries have the factor of powers of two in them.
        to_key1 *= math.log(2)
        to_key2 *= math.log(2)
    return gradients


@_attend_backward.register_fake
def _(
    slope: Tensor,
    query: Tensor,
    key1: Tensor,
    key2: Tensor,
    value1: Tensor,
    value2: Tensor,
    mask1: Tensor | None,
    mask2: Tensor | None,
    out: Tensor,
    log_sums: Tensor,
    scale: float,
    causal: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    keys = torch.empty_like(key1), torch.empty_like(key2)
    return torch.empty_like(query), *keys, torch.empty_like(value1), torch.empty_like(value2)


def _keep(ctx: torch.autograd.function.FunctionCtx, inputs: tuple, output: tuple[Tensor, Tensor]) -> None:
    *tensors, scale, causal = inputs
    ctx.save_for_backward(*tensors, *output)
    ctx.scale, ctx.causal = scale, causal  # type: ignore[attr-defined]
    ctx.mark_non_differentiable(output[1])


def _backward(ctx: torch.autograd.function.FunctionCtx, slope: Tensor, _: Tensor | None) -> tuple[Tensor | None, ...]:
    saved = ctx.saved_tensors  # type: ignore[attr-defined]
    found = _attend_backward(slope, *saved, ctx.scale, ctx.causal)  # type: ignore[attr-defined]
    return (*found, None, None, None, None)


attend.register_autograd(_backward, setup_context=_keep)
