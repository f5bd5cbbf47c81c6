"""What no network of a structure can do better than: singular values across every way to part the modes in two.

A network is a matrix of rank at most R across each cut, with R the product of the bonds that the cut goes through. So
its error is at least what the singular values beyond the R-th add up to ("The approximation of one matrix by another of
lower rank", 1936). This costs one decomposition for each cut, once for a tensor, and afterwards nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Sequence
from functools import lru_cache
from itertools import product

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from tenfold._scales import power_of, times_power
from tenfold.decomposition._error import squared_norm
from tenfold.structure import Structure

# Flops that all cuts of a tensor together may cost; cuts with a long side on both sides are left out beyond that.
_WORK = 2e10
# More modes than this have too many cuts to go through for each structure.
_MOST_MODES = 12
# Cores without modes may lie on either side of a cut: so many steps are taken for all cuts together, no more.
_WAYS = 2**14
# What bringing one entry in order takes, in flops.
_COPIED = 100
# What the smaller side of a cut may have at most, for its Gram matrix.
_LONGEST = 4096
# Rounding of one squared singular value, relative to the sum of all.
_ROUNDING = 2e-15

# The logarithm of a rank that is as good as any.
_FULL = 42.0

# The vertices that each edge joins.
Places = tuple[tuple[int, ...], ...]


class Cuts:
    """The singular values of a tensor across cuts of its modes.

    Args:
        data: a real or complex tensor with one axis for each mode.
        stop: asked before each cut; as soon as it says so, the cuts that are left are left out.

    Attributes:
        stopped: whether that was so.

    Cost: ``m^2 n`` or less for each cut into sides of m <= n entries, 2^(N-1) - 1 cuts for N modes; the most expensive
    ones are left out where that would be too much, which makes the bound weaker and never wrong. Data are brought in
    order once for several cuts.
    """

    def __init__(self, data: Tensor, stop: Callable[[], bool] | None = None) -> None:
        shape = tuple(data.shape)
        order = len(shape)
        wide = data.detach().to(torch.complex128 if data.is_complex() else torch.float64)
        wide = times_power(wide, -power_of(wide))
        total = squared_norm(wide)
        self.order = order
        self._masks: list[int] = []
        self._tails: list[np.ndarray] = []
        self._table: np.ndarray | None = None
        self.stopped = False
        if order > _MOST_MODES or not 0 < total < math.inf:
            return
        sides = []
        for mask in range(1, 2 ** (order - 1)):  # the last mode is always on the other side
            inside = math.prod(n for mode, n in enumerate(shape) if mask >> mode & 1)
            small = min(inside, data.numel() // inside)
            sides.append((small, mask))
        spent = 0.0
        wanted: dict[int, int] = {}
        for small, mask in sorted(sides):
            spent += 2.0 * small * data.numel() + 10.0 * small**3
            if spent > _WORK or small > _LONGEST:
                break
            inside = math.prod(n for mode, n in enumerate(shape) if mask >> mode & 1)
            wanted[mask if inside == small else mask ^ (2**order - 1)] = mask
        tails: dict[int, np.ndarray] = {}
        for rows in reversed(wanted):
            if rows in tails:
                continue
            if stop is not None and stop():
                self.stopped = True
                break
            chosen = _widened(rows, wanted.keys() - tails.keys(), shape)
            modes = [mode for mode in range(order) if chosen >> mode & 1]
            others = [mode for mode in range(order) if not chosen >> mode & 1]
            matrix = wide.permute(*modes, *others).reshape(math.prod(shape[mode] for mode in modes), -1)
            gram = matrix @ matrix.mH
            for side in [part for part in _parts(chosen) if part in wanted and part not in tails]:
                squares = torch.linalg.eigvalsh(_traced(gram, chosen, side, shape)).clamp(min=0).numpy(force=True)
                # Entry R is what is lost by rank R. Squares are made by a Gram matrix: each is known to the rounding of
                # the largest, and what may be rounding is not counted.
                tail = np.append(squares.cumsum()[::-1], 0.0) / total
                tails[side] = np.maximum(tail - _ROUNDING * len(squares), 0.0)
        for rows, mask in wanted.items():
            if rows in tails:
                self._masks.append(mask)
                self._tails.append(tails[rows])

    @property
    def count(self) -> int:
        """How many cuts are known."""
        return len(self._masks)

    def bound(self, structure: Structure) -> float:
        """A relative error that no network of ``structure`` is below.

        ``structure`` has one output index for each mode, in any grouping.
        """
        worst = 0.0
        if not self._masks:  # a zero tensor, or too many modes
            return worst
        for tail, rank in zip(self._tails, self._ranks(structure), strict=False):
            if rank < len(tail):
                worst = max(worst, float(tail[rank]))
        return math.sqrt(worst)

    def profiles(
        self,
        places: Sequence[tuple[int, int]],
        orders: Sequence[Sequence[int]],
        ranks: Int[np.ndarray, "n edges"],
    ) -> Float[np.ndarray, "orders n 2"]:
        """What `bound` says of many networks on one graph at once, and the root of the mean over all cuts.

        Args:
            places: the two vertices that each edge joins; those from the number of modes on carry none.
            orders: the mode on each vertex that carries one, as often as there are orders to look at.
            ranks: of the edges, one row for each network, which is looked at in all orders.

        Cost: a product of matrices, of networks x edges by edges x cuts of all orders, and a few passes over networks x
        cuts of all orders for each vertex without a mode.
        """
        none = np.zeros((len(orders), len(ranks), 2))
        if not self._masks:
            return none
        edges, known = tuple(places), frozenset(range(self.order))
        cuts = np.asarray(self._masks[: _looked_at(edges, known)])
        if not len(cuts):
            return none
        vertices = 1 + max(self.order - 1, *(max(pair) for pair in edges))
        sides = np.zeros((vertices, len(orders), len(cuts)), dtype=bool)
        sides[: self.order] = cuts >> np.asarray(orders).T[:, :, None] & 1
        least = _crossed(np.log(ranks), edges, sides.reshape(vertices, -1), known)
        least = np.minimum(least, _FULL).reshape(len(ranks), len(orders), len(cuts))
        if self._table is None:
            self._table = np.zeros((len(self._masks), max(map(len, self._tails)) + 1))
            for row, tail in zip(self._table, self._tails, strict=True):
                row[: len(tail)] = tail
        # Ranks are whole numbers, known here to rounding; beyond the table nothing is lost.
        whole = np.minimum(np.rint(np.exp(least)), self._table.shape[1] - 1).astype(np.int64)
        lost = self._table[np.arange(len(cuts)), whole]
        return np.sqrt(np.stack([lost.max(-1), lost.mean(-1)], axis=-1)).swapaxes(0, 1)

    def _ranks(self, structure: Structure) -> Sequence[int]:
        """The product of the bonds that each cut goes through, at the least; of as many cuts as are looked at."""
        modes = {index: mode for mode, index in enumerate(structure.output_indices)}
        outer: list[int] = []
        for term in structure.terms:
            mine = [modes[index] for index in term.indices if index in modes]
            if len(mine) > 1:
                return [2**62] * len(self._masks)  # a core with several modes lies on both sides of some cuts
            outer.append(mine[0] if mine else -1)
        bonds = tuple((structure.sizes[index], structure.terms_with(index)) for index in structure.inner_indices)
        known = frozenset(place for place, mode in enumerate(outer) if mode >= 0)
        cuts = _looked_at(tuple(places for _, places in bonds), known)
        return _least_ranks(tuple(self._masks[:cuts]), tuple(outer), bonds)


def _widened(rows: int, left: Collection[int], shape: tuple[int, ...]) -> int:
    """The modes that a Gram matrix is made of: those of ``rows`` and as many others as are worth it.

    What is in the Gram matrix of many modes is in that of fewer too, by a trace, without another pass over the data.
    """
    total = math.prod(shape)

    def cost(modes: int) -> float:
        side = math.prod(n for mode, n in enumerate(shape) if modes >> mode & 1)
        if side > min(total // side, _LONGEST):
            return math.inf
        return (_COPIED + 2 * side) / sum(part in left for part in _parts(modes))

    least = cost(rows)
    while True:
        wider = [(cost(rows | 1 << mode), rows | 1 << mode) for mode in range(len(shape)) if not rows >> mode & 1]
        best, chosen = min(wider, default=(math.inf, rows))
        if best >= least:
            return rows
        rows, least = chosen, best


def _parts(modes: int) -> Iterator[int]:
    """All sets of some of the modes, none excepted."""
    part = modes
    while part:
        yield part
        part = (part - 1) & modes


def _traced(gram: Tensor, modes: int, rows: int, shape: tuple[int, ...]) -> Tensor:
    """The Gram matrix of some of the modes that another one is of."""
    sizes = [n for mode, n in enumerate(shape) if modes >> mode & 1]
    ours = [mode for mode in range(len(shape)) if modes >> mode & 1]
    side = len(gram)
    for mode in [mode for mode in ours if not rows >> mode & 1]:
        place = ours.index(mode)
        before, n = math.prod(sizes[:place]), sizes.pop(place)
        ours.remove(mode)
        split = gram.reshape(before, n, side // (before * n), before, n, side // (before * n))
        side //= n
        gram = split.diagonal(dim1=1, dim2=4).sum(-1).reshape(side, side)
    return gram


@lru_cache(maxsize=1024)
def _least_ranks(
    masks: tuple[int, ...], outer: tuple[int, ...], bonds: tuple[tuple[int, tuple[int, ...]], ...]
) -> tuple[int, ...]:
    """Cores without modes lie on the side that makes the rank smallest; ``outer`` says the mode of each, or -1."""
    cuts = np.asarray(masks)
    if not masks:
        return ()
    known = frozenset(place for place, mode in enumerate(outer) if mode >= 0)
    sides = np.zeros((len(outer), len(masks)), dtype=bool)
    for place in known:
        sides[place] = cuts >> outer[place] & 1
    logs = np.log([[float(size) for size, _ in bonds]])
    best = _crossed(logs, tuple(places for _, places in bonds), sides, known)
    return tuple(np.rint(np.exp(np.minimum(best[0], _FULL))).astype(np.int64).tolist())


def _crossed(
    logs: Float[np.ndarray, "n edges"], places: Places, sides: Bool[np.ndarray, "vertices cuts"], known: frozenset[int]
) -> Float[np.ndarray, "n cuts"]:
    """The sum over the edges that each cut goes through, the least that the vertices without a known side allow.

    Those are taken out one after the other, from the leaves of their forest inwards, each with the better of its two
    sides for either side of the next one. Where they make no forest, some are tried on both sides.
    """
    held, order = _taken_out(places, known)
    fixed = known | set(held)
    best = np.full((len(logs), sides.shape[1]), np.inf)
    for choice in product((False, True), repeat=len(held)):
        sides[list(held)] = np.asarray(choice, dtype=bool)[:, None]
        np.minimum(best, _of_forest(logs, places, sides, fixed, order), out=best)
    return best


def _of_forest(
    logs: Float[np.ndarray, "n edges"],
    places: Places,
    sides: Bool[np.ndarray, "vertices cuts"],
    fixed: frozenset[int],
    order: tuple[tuple[int, int, int], ...],
) -> Float[np.ndarray, "n cuts"]:
    through = np.zeros((len(places), sides.shape[1]))
    sure = [edge for edge, ends in enumerate(places) if fixed.issuperset(ends)]
    pairs = [edge for edge in sure if len(places[edge]) == 2]
    ends = np.array([places[edge] for edge in pairs], dtype=np.int64).reshape(-1, 2)
    through[pairs] = sides[ends[:, 0]] != sides[ends[:, 1]]
    for edge in set(sure) - set(pairs):
        part = sides[list(places[edge])]
        through[edge] = part.any(0) & ~part.all(0)
    total: np.ndarray = logs @ through
    # What the edges to vertices with a side cost on the one side and on the other.
    own: dict[int, list[np.ndarray]] = {}
    for vertex, _, _ in order:
        mine = [e for e, pair in enumerate(places) if vertex in pair and len(fixed.intersection(pair)) == 1]
        beside = sides[[sum(places[edge]) - vertex for edge in mine]].astype(float)
        own[vertex] = [logs[:, mine] @ beside, logs[:, mine] @ (1 - beside)]
    for vertex, other, edge in order:
        here, there = own.pop(vertex)
        if other < 0:
            total += np.minimum(here, there)
        else:
            step = logs[:, edge, None]
            own[other][0] += np.minimum(here, there + step)
            own[other][1] += np.minimum(there, here + step)
    return total


@lru_cache(maxsize=1024)
def _taken_out(places: Places, known: frozenset[int]) -> tuple[tuple[int, ...], tuple[tuple[int, int, int], ...]]:
    """The vertices that must be tried on both sides; the others in an order in which each is joined to one later.

    With each of these that vertex, -1 if there is none, and the edge to it.
    """
    loose = {vertex for ends in places for vertex in ends} - known
    held = sorted({vertex for ends in places if len(ends) > 2 for vertex in ends if vertex in loose})
    left = loose - set(held)
    order: list[tuple[int, int, int]] = []
    while left:
        joined = {
            vertex: [
                (a if b == vertex else b, edge)
                for edge, (a, b) in ((edge, ends) for edge, ends in enumerate(places) if len(ends) == 2)
                if vertex in (a, b) and {a, b} <= left
            ]
            for vertex in left
        }
        vertex = min(left, key=lambda one: (len(joined[one]), one))
        if len(joined[vertex]) > 1:
            vertex = max(left, key=lambda one: (len(joined[one]), -one))
            held.append(vertex)
        else:
            other, edge = joined[vertex][0] if joined[vertex] else (-1, -1)
            order.append((vertex, other, edge))
        left.remove(vertex)
    return tuple(held), tuple(order)


def _looked_at(places: Places, known: frozenset[int]) -> int:
    """How many cuts are looked at: fewer, the more there is to do for each."""
    held, order = _taken_out(places, known)
    return (_WAYS >> len(held)) // max(4 * len(order), 1)
