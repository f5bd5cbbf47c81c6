"""Ranks of a tree-shaped structure from the singular values across its bonds.

Truncating every bond of a tree loses at most the sum of what each bond alone loses, so the tails of the spectra are an
upper bound on the squared error of any choice of ranks. Starting from all of them, the bond whose next values cost
least error for each parameter saved is cut, again and again; the path passes near the best trade at every size.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from tenfold.structure import Structure


def choose_ranks(
    structure: Structure,
    spectra: Mapping[str, Sequence[float]],
    *,
    error: float | None = None,
    parameters: int | None = None,
) -> dict[str, int] | None:
    """The ranks on the greedy path that first meet a budget, from above.

    Args:
        structure: a tree; only its topology and the sizes of its outputs matter.
        spectra: the singular values across each bond, largest first.
        error: the last ranks on the path whose bound on the relative error stays within this.
        parameters: the first ranks on the path with at most this many parameters, filled up to them.

    Returns:
        The rank of each bond, or None when even ranks of one have more than ``parameters``.
    """
    squares = {bond: np.square(np.asarray(values, dtype=np.float64)) for bond, values in spectra.items()}
    tails = {bond: np.append(values[::-1].cumsum()[::-1], 0.0) for bond, values in squares.items()}
    total = max((float(tail[0]) for tail in tails.values()), default=0.0)
    ranks = {bond: len(values) for bond, values in squares.items()}
    size = _Parameters(structure, ranks)
    lost = 0.0
    if parameters is not None and size.total <= parameters:
        return ranks
    while True:
        best: tuple[float, str, int] | None = None
        for bond, rank in ranks.items():
            if rank == 1:
                continue
            # Long bonds are cut by one per cent at a time: one by one would only take longer.
            cut = rank - max(1, rank // 100)
            price = (tails[bond][cut] - tails[bond][rank]) / size.saved(bond, cut)
            if best is None or price < best[0]:
                best = (price, bond, cut)
        if best is None:
            return ranks if parameters is None else None
        _, bond, cut = best
        after = lost + float(tails[bond][cut] - tails[bond][ranks[bond]])
        if error is not None and after > error**2 * total:
            # The cheapest cut is too much; smaller ones may still fit, so leave them to a finer step.
            fine = [
                (b, r - 1)
                for b, r in ranks.items()
                if r > 1 and lost + tails[b][r - 1] - tails[b][r] <= error**2 * total
            ]
            if not fine:
                return ranks
            bond, cut = max(fine, key=lambda item: size.saved(*item))
            after = lost + float(tails[bond][cut] - tails[bond][ranks[bond]])
        size.set(bond, cut)
        ranks[bond] = cut
        lost = after
        if parameters is not None and size.total <= parameters:
            return _refilled(ranks, size, tails, parameters)


def _refilled(
    ranks: dict[str, int], size: _Parameters, tails: Mapping[str, np.ndarray], parameters: int
) -> dict[str, int]:
    """The ranks with what the last cut left of the budget spent again, where it buys most."""
    while True:
        best: tuple[float, str] | None = None
        for bond, rank in ranks.items():
            if rank + 1 < len(tails[bond]) and size.total + size.added(bond) <= parameters:
                gain = (tails[bond][rank] - tails[bond][rank + 1]) / size.added(bond)
                if best is None or gain > best[0]:
                    best = (gain, bond)
        if best is None:
            return ranks
        ranks[best[1]] += 1
        size.set(best[1], ranks[best[1]])


class _Parameters:
    """The parameter count of a structure as its ranks change."""

    def __init__(self, structure: Structure, ranks: Mapping[str, int]) -> None:
        self.cores = [core.indices for core in structure.cores]
        self.sizes = {**structure.sizes, **ranks}
        self.of_core = [self._count(indices, self.sizes) for indices in self.cores]
        self.total = sum(self.of_core)

    @staticmethod
    def _count(indices: Sequence[str], sizes: Mapping[str, int]) -> int:
        return math.prod(sizes[index] for index in indices)

    def saved(self, bond: str, rank: int) -> int:
        old = self.sizes[bond]
        touched = (n for n, indices in enumerate(self.cores) if bond in indices)
        return sum(self.of_core[n] - self.of_core[n] // old * rank for n in touched)

    def added(self, bond: str) -> int:
        """What one more on this bond costs."""
        return -self.saved(bond, self.sizes[bond] + 1)

    def set(self, bond: str, rank: int) -> None:
        self.sizes[bond] = rank
        for n, indices in enumerate(self.cores):
            if bond in indices:
                self.of_core[n] = self._count(indices, self.sizes)
        self.total = sum(self.of_core)
