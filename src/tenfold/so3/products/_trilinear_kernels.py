"""The loops of `trilinear` and of its derivatives, over rows of a batch and blocks of channels.

All tensors are given by addresses, ``[batch, component, channel]`` with channels last, and by how many bytes lie
between rows and between components. A block of channels passes through all the groups of a plan before the next one
does, so that what it needs of left and right, and the products of the two, stay in the first cache; the long side of
paths and components is read or written once.

The last block overlaps the one before where channels are no multiple of it. So everything that is added up is cleared
for each block, and what is summed over channels counts from ``new`` on.
"""

from __future__ import annotations

from typing import Any

from tenfold.so3._compiled import compiled
from tenfold.so3._simd import BYTES
from tenfold.so3._simd.blocks import (
    channel_at,
    clear,
    fetch,
    product,
    products,
    sum_add,
    sum_past_caches,
    sum_scaled,
    sum_scaled_add,
    sum_scaled_past_caches,
    sum_to,
    sums_to_both,
    widen,
)


@compiled
def _channel_sum(address: int, first: int, last: int, values: Any) -> float:
    """The sum over channels of one row, those before ``first`` left out: another block had them."""
    total = values.dtype.type(0)
    for channel in range(first, last):
        total += channel_at(address, channel, values)
    return total


@compiled
def forward(
    out: int,
    left: int,
    right: int,
    left2: int,
    right2: int,
    weight: int,
    strides: Any,
    first: int,
    last: int,
    begin: int,
    end: int,
    scratch: int,
    plan: Any,
    weighted: bool,
    twice: bool,
    once: bool,
    streamed: bool,
    block: Any,
    values: Any,
) -> None:
    """``out = sum(value * weight * (left * right + left2 * right2))`` for rows and bytes of channels.

    once: every component of out belongs to one path, and is stored instead of added to.
    streamed: it is stored past the caches; then all rows must begin at multiples of 64 bytes.
    """
    group_pairs, pair_left, pair_right, group_ends, end_path, end_out, terms, numbers, sizes = plan
    (out_row, out_step), (left_row, left_step), (right_row, right_step), (weight_row, weight_step) = strides
    _, right_size, paths, outs, most_pairs, _ = sizes
    here = len(block) * BYTES
    pairs = scratch
    wide_right = pairs + here * most_pairs
    wide_right2 = wide_right + here * right_size
    wide_weight = wide_right2 + here * right_size
    number_address, value_address = numbers.ctypes.data, values.ctypes.data
    for row in range(first, last):
        for at in range(begin, end, here):
            c = min(at, end - here)
            to, a, a2 = out + row * out_row + c, left + row * left_row + c, left2 + row * left_row + c
            b, b_step = right + row * right_row + c, right_step
            b2 = right2 + row * right_row + c
            w, w_step = weight + row * weight_row + c, weight_step
            if right_step == values.itemsize:
                for j in range(right_size):
                    widen(wide_right + j * here, right + row * right_row + j * right_step, block, values)
                    if twice:
                        widen(wide_right2 + j * here, right2 + row * right_row + j * right_step, block, values)
                b, b2, b_step = wide_right, wide_right2, here
            if weighted and weight_step == values.itemsize:
                for p in range(paths):
                    widen(wide_weight + p * here, weight + row * weight_row + p * weight_step, block, values)
                w, w_step = wide_weight, here
            if not once:
                for k in range(outs):
                    clear(to + k * out_step, block, values)
            for group in range(len(group_pairs) - 1):
                place = pairs
                for pair in range(group_pairs[group], group_pairs[group + 1]):
                    i, j = pair_left[pair] * left_step, pair_right[pair] * b_step
                    if twice:
                        products(place, a + i, b + j, a2 + i, b2 + j, block, values)
                    else:
                        product(place, a + i, b + j, block, values)
                    place += here
                for e in range(group_ends[group], group_ends[group + 1]):
                    t, u, target = terms[e], terms[e + 1], to + end_out[e] * out_step
                    if weighted:
                        factor = w + end_path[e] * w_step
                        if not once:
                            sum_scaled_add(
                                target, factor, pairs, here, number_address, value_address, t, u, block, values
                            )
                        elif streamed:
                            sum_scaled_past_caches(
                                target, factor, pairs, here, number_address, value_address, t, u, block, values
                            )
                        else:
                            sum_scaled(target, factor, pairs, here, number_address, value_address, t, u, block, values)
                    elif not once:
                        sum_add(target, pairs, here, number_address, value_address, t, u, block, values)
                    elif streamed:
                        sum_past_caches(target, pairs, here, number_address, value_address, t, u, block, values)
                    else:
                        sum_to(target, pairs, here, number_address, value_address, t, u, block, values)


@compiled
def gradients(
    grad_left: int,
    grad_right: int,
    left: int,
    right: int,
    weight: int,
    grad: int,
    strides: Any,
    first: int,
    last: int,
    begin: int,
    end: int,
    scratch: int,
    plan: Any,
    weighted: bool,
    sums: Any,
    block: Any,
    values: Any,
) -> None:
    """What `forward` gives back to left and right.

    Each product of a component of left and one of right gets its share of ``grad`` once, for both of them.

    sums: ``grad_right`` as an array, ``[batch, component]``, for right with one channel; otherwise not used.
    """
    group_runs, runs, pair_left, pair_right, group_ends, end_path, end_out, terms, outs_read, ends_read, sizes = plan
    (left_row, left_step), (right_row, right_step), (weight_row, weight_step), (grad_row, grad_step) = strides
    left_size, right_size, paths, _, _, most_ends = sizes
    here = len(block) * BYTES
    narrow = right_step == values.itemsize
    ends = scratch
    wide_right = ends + here * most_ends
    wide_weight = wide_right + here * right_size
    sums_right = wide_weight + here * paths
    value_address = values.ctypes.data
    for row in range(first, last):
        for at in range(begin, end, here):
            c = min(at, end - here)
            a, da, g = left + row * left_row + c, grad_left + row * left_row + c, grad + row * grad_row + c
            b, db, b_step = right + row * right_row + c, grad_right + row * right_row + c, right_step
            w, w_step = weight + row * weight_row + c, weight_step
            if narrow:
                for j in range(right_size):
                    widen(wide_right + j * here, right + row * right_row + j * right_step, block, values)
                b, db, b_step = wide_right, sums_right, here
            if weighted and weight_step == values.itemsize:
                for p in range(paths):
                    widen(wide_weight + p * here, weight + row * weight_row + p * weight_step, block, values)
                w, w_step = wide_weight, here
            for i in range(left_size):
                clear(da + i * left_step, block, values)
            for j in range(right_size):
                clear(db + j * b_step, block, values)
            for group in range(len(group_runs) - 1):
                # What the next group reads, or the first one of the next row: no processor guesses that.
                ahead, g_ahead = (group + 1, g) if group + 2 < len(group_ends) else (0, g + grad_row)
                wanted, all_wanted = group_ends[ahead], group_ends[ahead + 1]
                few = (all_wanted - wanted) // (group_runs[group + 1] - group_runs[group]) + 1
                rows, rows_step, numbers = g, grad_step, outs_read.ctypes.data
                if weighted:
                    rows, rows_step, numbers = ends, here, ends_read.ctypes.data
                    place = ends
                    for e in range(group_ends[group], group_ends[group + 1]):
                        product(place, w + end_path[e] * w_step, g + end_out[e] * grad_step, block, values)
                        place += here
                for run in range(group_runs[group], group_runs[group + 1]):
                    pair, stop = runs[run], runs[run + 1]
                    i = pair_left[pair] * left_step
                    for e in range(wanted, min(wanted + few, all_wanted)):
                        fetch(g_ahead + end_out[e] * grad_step, block, values)
                    wanted += few
                    sums_to_both(
                        da + i,
                        a + i,
                        db,
                        b,
                        b_step,
                        pair_right.ctypes.data,
                        terms.ctypes.data,
                        rows,
                        rows_step,
                        numbers,
                        value_address,
                        pair,
                        stop,
                        block,
                        values,
                    )
            if narrow:
                new = (at - c) // values.itemsize
                for j in range(right_size):
                    sums[row, j] += _channel_sum(sums_right + j * here, new, here // values.itemsize, values)


@compiled
def weights(
    grad_weight: Any,
    left: int,
    right: int,
    left2: int,
    right2: int,
    grad: int,
    strides: Any,
    first: int,
    last: int,
    begin: int,
    end: int,
    scratch: int,
    plan: Any,
    twice: bool,
    block: Any,
    values: Any,
) -> None:
    """What `forward` gives back to its weights: added to ``grad_weight``, ``[row, path, channel or one]``.

    With one row all rows are added up in it.
    """
    group_pairs, pair_left, pair_right, group_ends, end_path, end_out, terms, numbers, sizes = plan
    (left_row, left_step), (right_row, right_step), (grad_row, grad_step) = strides
    _, right_size, paths, _, most_pairs, _ = sizes
    here = len(block) * BYTES
    pairs = scratch
    wide_right = pairs + here * most_pairs
    wide_right2 = wide_right + here * right_size
    sums = wide_right2 + here * right_size
    number_address, value_address = numbers.ctypes.data, values.ctypes.data
    shared, narrow = grad_weight.shape[0] == 1, grad_weight.shape[2] == 1
    for row in range(first, last):
        for at in range(begin, end, here):
            c = min(at, end - here)
            a, a2 = left + row * left_row + c, left2 + row * left_row + c
            b, b2, b_step = right + row * right_row + c, right2 + row * right_row + c, right_step
            g = grad + row * grad_row + c
            if right_step == values.itemsize:
                for j in range(right_size):
                    widen(wide_right + j * here, right + row * right_row + j * right_step, block, values)
                    if twice:
                        widen(wide_right2 + j * here, right2 + row * right_row + j * right_step, block, values)
                b, b2, b_step = wide_right, wide_right2, here
            for p in range(paths):
                clear(sums + p * here, block, values)
            for group in range(len(group_pairs) - 1):
                ahead, g_ahead = (group + 1, g) if group + 2 < len(group_ends) else (0, g + grad_row)
                wanted, all_wanted = group_ends[ahead], group_ends[ahead + 1]
                few = (all_wanted - wanted) // (group_pairs[group + 1] - group_pairs[group]) + 1
                place = pairs
                for pair in range(group_pairs[group], group_pairs[group + 1]):
                    i, j = pair_left[pair] * left_step, pair_right[pair] * b_step
                    for e in range(wanted, min(wanted + few, all_wanted)):
                        fetch(g_ahead + end_out[e] * grad_step, block, values)
                    wanted += few
                    if twice:
                        products(place, a + i, b + j, a2 + i, b2 + j, block, values)
                    else:
                        product(place, a + i, b + j, block, values)
                    place += here
                for e in range(group_ends[group], group_ends[group + 1]):
                    target, factor = sums + end_path[e] * here, g + end_out[e] * grad_step
                    t, u = terms[e], terms[e + 1]
                    sum_scaled_add(target, factor, pairs, here, number_address, value_address, t, u, block, values)
            new, to = (at - c) // values.itemsize, 0 if shared else row
            for p in range(paths):
                if narrow:
                    grad_weight[to, p, 0] += _channel_sum(sums + p * here, new, here // values.itemsize, values)
                else:
                    part = grad_weight[to, p, c // values.itemsize :]
                    for channel in range(new, here // values.itemsize):
                        part[channel] += channel_at(sums + p * here, channel, values)
