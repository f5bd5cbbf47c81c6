"""Filters that turn with an edge: their weights, and what kernels read of them.

Seen from an edge, the harmonics of its direction are zero but for order 0, and a filter keeps the order of what it
takes up to its sign: ``y_m = p_m x_m + q_m x_-m`` and ``y_-m = p_m x_-m - q_m x_m``. The numbers ``p`` and ``q`` of two
degrees are as many as the ways to couple them, and determine the weights of those.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
import torch

from tenfold.so3._wigner3j import gaunt_factor, real_3j
from tenfold.so3.products import _edge_frames as frames

if TYPE_CHECKING:
    from tenfold.so3.products._aligned_kernels import Filter, Sparse

Basis = Literal["frame", "paths", "degrees"]
_BASES: tuple[Basis, ...] = ("frame", "paths", "degrees")


class Slot(NamedTuple):
    """A weight of the frame: degrees in and out, whether it turns the sign of the order around, and the order."""

    inner: int
    outer: int
    crossed: bool
    order: int


@dataclass(frozen=True)
class Form:
    """A filter along edges, without its weights.

    Attributes:
        basis: what weights are: those of the frame; of the paths of a Clebsch-Gordan product with the harmonics of the
            edge, as many as there are triples of degrees; or one for each degree of a function on the sphere.
        inner: degrees of the features.
        outer: degrees of the messages.
        degree: the largest of the filter.
        orders: components of the frame of larger order are left out.
        even: whether paths of an even sum of degrees occur.
        odd: whether those of an odd sum do.
    """

    basis: Basis
    inner: tuple[int, ...]
    outer: tuple[int, ...]
    degree: int
    orders: int
    even: bool
    odd: bool

    def numbers(self) -> list[int]:
        """The same as numbers, which operators take."""
        flags = [_BASES.index(self.basis), self.degree, self.orders, self.even, self.odd, len(self.inner)]
        return [*map(int, flags), *self.inner, *self.outer]

    @classmethod
    def of(cls, numbers: list[int]) -> Form:
        """The inverse of `numbers`."""
        basis, degree, orders, even, odd, count = numbers[:6]
        degrees = tuple(numbers[6:])
        return cls(_BASES[basis], degrees[:count], degrees[count:], degree, orders, bool(even), bool(odd))

    def slots(self) -> tuple[Slot, ...]:
        """The weights of the frame in their order."""
        return tuple(self._slots())

    def _slots(self) -> Iterator[Slot]:
        for inner in self.inner:
            for outer in self.outer:
                most = min(inner, outer, self.orders)
                if self.even:
                    yield from (Slot(inner, outer, False, m) for m in range(most + 1))
                if self.odd:
                    yield from (Slot(inner, outer, True, m) for m in range(1, most + 1))

    def paths(self) -> tuple[tuple[int, int, int], ...]:
        """The degrees in, of the filter, and out of each path, in the order of `Irreps.paths`."""
        return tuple(
            (inner, middle, outer)
            for inner in self.inner
            for middle in range(self.degree + 1)
            for outer in self.outer
            if abs(inner - outer) <= middle <= inner + outer
            and (self.odd if (inner + middle + outer) % 2 else self.even)
        )

    def scale(self, outer: int) -> float:
        """The factor of weights that lead to a degree: e3nn's, which keeps variances with independent weights."""
        if self.basis == "degrees":
            square = sum(gaunt_factor(*path) ** 2 for path in self.paths() if path[2] == outer)
            return math.sqrt((2 * outer + 1) / square) if square else 0.0
        count = sum(path[2] == outer for path in self.paths())
        return math.sqrt((2 * outer + 1) / count) if count else 0.0

    def mixing(self) -> np.ndarray:
        """Weights of the frame from those given: ``[slots, weights]``.

        From those of all paths it is orthogonal, from fewer paths its columns are orthonormal.
        """
        return _mixing(self)

    def blind(self) -> np.ndarray:
        """What is left of the frame's weights where the filter is of degree 0 alone: ``[slots, slots]``."""
        slots = self.slots()
        found = np.zeros((len(slots), len(slots)))
        for r, one in enumerate(slots):
            if one.inner != one.outer or one.crossed or one.inner > self.orders:
                continue
            for c, other in enumerate(slots):
                if other[:3] == one[:3]:
                    found[r, c] = math.sqrt(_twice(one.order) * _twice(other.order)) / (2 * one.inner + 1)
        return found

    def terms(self, derivatives: int) -> list[tuple[int, int, int, float]]:
        """The filter as a trilinear form: components out and in, the slot, and a factor.

        Components are those of frames for so many derivatives, see `kept`.
        """
        wide = self.kept(derivatives)
        places = []
        for degrees in (self.inner, self.outer):
            middles, start = {}, 0
            for degree in degrees:
                middles[degree] = start + min(degree, wide)
                start += 2 * min(degree, wide) + 1
            places.append(middles)
        found = []
        for number, (inner, outer, crossed, m) in enumerate(self.slots()):
            i, k, factor = places[0][inner], places[1][outer], self.scale(outer) / math.sqrt(_twice(m))
            if crossed:
                found += [(k + m, i - m, number, factor), (k - m, i + m, number, -factor)]
            elif m:
                found += [(k + m, i + m, number, factor), (k - m, i - m, number, factor)]
            else:
                found.append((k, i, number, factor))
        return found

    def kept(self, derivatives: int) -> int:
        """The orders that frames keep: for each derivative one more than the filter, as little turns mix neighbours."""
        return min(self.orders + derivatives, max(*self.inner, *self.outer))


@cache
def _mixing(form: Form) -> np.ndarray:
    slots, paths = form.slots(), form.paths()
    if form.basis == "frame":
        return np.eye(len(slots))
    found = np.zeros((len(slots), len(paths) if form.basis == "paths" else form.degree + 1))
    number = {slot: n for n, slot in enumerate(slots)}
    for column, (inner, middle, outer) in enumerate(paths):
        table, crossed = real_3j(inner, middle, outer)[:, middle], bool((inner + middle + outer) % 2)
        factor = math.sqrt(2 * middle + 1)
        if form.basis == "degrees":
            # The scale of the component out is with the slots.
            factor *= gaunt_factor(inner, middle, outer)
            column = middle
        for m in range(crossed, min(inner, outer, form.orders) + 1):
            taken = table[inner - m if crossed else inner + m, outer + m]
            found[number[Slot(inner, outer, crossed, m)], column] += factor * math.sqrt(_twice(m)) * taken
    return found


@cache
def tables(form: Form, dtype: torch.dtype, derivatives: int) -> tuple[Any, ...]:
    """What the kernels of so many derivatives take besides numbers: both sides, the turns, and the filter."""
    wide = form.kept(derivatives)
    inner, outer = frames.side(form.inner, wide), frames.side(form.outer, wide)
    largest = max(*form.inner, *form.outer)
    numbers = np.float32 if dtype == torch.float32 else np.float64
    terms = form.terms(derivatives)
    k, i, slot = (np.array([term[n] for term in terms], dtype=np.int64) for n in range(3))
    value = np.array([term[3] for term in terms])
    rows_out, rows_in = (int(s.cut[-1] + 2 * s.orders[-1] + 1) for s in (outer, inner))
    mixing, blind, slots = form.mixing(), form.blind(), len(form.slots())
    own = np.zeros((0, slots)) if form.basis == "frame" else mixing
    made: Filter = _kernels().Filter(
        _sparse(rows_out, k, i, slot, value, numbers),
        _sparse(rows_in, i, k, slot, value, numbers),
        _sparse(slots, slot, k, i, value, numbers),
        *(_matrix(matrix, numbers) for matrix in (own, own.T if len(own) else own, blind, blind.T)),
    )
    return inner, outer, frames.turns(largest, wide, dtype), made


def _sparse(rows: int, row: np.ndarray, one: np.ndarray, two: np.ndarray, value: np.ndarray, kind: Any) -> Sparse:
    order = np.argsort(row, kind="stable")
    starts = np.concatenate([[0], np.cumsum(np.bincount(row, minlength=rows))]).astype(np.int64)
    made: Sparse = _kernels().Sparse(starts, one[order], two[order], value[order].astype(kind))
    return made


def _matrix(matrix: np.ndarray, kind: Any) -> Sparse:
    row, column = np.nonzero(np.abs(matrix) > 1e-12)
    return _sparse(len(matrix), row, column, column, matrix[row, column], kind)


def _twice(order: int) -> int:
    """How many components have this order, up to its sign."""
    return 2 if order else 1


def _kernels() -> Any:
    """Numba takes longer to load than the rest of tenfold."""
    return importlib.import_module("tenfold.so3.products._aligned_kernels")
