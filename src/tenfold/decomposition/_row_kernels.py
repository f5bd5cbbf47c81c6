"""Normal equations of rows that see cells of their own: compiled, and in plain torch to compare with.

BLAS has no call for many small Gram matrices of different numbers of vectors; padded to one number, most of what is
multiplied is padding.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import cache, partial
from typing import Any

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor

# Products below which threads would cost more than they save.
_WORTH = 10**7


def row_systems(
    environments: Shaped[Tensor, "n k"],
    weights: Float[Tensor, " n"],
    numbers: Shaped[Tensor, " n"],
    first: Int[Tensor, " r+1"],
) -> tuple[Shaped[Tensor, "r k k"], Shaped[Tensor, "r k"]]:
    """``sum w conj(e) e^T`` and ``sum conj(e) numbers`` over the cells ``first[i]:first[i + 1]``, for each row i.

    Every row is summed by one thread in the order of its cells, so the sums do not depend on the number of threads.
    Cost ``n k^2`` for n cells, and no memory beyond the result.
    """
    shape = len(first) - 1, environments.shape[1]
    gram = torch.empty(*shape, shape[1], dtype=environments.dtype)
    right = torch.empty(shape, dtype=environments.dtype)
    kept = (environments.contiguous(), weights.contiguous(), numbers.contiguous(), first, gram, right)
    arrays = [array.resolve_conj().numpy() for array in kept]
    sums = _compiled()
    threads = torch.get_num_threads()
    if threads == 1 or environments.shape[0] * shape[1] ** 2 < _WORTH:
        sums(*arrays, 0, shape[0])
        return gram, right
    # Threads of our own: those of numba would change how many torch has. Equal numbers of cells for each.
    shares = torch.arange(threads + 1) * len(environments) // threads
    bounds = [0, *torch.searchsorted(first, shares[1:-1]).tolist(), shape[0]]
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(partial(sums, *arrays), bounds[:-1], bounds[1:]))
    return gram, right


def plain_row_systems(
    environments: Shaped[Tensor, "n k"],
    weights: Float[Tensor, " n"],
    numbers: Shaped[Tensor, " n"],
    first: Int[Tensor, " r+1"],
) -> tuple[Shaped[Tensor, "r k k"], Shaped[Tensor, "r k"]]:
    """`row_systems` in torch, one row after the other, on any device."""
    gram, right = [], []
    for low, high in zip(first[:-1].tolist(), first[1:].tolist(), strict=True):
        adjoint = environments[low:high].mH
        gram.append(adjoint @ (environments[low:high] * weights[low:high, None]))
        right.append(adjoint @ numbers[low:high])
    return torch.stack(gram), torch.stack(right)


@cache
def _compiled() -> Any:
    import numba
    import numpy as np

    @numba.njit(cache=True, nogil=True)
    def accumulate(environments, weights, numbers, first, gram, right, low, high):  # type: ignore[no-untyped-def]
        columns = environments.shape[1]
        for row in range(low, high):
            gram[row] = 0
            right[row] = 0
            for cell in range(first[row], first[row + 1]):
                for a in range(columns):
                    left = np.conj(environments[cell, a])
                    right[row, a] += left * numbers[cell]
                    left *= weights[cell]
                    for b in range(a + 1):
                        gram[row, a, b] += left * environments[cell, b]
            for a in range(columns):
                for b in range(a):
                    gram[row, b, a] = np.conj(gram[row, a, b])

    return accumulate
