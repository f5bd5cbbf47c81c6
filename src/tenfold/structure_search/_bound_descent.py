"""Descents on what singular values across cuts allow: starts for a search that cost no evaluation."""

from __future__ import annotations

import numpy as np

from tenfold.structure_search.session import Session
from tenfold.structure_search.spaces import Point, Space

# Steps of one descent, and descents of which the best is taken.
_STEPS, _DESCENTS = 60, 3


def descended(session: Session, space: Space, generator: np.random.Generator) -> Point | None:
    """Where steepest descents on the objective of size and bound end, from random points; the best of a few.

    None where nothing is known of the errors of structures before they are fitted.
    """
    if session.target.bound(space.structure(space.first())) == 0:
        return None
    ends = [_descent(session, space, space.random(generator)) for _ in range(_DESCENTS)]
    return min(ends, key=lambda end: end[0])[1]


def _descent(session: Session, space: Space, point: Point) -> tuple[float, Point]:
    value = bound_value(session, space, point)
    for _ in range(_STEPS):
        around = [(bound_value(session, space, near), near) for near in space.neighbours(point)]
        best = min(around, key=lambda one: one[0], default=(value, point))
        if best[0] >= value:
            break
        value, point = best
    return value, point


def bound_value(session: Session, space: Space, point: Point) -> float:
    """The least value of the objective that a point could have."""
    structure = space.structure(point)
    return session.objective.value(structure.parameters, session.target.bound(structure))
