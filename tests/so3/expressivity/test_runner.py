"""The runner on maps whose power is known: sums of harmonics, their products, and messages along edges."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from tenfold.errors import DataError, EquivarianceError, TenfoldError
from tenfold.so3 import Irrep, spherical_harmonics, wigner_3j
from tenfold.so3.expressivity import (
    Pair,
    chains,
    chiral,
    chiral_in_fours,
    controls,
    four_body,
    pairs,
    separates,
    shells,
    suite,
    three_body,
    two_body,
)

FeaturesOf = Callable[[Tensor, Tensor, "int | None"], Tensor]
Vectors = dict[Irrep, Tensor]


def sums(positions: Tensor, edges: Tensor, centre: int | None, largest: int) -> Vectors:
    """Of the harmonics of all neighbours of the centre, with three functions of their distances: ``[3, 2 l + 1]``."""
    if centre is None:
        return {}
    senders = edges[0, edges[1] == centre]
    vectors = (positions[senders] - positions[centre]) / 5
    lengths = vectors.norm(dim=1)
    radial = torch.stack([torch.ones_like(lengths), lengths, lengths**2])
    return {
        Irrep(n, (-1) ** n): radial @ spherical_harmonics(n, vectors, normalization="norm") for n in range(largest + 1)
    }


def products(left: Vectors, right: Vectors, largest: int) -> Vectors:
    """Of everything with everything, by 3j coefficients."""
    found: dict[Irrep, list[Tensor]] = {}
    for one, x in left.items():
        for other, y in right.items():
            for ir in one * other:
                if ir.l <= largest:
                    z = torch.einsum("abc,ua,vb->uvc", wigner_3j(one.l, other.l, ir.l), x, y)
                    found.setdefault(ir, []).append(z.flatten(0, 1))
    return {ir: torch.cat(parts) for ir, parts in found.items()}


def scalars(left: Vectors, right: Vectors, parity: int) -> Tensor:
    """Scalar products of all that is of one degree, and of parities whose product is this."""
    found = [torch.zeros(1, dtype=torch.float64)]
    for ir, x in left.items():
        other = right.get(Irrep(ir.l, ir.p * parity))
        if other is not None:
            found.append((x @ other.T).flatten())
    return torch.cat(found)


def map_of(neighbours: int, largest: int, parity: int = 1) -> FeaturesOf:
    """Invariants of products of so many sums over neighbours."""

    def features_of(positions: Tensor, edges: Tensor, centre: int | None) -> Tensor:
        one = sums(positions, edges, centre, largest)
        if neighbours == 1:
            return torch.cat([torch.zeros(1), *(x.flatten() for ir, x in one.items() if ir == Irrep("0e"))])
        if neighbours == 2:
            return scalars(one, one, parity)
        two = products(one, one, largest)
        return scalars(two, one if neighbours == 3 else two, parity)

    return features_of


def layers(count: int) -> FeaturesOf:
    """Vectors sent along edges so many times, each node adding what it gets; then lengths at every node."""

    def features_of(positions: Tensor, edges: Tensor, centre: int | None) -> Tensor:
        senders, receivers = edges
        arms = (positions[senders] - positions[receivers]) / 5
        state = torch.zeros_like(positions)
        for _ in range(count):
            weights = torch.randn(3, dtype=positions.dtype)
            message = weights[0] * state[senders] + weights[1] * arms
            state = weights[2] * state + torch.zeros_like(state).index_add(0, receivers, message)
        lengths = state.norm(dim=1)
        return torch.stack([lengths.sum(), (lengths**4).sum()])

    return features_of


def angles(positions: Tensor, edges: Tensor, centre: int | None) -> Tensor:
    """All distances and angles between neighbours of each node: what invariant messages start from."""
    found = torch.zeros(2, dtype=positions.dtype)
    for node in range(len(positions)):
        arms = positions[edges[0, edges[1] == node]] - positions[node]
        found = found + torch.stack([(arms @ arms.T).exp().log1p().sum(), torch.tanh(arms @ arms.T / 25).sum()])
    return found


@pytest.mark.parametrize("length", [2, 3, 4, 5])
def test_chains_need_layers_and_directions(length: int) -> None:
    pair = chains(length)
    for count in range(1, length + 1):
        assert separates(layers(count), pair) == (count > length // 2)
    assert not separates(angles, pair)


@pytest.mark.parametrize("fold", [2, 3, 5])
@pytest.mark.parametrize("neighbours", [2, 3])
def test_rings_need_degrees(fold: int, neighbours: int) -> None:
    assert not separates(map_of(neighbours, fold - 1), shells(fold))
    assert separates(map_of(neighbours, fold), shells(fold))


@pytest.mark.parametrize(("neighbours", "expected"), [(1, 0), (2, 1), (3, 2), (4, 3)])
def test_scalars_of_so_many_neighbours_separate_so_much(neighbours: int, expected: int) -> None:
    found = [separates(map_of(neighbours, 3), pair) for pair in (two_body(), three_body(), four_body())]
    assert found == [True] * expected + [False] * (3 - expected)


def test_only_pseudoscalars_tell_the_hand() -> None:
    for neighbours in (2, 3, 4):
        assert not separates(map_of(neighbours, 3), chiral())
        assert not separates(map_of(neighbours, 3), chiral_in_fours())
    assert [separates(map_of(n, 3, -1), chiral()) for n in (2, 3, 4)] == [False, True, True]
    assert [separates(map_of(n, 3, -1), chiral_in_fours()) for n in (2, 3, 4)] == [False, False, True]
    assert not separates(map_of(4, 2, -1), chiral_in_fours())
    # Its triples are equal with their hand.
    assert [separates(map_of(n, 3, -1), four_body()) for n in (2, 3)] == [False, False]


@pytest.mark.parametrize("parity", [1, -1])
@pytest.mark.parametrize("control", controls(), ids=lambda pair: pair.name)
def test_nothing_separates_what_is_the_same(control: Pair, parity: int) -> None:
    for neighbours in (2, 3, 4):
        assert not separates(map_of(neighbours, 4, parity), control, tol=1e-10)


def test_the_suite_is_a_table_of_all_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    found = suite(map_of(2, 3))
    assert set(found.separated) == {pair.name for pair in pairs()}
    assert found.sound
    told = {name for name, separated in found.separated.items() if separated}
    assert told == {two_body().name, shells(2).name, shells(3).name}
    lines = str(found).splitlines()
    assert len(lines) == len(pairs()) + 1
    assert lines[0].split() == ["pair", "to", "tell", "it", "apart", "takes", "difference", "told", "apart"]
    for line in lines[1:]:
        assert line.endswith("yes") == any(line.startswith(name) for name in told)
    assert "nothing: they are the same" in lines[-1]


def test_a_difference_that_cannot_be_is_marked() -> None:
    """Two structures that are not the same, in a pair that says they are."""
    (control, _) = controls()
    wrong = Pair("one", control.first, two_body().second)
    found = suite(map_of(2, 2), [wrong])
    assert not found.sound
    assert str(found).splitlines()[-1].endswith("WRONG")


def test_maps_that_are_not_invariant_are_refused() -> None:
    with pytest.raises(EquivarianceError, match="features_of must be invariant: a rotation and another order"):
        separates(lambda positions, edges, centre: positions.abs().sum(), two_body())
    with pytest.raises(EquivarianceError, match="features_of must be invariant"):
        separates(lambda positions, edges, centre: positions.norm(dim=1), three_body())


def test_sizes_of_features_do_not_matter_unless_they_are_rounding() -> None:
    plain = map_of(2, 3)
    for scale in (1e-2, 1.0, 1e8):
        found = suite(lambda *structure, s=scale: s * plain(*structure), [two_body(), three_body()])
        assert list(found.separated.values()) == [True, False]
    noise = torch.randn(3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    assert not separates(lambda positions, edges, centre: 1e-15 * positions[-1] @ noise, two_body())


def test_weights_are_the_same_for_both_and_differ_by_seed() -> None:
    seen = []

    def features_of(positions: Tensor, edges: Tensor, centre: int | None) -> Tensor:
        seen.append(float(torch.randn(())))
        return positions.new_ones(1)

    before = torch.get_rng_state()
    assert not separates(features_of, two_body(), seeds=2)
    assert torch.equal(torch.get_rng_state(), before)
    assert len(seen) == 6
    assert len(set(seen[:3])) == len(set(seen[3:])) == 1
    assert seen[0] != seen[3]


def test_what_cannot_be_run_is_told() -> None:
    with pytest.raises(DataError, match="features_of must return a tensor, not 3"):
        separates(lambda positions, edges, centre: 3, two_body())
    with pytest.raises(DataError, match="features_of must return finite numbers"):
        separates(lambda positions, edges, centre: positions.new_full((1,), torch.nan), two_body())
    sizes = iter([1, 1, 2])
    with pytest.raises(DataError, match="features_of must return equally many numbers, not 1 and 2"):
        separates(lambda positions, edges, centre: positions.new_ones(next(sizes)), two_body())
    with pytest.raises(TenfoldError, match="tol must be a number above 0, not 0"):
        separates(map_of(1, 1), two_body(), tol=0)
    with pytest.raises(TenfoldError, match="seeds must be a whole number of at least 1, not 0"):
        separates(map_of(1, 1), two_body(), seeds=0)
