"""Whether components of a CP network grow while they cancel one another."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from tenfold.components._terms import terms_of
from tenfold.network import Network

# Two components this opposite, or a component this many times as large as the data, are a sign of degeneracy.
_OPPOSITE, _GROWN = -0.97, 100.0


@dataclass(frozen=True)
class Degeneracy:
    """How far components of a network cancel one another.

    Attributes:
        pair: the two components with the least cosine, in the order of the network, None for fewer than two.
        cosine: the product over the modes of the cosines between their columns; -1 where one is the other's negative.
        growth: the norm of the largest component over that of the data.
        degenerate: whether the cosine is below -0.97, or the growth above 100: the best approximation of this rank may
            not exist, and the components tell nothing about the data.
    """

    pair: tuple[int, int] | None
    cosine: float
    growth: float

    @property
    def degenerate(self) -> bool:
        return self.cosine < _OPPOSITE or self.growth > _GROWN


def degeneracy(network: Network, norm: float | None = None) -> Degeneracy:
    """Look for components that cancel one another.

    Args:
        network: a CP network.
        norm: the norm of the data; by default that of the network.

    Raises:
        StructureError: the network is no sum of rank-one terms.

    Cost: ``O(sum(n) R^2)``.
    Paper: "Tensor rank and the ill-posedness of the best low-rank approximation problem", 2008.
    """
    terms = terms_of(network)
    size = float(network.norm()) if norm is None else norm
    largest = float(terms.weights.max())
    growth = largest / size if size > 0 else (0.0 if largest == 0 else float("inf"))
    if terms.rank < 2:
        return Degeneracy(None, 0.0, growth)
    rows, columns = torch.triu_indices(terms.rank, terms.rank, 1, device=terms.weights.device)
    cosines = terms.cosines().real[rows, columns]
    worst = int(cosines.argmin())
    return Degeneracy((int(rows[worst]), int(columns[worst])), float(cosines[worst]), growth)
