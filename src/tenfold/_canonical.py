"""A canonical labelling of small vertex-coloured graphs.

Two graphs get equal certificates exactly when a colour-preserving isomorphism exists. Colour refinement does nearly all
of the work; where it leaves vertices undistinguished, one of them is individualised and every choice is explored, with
choices that an automorphism already found maps onto one another explored once (the scheme of "Practical graph
isomorphism", McKay 1981).
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence

Certificate = tuple[tuple[int, ...], ...]


def certificate(
    colours: Sequence[Hashable], edges: Sequence[tuple[int, int]]
) -> tuple[tuple[tuple[int, ...], Certificate], ...]:
    """The canonical form of the graph on ``len(colours)`` vertices.

    Colours must be sortable among themselves. Returns, for each connected part, the ranks of its colours and the
    adjacency lists of the canonically relabelled part, in sorted order; together with the set of colours this
    determines the graph up to isomorphism. Parts are searched one by one, because equal parts have very many
    automorphisms together and few alone.
    """
    neighbours: list[list[int]] = [[] for _ in colours]
    for a, b in edges:
        neighbours[a].append(b)
        neighbours[b].append(a)
    order = {colour: rank for rank, colour in enumerate(sorted(set(colours)))}  # type: ignore[type-var]
    forms = []
    for part in _parts(neighbours):
        place = {vertex: n for n, vertex in enumerate(part)}
        ranks = [order[colours[vertex]] for vertex in part]
        form = _Search([[place[u] for u in neighbours[vertex]] for vertex in part]).run(ranks)
        forms.append((tuple(sorted(ranks)), form))
    return tuple(sorted(forms))


def _parts(neighbours: Sequence[Sequence[int]]) -> list[list[int]]:
    """The vertices of each connected part."""
    seen: set[int] = set()
    parts = []
    for start in range(len(neighbours)):
        if start in seen:
            continue
        seen.add(start)
        part = [start]
        for vertex in part:  # grows while it is gone through
            fresh = [u for u in dict.fromkeys(neighbours[vertex]) if u not in seen]
            seen.update(fresh)
            part += fresh
        parts.append(part)
    return parts


class _Search:
    def __init__(self, neighbours: list[list[int]]) -> None:
        self.neighbours = neighbours
        self.best: Certificate | None = None
        self.first: Certificate | None = None
        self.first_labels: list[int] = []
        self.first_path: list[int] = []
        self.best_labels: list[int] = []
        self.automorphisms: list[list[int]] = []

    def run(self, colours: list[int]) -> Certificate:
        self._explore(self._refine(colours), [])
        assert self.best is not None
        return self.best

    def _refine(self, colours: list[int]) -> list[int]:
        """Split colour classes by the multiset of neighbours' colours until nothing splits. Label-independent."""
        classes = len(set(colours))
        while True:
            signature = [
                (colours[v], tuple(sorted(colours[u] for u in near))) for v, near in enumerate(self.neighbours)
            ]
            rank = {value: r for r, value in enumerate(sorted(set(signature)))}
            colours = [rank[value] for value in signature]
            if len(rank) == classes:
                return colours
            classes = len(rank)

    def _leaf(self, labels: list[int]) -> Certificate:
        form: list[tuple[int, ...]] = [()] * len(labels)
        for v, near in enumerate(self.neighbours):
            form[labels[v]] = tuple(sorted(labels[u] for u in near))
        return tuple(form)

    def _record(self, old: list[int], new: list[int]) -> None:
        where = {label: v for v, label in enumerate(new)}
        self.automorphisms.append([where[label] for label in old])

    def _explore(self, colours: list[int], path: list[int]) -> int:
        """Search below one node. Returns the depth to fall back to (a larger number than here means: go on)."""
        members: dict[int, list[int]] = {}
        for v, colour in enumerate(colours):
            members.setdefault(colour, []).append(v)
        open_cells = [cell for _, cell in sorted(members.items()) if len(cell) > 1]
        if not open_cells:
            form = self._leaf(colours)
            if self.first is None:
                self.first, self.first_labels, self.first_path = form, colours, list(path)
            elif form == self.first:
                # The subtree is a copy of the first one: go back to where the two paths part.
                self._record(self.first_labels, colours)
                return next(d for d, (a, b) in enumerate(zip(path, self.first_path, strict=False)) if a != b)
            if self.best is None or form < self.best:
                self.best, self.best_labels = form, colours
            elif form == self.best and colours is not self.best_labels:
                self._record(self.best_labels, colours)
            return len(path)
        cell = min(open_cells, key=len)
        tried: list[int] = []
        for v in cell:
            if tried and self._same_orbit(v, tried, path):
                continue
            tried.append(v)
            split = [2 * colour + 1 for colour in colours]
            split[v] -= 1
            back = self._explore(self._refine(split), [*path, v])
            if back < len(path):
                return back
        return len(path)

    def _same_orbit(self, vertex: int, tried: list[int], path: list[int]) -> bool:
        """Whether automorphisms that fix the path map ``vertex`` onto something tried before."""
        parent = list(range(len(self.neighbours)))

        def root(v: int) -> int:
            while parent[v] != v:
                parent[v] = parent[parent[v]]
                v = parent[v]
            return v

        for mapping in self.automorphisms:
            if all(mapping[v] == v for v in path):
                for v, image in enumerate(mapping):
                    parent[root(v)] = root(image)
        return root(vertex) in {root(v) for v in tried}
