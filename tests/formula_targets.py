"""A target whose errors are a formula of the structure: no fit is made."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch

from tenfold.network import Network
from tenfold.structure import Structure
from tenfold.structure_search.targets import Fitted


@dataclass(frozen=True)
class Formula:
    """``error(structure)`` is what a fit reaches, and the bound on it."""

    shape: tuple[int, ...]
    error: Callable[[Structure], float]
    bounded: bool = True

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    def bound(self, structure: Structure) -> float:
        return self.error(structure) if self.bounded else 0.0

    def fit(
        self,
        structure: Structure,
        *,
        near: Network | None = None,
        seed: int = 0,
        sweeps: int | None = None,
        within: float = math.inf,
        stop: Callable[[], bool] | None = None,
    ) -> Fitted:
        cores = [torch.zeros(core.shape, dtype=torch.float64) for core in structure.cores]
        return Fitted(Network(structure, cores), self.error(structure), 1)


def missing_edges(wanted: Structure) -> Callable[[Structure], float]:
    """Zero where every bond of ``wanted`` is there and as large, else more the more is missing."""
    bonds = {index: wanted.sizes[index] for index in wanted.inner_indices}

    def error(structure: Structure) -> float:
        lost = sum(max(0, math.log(size / structure.sizes.get(index, 1))) for index, size in bonds.items())
        return 1 - math.exp(-lost) if lost else 0.0

    return error


def hashed(structure: Structure) -> float:
    """An error that says nothing: any number between 0 and 1, the same for the same structure."""
    return (int(structure.key[:12], 16) + 1) / (16**12 + 2)
