"""Harmonics and their slopes at the points of a quadrature on the sphere, as tables."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache

import numpy as np
from jaxtyping import Float64
from numpy.typing import NDArray


@dataclass(frozen=True)
class Grid:
    """Gauss-Legendre nodes in the cosine of the polar angle times equal steps around the axis.

    Attributes:
        cosine: of the polar angle, from y, one number for each ring.
        area: what a ring's points weigh, each.
        turn: the angles around y.
    """

    cosine: Float64[np.ndarray, " ring"]
    area: Float64[np.ndarray, " ring"]
    turn: Float64[np.ndarray, " step"]

    @property
    def points(self) -> int:
        """How many points."""
        return len(self.cosine) * len(self.turn)


def sizes(degree: int) -> tuple[int, int]:
    """The fewest rings and steps that integrate polynomials of this degree exactly."""
    return degree // 2 + 1, degree + 1


@cache
def grid(rings: int, steps: int) -> Grid:
    """Gauss-Legendre rings of equal steps that begin at angle zero. Not to be written to."""
    cosine, area = np.polynomial.legendre.leggauss(rings)
    return Grid(cosine, area * (2 * math.pi / steps), 2 * math.pi * np.arange(steps) / steps)


def legendre(largest: int, cosine: NDArray[np.float64], sine: NDArray[np.float64]) -> Float64[np.ndarray, "l m ring"]:
    """Associated Legendre functions that make harmonics of norm one, for ``m >= 0``; zero where ``m > l``.

    A negative sine continues them beyond the poles, where they are the same trigonometric polynomials.
    """
    table = np.zeros((largest + 1, largest + 1, len(cosine)))
    table[0, 0] = math.sqrt(1 / (4 * math.pi))
    for m in range(largest + 1):
        if m:
            table[m, m] = table[m - 1, m - 1] * sine * math.sqrt((2 * m + 1) / (2 * m))
        if m < largest:
            table[m + 1, m] = math.sqrt(2 * m + 3) * cosine * table[m, m]
        for n in range(m + 2, largest + 1):
            lead = math.sqrt((4 * n * n - 1) / (n * n - m * m))
            less = math.sqrt(((n - 1) ** 2 - m * m) / (4 * (n - 1) ** 2 - 1))
            table[n, m] = lead * (cosine * table[n - 1, m] - less * table[n - 2, m])
    return table


def slopes(largest: int, cosine: NDArray[np.float64], sine: NDArray[np.float64]) -> Float64[np.ndarray, "l m ring"]:
    """Derivatives of `legendre` by the polar angle, away from the poles."""
    table = legendre(largest, cosine, sine)
    found = np.zeros_like(table)
    for n in range(largest + 1):
        for m in range(n + 1):
            found[n, m] = m * cosine / sine * table[n, m]
            if m < n:
                found[n, m] -= math.sqrt((n - m) * (n + m + 1)) * table[n, m + 1]
    return found


def waves(largest: int, turn: NDArray[np.floating]) -> Float64[np.ndarray, "m step"]:
    """The factor of order m, from ``-largest`` to ``largest``: sines, one, cosines."""
    order = np.arange(-largest, largest + 1)[:, None]
    found = math.sqrt(2) * np.where(order < 0, np.sin(-order * turn), np.cos(order * turn))
    found[largest] = 1
    return found


def wave_slopes(largest: int, turn: NDArray[np.floating]) -> Float64[np.ndarray, "m step"]:
    """Derivatives of `waves`: order m times the wave of order ``-m``, cosines falling."""
    order = np.arange(-largest, largest + 1)[:, None]
    return -order * waves(largest, turn)[::-1]


def components(largest: int) -> list[tuple[int, int]]:
    """Degree and order of each component of a signal, in their order."""
    return [(degree, m) for degree in range(largest + 1) for m in range(-degree, degree + 1)]


def values(
    largest: int, polar: Float64[np.ndarray, "l m ring"], around: Float64[np.ndarray, "m step"]
) -> Float64[np.ndarray, "point component"]:
    """Products of a function on rings and one of steps, for all components: what evaluates a signal at once."""
    columns = [np.outer(polar[degree, abs(m)], around[largest + m]).ravel() for degree, m in components(largest)]
    return np.stack(columns, axis=1)
