"""Smaller bonds for tree-shaped networks without orthogonalising the large cores: by Gram matrices, by random ones.

Both are for networks with bonds much wider than they need, such as sums. `tenfold._trees` has the way that keeps all
digits.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

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

    Cost: about ``4 n r^3`` flops for a core, all of them products of matrices.
    """
    check_tree(structure)
    nodes = TreeNodes(structure, cores)
    forest = [nodes.rooted(root) for root in nodes.roots()]
    edges = sum(len(order) - 1 for order, _ in forest)
    for order, parent in forest:
        inside, outside = _both_sides(nodes, order, parent, [tensor.conj() for tensor in nodes.tensors])
        maps = {}
        for node in order[1:]:
            maps[node] = _cut(inside[node], outside[node], error**2 / edges, _kept(nodes, node, parent, ranks))
        for node, (below, above) in maps.items():
            towards = parent[node]
            assert towards is not None
            (bond,) = nodes.shared(node, towards)
            nodes.absorb(node, below.mT, bond)
            nodes.absorb(towards, above, bond)
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
        _, outside = _both_sides(nodes, order, parent, others)
        for node in reversed(order[1:]):
            nodes.orthogonalise(node, parent[node], outside[node].mT)
    made = [tensor.to(nodes.wide) for tensor in nodes.finished()]
    smaller, made = round_tree(nodes.structure(structure), made, ranks=ranks)
    return smaller, [tensor.to(cores[0].dtype) for tensor in made]


def _kept(nodes: TreeNodes, node: int, parent: Mapping[int, int | None], ranks: Mapping[str, int] | None) -> int | None:
    towards = parent[node]
    assert towards is not None
    (bond,) = nodes.shared(node, towards)
    return None if ranks is None else ranks.get(bond, nodes.extent(bond))


def _both_sides(
    nodes: TreeNodes, order: Sequence[int], parent: Mapping[int, int | None], others: Sequence[Tensor]
) -> tuple[dict[int, Tensor], dict[int, Tensor]]:
    """The network contracted with another one on the same tree, except for the bond above each node.

    Returns:
        For each node but the root a matrix (other's bond x own bond) of what is below the bond, with the node, and one
        of what is beyond it.
    """
    outputs = nodes.outputs

    def terms(node: int) -> list[tuple[tuple[str, ...], Tensor]]:
        own = nodes.indices[node]
        return [
            (tuple(own), nodes.tensors[node]),
            (tuple(i if i in outputs else i + _MARK for i in own), others[node]),
        ]

    def bond(node: int) -> str:
        towards = parent[node]
        assert towards is not None
        (index,) = nodes.shared(node, towards)
        return index

    children = {node: [m for m in nodes.neighbours[node] if parent[m] == node] for node in order}
    inside: dict[int, Tensor] = {}
    for node in reversed(order[1:]):
        index = bond(node)
        below = [((bond(m) + _MARK, bond(m)), inside[m]) for m in children[node]]
        inside[node] = contract([*terms(node), *below], (index + _MARK, index))
    outside: dict[int, Tensor] = {}
    for node in order:
        above = [((bond(node) + _MARK, bond(node)), outside[node])] if parent[node] is not None else []
        for child in children[node]:
            index = bond(child)
            beside = [((bond(m) + _MARK, bond(m)), inside[m]) for m in children[node] if m != child]
            outside[child] = contract([*terms(node), *above, *beside], (index + _MARK, index))
    return inside, outside


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
