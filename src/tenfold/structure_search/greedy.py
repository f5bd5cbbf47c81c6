"""Greedy growth from the rank-one network: one more rank at a time, where it helps most, and back again."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import combinations, product

from tenfold.errors import TenfoldError
from tenfold.structure import Structure
from tenfold.structure_search._registry import searcher
from tenfold.structure_search._split import split_cores
from tenfold.structure_search.session import Evaluation, Session
from tenfold.structure_search.spaces import Chain, Point, Ring, Space

CHOICES = ("value", "per_parameter")


@dataclass(frozen=True)
class _At:
    """Where the search is."""

    point: Point
    seen: Evaluation


@searcher("greedy")
def greedy(
    session: Session,
    space: Space,
    seed: int = 0,
    *,
    choose: str = "per_parameter",
    first_sweeps: int = 3,
    tries: int = 2,
    patience: int = 2,
    prune: bool = True,
    split: bool = False,
) -> None:
    """The rank-one network, grown by one rank of one edge at a time where that helps most, then cut back.

    Each step looks at every edge that may grow, with a few sweeps from the network so far, and fits the best of them
    to the end; its error never rises. Growth ends where no larger network can win, or after steps that won nothing.
    Then ranks are taken back one by one while the objective falls. Where that ends, modes change places, and a rank of
    each edge in turn, or the whole edge, is taken away and others are grown in its place, until none of this helps.
    Nothing is drawn: ``seed`` changes nothing.

    Args:
        choose: edges by the decrease of the error ``"per_parameter"`` added, or by the objective's ``"value"``.
        first_sweeps: of the first look at an edge.
        tries: how many edges are fitted to the end in each step.
        patience: how many steps may win nothing before growth ends.
        prune: whether ranks are taken back, and others grown in their place.
        split: whether cores of the best network are split in two at the end where that makes it smaller; the new
            cores carry no mode, so this leaves the space.

    Raises:
        TenfoldError: another ``choose``, or a number below 1.

    Cost: one first look for each edge and step.
    Paper: "Adaptive Learning of Tensor Network Structures", 2020; taking ranks back is ours.
    """
    if choose not in CHOICES:
        raise TenfoldError(f"choose must be one of {', '.join(CHOICES)}, not {choose!r}")
    for name, number in (("first_sweeps", first_sweeps), ("tries", tries), ("patience", patience)):
        if number < 1:
            raise TenfoldError(f"{name} must be at least 1, not {number!r}")
    point = space.first()
    (seen,) = session.evaluate([space.structure(point)])
    search = _Greedy(session, space, choose, first_sweeps, tries, patience)
    best = search.grown(_At(point, seen))
    if prune:
        best = search.pruned(best)
        while (found := search.exchanged(best)) is not best:
            best = found
    if split and best.seen.network is not None:
        network = split_cores(best.seen.network)
        if network.structure != best.seen.structure:
            session.evaluate([network.structure], near=replace(best.seen, network=network))


@dataclass(frozen=True)
class _Greedy:
    """A search and its options."""

    session: Session
    space: Space
    choose: str
    first_sweeps: int
    tries: int
    patience: int

    def better(self, one: _At, other: _At) -> bool:
        rank = self.session.objective.rank
        return rank(one.seen.parameters, one.seen.error) < rank(other.seen.parameters, other.seen.error)

    def grown(self, start: _At, goal: _At | None = None, held: Mapping[str, int] | None = None) -> _At:
        """The best on the way up.

        Args:
            goal: what is to be beaten, if not ``start``; networks that cannot are left alone.
            held: the most that these bonds may have.
        """
        now = best = start
        idle = 0
        while idle < self.patience:
            steps = [
                (structure, point)
                for structure, point in _larger(self.space, now.point)
                if self.can_win(structure, now, goal or best)
                and all(structure.sizes.get(bond, 1) <= most for bond, most in (held or {}).items())
            ]
            if not steps:
                break
            score = _score(self.choose, now.seen)
            looks = self.session.evaluate([s for s, _ in steps], near=now.seen, sweeps=self.first_sweeps)
            ranked = sorted((score(one), place) for place, one in enumerate(looks))[: self.tries]
            tried = [steps[place] for _, place in ranked]
            fitted = self.session.evaluate([s for s, _ in tried], near=now.seen)
            reached = [_At(point, one) for (_, point), one in zip(tried, fitted, strict=True)]
            # A larger network makes all that the smaller one did: one with a larger error was fitted badly.
            able = [one for one in reached if one.seen.error <= now.seen.error]
            if not able:
                break
            now = min(able, key=lambda one: score(one.seen))
            if self.better(now, best):
                best, idle = now, 0
            else:
                idle += 1
        return best

    def can_win(self, structure: Structure, now: _At, goal: _At) -> bool:
        """Whether some error would make this structure, or what grows from it, better than ``goal``."""
        objective, parameters = self.session.objective, structure.parameters
        if objective.met(now.seen.parameters, now.seen.error) and not objective.met(parameters, 0.0):
            return False
        return objective.error_for(parameters, goal.seen.value) >= 0

    def pruned(self, start: _At) -> _At:
        """Ranks taken back one by one, each time the one that the objective likes best, while it falls."""
        now = start
        while True:
            smaller = list(_smaller(self.space, now.point))
            seen = self.session.evaluate([s for s, _ in smaller], near=now.seen, beat=now.seen.value)
            rank = self.session.objective.rank
            able = [_At(point, one) for (_, point), one in zip(smaller, seen, strict=True) if one.finished]
            found = min(able, key=lambda one: rank(one.seen.parameters, one.seen.error), default=None)
            if found is None or not self.better(found, now):
                return now
            now = found

    def exchanged(self, best: _At) -> _At:
        """A better network with less of some edge and more of others; ``best`` itself if there is none.

        First with two modes in each other's place, then with one rank of an edge taken away, then with all of it.
        """
        swapped = [(self.space.structure(point), point) for point in self.space.transpositions(best.point)]
        seen = self.session.evaluate([s for s, _ in swapped], near=best.seen, beat=best.seen.value)
        able = [_At(point, one) for (_, point), one in zip(swapped, seen, strict=True) if one.finished]
        for one in sorted(able, key=lambda one: one.seen.value)[:1]:
            if self.better(one, best):
                return self.pruned(self.grown(one))
        smaller = list(
            {s.key: (s, p) for less in (False, True) for s, p in _smaller(self.space, best.point, less)}.values()
        )
        looks = self.session.evaluate([s for s, _ in smaller], near=best.seen, sweeps=self.first_sweeps)
        ranked = sorted((one.error, place) for place, one in enumerate(looks))
        for _, place in ranked:
            structure, point = smaller[place]
            (start,) = self.session.evaluate([structure], near=best.seen)
            sizes = best.seen.structure.sizes
            held = {b: structure.sizes.get(b, 1) for b in sizes if structure.sizes.get(b, 1) < sizes[b]}
            found = self.grown(_At(point, start), best, held)
            if self.better(found, best):
                return self.pruned(found)
        return best


def _score(choose: str, now: Evaluation) -> Callable[[Evaluation], tuple[float, int]]:
    """A sort key, smallest first."""
    if choose == "value":
        return lambda one: (one.value, one.parameters)
    return lambda one: ((one.error - now.error) / max(one.parameters - now.parameters, 1), one.parameters)


def _larger(space: Space, now: Point) -> Iterator[tuple[Structure, Point]]:
    """The structures with one rank more, each once."""
    seen = {space.structure(now).key}
    groups = _groups(space)
    for arranged in _arranged(space, now):
        for group in groups:
            point = arranged
            for edge in group:
                point = point.with_rank(edge, point.ranks[edge] + 1)
            if not space.allows(point):
                continue
            structure = space.structure(point)
            if structure.key not in seen:
                seen.add(structure.key)
                yield structure, point


def _groups(space: Space) -> list[tuple[int, ...]]:
    """What grows at once: an edge, or all edges on the way from mode to mode through vertices that carry none.

    A vertex without a mode and with a single bond says nothing, so the first of its edges cannot grow alone.
    """
    groups: list[tuple[int, ...]] = [(edge,) for edge in range(len(space.edges))]
    at: dict[int, list[tuple[int, int]]] = {}
    for edge, (a, b) in enumerate(space.edges):
        at.setdefault(a, []).append((edge, b))
        at.setdefault(b, []).append((edge, a))

    def paths(first: int, vertex: int, taken: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
        for edge, other in at.get(vertex, []):
            if edge in taken:
                continue
            if other >= space.modes:
                yield from paths(first, other, (*taken, edge))
            elif other > first and taken:
                yield (*taken, edge)

    for first in range(space.modes):
        groups.extend(paths(first, first, ()))
    return groups


def _arranged(space: Space, point: Point) -> Iterator[Point]:
    """The orders of the modes that make the same structure as ``point`` does and differ in what may grow."""
    yield point
    if not space.orders:
        return
    if isinstance(space, (Chain, Ring)):
        yield from _strung(space, point)
        return
    same = space.structure(point)
    for swapped in space.transpositions(point):
        if space.structure(swapped) == same:
            yield swapped


def _strung(space: Chain | Ring, point: Point) -> Iterator[Point]:
    """Pieces of a chain or ring, each pair with each pair of ends put side by side."""
    order, ranks = list(point.order), list(point.ranks)
    if isinstance(space, Ring):
        if 1 not in ranks:
            return  # closed: nothing is free
        turn = ranks.index(1) + 1
        order, ranks = order[turn:] + order[:turn], ranks[turn:] + ranks[: turn - 1]
    pieces: list[tuple[list[int], list[int]]] = [([order[0]], [])]
    for mode, rank in zip(order[1:], ranks, strict=True):
        if rank == 1:
            pieces.append(([mode], []))
        else:
            pieces[-1][0].append(mode)
            pieces[-1][1].append(rank)
    for first, second in combinations(range(len(pieces)), 2):
        rest = [piece for place, piece in enumerate(pieces) if place not in (first, second)]
        for a, b in product(_both_ways(pieces[first]), _both_ways(pieces[second])):
            row = [a, b, *rest]
            modes = [mode for piece in row for mode in piece[0]]
            sizes = [rank for piece in row for rank in (*piece[1], 1)]
            yield Point(tuple(sizes[: len(ranks)] + [1] * isinstance(space, Ring)), tuple(modes))


def _both_ways(piece: tuple[list[int], list[int]]) -> list[tuple[list[int], list[int]]]:
    modes, ranks = piece
    return [piece, (modes[::-1], ranks[::-1])] if len(modes) > 1 else [piece]


def _smaller(space: Space, now: Point, whole: bool = False) -> Iterator[tuple[Structure, Point]]:
    """The structures with one rank less, or one whole edge, each once."""
    structure = space.structure(now)
    seen = {structure.key}
    for edge, rank in enumerate(now.ranks):
        for less in (1,) if whole else range(rank - 1, 0, -1):
            point = now.with_rank(edge, less)
            smaller = space.structure(point)
            if smaller == structure:
                continue  # the edge was larger than its ends can use
            if smaller.key not in seen:
                seen.add(smaller.key)
                yield smaller, point
            break
