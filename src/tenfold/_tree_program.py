"""The best ranks of a tree by a dynamic program over its nodes.

Size and cost of a tree are sums of what its nodes and its bonds add, and what is below a bond is known to what is above
only by the bond's rank. Two programs run over it. With a price for each parameter, one number for each rank is passed
on, and the prices that matter give the choices on the lower convex hull of (size, cost): near the best one, and with
them a limit that none can be below. The second program passes sets of (size, cost) of which none is better than
another in both, without those which that limit shows to lead nowhere; it ends with the best.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tenfold.structure import Structure

Floats = NDArray[np.floating[Any]]
Ints = NDArray[np.int64]

# Rounding of sums of costs, relative.
_ROUNDING = 1e-12
# Ranks of one bond that a first guess looks at.
_COARSE = 12
# So many choices are looked at without asking for the price that leaves least of them.
_FEW = 2**14
# Of the cost of ranks of one, what is first let through beyond the best when several are asked for.
_ROOM = 1e-4


@dataclass
class Node:
    """A core, rooted: the product of its outputs, what ranks of the bond above cost, and what hangs below.

    Attributes:
        costs: ``costs[r]`` for rank r; the first is for no rank at all and is never used.
        ranks: those that are looked at, ascending.
    """

    outside: int
    bond: str
    costs: Floats
    ranks: Ints
    below: list[Node] = field(default_factory=list)

    def walk(self) -> Iterator[Node]:
        """The nodes, each after all that is below it."""
        for node in self.below:
            yield from node.walk()
        yield self

    def priced(self, rest: Floats) -> _Priced:
        """The ranks with what they cost and what ``rest`` says of each, those left out that no price makes best."""
        places = np.arange(len(self.ranks))
        return _Priced(self.ranks.astype(np.float64), self.costs[self.ranks] + rest, places, places).pruned()


@dataclass(frozen=True)
class Choice:
    """Ranks with what they cost."""

    ranks: Mapping[str, int]
    size: int
    cost: float


@dataclass
class _Priced:
    """Pairs (product of ranks, least price), the product rising and the price falling, and where each came from.

    Products of the ranks of many long modes are beyond whole numbers of 64 bits.
    """

    product: Floats
    price: Floats
    left: Ints
    right: Ints

    def pruned(self) -> _Priced:
        """What some linear price of the product makes the least: the lower convex hull."""
        if len(self.product) == 1:
            return self
        order = np.lexsort((self.price, self.product))
        price = self.price[order]
        falls = np.empty(len(price), bool)
        falls[0] = True
        np.less(price[1:], np.minimum.accumulate(price)[:-1], out=falls[1:])
        order = order[falls]
        while len(order) > 2:
            # What is above the line between its neighbours is above the hull.
            slopes = _slopes(self.product[order], self.price[order])
            below = slopes[1:] > slopes[:-1]
            if below.all():
                break
            order = order[np.concatenate([_END, below, _END])]
        return _Priced(self.product[order], self.price[order], self.left[order], self.right[order])


def _slopes(product: Floats, price: Floats) -> Floats:
    return (price[1:] - price[:-1]) / (product[1:] - product[:-1])


_END = np.ones(1, bool)
_ONE = _Priced(np.ones(1), np.zeros(1), np.zeros(1, np.int64), np.zeros(1, np.int64))


def _times(a: _Priced, b: _Priced) -> _Priced:
    left, right = np.divmod(np.arange(len(a.product) * len(b.product)), len(b.product))
    product = np.multiply.outer(a.product, b.product).ravel()
    return _Priced(product, np.add.outer(a.price, b.price).ravel(), left, right).pruned()


def _least(priced: _Priced, each: Floats) -> tuple[Floats, Ints]:
    """For each price of a unit of the product the least of the sums, and which it is."""
    # The slopes of the hull rise; each price finds its place among them.
    place = np.searchsorted(_slopes(priced.product, priced.price), -each)
    return priced.price[place] + each * priced.product[place], place


@dataclass
class _Upwards:
    """What nodes tell those above them, at one price.

    Attributes:
        messages: the ranks that may be best, with the least price of all that is below.
        merged: the products of the messages from below, one by one.
        least: for each rank what is below costs least, the bond's own cost left out.
        places: and which of the products that takes.
    """

    messages: dict[int, _Priced]
    merged: dict[int, list[_Priced]]
    least: dict[int, Floats]
    places: dict[int, Ints]


class Program:
    """The ranks of one rooted tree.

    Args:
        root: of the tree; its own bond has one rank, of no cost.
    """

    def __init__(self, root: Node) -> None:
        self.root = root
        self.nodes = list(root.walk())

    def solve(self, *, size: int | None = None, cost: float = math.inf, count: int = 1) -> list[Choice]:
        """The choices of least cost with at most ``size`` parameters; without it, of least size with at most ``cost``.

        Args:
            count: so many, best first; fewer where there are fewer.

        Returns:
            Nothing where no ranks are within the limit.
        """
        every = {node.bond: node.ranks for node in self.nodes}
        for node in self.nodes:
            last = len(node.ranks) - 1
            spread = np.unique(np.geomspace(1, last + 1, _COARSE).round().astype(np.int64) - 1)
            node.ranks = node.ranks[spread]
        try:
            known, price = self._bracket(size, cost)
            if known is None:
                return []
            for node in self.nodes:
                node.ranks = every[node.bond]
            if count > 1:
                return self._several(known, price, size, cost, count)
            limits = _Limits.of(known, price, size, cost)
            self._narrow(limits, price)
            if math.prod(len(node.ranks) for node in self.nodes) > _FEW:
                nearer, price = self._bracket(size, cost)
                assert nearer is not None  # what was known is still there
                known = min(known, nearer, key=limits.order)
            found = self._within(_Limits.of(known, price, size, cost), price, distinct=False)
            return [min([known, *found], key=limits.order)]
        finally:
            for node in self.nodes:
                node.ranks = every[node.bond]

    def _several(self, known: Choice, price: float, size: int | None, cost: float, count: int) -> list[Choice]:
        """The first ``count``: what is let through grows until it has as many."""
        assert size is not None
        nearer, price = self._bracket(size, cost)
        assert nearer is not None
        least, most = min(known.cost, nearer.cost), self._extreme(0).cost
        room = _ROOM * most
        while True:
            limits = _Limits(size, least + room, least + room + price * size, True)
            found = self._within(limits, price, distinct=True)
            if len(found) >= count or limits.cost >= most:
                return sorted(found, key=limits.order)[:count]
            room *= 2

    def measured(self, ranks: Mapping[str, int]) -> Choice:
        """Size and cost of given ranks."""
        size, costs = 0, []
        for node in self.nodes:
            above = ranks.get(node.bond, 1)
            size += node.outside * above * math.prod(ranks[child.bond] for child in node.below)
            costs.append(float(node.costs[above]))
        return Choice({bond: rank for bond, rank in ranks.items() if bond != self.root.bond}, size, math.fsum(costs))

    def _extreme(self, end: int) -> Choice:
        """The smallest (0) or the largest (-1) of all ranks."""
        return self.measured({node.bond: int(node.ranks[end]) for node in self.nodes})

    # --- with a price for each parameter ------------------------------------------------------------------------------

    def _cheapest(self, price: float) -> Choice:
        """The ranks with the least cost plus ``price`` for each parameter."""
        up = self._upwards(price)
        ranks: dict[str, int] = {}
        todo = [(self.root, 0)]  # with the place in its message
        while todo:
            node, at = todo.pop()
            message = up.messages[id(node)]
            ranks[node.bond] = int(message.product[at])
            place = int(up.places[id(node)][message.left[at]])
            for child, table in zip(reversed(node.below), reversed(up.merged[id(node)]), strict=True):
                todo.append((child, int(table.right[place])))
                place = int(table.left[place])
        return self.measured(ranks)

    def _upwards(self, price: float) -> _Upwards:
        up = _Upwards({}, {}, {}, {})
        for node in self.nodes:
            tables, table = [], _ONE
            for child in node.below:
                table = _times(table, up.messages[id(child)])
                tables.append(table)
            up.merged[id(node)] = tables
            up.least[id(node)], up.places[id(node)] = _least(table, price * node.outside * node.ranks)
            up.messages[id(node)] = node.priced(up.least[id(node)])
        return up

    def _downwards(self, price: float, messages: Mapping[int, _Priced]) -> dict[int, Floats]:
        """For each node and rank above it the least of everything else, its bond's own cost left out."""
        outside: dict[int, Floats] = {id(self.root): np.zeros(1)}
        for node in reversed(self.nodes):
            before = [node.priced(outside[id(node)])]
            for child in node.below:
                before.append(_times(before[-1], messages[id(child)]))
            after = _ONE
            for child, table in zip(reversed(node.below), reversed(before[:-1]), strict=True):
                outside[id(child)] = _least(_times(table, after), price * node.outside * child.ranks)[0]
                after = _times(after, messages[id(child)])
        return outside

    def _bracket(self, size: int | None, cost: float) -> tuple[Choice | None, float]:
        """The last choice within the limit on the lower convex hull, and the price at which the next one ties with it.

        None where no choice is within the limit; no price where every choice is.
        """

        def within(choice: Choice) -> bool:
            return choice.size <= size if size is not None else choice.cost <= cost

        small, large = self._extreme(0), self._extreme(-1)
        inside, beyond = (small, large) if size is not None else (large, small)
        if not within(inside):
            return None, 0.0
        if within(beyond):
            return beyond, 0.0
        while True:
            price = (inside.cost - beyond.cost) / (beyond.size - inside.size)
            found = self._cheapest(price)
            line = inside.cost + price * inside.size
            if found.cost + price * found.size >= line * (1 - _ROUNDING):
                return inside, price
            if within(found):
                inside = found
            else:
                beyond = found

    def _narrow(self, limits: _Limits, price: float) -> None:
        """Leave out ranks that are in no choice within the limits."""
        for node in self.nodes:
            node.ranks = node.ranks[node.costs[node.ranks] <= limits.cost * (1 + _ROUNDING)]
        least = {node.bond: int(node.ranks[0]) for node in self.nodes}
        for node in self.nodes:
            if node is not self.root:
                # The size is linear in each rank.
                first, second = (self.measured({**least, node.bond: rank}).size for rank in (0, 1))
                node.ranks = node.ranks[first + (second - first) * node.ranks <= limits.size]
        up = self._upwards(price)
        outside = self._downwards(price, up.messages)
        for node in self.nodes:
            priced = node.costs[node.ranks] + up.least[id(node)] + outside[id(node)]
            node.ranks = node.ranks[priced <= limits.priced * (1 + _ROUNDING)]

    # --- exactly ------------------------------------------------------------------------------------------------------

    def _within(self, limits: _Limits, price: float, *, distinct: bool) -> list[Choice]:
        """Every choice that the limits let through; unless ``distinct``, the best of them alone."""
        messages = self._upwards(price).messages
        outside = self._downwards(price, messages)
        kept: dict[int, _States] = {}
        for node in self.nodes:
            rest = [node.priced(outside[id(node)])]
            for child in reversed(node.below):
                rest.append(_times(rest[-1], messages[id(child)]))
            rest.reverse()  # rest[j]: all but the first j children
            states = _States.one()
            for number, child in enumerate(node.below, start=1):
                states = states.times(kept[id(child)])
                completed = _least(rest[number], price * node.outside * states.product)[0]
                states = states.within(completed, price, limits, distinct)
            states = states.above(node)
            kept[id(node)] = states.within(outside[id(node)][states.right], price, limits, distinct)
        final = kept[id(self.root)]
        return [self.measured(final.ranks(at)) for at in range(len(final.product))]


@dataclass(frozen=True)
class _Limits:
    """What a choice may have to be of interest: size and cost, and cost with a price for each parameter."""

    size: int
    cost: float
    priced: float
    by_size: bool

    @staticmethod
    def of(known: Choice, price: float, size: int | None, cost: float) -> _Limits:
        """For what is within the limit given and not worse than what is known."""
        most = known.size if size is None else size
        dear = known.cost if size is not None else cost
        return _Limits(most, dear, dear + price * most, size is not None)

    def order(self, choice: Choice) -> tuple[float, float]:
        """A sort key: the best first."""
        return (choice.cost, choice.size) if self.by_size else (choice.size, choice.cost)


@dataclass
class _States:
    """Choices for a part of the tree, with the product of their ranks towards the rest, and what they were made of."""

    product: Ints
    size: Ints
    cost: Floats
    left: Ints
    right: Ints
    parts: tuple[_States, ...] = ()
    bond: str = ""

    @staticmethod
    def one() -> _States:
        nothing = np.zeros(1, np.int64)
        return _States(np.ones(1, np.int64), nothing, np.zeros(1), nothing, nothing)

    def times(self, other: _States) -> _States:
        """Every one of these with every one of the others."""
        left, right = np.divmod(np.arange(len(self.product) * len(other.product)), len(other.product))
        return _States(
            self.product[left] * other.product[right],
            self.size[left] + other.size[right],
            self.cost[left] + other.cost[right],
            left,
            right,
            (self, other),
        )

    def above(self, node: Node) -> _States:
        """Every one of these with every rank of the bond above, and with the core."""
        left, right = np.divmod(np.arange(len(self.product) * len(node.ranks)), len(node.ranks))
        rank = node.ranks[right]
        size = self.size[left] + node.outside * self.product[left] * rank
        return _States(rank, size, self.cost[left] + node.costs[rank], left, right, (self,), node.bond)

    def within(self, completed: Floats, price: float, limits: _Limits, distinct: bool) -> _States:
        """Those that may lead to a choice within the limits; unless ``distinct``, the best for each product alone."""
        hopeful = (self.size <= limits.size) & (self.cost <= limits.cost * (1 + _ROUNDING))
        hopeful &= self.cost + price * self.size + completed <= limits.priced * (1 + _ROUNDING)
        chosen = np.flatnonzero(hopeful)
        if not distinct and len(chosen):
            chosen = chosen[np.lexsort((self.cost[chosen], self.size[chosen], self.product[chosen]))]
            # Within a product sizes rise, so costs must fall. Places in the order of costs, below those of the products
            # before, let one running minimum serve all products.
            place = np.empty(len(chosen), np.int64)
            place[np.argsort(self.cost[chosen], kind="stable")] = np.arange(len(chosen))
            group = np.cumsum(np.append(0, np.diff(self.product[chosen]) != 0))
            key = place - group * len(chosen)
            chosen = chosen[np.append(True, key[1:] < np.minimum.accumulate(key)[:-1])]
        return _States(
            self.product[chosen],
            self.size[chosen],
            self.cost[chosen],
            self.left[chosen],
            self.right[chosen],
            self.parts,
            self.bond,
        )

    def ranks(self, at: int) -> dict[str, int]:
        """The ranks of one of these."""
        if not self.parts:
            return {}
        found = self.parts[0].ranks(int(self.left[at]))
        if len(self.parts) == 2:
            return found | self.parts[1].ranks(int(self.right[at]))
        return {**found, self.bond: int(self.product[at])}


def rooted(structure: Structure, costs: Mapping[str, Floats]) -> Node:
    """The tree of a structure whose bonds cost ``costs[bond][rank]``; parts without connection hang below the first.

    The root is the core with the most bonds: with it in the middle there is least to pass on.
    """
    outputs = set(structure.output_indices)
    bonds = [[index for index in term.indices if index not in outputs] for term in structure.terms]
    seen: set[int] = set()

    def node(size: int, bond: str, cost: Floats) -> Node:
        return Node(size, bond, cost, np.arange(1, len(cost)))

    def walk(place: int, bond: str) -> Node:
        seen.add(place)
        size = math.prod(structure.sizes[index] for index in structure.terms[place].indices if index in outputs)
        found = node(size, bond, costs[bond] if bond else np.zeros(2))
        for below in bonds[place]:
            (other,) = (at for at in structure.terms_with(below) if at != place)
            if other not in seen:
                found.below.append(walk(other, below))
        return found

    first, *others = (
        walk(at, "") for at in sorted(range(len(bonds)), key=lambda at: -len(bonds[at])) if at not in seen
    )
    for number, part in enumerate(others):
        part.bond = f" {number}"  # of one rank; no index has such a name
        first.below.append(part)
    return first
