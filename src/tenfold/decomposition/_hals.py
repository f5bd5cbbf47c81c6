"""Hierarchical alternating least squares: nonnegative rows, one at a time, from their normal equations."""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

# Columns are independent of one another; so many at a time stay in the first-level cache.
_BLOCK = 256


def hals(
    factor: Shaped[Tensor, "r n"], right: Shaped[Tensor, "r n"], gram: Float[Tensor, "r r"], passes: int = 20
) -> Shaped[Tensor, "r n"]:
    """A nonnegative factor that lowers ``<x, gram x> / 2 - <right, x>``, by passes over its rows.

    Every row is minimised exactly with the others held: ``a_r = max(0, a_r + (right_r - gram_r a) / gram_rr)``, so no
    pass raises the value. Rows whose ``gram_rr`` is zero stay. A block of columns is left after ``passes``, or once a
    pass changes it by less than a hundredth of what the first did. On CPU a compiled kernel, elsewhere plain torch.

    Cost ``2 n r^2`` flops a pass.
    Paper: "Fast local algorithms for large scale nonnegative matrix and tensor factorizations", 2009.
    """
    if factor.device.type != "cpu":
        return hals_plain(factor, right, gram, passes)
    made = factor.detach().clone(memory_format=torch.contiguous_format)
    _kernel()(
        made.numpy(), right.detach().contiguous().numpy(), gram.to(factor.dtype).contiguous().numpy(), passes, _BLOCK
    )
    return made


def hals_plain(factor: Tensor, right: Tensor, gram: Tensor, passes: int = 20) -> Tensor:
    """What `hals` computes, in torch; here all columns make the same number of passes."""
    made, gram = factor.clone(), gram.to(factor.dtype)
    first = 0.0
    for number in range(passes):
        moved = 0.0
        for row in range(len(made)):
            own = gram[row, row]
            if not own > 0:
                continue
            updated = (made[row] + (right[row] - gram[row] @ made) / own).clamp(min=0)
            moved += float(((updated - made[row]) ** 2).sum())
            made[row] = updated
        first = first if number else moved
        if moved <= 1e-4 * first:
            break
    return made


@cache
def _kernel() -> Any:
    import numpy as np
    from numba import njit

    @njit(cache=True, nogil=True, fastmath={"reassoc", "contract", "nsz"})
    def run(made: Any, right: Any, gram: Any, passes: int, block: int) -> None:
        rank, extent = made.shape
        held = np.empty(block, made.dtype)
        for start in range(0, extent, block):
            width = min(block, extent - start)
            first = 0.0
            for number in range(passes):
                moved = 0.0
                for row in range(rank):
                    own = gram[row, row]
                    if not own > 0:
                        continue
                    for i in range(width):
                        held[i] = right[row, start + i]
                    for other in range(rank):
                        weight = gram[row, other]
                        for i in range(width):
                            held[i] -= weight * made[other, start + i]
                    for i in range(width):
                        before = made[row, start + i]
                        after = max(before + held[i] / own, 0)
                        moved += (after - before) ** 2
                        made[row, start + i] = after
                if number == 0:
                    first = moved
                if moved <= 1e-4 * first:
                    break

    return run
