"""Planted structures, and how many evaluations a searcher needs to find them."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from tenfold.network import Network
from tenfold.structure_search import (
    Dense,
    FullyConnected,
    Point,
    Ring,
    Session,
    Space,
    Spent,
    WeightedSum,
    find_searcher,
)

# The ring of six modes of size three on which the papers' code is shown.
RANKS, ORDER, EXTENT, LARGEST = (3, 4, 2, 2, 3, 2), (0, 3, 2, 1, 4, 5), 3, 7
# Graphs on as many modes, all their edges of one size: a random tree and one edge more.
MODES, EDGE = 5, 2
# The relative error with which the planted structure counts.
_FOUND = 1e-3


@dataclass(frozen=True)
class Run:
    """One search: whether it found the planted structure, and after how many evaluations and fits."""

    found: bool
    counted: int
    fits: int
    seconds: float


def planted_ring(seed: int) -> tuple[Dense, Space, int]:
    """A tensor made by a ring with its modes in a hidden order, the space to search, the planted size."""
    space = Ring((EXTENT,) * len(RANKS), max_rank=LARGEST)
    structure = space.structure(Point(RANKS, ORDER))
    return Dense(Network.random(structure, seed=seed, dtype=torch.float64).dense()), space, structure.parameters


def planted_graph(seed: int) -> tuple[Dense, Space, int]:
    """A tensor made by a connected graph on five modes with bonds of two, the space to search, the planted size."""
    generator = np.random.default_rng(seed)
    space = FullyConnected((EXTENT,) * MODES, max_rank=EDGE)
    modes = generator.permutation(MODES).tolist()
    there = {frozenset((modes[k], modes[int(generator.integers(k))])) for k in range(1, MODES)}
    left = [edge for edge in space.edges if frozenset(edge) not in there]
    there.add(frozenset(left[int(generator.integers(len(left)))]))
    structure = space.structure(
        Point(tuple(EDGE if frozenset(edge) in there else 1 for edge in space.edges), tuple(range(MODES)))
    )
    return Dense(Network.random(structure, seed=seed, dtype=torch.float64).dense()), space, structure.parameters


def searched(
    name: str,
    seed: int,
    most: int,
    planted: Callable[[int], tuple[Dense, Space, int]] = planted_ring,
    **options: Any,
) -> Run:
    """Search for what is planted by a seed, or as good, with as many evaluations at most, until it is found."""
    target, space, size = planted(seed)
    objective = WeightedSum(target.size)
    # Now and then something else is better still than what was planted.
    enough = objective.value(size, _FOUND)

    def found(session: Session) -> bool:
        best = session.best
        return best is not None and best.value <= enough

    def watch(session: Session) -> None:
        if found(session):
            raise Spent

    with Session(target, objective, evaluations=most, seed=seed, watch=watch) as session:
        with suppress(Spent):
            find_searcher(name).function(session, space, seed=seed, **options)
        return Run(found(session), session.counted, session.fits, session.elapsed)
