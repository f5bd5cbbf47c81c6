"""Coupling coefficients for real bases: whole numbers to the last step, where one root and one rounding remain."""

from __future__ import annotations

import math
from fractions import Fraction
from functools import cache

import numpy as np
from numpy.typing import NDArray


def complex_3j(degrees: tuple[int, int, int], orders: tuple[int, int, int]) -> float:
    """Wigner's 3j symbol for the complex basis of Condon and Shortley, correctly rounded but for the root."""
    (l1, l2, l3), (m1, m2, m3) = degrees, orders
    # The three sums of degrees less the third; products of their binomials are Racah's sum without fractions.
    a, b, c = l1 + l2 - l3, l1 - l2 + l3, -l1 + l2 + l3
    if min(a, b, c) < 0 or m1 + m2 + m3 or any(abs(m) > n for n, m in zip(degrees, orders, strict=True)):
        return 0.0
    racah = 0
    for t in range(max(0, l1 - m1 - b, l2 + m2 - c), min(a, l1 - m1, l2 + m2) + 1):
        racah += (-1) ** t * math.comb(a, t) * math.comb(b, l1 - m1 - t) * math.comb(c, l2 + m2 - t)
    if not racah:
        return 0.0
    factorial = math.factorial
    above = math.prod(factorial(n + m) * factorial(n - m) for n, m in zip(degrees, orders, strict=True))
    below = factorial(l1 + l2 + l3 + 1) * factorial(a) * factorial(b) * factorial(c)
    sign = (-1) ** ((l1 - l2 - m3) % 2) * (1 if racah > 0 else -1)
    return sign * math.sqrt(Fraction(racah * racah * above, below))


@cache
def real_3j(l1: int, l2: int, l3: int) -> NDArray[np.float64]:
    """The invariant of three real irreps, of norm one; zero where the triangle inequality fails. Not to be written to.

    Signs are those of e3nn: the coefficient of a Gaunt integral is positive, and the cross product is right-handed.
    """
    found = np.zeros((2 * l1 + 1, 2 * l2 + 1, 2 * l3 + 1))
    if abs(l1 - l2) <= l3 <= l1 + l2:
        # Clebsch-Gordan coefficients of the complex basis, up to the factor that the norm takes out.
        coupled = np.zeros(found.shape)
        for m1 in range(-l1, l1 + 1):
            for m2 in range(max(-l2, -l3 - m1), min(l2, l3 - m1) + 1):
                m3 = m1 + m2
                sign = (-1) ** ((l1 - l2 + m3) % 2)
                coupled[l1 + m1, l2 + m2, l3 + m3] = sign * complex_3j((l1, l2, l3), (m1, m2, -m3))
        first, second, third = _complex_to_real(l1), _complex_to_real(l2), _complex_to_real(l3)
        # One basis after the other: (2l+1)^4 operations each, of which few are not zero.
        real = np.einsum("ijk,ia->ajk", coupled, first)
        real = np.einsum("ajk,jb->abk", real, second)
        found = np.where(_allowed(l1, l2, l3), np.einsum("abk,kc->abc", real, third.conj()).real, 0.0)
        found /= np.linalg.norm(found)
    found.flags.writeable = False
    return found


@cache
def gaunt_factor(l1: int, l2: int, l3: int) -> float:
    """What the integral of three real harmonics is, in units of `real_3j`; zero for an odd sum of degrees."""
    if (l1 + l2 + l3) % 2:
        return 0.0
    sizes = (2 * l1 + 1) * (2 * l2 + 1) * (2 * l3 + 1)
    return math.sqrt(sizes / (4 * math.pi)) * abs(complex_3j((l1, l2, l3), (0, 0, 0)))


def _complex_to_real(degree: int) -> NDArray[np.complex128]:
    """Unitary; row the order in the complex basis, column in the real one, of which sines come first."""
    change = np.zeros((2 * degree + 1, 2 * degree + 1), dtype=np.complex128)
    root = math.sqrt(0.5)
    change[degree, degree] = 1
    for m in range(1, degree + 1):
        change[degree - m, degree + m] = root
        change[degree - m, degree - m] = -1j * root
        change[degree + m, degree + m] = (-1) ** m * root
        change[degree + m, degree - m] = 1j * (-1) ** m * root
    # With this phase real invariants come out real, whatever the sum of the degrees.
    return (-1j) ** degree * change


def _allowed(l1: int, l2: int, l3: int) -> NDArray[np.bool_]:
    """Where a coefficient is not zero by symmetry: roundoff elsewhere would make sparse tables dense."""
    m1 = np.arange(-l1, l1 + 1)[:, None, None]
    m2 = np.arange(-l2, l2 + 1)[None, :, None]
    m3 = np.arange(-l3, l3 + 1)[None, None, :]
    n1, n2, n3 = abs(m1), abs(m2), abs(m3)
    turns = (n3 == n1 + n2) | (n3 == abs(n1 - n2))
    # A product of cosines (m >= 0) and sines is even in the angle if the number of sines is.
    sines = (m1 < 0).astype(int) + (m2 < 0) + (m3 < 0)
    return np.asarray(turns & (sines % 2 == (l1 + l2 + l3) % 2))
