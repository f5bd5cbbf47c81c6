"""Rows in blocks for a kernel, shared out to threads."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache

import torch
from torch import Tensor

from tenfold.nn._execution import plain

# Addresses and pitches of what comes in and goes out, address of the bias or 0, memory to work in, first and last row.
Kernel = Callable[[int, int, int, int, int, int, int, int], None]


def in_blocks(kernel: Kernel, rows: Tensor, bias: Tensor | None, made: int, block: int, memory: int) -> Tensor:
    """What a kernel makes of all rows, ``made`` features for each, with as many threads as torch has.

    Args:
        kernel: what is called in each thread.
        rows, bias: as of a linear layer.
        made: features that go out.
        block: rows that the kernel takes at once.
        memory: bytes that it works in.
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
    threads = min(torch.get_num_threads(), -(-count // block))
    source, target, place = rows.data_ptr(), result.data_ptr(), _work(threads * memory).data_ptr()
    pitch, added = rows.stride(0) * size, bias.data_ptr() if own and bias is not None else 0

    def part(n: int, first: int, last: int) -> None:
        kernel(source, pitch, target, made * size, added, place + n * memory, first, last)

    in_parts(count, block, part)
    return result if own or bias is None else result + bias.to(result.dtype)


def in_parts(count: int, block: int, part: Callable[[int, int, int], object]) -> None:
    """``part(number, first, last)`` for parts of so many rows, whole blocks of them, one for each thread of torch."""
    blocks = -(-count // block)
    threads = min(torch.get_num_threads(), blocks)
    if threads < 2:
        part(0, 0, count)
        return
    ends = [min(blocks * n // threads * block, count) for n in range(threads + 1)]
    others = [_pool().submit(part, n, ends[n], ends[n + 1]) for n in range(1, threads)]
    part(0, ends[0], ends[1])
    for other in others:
        other.result()


_own = threading.local()


def _work(size: int) -> Tensor:
    """Memory of this thread to work in, kept: to get it anew would take as long as some products."""
    held: Tensor | None = getattr(_own, "held", None)
    if held is None or held.numel() < size:
        with torch.inference_mode(False):
            held = _own.held = torch.empty(size, dtype=torch.uint8)
    return held


@cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(thread_name_prefix="tenfold-lanes")


# A process that is forked has none of the threads that its parent's pool knows.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_pool.cache_clear)
