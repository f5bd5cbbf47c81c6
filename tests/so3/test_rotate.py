"""Features turned by blocks, and the products of features that turn with them."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tenfold.errors import DataError
from tenfold.so3 import (
    Irrep,
    Irreps,
    gaunt,
    join,
    random_rotations,
    relayout,
    rotate,
    spherical_harmonics,
    split,
    wigner_3j,
)

IRREP = st.builds(Irrep, st.integers(0, 4), st.sampled_from([1, -1]))
IRREPS = st.lists(st.tuples(st.integers(1, 3), IRREP), min_size=1, max_size=3).map(Irreps)
SEED = st.integers(0, 2**20)


def normal(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def orthogonal(seed: int, improper: bool) -> Tensor:
    return random_rotations(2, seed=seed) * (-1 if improper else 1)


def product(left: Tensor, right: Tensor, first: Irreps, second: Irreps) -> tuple[Tensor, Irreps]:
    """Every path of the full product of features, contracted with its 3j coefficients."""
    a, b = split(left, first), split(right, second)
    found, irreps = [], []
    for path in first.paths(second):
        couple = wigner_3j(first[path.left].ir.l, second[path.right].ir.l, path.ir.l)
        value = torch.einsum("abc,...ua,...vb->...uvc", couple, a[path.left], b[path.right])
        found.append(value.flatten(-3, -2))
        irreps.append((found[-1].shape[-2], path.ir))
    return join(found), Irreps(irreps)


@settings(max_examples=40)
@given(IRREPS, IRREPS, SEED, st.booleans())
def test_products_with_3j_are_equivariant(first: Irreps, second: Irreps, seed: int, improper: bool) -> None:
    left, right = normal(2, first.dim, seed=seed), normal(2, second.dim, seed=seed + 1)
    turn = orthogonal(seed, improper)
    value, irreps = product(left, right, first, second)
    assert irreps.sort().simplify() == first.tensor_product(second)
    turned, _ = product(rotate(left, first, turn), rotate(right, second, turn), first, second)
    torch.testing.assert_close(turned, rotate(value, irreps, turn), rtol=0, atol=1e-12)


@given(IRREP, IRREP, SEED)
def test_only_the_product_of_the_parities_is_equivariant(left: Irrep, right: Irrep, seed: int) -> None:
    """The inversion acts on each side by the sign that the rules give, on nothing else."""
    inversion = -torch.eye(3, dtype=torch.float64)
    x, y = normal(left.dim, seed=seed), normal(right.dim, seed=seed + 1)
    for ir in left * right:
        couple = wigner_3j(left.l, right.l, ir.l)
        value = torch.einsum("abc,a,b->c", couple, x, y)
        of_turned = torch.einsum("abc,a,b->c", couple, rotate(x, left, inversion), rotate(y, right, inversion))
        torch.testing.assert_close(of_turned, rotate(value, ir, inversion), rtol=0, atol=1e-13)
        if value.abs().max() > 1e-6:
            wrong = rotate(value, Irrep(ir.l, -ir.p), inversion)
            assert not torch.allclose(of_turned, wrong)


@given(IRREPS, SEED, st.booleans())
def test_rotations_compose_and_keep_lengths(irreps: Irreps, seed: int, improper: bool) -> None:
    features = normal(2, irreps.dim, seed=seed)
    first, second = orthogonal(seed, improper), orthogonal(seed + 1, False)
    once = rotate(rotate(features, irreps, second), irreps, first)
    torch.testing.assert_close(once, rotate(features, irreps, first @ second), rtol=0, atol=1e-13)
    for before, after in zip(split(features, irreps), split(once, irreps), strict=True):
        torch.testing.assert_close(after.norm(dim=-1), before.norm(dim=-1), rtol=1e-12, atol=0)


@given(IRREPS, SEED)
def test_both_layouts_turn_alike(irreps: Irreps, seed: int) -> None:
    features, turn = normal(2, irreps.dim, seed=seed), orthogonal(seed, True)
    there = rotate(relayout(features, irreps, "mul_ir", "ir_mul"), irreps, turn, "ir_mul")
    found = relayout(there, irreps, "ir_mul", "mul_ir")
    torch.testing.assert_close(found, rotate(features, irreps, turn), rtol=0, atol=1e-14)


def test_harmonics_turn_as_their_irreps_say() -> None:
    irreps, vectors, turn = Irreps.harmonics(8), normal(2, 3, seed=0), orthogonal(0, True)
    turned = spherical_harmonics(irreps, rotate(vectors, "1o", turn))
    torch.testing.assert_close(rotate(spherical_harmonics(irreps, vectors), irreps, turn), turned, rtol=0, atol=1e-13)


def test_gaunt_multiplies_functions_on_the_sphere() -> None:
    """Coefficients of a product of two functions: at any direction it is the product of their values."""
    left, right, directions = normal(9, seed=1), normal(16, seed=2), normal(20, 3, seed=3)
    first, second, both = (spherical_harmonics(range(n + 1), directions) for n in (2, 3, 5))
    found = torch.zeros(36, dtype=torch.float64)
    for l1 in range(3):
        for l2 in range(4):
            for l3 in range(abs(l1 - l2), l1 + l2 + 1):
                a, b, c = (slice(n * n, (n + 1) ** 2) for n in (l1, l2, l3))
                found[c] += torch.einsum("abc,a,b->c", gaunt(l1, l2, l3), left[a], right[b])
    torch.testing.assert_close(both @ found, (first @ left) * (second @ right), rtol=0, atol=1e-13)


def test_pseudovectors_do_not_see_the_inversion() -> None:
    features = normal(6, seed=0)
    inverted = rotate(features, "1e+1o", -torch.eye(3, dtype=torch.float64))
    assert torch.equal(inverted, torch.cat([features[:3], -features[3:]]))


def test_what_is_empty_stays() -> None:
    turn = orthogonal(0, False)
    assert rotate(torch.zeros(2, 0, dtype=torch.float64), "0x1o", turn).shape == (2, 0)
    features = normal(2, 3, seed=0)
    assert torch.equal(rotate(features, "0x4e+1o", turn), rotate(features, "1o", turn))


def test_what_does_not_fit_is_told() -> None:
    with pytest.raises(DataError, match="must end with the 3 of '1x1o'"):
        rotate(torch.zeros(4), "1o", torch.eye(3))
    with pytest.raises(
        DataError, match=r"features of shape \(4, 3\) and matrices of shape \(2, 3, 3\) do not broadcast"
    ):
        rotate(torch.zeros(4, 3), "1o", torch.eye(3).expand(2, 3, 3))
    with pytest.raises(DataError, match="one dtype"):
        rotate(torch.zeros(3), "1o", torch.eye(3).double())
