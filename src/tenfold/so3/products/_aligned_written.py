"""Runs the code that is written for a form."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from tenfold.so3._shares import shared
from tenfold.so3._simd import BYTES
from tenfold.so3.products._aligned_form import Form

if TYPE_CHECKING:
    from tenfold.so3._code import Code
    from tenfold.so3.products._aligned_code import Work

# The code of larger forms takes many seconds to compile.
_MOST = 6


def suits(form: Form, features: Tensor, vectors: Tensor, weight: Tensor, *, each: bool) -> bool:
    """Whether there is code for this: each channel has weights, channels fill vectors, no edge has length zero.

    Args:
        each: whether weights get gradients, which code writes for each edge only.
    """
    if max(*form.inner, *form.outer, form.degree // 2) > _MOST or weight.shape[2] != features.shape[2]:
        return False
    if (each and len(weight) != len(vectors)) or not len(vectors):
        return False
    if features.shape[2] * features.element_size() % BYTES:
        return False
    from tenfold.so3.products._aligned_kernels import directed

    return bool(directed(vectors.contiguous().numpy()))


@lru_cache(maxsize=256)
def _code(form: Form, work: Work) -> Code:
    from tenfold.so3._code import compiled
    from tenfold.so3._simd import llvm
    from tenfold.so3.products import _aligned_code, _aligned_form, _edge_frames, _edge_writer

    writers = (_aligned_code, _aligned_form, _edge_frames, _edge_writer, llvm)
    return compiled(lambda: _aligned_code.written(form, work), _aligned_code.NAME, f"{form} {work}", writers)


def run(form: Form, rows: int, kind: str, like: Tensor, flags: dict[str, bool], given: dict[str, Any]) -> None:
    """Has it done for all rows; ``given`` are tensors and arrays, contiguous, by the names of the arguments."""
    from tenfold.so3.products._aligned_code import ARGUMENTS, Work

    work = Work(kind, like.element_size(), **flags)  # type: ignore[arg-type]
    code = _code(form, work)
    numbers = np.zeros(len(ARGUMENTS), np.int64)
    for name, value in given.items():
        address = value.data_ptr() if isinstance(value, Tensor) else value.ctypes.data
        numbers[ARGUMENTS.index(name)] = address
        step = f"{name}_step"
        if step in ARGUMENTS and len(value) > 1:
            numbers[ARGUMENTS.index(step)] = value.stride(0) * value.element_size()
    numbers[ARGUMENTS.index("width")] = like.shape[2] * like.element_size()
    # Some nodes have many edges, others none: threads share both.
    work_of = given["starts"][:rows] + np.arange(rows)
    total = int(given["starts"][rows]) + rows

    def share(first: int, last: int) -> None:
        mine = numbers.copy()
        mine[:2] = np.searchsorted(work_of, (first, last))
        code(mine.ctypes.data)

    shared(total, share)
