"""A planted ring, and how many evaluations a searcher needs to find it."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import torch

from tenfold.network import Network
from tenfold.structure_search import Dense, Point, Ring, Session, Spent, WeightedSum, find_searcher

# The ring of six modes of size three on which the papers' code is shown.
RANKS, ORDER, EXTENT, LARGEST = (3, 4, 2, 2, 3, 2), (0, 3, 2, 1, 4, 5), 3, 7
# A relative error below which the planted tensor is found again.
_FOUND = 1e-3


@dataclass(frozen=True)
class Run:
    """One search: whether it found the planted structure, and after how many evaluations and fits."""

    found: bool
    counted: int
    fits: int
    seconds: float


def planted_ring(seed: int) -> tuple[Dense, Ring, int]:
    """A tensor made by a ring with its modes in a hidden order, the space to search, the planted size."""
    space = Ring((EXTENT,) * len(RANKS), max_rank=LARGEST)
    structure = space.structure(Point(RANKS, ORDER))
    return Dense(Network.random(structure, seed=seed, dtype=torch.float64).dense()), space, structure.parameters


def searched(name: str, seed: int, most: int, **options: Any) -> Run:
    """Search for the ring planted by a seed, with as many evaluations at most, until it is found."""
    target, space, size = planted_ring(seed)

    def found(session: Session) -> bool:
        best = session.best
        return best is not None and best.parameters <= size and best.error < _FOUND

    def watch(session: Session) -> None:
        if found(session):
            raise Spent

    objective = WeightedSum(target.size)
    with Session(target, objective, evaluations=most, seed=seed, watch=watch) as session:
        with suppress(Spent):
            find_searcher(name).function(session, space, seed=seed, **options)
        return Run(found(session), session.counted, session.fits, session.elapsed)
