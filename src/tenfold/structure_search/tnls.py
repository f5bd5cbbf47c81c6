"""TNLS: samples around the best structure so far, in steps that grow smaller."""

from __future__ import annotations

import math
from functools import partial

import numpy as np

from tenfold.errors import TenfoldError
from tenfold.structure_search._drawn import Drawn
from tenfold.structure_search._registry import searcher
from tenfold.structure_search.session import Evaluation, Session
from tenfold.structure_search.spaces import Point, Space

# How the spread of rank steps and the chance of an exchange shrink from one generation to the next.
_SPREAD, _EXCHANGE = 0.9, 0.94
# The longest step of a rank.
_LONGEST = 4
# Generations that are rounding noise: at this spread one sample in a thousand still moves a rank.
_GENERATIONS = 20
# Samples drawn before one is made to lie in the space.
_TRIES = 100


@searcher("tnls")
def tnls(session: Session, space: Space, seed: int = 0, *, samples: int = 60, generations: int = _GENERATIONS) -> None:
    """Local search by sampling ranks and order around the centre; after the last generation it starts anew.

    Args:
        samples: structures in each generation.
        generations: until it starts anew from a random structure.

    Raises:
        TenfoldError: an option out of range.

    Cost: ``1 + samples * generations`` evaluations for each start. Paper: "Permutation Search of Tensor Network
    Structures via Local Sampling", 2022, algorithm 1.
    """
    for name, number in (("samples", samples), ("generations", generations)):
        if isinstance(number, bool) or not isinstance(number, int) or number < 1:
            raise TenfoldError(f"{name} must be a whole number of at least 1, not {number!r}")
    generator = np.random.default_rng(seed)
    while True:
        centre = session.start(space, generator)
        (best,) = session.evaluate([space.structure(centre)])
        for generation in range(generations):
            draw = partial(_sample, space, centre, generation, generator)
            drawn = Drawn(samples, draw, space.structure)
            beat = best.value if best.finished else math.inf
            found = session.evaluate(drawn, near=best, beat=beat)
            centre, best = _better(drawn.points, found, centre, best)


def _better(drawn: list[Point], found: list[Evaluation], centre: Point, best: Evaluation) -> tuple[Point, Evaluation]:
    point, one = min(zip(drawn, found, strict=True), key=lambda pair: (pair[1].value, pair[1].parameters))
    return (point, one) if one.finished and one.value <= best.value else (centre, best)


def _sample(space: Space, centre: Point, generation: int, generator: np.random.Generator) -> Point:
    """A point around the centre: normal steps of the ranks, away from the ends, and at most one exchange."""
    for _ in range(_TRIES):
        point = centre
        steps = generator.normal(0.0, _SPREAD**generation, len(centre.ranks))
        for edge, (rank, step) in enumerate(zip(centre.ranks, steps.tolist(), strict=True)):
            length = min(math.floor(abs(step) + 0.5), _LONGEST)
            sign = -1 if rank == space.max_rank else 1 if rank == 1 else math.copysign(1, step)
            point = point.with_rank(edge, min(max(rank + int(sign) * length, 1), space.max_rank))
        if space.orders and generator.random() < _EXCHANGE**generation:
            a, b = generator.choice(space.modes, 2, replace=False).tolist()
            point = point.swapped(a, b)
        if space.allows(point):
            return point
    return space.mended(point, generator)
