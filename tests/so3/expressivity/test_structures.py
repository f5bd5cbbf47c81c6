"""Every pair has the property that it is there for."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations, permutations

import pytest
import torch
from torch import Tensor

from tenfold.errors import TenfoldError
from tenfold.so3 import spherical_harmonics
from tenfold.so3.expressivity import (
    Geometry,
    Pair,
    chains,
    chiral,
    chiral_in_fours,
    controls,
    four_body,
    pairs,
    shells,
    three_body,
    two_body,
)

STARS = {pair.name: pair for pair in pairs() if pair.first.centre is not None}


def neighbours(geometry: Geometry) -> Tensor:
    assert geometry.centre == 0
    assert not geometry.positions[0].any()
    return geometry.positions[1:]


def orders(angles: list[list[float]], others: list[list[float]], chosen: list[int]) -> Iterator[list[int]]:
    """Orders of the second vectors in which they have the scalar products of the first, after some that are chosen."""
    here = len(chosen)
    if here == len(angles):
        yield chosen
        return
    for node in range(len(angles)):
        pairs = zip([*chosen, node], angles[here], strict=False)
        if node not in chosen and all(abs(others[node][i] - angle) < 1e-9 for i, angle in pairs):
            yield from orders(angles, others, [*chosen, node])


def taken(first: Tensor, second: Tensor, mirrors: bool) -> bool:
    """Whether one rotation, or one reflection where these count, takes each vector to its counterpart."""
    left, _, right = torch.linalg.svd(first.T @ second)
    if not mirrors:
        # The nearest rotation: for vectors in a plane there is always one.
        left[:, -1] *= torch.det(left @ right).sign()
    return bool((first @ (left @ right) - second).abs().max() < 1e-8)


def congruent(first: Tensor, second: Tensor, mirrors: bool) -> bool:
    """The same for some order of the vectors."""
    some = orders((first @ first.T).tolist(), (second @ second.T).tolist(), [])
    return any(taken(first, second[order], mirrors) for order in some)


def subsets(vectors: Tensor, size: int) -> list[tuple[float, ...]]:
    """All scalar products among each set of so many neighbours, and the volume of three, in the order of the least."""
    found = []
    for chosen in combinations(range(len(vectors)), size):
        kinds = []
        for order in permutations(chosen):
            here = vectors[list(order)]
            numbers = [*(here @ here.T).flatten().tolist(), *([float(torch.det(here))] if size == 3 else [])]
            kinds.append(tuple(round(number, 6) + 0.0 for number in numbers))
        found.append(min(kinds))
    return sorted(found)


def alike(pair: Pair, size: int) -> bool:
    return subsets(neighbours(pair.first), size) == subsets(neighbours(pair.second), size)


@pytest.mark.parametrize("name", STARS)
def test_pairs_are_the_same_mirrored_or_different_as_they_say(name: str) -> None:
    pair = STARS[name]
    first, second = neighbours(pair.first), neighbours(pair.second)
    assert congruent(first, second, mirrors=False) == pair.same
    assert congruent(first, second, mirrors=True) == (pair.same or pair.mirrored)


@pytest.mark.parametrize(("pair", "needed"), [(two_body(), 2), (three_body(), 3), (four_body(), 4)])
def test_so_many_neighbours_are_needed_and_no_fewer(pair: Pair, needed: int) -> None:
    for size in range(1, needed):
        assert alike(pair, size)
    assert not alike(pair, needed)


def test_the_hand_of_three_is_in_their_volume_and_fours_have_none() -> None:
    assert not alike(chiral(), 3)
    assert alike(chiral_in_fours(), 3)
    assert alike(chiral_in_fours(), 4)  # scalar products alone see no hand


def test_three_of_the_chiral_fours_are_never_chiral() -> None:
    pair = chiral_in_fours()
    for chosen in combinations(neighbours(pair.first), 3):
        triple = torch.stack(chosen)
        assert congruent(triple, -triple, mirrors=False)
    triple = neighbours(chiral().first)
    assert not congruent(triple, -triple, mirrors=False)


@pytest.mark.parametrize("control", controls(), ids=lambda pair: pair.name)
def test_controls_hide_that_they_are_the_same(control: Pair) -> None:
    """In the order that they are given in no rotation takes one to the other."""
    first, second = neighbours(control.first), neighbours(control.second)
    assert not taken(first, second, mirrors=False)
    assert congruent(first, second, mirrors=False)


@pytest.mark.parametrize("fold", [2, 3, 5, 8])
def test_rings_look_alike_below_their_symmetry(fold: int) -> None:
    def sums(geometry: Geometry, degree: int) -> Tensor:
        """Of the harmonics of each ring."""
        inner, outer = neighbours(geometry).split(fold)
        return torch.stack([spherical_harmonics(degree, ring).sum(dim=0) for ring in (inner, outer)])

    pair = shells(fold)
    for degree in range(fold):
        torch.testing.assert_close(sums(pair.first, degree), sums(pair.second, degree), rtol=0, atol=1e-12)
    assert (sums(pair.first, fold) - sums(pair.second, fold)).abs().max() > 0.5
    assert (sums(pair.first, fold + 1) - sums(pair.second, fold + 1)).abs().max() < 1e-12
    assert set(neighbours(pair.first).norm(dim=1).round(decimals=12).tolist()) == {1, 2}


@pytest.mark.parametrize("length", [2, 3, 4, 7])
def test_nodes_of_chains_have_the_same_neighbours(length: int) -> None:
    pair = chains(length)

    def around(geometry: Geometry) -> list[list[tuple[float, ...]]]:
        senders, receivers = geometry.edges
        found = []
        for node in range(len(geometry.positions)):
            vectors = geometry.positions[senders[receivers == node]] - geometry.positions[node]
            found.append(subsets(vectors, len(vectors)))
        return found

    assert around(pair.first) == around(pair.second)
    assert {len(vectors[0]) for vectors in around(pair.first)} == {1, 4}
    ends = [float((g.positions[0] - g.positions[-1]).norm()) for g in (pair.first, pair.second)]
    assert abs(ends[0] - ends[1]) > 0.5
    for geometry in (pair.first, pair.second):
        assert len(geometry.positions) == length + 2
        assert geometry.positions.mean(dim=0).abs().max() < 1e-12
        assert torch.equal(geometry.edges[:, : length + 1], geometry.edges[:, length + 1 :].flip(0))


def test_what_makes_no_pair_is_told() -> None:
    with pytest.raises(TenfoldError, match="length must be a whole number of at least 2, not 1"):
        chains(1)
    with pytest.raises(TenfoldError, match="fold must be a whole number of at least 2, not 1"):
        shells(1)
    assert len({pair.name for pair in pairs()}) == len(pairs())
