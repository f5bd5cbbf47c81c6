"""Which frequencies a solution has, as far as the right side and the boundary values show them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from tenfold.errors import DataError
from tenfold.pde.problem import Problem

_Array = NDArray[np.float64]

# Power beside the largest below which a peak is leakage of the window, and that which a grid must carry.
_FAINT, _HEARD = 1e-7, 1e-4
# Points for each period: fewer cannot be told from a lower frequency, near to it they nearly cannot.
_DENSE = 2.5
# How many times finer, and along how many lines, one looks for what the grid cannot carry.
_FINER, _LINES = 8, 7


@dataclass(frozen=True)
class Tones:
    """Frequencies along one axis in cycles per unit, 0 first, and the power at each by the largest."""

    frequencies: _Array
    powers: _Array


def tones(problem: Problem, most: int) -> tuple[Tones, ...]:
    """The peaks of the periodogram along each axis, strongest first.

    That of the solution is taken to be that of the right side by the squared symbol of the equation (linear at u = 0,
    with mean coefficients), to which those of the boundary values along that axis are added.

    Cost: one fast Fourier transform of the grid.
    """
    mesh = problem.mesh()
    source = _level(problem.right_side(mesh).numpy())
    given = problem.given(mesh)[0].numpy()
    slopes = linearised(problem)
    symbol = np.full((1,) * source.ndim, slopes["u"], dtype=complex)
    floor = 0.0
    for place, axis in enumerate(problem.axes):
        source = source * _along(_window(axis.points), place, source.ndim)
        turn = 2 * np.pi * np.fft.fftfreq(axis.points, axis.length / (axis.points - 1))
        for order in (1, 2):
            slope = slopes.get(f"u_{axis.name * order}", 0.0)
            symbol = symbol + slope * _along((1j * turn) ** order, place, source.ndim)
            # What turns less than half a period within the domain is not told apart from a constant.
            floor += abs(slope) * (np.pi / axis.length) ** order
    # All coefficients may be 0 at u = 0: then the right side's own spectrum is all there is to go by.
    power = np.abs(np.fft.fftn(source)) ** 2 / ((np.abs(symbol) ** 2 + floor**2) if floor > 0 else 1.0)
    found = []
    for place, axis in enumerate(problem.axes):
        marginal = _scaled(power.sum(axis=tuple(other for other in range(power.ndim) if other != place)))
        for side in problem.sides:
            if side.axis != place:
                along = _level(given.take(-side.end, axis=side.axis))
                marginal = marginal + _scaled(np.abs(np.fft.fft(along * _window(axis.points))) ** 2)
        spacing = (axis.points - 1) / axis.points / axis.length
        found.append(_peaks(_scaled(marginal[: axis.points // 2 + 1]), spacing, most))
    return tuple(found)


def check_grid(problem: Problem) -> None:
    """Raise where right side or boundary values turn faster than the grid can tell.

    Raises:
        DataError: how many points would do.
    """
    for place, axis in enumerate(problem.axes):
        grids = [other.grid(_LINES) for other in problem.axes]
        grids[place] = axis.grid(_FINER * axis.points)
        mesh = problem.mesh(grids)
        lines = [problem.right_side(mesh).movedim(place, 0).reshape(len(grids[place]), -1)]
        given = problem.given(mesh)[0]
        lines += [given.select(side.axis, -side.end).unsqueeze(1) for side in problem.sides if side.axis != place]
        for values in lines:
            power = np.abs(np.fft.rfft(_level(values.numpy()) * _window(len(values))[:, None], axis=0)) ** 2
            heard = np.flatnonzero(power.sum(1) > _HEARD * power.sum(1).max())
            periods = float(heard.max()) - 4 if len(heard) else 0.0  # half the width of the window's own peak
            if periods > 4 and axis.points < _DENSE * periods:
                raise DataError(
                    f"grid of {axis.points} points along {axis.name} is too coarse for {periods:.0f} periods; "
                    f"give at least {math.ceil(4 * periods)}"
                )


def linearised(problem: Problem) -> dict[str, float]:
    """The mean slope of the left side by u and each derivative, where all of them are 0."""
    zeros = {name: torch.zeros(problem.shape, dtype=torch.float64) for name in problem.terms}
    return {name: float(slope.mean()) for name, slope in problem.slopes(zeros, problem.mesh()).items()}


def _level(values: _Array) -> _Array:
    """Values by the largest of them, whose squares can be taken."""
    top = np.abs(values).max()
    return values / top if top > 0 else values


def _window(points: int) -> _Array:
    from scipy.signal.windows import blackmanharris

    return blackmanharris(points)


def _along(values: NDArray[Any], place: int, axes: int) -> NDArray[Any]:
    return values.reshape([-1 if axis == place else 1 for axis in range(axes)])


def _scaled(power: _Array) -> _Array:
    top = power.max()
    return power / top if top > 0 else power


def _peaks(power: _Array, spacing: float, most: int) -> Tones:
    inner = np.arange(1, len(power) - 1)
    high = (power[inner] >= power[inner - 1]) & (power[inner] > power[inner + 1]) & (power[inner] > _FAINT)
    places: Sequence[int] = sorted(inner[high], key=lambda place: -power[place])[: most - 1]
    frequencies, powers = [0.0], [power[0]]
    for place in places:
        # The top of the parabola through three logarithms: a window's peak is nearly one.
        low, top, right = np.log(power[place - 1 : place + 2] + 1e-300)
        frequencies.append((place + 0.5 * (low - right) / (low - 2 * top + right)) * spacing)
        powers.append(power[place])
    return Tones(np.array(frequencies), np.array(powers))
