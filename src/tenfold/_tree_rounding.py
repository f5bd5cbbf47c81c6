"""Smaller bonds for tree-shaped networks without orthogonalising the large cores: by Gram matrices, by random ones.

Both are for networks with bonds much wider than they need, such as sums. `tenfold._trees` has the way that keeps all
digits.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from tenfold._trees import TreeNodes, check_tree, round_tree
from tenfold.contraction import contract
from tenfold.structure import Structure

# Random vectors for each bond beyond the rank that it keeps.
_MORE = 8
# No index of a structure has a space in its name.
_MARK = " (other)"


def gram_round_tree(
    structure: Structure, cores: Sequence[Tensor], *, error: float = 0.0, ranks: Mapping[str, int] | None = None
) -> tuple[Structure, list[Tensor]]:
    """Structure and cores with bonds truncated by the Gram matrices of the two parts that each bond separates.

    The singular values across a bond are those of a product of square roots of the two matrices, and so is the pair of
    maps that narrows it; no core is orthogonalised. Squares lose what is below the root of the precision.

    Cost: about ``4 n r^3`` flops for a core, nearly all of them products of matrices.
    """
    check_tree(structure)
    nodes = TreeNodes(structure, cores)
    forest = [nodes.rooted(root) for root in nodes.roots()]
    edges = sum(len(order) - 1 for order, _ in forest)
    for order, parent in forest:
        conjugates = [tensor.conj() for tensor in nodes.tensors]
        beyond = _Beyond(nodes, order, parent, conjugates).all()
        below: dict[int, Tensor] = {}
        for node in reversed(order[1:]):
            towards = parent[node]
            assert towards is not None
            (bond,) = nodes.shared(node, towards)
            # What has been narrowed below makes this Gram matrix cheap.
            conjugates[node] = nodes.tensors[node].conj()
            gram = _Beyond(nodes, order, parent, conjugates).below(node, below)
            rank = None if ranks is None else ranks.get(bond, nodes.extent(bond))
            down, up = _cut(gram, beyond[node], error**2 / edges, rank)
            nodes.absorb(node, down.mT, bond)
            nodes.absorb(towards, up, bond)
            below[node] = down.mH @ gram @ down
    nodes.arrange(structure)
    return nodes.structure(structure), [tensor.to(cores[0].dtype) for tensor in nodes.finished()]


def random_round_tree(
    structure: Structure, cores: Sequence[Tensor], *, ranks: Mapping[str, int], seed: int
) -> tuple[Structure, list[Tensor]]:
    """Structure and cores with bonds of given ranks, by randomising and then orthogonalising.

    The network is contracted with a random one of the same tree, whose bonds are a little wider than the ranks. What
    that leaves at a bond is a sketch of everything beyond it, so each core, from the leaves, is orthogonalised as the
    thin product with its sketch. The narrow network that this makes is then truncated by singular values.

    Cost: about ``4 n r^2 s`` flops for a core with bonds of ``r`` that become ``s``.
    """
    check_tree(structure)
    nodes = TreeNodes(structure, cores)
    generator = torch.Generator().manual_seed(seed)
    width = {
        bond: min(nodes.extent(bond), ranks.get(bond, nodes.extent(bond)) + _MORE)
        for n in range(len(cores))
        for m in nodes.neighbours[n]
        for bond in nodes.shared(n, m)
    }
    others = []
    for n in range(len(cores)):
        extents = [
            width.get(index, extent) for index, extent in zip(nodes.indices[n], nodes.tensors[n].shape, strict=True)
        ]
        drawn = torch.randn(extents, generator=generator, dtype=nodes.wide).to(nodes.tensors[n].device)
        others.append(drawn / math.sqrt(drawn.numel()))
    for root in nodes.roots():
        order, parent = nodes.rooted(root)
        beyond = _Beyond(nodes, order, parent, others).all()
        for node in reversed(order[1:]):
            nodes.orthogonalise(node, parent[node], beyond[node].mT)
    nodes.arrange(structure)
    made = [tensor.to(nodes.wide) for tensor in nodes.finished()]
    smaller, made = round_tree(nodes.structure(structure), made, ranks=ranks)
    return smaller, [tensor.to(cores[0].dtype) for tensor in made]


@dataclass
class _Beyond:
    """The network contracted with another one on the same tree, on either side of a bond.

    All matrices are (the other one's bond x own bond), by the node below the bond.
    """

    nodes: TreeNodes
    order: Sequence[int]
    parent: Mapping[int, int | None]
    others: Sequence[Tensor]

    def all(self) -> dict[int, Tensor]:
        """For each node but the root what is beyond the bond above it."""
        found: dict[int, Tensor] = {}
        beside: dict[int, Tensor] = {}
        # Needed only where one bond's other side has branches of its own.
        for node in reversed(self.order[1:]):
            if self._branches(node):
                beside[node] = self.below(node, beside)
        for node in self.order:
            above = [self._at(node, found[node])] if self.parent[node] is not None else []
            for child in self._children(node):
                rest = [self._at(m, beside[m]) for m in self._children(node) if m != child]
                found[child] = self._contract(node, [*above, *rest], child)
        return found

    def below(self, node: int, known: Mapping[int, Tensor]) -> Tensor:
        """What is below the bond above a node, the node included, from what is below its own bonds."""
        return self._contract(node, [self._at(m, known[m]) for m in self._children(node)], node)

    def _branches(self, node: int) -> bool:
        """Whether some node between here and the root has another child."""
        at = self.parent[node]
        while at is not None:
            if len(self._children(at)) > 1:
                return True
            at = self.parent[at]
        return False

    def _children(self, node: int) -> list[int]:
        return [m for m in self.nodes.neighbours[node] if self.parent[m] == node]

    def _bond(self, node: int) -> str:
        towards = self.parent[node]
        assert towards is not None
        (index,) = self.nodes.shared(node, towards)
        return index

    def _at(self, node: int, matrix: Tensor) -> tuple[tuple[str, ...], Tensor]:
        bond = self._bond(node)
        return (bond + _MARK, bond), matrix

    def _contract(self, node: int, around: list[tuple[tuple[str, ...], Tensor]], open_: int) -> Tensor:
        own = tuple(self.nodes.indices[node])
        other = tuple(index if index in self.nodes.outputs else index + _MARK for index in own)
        bond = self._bond(open_)
        terms = [(own, self.nodes.tensors[node]), (other, self.others[node]), *around]
        return contract(terms, (bond + _MARK, bond))


def _cut(below: Tensor, above: Tensor, part: float, rank: int | None) -> tuple[Tensor, Tensor]:
    """The maps (bond x narrow) into the core below and (narrow x bond) into the one above, from the Gram matrices."""
    left, right = _root(below), _root(above)
    u, s, vh = torch.linalg.svd(left @ right.mT, full_matrices=False)
    squares = s.double() ** 2
    tails = squares.flip(0).cumsum(0).flip(0)
    least = torch.finfo(s.dtype).eps * float(squares[0])
    keep = max(1, int(((tails > part * float(tails[0])) & (squares > least)).sum()))
    keep = keep if rank is None else min(keep, rank)
    scale = torch.where(s[:keep] > 0, s[:keep].rsqrt(), 0).to(u.dtype)
    return right.mT @ (vh[:keep].mH * scale), (scale[:, None] * u[:, :keep].mH) @ left


def _root(square: Tensor) -> Tensor:
    """``R`` with ``R^H R`` the Hermitian positive semidefinite matrix."""
    values, vectors = torch.linalg.eigh((square + square.mH) / 2)
    return values.clamp(min=0).sqrt().to(vectors.dtype)[:, None] * vectors.mH
