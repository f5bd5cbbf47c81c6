"""The sum over terms as a kernel of Triton that reads them from tables, however many there are."""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit(do_not_specialize=["batch", "segments", "depth", "targets", "x_size", "y_size"])
def contract(  # type: ignore[no-untyped-def]
    out_ptr,
    x_ptr,
    y_ptr,
    x2_ptr,
    y2_ptr,
    factor_ptr,
    segments_ptr,
    target_ends_ptr,
    end_factor_ptr,
    end_terms_ptr,
    term_x_ptr,
    term_y_ptr,
    value_ptr,
    batch,
    channels,
    segments,
    depth,
    targets,
    x_size,
    y_size,
    y_channels,
    factor_row,
    factor_channels,
    ROWS: tl.constexpr,
    LANES: tl.constexpr,
    Y_STEP: tl.constexpr,
    FACTOR_STEP: tl.constexpr,
    FACTOR: tl.constexpr,
    SECOND: tl.constexpr,
    SUMMED: tl.constexpr,
    NARROW: tl.constexpr,
    NUMBER: tl.constexpr,
):
    """``out[target] = sum(value * factor[f] * (x[i] * y[j] + x2[i] * y2[j]))`` over the terms of each target.

    A program takes one segment of targets, `LANES` channels and `depth` times `ROWS` rows. Sums over rows and over
    channels are those of its own part, which is all that it writes of them.
    """
    program = tl.program_id(0)
    across = tl.cdiv(channels, LANES)
    segment = program % segments
    tile = (program // segments) % across
    slab = program // (segments * across)
    lanes = tile * LANES + tl.arange(0, LANES)[None, :]
    for target in range(tl.load(segments_ptr + segment), tl.load(segments_ptr + segment + 1)):
        first = tl.load(target_ends_ptr + target)
        last = tl.load(target_ends_ptr + target + 1)
        total = tl.zeros((ROWS, LANES), NUMBER)
        for step in range(depth):
            rows = (slab * depth + step) * ROWS + tl.arange(0, ROWS)[:, None]
            inside = (rows < batch) & (lanes < channels)
            row = rows.to(tl.int64)
            x_at = row * (x_size * channels) + lanes
            y_at = row * (y_size * y_channels) + lanes * Y_STEP
            for end in range(first, last):
                part = tl.zeros((ROWS, LANES), NUMBER)
                for term in range(tl.load(end_terms_ptr + end), tl.load(end_terms_ptr + end + 1)):
                    i = x_at + tl.load(term_x_ptr + term) * channels
                    j = y_at + tl.load(term_y_ptr + term) * y_channels
                    pair = tl.load(x_ptr + i, inside, other=0.0).to(NUMBER)
                    pair *= tl.load(y_ptr + j, inside, other=0.0).to(NUMBER)
                    if SECOND:
                        other = tl.load(x2_ptr + i, inside, other=0.0).to(NUMBER)
                        pair += other * tl.load(y2_ptr + j, inside, other=0.0).to(NUMBER)
                    part += pair * tl.load(value_ptr + term)
                if FACTOR:
                    f_at = row * factor_row + lanes * FACTOR_STEP + tl.load(end_factor_ptr + end) * factor_channels
                    part *= tl.load(factor_ptr + f_at, inside, other=0.0).to(NUMBER)
                total += part
        rows = slab * depth * ROWS + tl.arange(0, ROWS)[:, None]
        kept = rows < batch
        width = channels
        columns = lanes
        height = rows
        if SUMMED:
            total = tl.sum(total, axis=0, keep_dims=True)
            height = slab + tl.zeros((1, 1), tl.int32)
            kept = height >= 0
        if NARROW:
            total = tl.sum(total, axis=1, keep_dims=True)
            width = across
            columns = tile + tl.zeros((1, 1), tl.int32)
        at = height.to(tl.int64) * (targets * width) + target * width + columns
        tl.store(out_ptr + at, total, kept & (columns < width))
