"""Random structures: what every other searcher has to beat."""

from __future__ import annotations

import numpy as np

from tenfold.structure_search._registry import searcher
from tenfold.structure_search.session import Session
from tenfold.structure_search.spaces import Space

# Structures asked for at once: enough for the workers of one machine.
_TOGETHER = 16


@searcher("random_search")
def random_search(session: Session, space: Space, seed: int = 0) -> None:
    """Points of the space drawn at random, until the budget is used up or nothing new is drawn.

    Each is evaluated from random starts only: nothing is learnt from those before.
    """
    generator = np.random.default_rng(seed)
    while True:
        best = session.best
        session.evaluate(
            [space.structure(space.random(generator)) for _ in range(_TOGETHER)],
            beat=best.value if best is not None else float("inf"),
        )
