"""Pairs of structures that look alike to everything below a certain power, and pairs that are alike."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from tenfold._arguments import whole_number


@dataclass(frozen=True, eq=False)
class Geometry:
    """Points and who sees whom.

    Attributes:
        positions: of the nodes, in double precision.
        edges: from the nodes in the first row to those in the second, each in both directions.
        centre: the node in whose neighbourhood the structure is; None where the whole graph is.
    """

    positions: Float[Tensor, "nodes 3"]
    edges: Int[Tensor, "2 edges"]
    centre: int | None


@dataclass(frozen=True, eq=False)
class Pair:
    """Two structures.

    Attributes:
        name: what they are.
        first, second: the structures.
        needs: what a map must have to tell them apart; empty where none must.
        mirrored: whether a reflection turns one into the other, so that only signs of pseudoscalars differ.
    """

    name: str
    first: Geometry
    second: Geometry
    needs: str = ""
    mirrored: bool = False

    @property
    def same(self) -> bool:
        """Whether a rotation turns one into the other: then no invariant differs."""
        return not self.needs


def pairs() -> tuple[Pair, ...]:
    """All that `suite` tries unless told otherwise.

    Paper: "On the Expressive Power of Geometric Graph Neural Networks", 2023.
    """
    return (
        *(chains(length) for length in (2, 3, 4, 5)),
        *(shells(fold) for fold in (2, 3, 5)),
        two_body(),
        three_body(),
        four_body(),
        chiral(),
        chiral_in_fours(),
        *controls(),
    )


def chains(length: int) -> Pair:
    """A straight chain of nodes with a bent end on each side: the ends on the same side, or on opposite ones.

    Every node has the same neighbours at the same distances and angles in both. A node must hear of both ends, which
    takes ``length // 2 + 1`` layers, with messages that have directions.

    Raises:
        TenfoldError: ``length`` is below 2.
    """
    length = whole_number("length", length, 2)
    inner = [(0.0, 5.0 * node, 0.0) for node in range(length)]
    last = (4.0, 5.0 * (length - 1) + 3.0, 0.0)
    found = []
    for side in (-4.0, 4.0):
        positions = torch.tensor([(side, -3.0, 0.0), *inner, last], dtype=torch.float64)
        edges = torch.stack([torch.arange(length + 1), torch.arange(1, length + 2)])
        edges = torch.cat([edges, edges.flip(0)], dim=1)
        found.append(Geometry(positions - positions.mean(dim=0), edges, None))
    apart, beside = found
    return Pair(f"chain of {length}, ends apart or not", apart, beside, f"{length // 2 + 1} layers with directions")


def shells(fold: int) -> Pair:
    """Two rings of neighbours, one inside the other: eclipsed, or the outer one turned by half a step.

    The harmonics of a ring with this symmetry, added up, say nothing of its angle below degree ``fold``.

    Raises:
        TenfoldError: ``fold`` is below 2.
    """
    fold = whole_number("fold", fold, 2)
    steps = 2 * math.pi / fold * torch.arange(fold, dtype=torch.float64)
    found = []
    for turn in (0.0, math.pi / fold):
        rings = [
            radius * torch.stack([torch.cos(steps + angle), torch.sin(steps + angle), torch.zeros_like(steps)], dim=1)
            for radius, angle in ((1.0, 0.0), (2.0, turn))
        ]
        found.append(_star(torch.cat(rings)))
    eclipsed, staggered = found
    return Pair(f"{fold}-fold rings, eclipsed or staggered", eclipsed, staggered, f"degree {fold}")


def two_body() -> Pair:
    """Two neighbours at one distance and different angles: distances from the centre do not tell."""
    first, second = [(5, 0, 0), (3, 0, 4)], [(5, 0, 0), (-5, 0, 0)]
    return Pair("equal distances", _star(first), _star(second), "products of 2 neighbours")


def three_body() -> Pair:
    """Equal distances and angles: all pairs of neighbours are the same, but not all triples."""
    shared = [(5, 0, 5), (5, 5, 5), (-5, -5, 5)]
    first, second = [*shared, (0, 5, 5)], [*shared, (0, -5, 5)]
    return Pair("equal angles", _star(first), _star(second), "products of 3 neighbours")


def four_body() -> Pair:
    """All triples of neighbours are the same, with their hand, but not all sets of four.

    Two scalene triangles, one above the other and turned against it, and one more neighbour on the axis, above or
    below. With triangles of two equal sides the two structures are one; see `controls`.
    """
    first, second = _prisms((-4.0, 2.0, -3.0))
    return Pair("equal triples", first, second, "products of 4 neighbours")


def chiral() -> Pair:
    """Three neighbours at right angles and different distances, and their mirror image."""
    neighbours = [(1, 0, 0), (0, 2, 0), (0, 0, 3)]
    first, second = _star(neighbours), _star([[-x for x in row] for row in neighbours])
    return Pair("hand of three", first, second, "pseudoscalars of 3 neighbours", mirrored=True)


def chiral_in_fours() -> Pair:
    """A scalene triangle, a neighbour above or below its plane: mirror images, but no three of them are chiral.

    All neighbours are equally far, and harmonics below degree 3, added up, make no pseudoscalar of them.
    """
    shared = [(3, 0, -4), (0, 0, 5), (-4, 0, -3)]
    first, second = [*shared, (0, 5, 0)], [*shared, (0, -5, 0)]
    return Pair("hand of four", _star(first), _star(second), "pseudoscalars of 4 neighbours, degree 3", mirrored=True)


def controls() -> tuple[Pair, ...]:
    """Pairs that a rotation makes one, though it does not show: what separates them is wrong.

    They are those of `chiral_in_fours` and `four_body` with triangles of two equal sides, and are found in the
    literature as pairs to be separated.
    """
    shared = [(3, 0, -4), (0, 0, 5), (-3, 0, -4)]
    one, other = _star([*shared, (0, 5, 0)]), _star([*shared, (0, -5, 0)])
    first, second = _prisms((-3.0, 2.0, -4.0))
    return (
        Pair("isosceles triangle, either side", one, other),
        Pair("isosceles triangles, either side", first, second),
    )


def _prisms(corner: tuple[float, float, float]) -> tuple[Geometry, Geometry]:
    """A triangle with this third corner, its image below turned by 36 degrees, and a point above or below."""
    above = torch.tensor([(3.0, 2.0, -4.0), (0.0, 2.0, 5.0), corner], dtype=torch.float64)
    angle = math.radians(36)
    cosine, sine = math.cos(angle), math.sin(angle)
    turn = torch.tensor([(cosine, 0.0, sine), (0.0, 1.0, 0.0), (-sine, 0.0, cosine)], dtype=torch.float64)
    below = above * torch.tensor([1.0, -1.0, 1.0], dtype=torch.float64) @ turn
    tip = torch.tensor([(0.0, 5.0, 0.0)], dtype=torch.float64)
    return _star(torch.cat([above, below, tip])), _star(torch.cat([above, below, -tip]))


def _star(neighbours: Tensor | Sequence[Sequence[float]]) -> Geometry:
    """Neighbours around a centre at the origin, which is node 0."""
    around = torch.as_tensor(neighbours, dtype=torch.float64)
    positions = torch.cat([torch.zeros(1, 3, dtype=torch.float64), around])
    outer = torch.arange(1, len(positions))
    edges = torch.stack([outer, torch.zeros_like(outer)])
    return Geometry(positions, torch.cat([edges, edges.flip(0)], dim=1), 0)
