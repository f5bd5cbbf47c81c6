"""Rows in blocks for a kernel, shared out to threads."""

from __future__ import annotations

import threading
from collections.abc import Callable

import torch
from torch import Tensor

from tenfold._team import shared
from tenfold.nn._execution import plain

# Addresses and pitches of what comes in and goes out, address of the bias or 0, memory to work in, first and last row.
Kernel = Callable[[int, int, int, int, int, int, int, int], None]

# Parts for each thread, and the multiplications and additions for which it is worth to have one more.
_PARTS, _WORTH = 4, 6_000_000


def threads_for(count: int, flops: int) -> int:
    """As many as torch has, or fewer for less work than they are worth: so many rows with ``flops`` for each."""
    return max(1, min(torch.get_num_threads(), count * flops // _WORTH))


def in_blocks(
    kernel: Kernel, rows: Tensor, bias: Tensor | None, made: int, block: int, memory: int, threads: int
) -> Tensor:
    """What a kernel makes of all rows, ``made`` features for each.

    Args:
        kernel: what is called in each thread.
        rows, bias: as of a linear layer.
        made: features that go out.
        block: rows that the kernel takes at once.
        memory: bytes that it works in.
        threads: that share the rows, at most.
    """
    # Of a view that is negative, the address tells the numbers without their sign.
    rows = rows.resolve_neg()
    if rows.stride(1) != 1:
        rows = rows.contiguous()
    own = bias is not None and bias.dtype == rows.dtype and bias.is_contiguous() and plain(bias) and bias.is_cpu
    if own and bias is not None:
        bias = bias.resolve_neg()
    count, size = rows.shape[0], rows.element_size()
    result = torch.empty(count, made, dtype=rows.dtype)
    threads = min(threads, -(-count // block))
    source, target, place = rows.data_ptr(), result.data_ptr(), _work(threads * memory).data_ptr()
    pitch, added = rows.stride(0) * size, bias.data_ptr() if own and bias is not None else 0

    def part(n: int, first: int, last: int) -> None:
        kernel(source, pitch, target, made * size, added, place + n * memory, first, last)

    in_parts(count, block, part, threads)
    return result if own or bias is None else result + bias.to(result.dtype)


def in_parts(count: int, block: int, part: Callable[[int, int, int], object], threads: int) -> None:
    """``part(number, first, last)`` for parts of so many rows, whole blocks of them, by so many threads at most.

    ``number`` is that of the thread.
    """
    blocks = -(-count // block)
    threads = min(threads, blocks)
    if threads < 2:
        part(0, 0, count)
        return
    # Several for each thread: who begins late, or is held up, does fewer of them.
    step = max(1, blocks // (_PARTS * threads)) * block
    starts = range(0, count, step)
    shared(starts, lambda number, first: part(number, first, min(first + step, count)), threads)


_own = threading.local()


def _work(size: int) -> Tensor:
    """Memory of this thread to work in, kept: to get it anew would take as long as some products."""
    held: Tensor | None = getattr(_own, "held", None)
    if held is None or held.numel() < size:
        with torch.inference_mode(False):
            held = _own.held = torch.empty(size, dtype=torch.uint8)
    return held
