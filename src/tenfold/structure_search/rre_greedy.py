"""Core shapes of Tucker by raising one rank at a time, each candidate decomposed to see its true error."""

from __future__ import annotations

import torch
from torch import Tensor

from tenfold import formats
from tenfold.decomposition import Decomposition, find
from tenfold.structure_search._tails import check_budget
from tenfold.structure_search.core_shapes import size

# Sweeps of one decomposition, as in the paper's experiments.
_SWEEPS = 20
# Squared relative errors below which there is nothing to gain, and by which none may rise.
_ZERO, _RISE = 1e-15, 1e-9


@torch.no_grad()
def rre_greedy(tensor: Tensor, parameters: int, *, max_sweeps: int = _SWEEPS) -> Decomposition:
    """A Tucker decomposition whose ranks grew from ones, each time in the mode where the error falls most.

    Every candidate is decomposed by higher-order orthogonal iteration, as many of them in a step as there are modes:
    slow, and the measure of what choosing by singular values (`core_shape`) loses and saves.

    Returns:
        The decomposition of the last step; its network's structure has the ranks.

    Raises:
        TenfoldError: a budget that ranks of one exceed.
        DataError: entries that are not finite.

    Cost: N decompositions for each rank added.
    Paper: "Approximately optimal core shapes for tensor decompositions", 2023.
    """
    shape = tuple(tensor.shape)
    check_budget(parameters, 1 + sum(shape), shape)

    def decomposed(ranks: list[int]) -> Decomposition:
        structure = formats.tucker(shape, ranks)
        return find("hooi").function(tensor, structure, max_sweeps=max_sweeps, tol=0.0)

    ranks = [1] * len(shape)
    best = decomposed(ranks)
    while best.error**2 >= _ZERO:
        found: list[tuple[float, int, Decomposition]] = []
        for mode, extent in enumerate(shape):
            raised = [rank + (n == mode) for n, rank in enumerate(ranks)]
            if raised[mode] <= extent and size(shape, raised) <= parameters:
                one = decomposed(raised)
                found.append((one.error, mode, one))
        if not found:
            break
        _, mode, one = min(found, key=lambda item: item[:2])
        if one.error**2 > best.error**2 + _RISE:
            break
        best = one
        ranks[mode] += 1
    return best
