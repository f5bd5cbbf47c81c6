"""Features as edges see them: turned there and back, with derivatives that know no poles."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck

from tenfold.errors import DataError
from tenfold.so3 import random_rotations, spherical_harmonics, wigner_d
from tenfold.so3.products._edge_frames import (
    from_edge_frames,
    plain_frames,
    plain_from_frames,
    plain_swirl,
    plain_to_frames,
    plain_torque,
    summed,
    swirl,
    to_edge_frames,
    torque,
)

DEGREES = (0, 1, 2, 4)
SIZE = sum(2 * degree + 1 for degree in DEGREES)
SOURCE = torch.tensor([0, 1, 2, 3, 0, 1, 3])


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def edges() -> Tensor:
    """Along the polar axis both ways, close to it, of no length, tiny, and two of any kind."""
    given = [[0, 1, 0], [0, -2, 0], [1e-9, 1, -1e-9], [1e-7, -1, 0], [0, 0, 0], [3e-200, 1e-200, -2e-200]]
    return torch.cat([torch.tensor(given, dtype=torch.float64), normal(1, 3)])


@pytest.mark.parametrize("orders", [0, 1, 2, 4, 9])
def test_kernels_turn_as_matrices_do(orders: int) -> None:
    features, vectors = normal(4, SIZE, 3), edges()
    matrices = plain_frames(vectors, DEGREES, orders)
    seen = to_edge_frames(features, vectors, SOURCE, DEGREES, orders)
    torch.testing.assert_close(seen, plain_to_frames(features[SOURCE], matrices), rtol=0, atol=1e-13)
    back = from_edge_frames(seen, vectors, SOURCE, 4, DEGREES, orders)
    expected = summed(plain_from_frames(seen, matrices), SOURCE, 4)
    torch.testing.assert_close(back, expected, rtol=0, atol=1e-13)


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
def test_other_precisions_turn_alike(dtype: torch.dtype) -> None:
    features, vectors = normal(7, SIZE, 3), normal(7, 3)
    seen = to_edge_frames(features.to(dtype), vectors.to(dtype), None, DEGREES, 9)
    expected = to_edge_frames(features, vectors.to(dtype).double(), None, DEGREES, 9)
    assert seen.dtype == dtype
    torch.testing.assert_close(seen.double(), expected, rtol=0, atol=60 * torch.finfo(dtype).eps)


def test_edges_see_their_own_harmonics_at_the_pole() -> None:
    vectors = edges()
    harmonics = spherical_harmonics(DEGREES, vectors)[..., None]
    seen = to_edge_frames(harmonics, vectors, None, DEGREES, 9)[..., 0]
    pole = spherical_harmonics(DEGREES, torch.tensor([[0.0, 1.0, 0.0]], dtype=torch.float64)).expand(7, -1).clone()
    pole[4, 1:] = 0  # no direction, no harmonics
    torch.testing.assert_close(seen, pole, rtol=0, atol=1e-13)


def test_all_that_is_seen_comes_back() -> None:
    features, vectors = normal(7, SIZE, 3), edges()
    seen = to_edge_frames(features, vectors, None, DEGREES, 9)
    torch.testing.assert_close(from_edge_frames(seen, vectors, None, 7, DEGREES, 9), features, rtol=0, atol=1e-13)


def test_infinitesimal_turns_are_those_of_wigner_d() -> None:
    turn, step = normal(1, 3, seed=3), 1e-5
    x, y, z = (step * turn[0]).tolist()
    matrix = torch.linalg.matrix_exp(torch.tensor([[0, -z, y], [z, 0, -x], [-y, x, 0]], dtype=torch.float64))
    features = normal(1, SIZE, 2)
    parts = features.split([2 * degree + 1 for degree in DEGREES], dim=1)
    turned, other = (
        torch.cat([wigner_d(n, matrix_) @ part for n, part in zip(DEGREES, parts, strict=True)], dim=1)
        for matrix_ in (matrix, matrix.T)
    )
    torch.testing.assert_close(swirl(features, turn, DEGREES), (turned - other) / (2 * step), rtol=0, atol=1e-8)
    left = normal(1, SIZE, 2, seed=4)
    expected = (left * swirl(features, turn, DEGREES)).sum()
    torch.testing.assert_close((torque(left, features, DEGREES) * turn).sum(), expected, rtol=0, atol=1e-12)


def test_turns_of_kernels_are_those_of_matrices() -> None:
    one, other, turn = normal(7, SIZE, 3), normal(7, SIZE, 3, seed=1), normal(7, 3, seed=2)
    torch.testing.assert_close(swirl(one, turn, DEGREES), plain_swirl(one, turn, DEGREES), rtol=0, atol=1e-12)
    torch.testing.assert_close(torque(one, other, DEGREES), plain_torque(one, other, DEGREES), rtol=0, atol=1e-12)
    given = [tensor[:2].clone().requires_grad_() for tensor in (one, other, turn)]

    def both(one: Tensor, other: Tensor, turn: Tensor) -> Tensor:
        return torque(swirl(one, turn, DEGREES), other, DEGREES)

    assert gradcheck(both, given)
    assert gradgradcheck(both, given)


def invariant(features: Tensor, vectors: Tensor) -> Tensor:
    """Something that does not depend on how frames are turned around their edges: lengths of order 0, 1 and 2."""
    seen = to_edge_frames(features, vectors, SOURCE, (0, 1, 2), 2)
    pairs = [seen[:, 2], seen[:, 6], seen[:, 1].square() + seen[:, 3].square(), seen[:, 4] ** 2 + seen[:, 8] ** 2]
    return torch.stack(pairs)


def test_derivatives_at_the_poles_are_those_of_harmonics() -> None:
    # Orders 0 of what an edge sees are products with its harmonics, whose derivatives are polynomials.
    features, vectors = normal(4, 9, 1), edges()[[0, 1, 2, 3, 6]].requires_grad_()
    source, weight = SOURCE[:5], normal(5, 2, 1, seed=5)
    harmonics = spherical_harmonics([1, 2], vectors, normalization="norm")
    expected = torch.stack(
        [
            torch.einsum("ek,ekc->ec", harmonics[:, :3], features[source, 1:4]),
            torch.einsum("ek,ekc->ec", harmonics[:, 3:], features[source, 4:]),
        ],
        dim=1,
    )
    seen = to_edge_frames(features, vectors, source, (0, 1, 2), 2)[:, [2, 6]]
    torch.testing.assert_close(seen, expected, rtol=0, atol=1e-12)
    firsts = [torch.autograd.grad((x.sin() * weight).sum(), vectors, create_graph=True)[0] for x in (seen, expected)]
    torch.testing.assert_close(firsts[0], firsts[1], rtol=0, atol=1e-9)
    seconds = [torch.autograd.grad(first.square().sum(), vectors)[0] for first in firsts]
    torch.testing.assert_close(seconds[0], seconds[1], rtol=0, atol=1e-8)


def test_numerical_derivatives_agree_away_from_zero() -> None:
    features, vectors = normal(4, 9, 2).requires_grad_(), edges()[[0, 1, 6, 6, 0, 1, 6]].clone()
    vectors = (
        vectors + 0.3 * normal(7, 3, seed=9) * torch.tensor([[0.0], [0.0], [1], [1], [1], [1], [1]])
    ).requires_grad_()
    assert gradcheck(invariant, (features, vectors))
    assert gradgradcheck(invariant, (features, vectors))


def test_the_way_back_has_derivatives_too() -> None:
    vectors = edges()[[0, 1, 6]].clone().requires_grad_()
    scales, target = normal(3, 4, 2).requires_grad_(), torch.tensor([1, 1, 0])

    def around(scales: Tensor, vectors: Tensor) -> Tensor:
        # Nothing but orders 0, which a turn around the edge leaves alone.
        seen = torch.zeros(3, 4, 2, dtype=scales.dtype).index_add(1, torch.tensor([0, 2]), scales[:, :2])
        return from_edge_frames(seen, vectors, target, 3, (0, 1), 1)

    assert gradcheck(around, (scales, vectors))
    assert gradgradcheck(around, (scales, vectors))


def test_no_edges() -> None:
    seen = to_edge_frames(normal(4, SIZE, 3), torch.empty(0, 3, dtype=torch.float64), SOURCE[:0], DEGREES, 2)
    assert seen.shape == (0, 14, 3)
    back = from_edge_frames(seen, torch.empty(0, 3, dtype=torch.float64), SOURCE[:0], 4, DEGREES, 2)
    assert back.shape == (4, SIZE, 3)
    assert not back.any()


def test_frames_turn_with_space_up_to_a_turn_around_the_edge() -> None:
    features, vectors = normal(1, 3, 1), normal(1, 3)
    turn = random_rotations(1, seed=2)[0]
    turned = wigner_d(1, turn) @ features
    one = to_edge_frames(features, vectors, None, (1,), 1)[0, :, 0]
    other = to_edge_frames(turned, vectors @ turn.T, None, (1,), 1)[0, :, 0]
    torch.testing.assert_close(one[1], other[1])
    torch.testing.assert_close(one[[0, 2]].norm(), other[[0, 2]].norm())


def test_nodes_that_are_not_there_are_refused() -> None:
    with pytest.raises(DataError, match=r"^source must be nodes from 0 to 3, not 4$"):
        to_edge_frames(normal(4, SIZE, 3), edges(), SOURCE + 1, DEGREES, 9)
    with pytest.raises(DataError, match=r"^target must be nodes from 0 to 3, not -1$"):
        from_edge_frames(normal(7, SIZE, 3), edges(), SOURCE - 1, 4, DEGREES, 9)
