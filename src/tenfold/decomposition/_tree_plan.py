"""The tree of a network, and the order in which its cores are split off a tensor with the least work."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from tenfold.structure import Structure

# Work for an entry of the tensor that a pass costs besides its multiplications, in flops.
_PASS = 60
# ... and what one costs in addition whose rows come last in memory.
_LAST = 0.2
# Eigensolver of an n x n matrix, in units of n^3.
EIGEN = 12
# A subtree of at most so many rows may be split off at once: a Gram matrix of this size is still made at full speed.
_MERGED = 512


class Node(NamedTuple):
    """A core in the tree: its axes by label, those of its own outputs, and its neighbours by the label of the bond."""

    labels: tuple[str, ...]
    outputs: tuple[str, ...]
    neighbours: dict[str, int]


class Step(NamedTuple):
    """Project the rows of a node; the new axis is its bond upwards.

    With ``inner``, the rows are those of a whole subtree below the bond, whose other nodes are split off the small
    basis afterwards, children first.
    """

    node: int
    rows: tuple[str, ...]
    bond: str
    inner: tuple[Step, ...] = ()


def tree(structure: Structure) -> tuple[list[Node], dict[str, tuple[str, ...]], dict[str, int]]:
    """Nodes, the inner indices behind each bond's label, and the size of each label.

    Parallel bonds are joined into one; parts that nothing connects are, by a bond of size 1.
    """
    outside = set(structure.output_indices)
    between: dict[tuple[int, int], list[str]] = {}
    for index in structure.inner_indices:
        first, second = structure.terms_with(index)
        between.setdefault((first, second), []).append(index)
    part = list(range(len(structure.terms)))
    for first, second in between:
        old, new = part[second], part[first]
        part = [new if p == old else p for p in part]
    for number in range(1, len(part)):
        if part[number] != part[0]:
            between[(0, number)] = []
            part = [part[0] if p == part[number] else p for p in part]
    bonds: dict[str, tuple[str, ...]] = {}
    sizes = {index: structure.sizes[index] for index in structure.output_indices}
    own: list[list[str]] = [[i for i in term.indices if i in outside] for term in structure.terms]
    neighbours: list[dict[str, int]] = [{} for _ in structure.terms]
    for (first, second), group in between.items():
        # No index has a space in its name, so joined and added labels are new ones.
        label = " ".join(group) if group else f" {second}"
        bonds[label] = tuple(group)
        sizes[label] = math.prod(structure.sizes[index] for index in group)
        neighbours[first][label], neighbours[second][label] = second, first
    nodes = [Node((*o, *n), tuple(o), n) for o, n in zip(own, neighbours, strict=True)]
    return nodes, bonds, sizes


def plan(
    nodes: Sequence[Node], sizes: Mapping[str, int], axes: Sequence[str], *, exact_ranks: bool, rate: float
) -> tuple[int, list[Step]]:
    """The root and the order of the steps with the least predicted work.

    A node without outputs is preferred for the root: it holds what couples the others, as the core of a Tucker network.

    Args:
        rate: flops for an entry and a row that finding a basis takes, in those of a large product.
    """
    found: list[tuple[float, int, list[Step]]] = []
    inner = [number for number, node in enumerate(nodes) if not node.outputs]
    for root in inner or range(len(nodes)):
        work, steps = _Order(nodes, sizes, axes, root, exact_ranks, rate).greedy()
        found.append((work, root, steps))
    _, root, steps = min(found, key=lambda plan: plan[:2])
    return root, steps


class _Option(NamedTuple):
    ratio: float
    cost: float
    number: int
    rank: int
    shrink: float
    rows: tuple[str, ...]
    below: tuple[int, ...]


class _Order:
    """The steps towards one root, chosen one after the other."""

    def __init__(
        self,
        nodes: Sequence[Node],
        sizes: Mapping[str, int],
        axes: Sequence[str],
        root: int,
        exact_ranks: bool,
        rate: float,
    ) -> None:
        self.nodes, self.exact_ranks, self.rate = nodes, exact_ranks, rate
        self.now = dict(sizes)
        self.axes = list(axes)
        self.entries = math.prod(sizes[label] for label in axes)
        self.parent: dict[int, str] = {}
        todo, seen = [root], {root}
        while todo:
            node = todo.pop()
            for label, other in nodes[node].neighbours.items():
                if other not in seen:
                    seen.add(other)
                    self.parent[other] = label
                    todo.append(other)
        self.waiting = {
            n: sum(m != root and node.neighbours.get(self.parent[m]) == m for m in self.parent)
            for n, node in enumerate(nodes)
        }

    def greedy(self) -> tuple[float, list[Step]]:
        steps: list[Step] = []
        work = 0.0
        while self.parent:
            best = min((option for n in self.parent if (option := self._option(n))), key=lambda option: option[:3])
            inner = tuple(Step(n, self._own_rows(n), self.parent[n]) for n in reversed(best.below))
            bond = self.parent[best.number]
            steps.append(Step(best.number, best.rows, bond, inner))
            for number in (*best.below, best.number):
                self.waiting[self.nodes[number].neighbours[self.parent.pop(number)]] -= 1
            self.now[bond] = best.rank
            self.axes = _replaced(self.axes, best.rows, bond)
            self.entries = max(1, round(self.entries * best.shrink))
            work += best.cost
        return work, steps

    def _own_rows(self, number: int) -> tuple[str, ...]:
        return tuple(label for label in self.nodes[number].labels if label != self.parent[number])

    def _option(self, number: int) -> _Option | None:
        """What splitting off a node costs, together with all that hangs on it still; None if that is too much."""
        below = self._below(number)
        bonds = {self.parent[n] for n in below}
        rows = tuple(label for n in (number, *below) for label in self._own_rows(n) if label not in bonds)
        count = math.prod(self.now[label] for label in rows)
        if below and count > _MERGED:
            return None
        rest = max(self.entries // count, 1)
        rank = min(self.now[self.parent[number]], count, rest)
        if self.exact_ranks and rank == count:
            # Nothing to do; of a whole subtree not even that.
            return None if below else _Option(0.0, 0.0, number, rank, 1.0, rows, ())
        small, shrink = min(count, rest), rank / count
        moves = 1 + shrink + _moves(self.axes, rows)
        cost = self.entries * (self.rate * small + 2 * rank + _PASS * moves) + EIGEN * small**3
        # Of two steps the one with the smaller ratio goes first: exchanging neighbours in the order shows it.
        ratio = cost / (1 - shrink) if shrink < 1 else math.inf
        return _Option(ratio, cost, number, rank, shrink, rows, below)

    def _below(self, number: int) -> tuple[int, ...]:
        """The nodes below one that are not split off yet, parents first."""
        found, todo = [], [number]
        while todo and self.waiting[number]:
            node = todo.pop()
            for label, other in self.nodes[node].neighbours.items():
                if self.parent.get(other) == label:
                    found.append(other)
                    todo.append(other)
        return tuple(found)


def _adjacent(axes: Sequence[str], rows: Sequence[str]) -> bool:
    places = sorted(axes.index(label) for label in rows)
    return not places or places[-1] - places[0] == len(places) - 1


def _moves(axes: Sequence[str], rows: Sequence[str]) -> float:
    """Passes over the tensor that the place of the rows costs: to bring them together, or for a slower product."""
    if not _adjacent(axes, rows):
        return 1.0
    return _LAST if rows and axes[-1] in rows else 0.0


def _replaced(axes: Sequence[str], rows: Sequence[str], bond: str) -> list[str]:
    if not _adjacent(axes, rows) or not rows:
        return [bond, *(label for label in axes if label not in rows)]
    first = min(axes.index(label) for label in rows)
    left = [label for label in axes if label not in rows]
    return [*left[:first], bond, *left[first:]]


def split(extent: int, caps: Sequence[int]) -> list[int]:
    """Sizes of at most ``caps`` each with the smallest product that is at least ``extent``."""
    if len(caps) <= 1:
        return [extent] * len(caps)
    best: list[int] | None = None
    for first in range(1, min(caps[0], extent) + 1):
        rest = -(-extent // first)
        if rest > math.prod(caps[1:]):
            continue
        sizes = [first, *split(rest, caps[1:])]
        if best is None or math.prod(sizes) < math.prod(best):
            best = sizes
    assert best is not None
    return best
