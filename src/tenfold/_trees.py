"""Truncating the bonds of tree-shaped networks.

With every core but one orthogonal towards that one, the singular values of the tensor across a bond are those of a
small matrix. Truncations at different bonds of a tree are projections that commute and whose errors are orthogonal, so
their squares add up exactly and what one bond leaves of the budget the next one may spend.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from tenfold._scales import power_of, times_power
from tenfold.errors import StructureError
from tenfold.structure import Structure, Term

# Numbers below 2**_POWER have squares and products far from the ends of single precision.
_POWER = 20


def round_tree(
    structure: Structure, cores: Sequence[Tensor], *, error: float = 0.0, ranks: Mapping[str, int] | None = None
) -> tuple[Structure, list[Tensor]]:
    """Structure and cores with bonds truncated: to a relative error of at most ``error``, or to given ``ranks``.

    With ``ranks``, bonds that it does not name keep all but what is zero to rounding.
    """
    network = _truncated(structure, cores, error, ranks or {})
    return network.structure(structure), [tensor.to(cores[0].dtype) for tensor in network.finished()]


def bond_spectra(structure: Structure, cores: Sequence[Tensor]) -> dict[str, Tensor]:
    """For each bond of a tree the singular values of the tensor across it, largest first, in double precision."""
    return _truncated(structure, cores, 0.0, {}).spectra


def bond_limits(structure: Structure) -> dict[str, int]:
    """For each bond of a tree the largest dimension it can use: the smaller side of the matricisation across it."""
    check_tree(structure)
    total = structure.size
    limits = {}
    for index in structure.inner_indices:
        side = math.prod(structure.sizes[i] for i in outputs_beyond(structure, index))
        limits[index] = min(side, total // side)
    return limits


def outputs_beyond(structure: Structure, bond: str) -> list[str]:
    """The outputs of a tree on the side of the first core that has ``bond``."""
    start, other = structure.terms_with(bond)
    reached, todo = {start, other}, [start]
    while todo:
        for shared in structure.terms[todo.pop()].indices:
            for place in structure.terms_with(shared):
                if place not in reached and shared != bond:
                    reached.add(place)
                    todo.append(place)
    reached.discard(other)
    outside = set(structure.output_indices)
    return [i for place in sorted(reached) for i in structure.terms[place].indices if i in outside]


def _truncated(structure: Structure, cores: Sequence[Tensor], error: float, ranks: Mapping[str, int]) -> TreeNodes:
    check_tree(structure)
    network = TreeNodes(structure, cores)
    forest = [network.rooted(root) for root in network.roots()]
    tours = [_down_and_up(parent, order) for order, parent in forest]
    edges = sum(down for tour in tours for _, _, down in tour)
    for order, parent in forest:
        for node in reversed(order):
            if parent[node] is not None:
                network.orthogonalise(node, parent[node])
    # The squared norms of unconnected parts multiply, so errors are counted relative to each part's own norm.
    budget = error**2
    for (order, _), tour in zip(forest, tours, strict=True):
        norm2 = float(torch.linalg.vector_norm(network.tensors[order[0]].to(network.wide)) ** 2)
        for source, target, down in tour:
            if down:
                budget -= network.truncate(source, target, norm2, budget / edges, ranks)
                edges -= 1
            else:
                network.orthogonalise(source, target)
    network.arrange(structure)
    return network


def check_tree(structure: Structure, who: str = "round") -> None:
    """Raise `StructureError`, saying that ``who`` needs it and why not, unless the structure is a tree (or several)."""
    for core in structure.cores:
        if len(core.terms) > 1:
            raise StructureError(
                f"{who} needs a tree of different cores, but '{core.name}' is used {len(core.terms)} times"
            )
    outside = set(structure.output_indices)
    joined: set[tuple[int, ...]] = set()
    for index in structure.sizes:
        places = structure.terms_with(index)
        if index in outside:
            if len(places) > 1:
                raise StructureError(f"{who} needs a tree, but output '{index}' lies on {len(places)} cores")
        elif len(places) != 2:
            raise StructureError(f"{who} needs a tree, but '{index}' is a hyperedge of {len(places)} cores")
        else:
            joined.add(places)
    parent = list(range(len(structure.terms)))
    for a, b in sorted(joined):
        while parent[a] != a:
            a = parent[a]
        while parent[b] != b:
            b = parent[b]
        if a == b:
            raise StructureError(
                f"{who} needs a tree, but the bonds of '{structure}' close a cycle; fit fewer ranks instead"
            )
        parent[a] = b


class TreeNodes:
    """Cores as named-axis tensors whose bonds can be moved between neighbours."""

    def __init__(self, structure: Structure, cores: Sequence[Tensor]) -> None:
        narrow = cores[0].dtype in (torch.float16, torch.bfloat16)
        self.wide = torch.float32 if narrow else cores[0].dtype
        self.outputs = set(structure.output_indices)
        self.indices = [list(structure.terms[core.terms[0]].indices) for core in structure.cores]
        # Powers of two are kept apart, so that squares of singular values stay within range.
        self.powers = [0] * len(cores)
        self.tensors = [self._in_range(n, core.to(self.wide)) for n, core in enumerate(cores)]
        self.spectra: dict[str, Tensor] = {}
        self._join_parallel_bonds()
        self.neighbours: list[list[int]] = [
            [m for m in range(len(self.indices)) if m != n and self.shared(n, m)] for n in range(len(self.indices))
        ]

    def _in_range(self, node: int, tensor: Tensor) -> Tensor:
        power = power_of(tensor)
        if abs(power) <= _POWER:
            return tensor
        self.powers[node] += power
        return times_power(tensor, -power)

    def shared(self, a: int, b: int) -> list[str]:
        return [index for index in self.indices[a] if index in self.indices[b]]

    def _join_parallel_bonds(self) -> None:
        for a in range(len(self.indices)):
            for b in range(a):
                bonds = self.shared(a, b)
                if len(bonds) > 1:
                    for node in (a, b):
                        rest = [index for index in self.indices[node] if index not in bonds]
                        order = [self.indices[node].index(index) for index in (*rest, *bonds)]
                        self.tensors[node] = self.tensors[node].permute(order).flatten(len(rest))
                        self.indices[node] = [*rest, bonds[0]]

    def roots(self) -> list[int]:
        """One node of each connected part, an end of it, so that chains need no way back."""
        seen: set[int] = set()
        roots = []
        for node in sorted(range(len(self.indices)), key=lambda n: len(self.neighbours[n])):
            if node not in seen:
                roots.append(node)
                seen.update(self.rooted(node)[0])
        return roots

    def rooted(self, root: int) -> tuple[list[int], dict[int, int | None]]:
        """The nodes below ``root``, parents first, and the parent of each."""
        parent: dict[int, int | None] = {root: None}
        order, todo = [], [root]
        while todo:
            node = todo.pop()
            order.append(node)
            for other in self.neighbours[node]:
                if other not in parent:
                    parent[other] = node
                    todo.append(other)
        return order, parent

    def _towards(self, node: int, other: int) -> tuple[Tensor, list[int], list[str], str]:
        """A node as a matrix: everything else x the bond to ``other``."""
        (bond,) = self.shared(node, other)
        rest = [index for index in self.indices[node] if index != bond]
        order = [self.indices[node].index(index) for index in (*rest, bond)]
        tensor = self.tensors[node].permute(order)
        return tensor.reshape(-1, tensor.shape[-1]), list(tensor.shape[:-1]), rest, bond

    def _put(self, node: int, matrix: Tensor, shape: list[int], rest: list[str], bond: str) -> None:
        self.tensors[node] = matrix.reshape(*shape, matrix.shape[1])
        self.indices[node] = [*rest, bond]

    def extent(self, bond: str) -> int:
        """The size of a bond as it is now."""
        return next(t.shape[ix.index(bond)] for ix, t in zip(self.indices, self.tensors, strict=True) if bond in ix)

    def absorb(self, node: int, matrix: Tensor, bond: str) -> None:
        """Multiply a matrix into a bond of a node."""
        axis = self.indices[node].index(bond)
        moved = torch.tensordot(matrix, self.tensors[node], dims=([1], [axis]))
        self.tensors[node] = self._in_range(node, moved.movedim(0, axis))

    def orthogonalise(self, node: int, towards: int | None, sketch: Tensor | None = None) -> None:
        """Make a node an orthonormal basis of its columns, or of their products with a ``sketch`` (bond x narrow)."""
        assert towards is not None
        matrix, shape, rest, bond = self._towards(node, towards)
        if sketch is None:
            q, r = torch.linalg.qr(matrix)
        else:
            q = torch.linalg.qr(matrix @ sketch).Q
            r = q.mH @ matrix
        self._put(node, q, shape, rest, bond)
        self.absorb(towards, r, bond)

    def truncate(self, node: int, towards: int, norm2: float, budget: float, ranks: Mapping[str, int]) -> float:
        """Cut the bond from the centre ``node``; returns the squared relative error spent."""
        matrix, shape, rest, bond = self._towards(node, towards)
        u, s, vh = torch.linalg.svd(matrix, full_matrices=False)
        squares = (s.double() ** 2).flip(0).cumsum(0).flip(0)  # squares[k]: what is lost by keeping k
        # Even without a budget, what is zero to rounding goes.
        floor = (4 * torch.finfo(s.dtype).eps) ** 2 * float(squares[0])
        keep = max(1, int((squares > max(budget * norm2, floor)).sum()))
        keep = min(keep, ranks.get(bond, keep))
        self.spectra[bond] = times_power(s.double(), sum(self.powers))
        spent = float(squares[keep]) / norm2 if keep < len(squares) and norm2 > 0 else 0.0
        self._put(node, u[:, :keep], shape, rest, bond)
        self.absorb(towards, s[:keep, None].to(vh.dtype) * vh[:keep], bond)
        return min(spent, budget)

    def finished(self) -> list[Tensor]:
        """The cores, with the powers of two shared among them."""
        each, rest = divmod(sum(self.powers), len(self.tensors))
        return [times_power(tensor, each + (n < rest)) for n, tensor in enumerate(self.tensors)]

    def arrange(self, old: Structure) -> None:
        """Turn every core's axes as they were."""
        for node, term in enumerate(old.terms):
            kept = [index for index in term.indices if index in self.indices[node]]
            self.tensors[node] = self.tensors[node].permute([self.indices[node].index(index) for index in kept])
            self.indices[node] = kept

    def structure(self, old: Structure) -> Structure:
        sizes = {
            i: n for ix, t in zip(self.indices, self.tensors, strict=True) for i, n in zip(ix, t.shape, strict=True)
        }
        terms = [Term(term.name, tuple(ix)) for term, ix in zip(old.terms, self.indices, strict=True)]
        return Structure.of(terms, old.outputs, sizes)


def _down_and_up(parent: dict[int, int | None], order: list[int]) -> list[tuple[int, int, bool]]:
    """The walk of the centre that crosses every edge downwards once, as (from, to, whether down); it ends below."""
    walk: list[tuple[int, int, bool]] = []
    at = order[0]
    for node in order[1:]:
        above = parent[node]
        assert above is not None
        while at != above:
            up = parent[at]
            assert up is not None
            walk.append((at, up, False))
            at = up
        walk.append((above, node, True))
        at = node
    return walk
