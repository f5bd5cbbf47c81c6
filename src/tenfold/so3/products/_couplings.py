"""How many copies of one feature make an irrep: an orthonormal basis of the symmetric couplings, as polynomials.

A coupling of ``n`` copies that does not care about their order is a homogeneous polynomial of degree ``n`` for each
component of the irrep that comes out, and all of them turn together. Powers of one irrep are coupled one factor at a
time and made symmetric; powers of different ones have no monomial in common, so that coupling them keeps the basis
orthonormal and nothing else has to be made independent.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from itertools import combinations_with_replacement, product

import numpy as np
from jaxtyping import Float64, Int64

from tenfold.so3._wigner3j import real_3j
from tenfold.so3.irreps import Irrep

# Below this a coefficient of a polynomial of norm one is a rounded zero, and a polynomial depends on those before it.
_ZERO = 1e-12
_DEPENDENT = 1e-8

Monomial = tuple[int, ...]


@dataclass(frozen=True)
class Coupling:
    """One way to make an irrep of powers of blocks: a polynomial for each of its components.

    As symmetric tensors the components have norm one and are orthogonal, to each other and to those of other couplings.

    Attributes:
        component: of the irrep, for each term.
        monomial: which of ``monomials``, for each term.
        value: the coefficient of each term.
        monomials: the positions of their factors among the components of the feature, increasing.
    """

    component: Int64[np.ndarray, " n"]
    monomial: Int64[np.ndarray, " n"]
    value: Float64[np.ndarray, " n"]
    monomials: tuple[Monomial, ...]


@cache
def symmetric_couplings(blocks: tuple[Irrep, ...], out: Irrep, degree: int) -> tuple[Coupling, ...]:
    """A basis of the couplings of ``degree`` copies of a feature with these irreps, each once, to an irrep.

    Cost: ``O(degree)`` products with 3j coefficients for each coupling, and as many numbers as it has terms.
    """
    starts = np.cumsum([0, *(block.dim for block in blocks)])
    found = []
    for content in combinations_with_replacement(range(len(blocks)), degree):
        if math.prod(blocks[b].p for b in content) != out.p:
            continue
        powers = [(b, content.count(b)) for b in dict.fromkeys(content)]
        orderings = math.factorial(degree) / math.prod(math.factorial(power) for _, power in powers)
        lists = [_monomials(blocks[b].dim, power) for b, power in powers]
        names = tuple(
            tuple(int(starts[b]) + i for (b, _), part in zip(powers, parts, strict=True) for i in part)
            for parts in product(*lists)
        )
        for polynomials in _coupled(tuple((blocks[b].l, power) for b, power in powers), out.l):
            # The same polynomial is a shorter tensor where it is made symmetric in all factors.
            values = math.sqrt(orderings) * polynomials
            component, monomial = np.nonzero(np.abs(values) > _ZERO)
            found.append(Coupling(component, monomial, values[component, monomial], names))
    return tuple(found)


def _coupled(powers: tuple[tuple[int, int], ...], degree: int) -> Iterator[Float64[np.ndarray, "component monomial"]]:
    """Powers of different irreps coupled one after the other to one degree, in all ways."""
    *before, (last, power) = powers
    if not before:
        yield from _power(last, power).get(degree, ())
        return
    for right, others in sorted(_power(last, power).items()):
        for left in range(abs(degree - right), degree + right + 1):
            table = math.sqrt(2 * degree + 1) * real_3j(left, right, degree)
            for one in _coupled(tuple(before), left):
                for other in others:
                    yield np.einsum("ijk,ia,jb->kab", table, one, other, optimize=True).reshape(2 * degree + 1, -1)


@cache
def _power(base: int, power: int) -> dict[int, tuple[Float64[np.ndarray, "component monomial"], ...]]:
    """The irreps in a symmetric power of one, by degree: coefficients of polynomials, monomials in order."""
    size = 2 * base + 1
    if power == 1:
        return {base: (np.eye(size),)}
    monomials = _monomials(size, power)
    where = {monomial: n for n, monomial in enumerate(monomials)}
    before = _monomials(size, power - 1)
    target = np.array([[where[tuple(sorted((*monomial, i)))] for i in range(size)] for monomial in before])
    # A polynomial's norm is that of its symmetric tensor, in which a coefficient is shared by all orders of factors.
    shares = np.array([math.prod(math.factorial(m.count(i)) for i in set(m)) for m in monomials]) / math.factorial(
        power
    )
    found: dict[int, tuple[Float64[np.ndarray, "component monomial"], ...]] = {}
    for degree in range(base * power, -1, -1):
        basis: list[Float64[np.ndarray, "component monomial"]] = []
        for lower, polynomials in _power(base, power - 1).items():
            table = math.sqrt(2 * degree + 1) * real_3j(lower, base, degree)
            for polynomial in polynomials:
                spread = np.einsum("ijk,ia->kaj", table, polynomial)
                made = np.zeros((2 * degree + 1, len(monomials)))
                for column, row in zip(spread.reshape(len(made), -1).T, target.flat, strict=True):
                    made[:, row] += column
                _independent(made, basis, shares)
        if basis:
            found[degree] = tuple(basis)
    return found


def _independent(
    made: Float64[np.ndarray, "component monomial"],
    basis: list[Float64[np.ndarray, "component monomial"]],
    shares: Float64[np.ndarray, " monomial"],
) -> None:
    """Adds to a basis what is left of a polynomial orthogonal to it. By Schur's lemma one component decides for all."""
    for _ in range(2):  # once more, for what rounding left
        for other in basis:
            made = made - (made[0] * shares) @ other[0] * other
    length = math.sqrt((made[0] ** 2 * shares).sum())
    if length > _DEPENDENT:
        # What is zero by symmetry stays it.
        basis.append(np.where(np.abs(made) > _ZERO * length, made / length, 0.0))


@cache
def _monomials(size: int, degree: int) -> tuple[Monomial, ...]:
    return tuple(combinations_with_replacement(range(size), degree))
