"""A quasi-Newton method in a box for a few numbers, whose whole memory is one value that a file can keep."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

Function = Callable[[Float[Tensor, " p"]], tuple[float, Float[Tensor, " p"]]]

# Steps that are remembered; the farthest that one number moves in a step; halvings before a direction is given up.
_MEMORY, _FARTHEST, _HALVINGS = 10, 1.5, 12


@dataclass(frozen=True, eq=False)
class Point:
    """Where a minimisation stands.

    Attributes:
        place: the numbers.
        value, gradient: of the function there.
        steps, turns: the last differences of places and of gradients, a row each.
    """

    place: Float[Tensor, " p"]
    value: float
    gradient: Float[Tensor, " p"]
    steps: Float[Tensor, "m p"]
    turns: Float[Tensor, "m p"]


def start(function: Function, place: Float[Tensor, " p"]) -> Point:
    """The point before the first step."""
    value, gradient = function(place)
    nothing = place.new_zeros(0, len(place))
    return Point(place, value, gradient, nothing, nothing)


def improve(function: Function, point: Point, lowest: float, highest: float) -> Point | None:
    """One step of L-BFGS with backtracking, between ``lowest`` and ``highest``; None where nothing lower is found."""
    for remembered in (True, False):
        if remembered and not len(point.steps):
            continue
        direction = _direction(point) if remembered else -point.gradient / max(1.0, float(point.gradient.norm()))
        slope = float(direction @ point.gradient)
        if not slope < 0:
            continue
        direction = direction * min(1.0, _FARTHEST / float(direction.abs().max()))
        length = 1.0
        for _ in range(_HALVINGS):
            place = (point.place + length * direction).clamp(lowest, highest)
            moved = place - point.place
            value, gradient = function(place)
            if math.isfinite(value) and value <= point.value + 1e-4 * float(moved @ point.gradient) < point.value:
                turned = gradient - point.gradient
                steps, turns = point.steps, point.turns
                if float(moved @ turned) > 1e-10 * float(moved.norm() * turned.norm()):
                    steps = torch.cat([steps, moved[None]])[-_MEMORY:]
                    turns = torch.cat([turns, turned[None]])[-_MEMORY:]
                return Point(place, value, gradient, steps, turns)
            length /= 2
    return None


def _direction(point: Point) -> Tensor:
    """The two-loop recursion."""
    direction, kept = -point.gradient, []
    for step, turn in zip(point.steps.flip(0), point.turns.flip(0), strict=True):
        part = (step @ direction) / (step @ turn)
        direction = direction - part * turn
        kept.append(part)
    direction = direction * (point.steps[-1] @ point.turns[-1]) / point.turns[-1].square().sum()
    for step, turn, part in zip(point.steps, point.turns, reversed(kept), strict=True):
        direction = direction + (part - (turn @ direction) / (step @ turn)) * step
    return direction
