"""The proximal map of total variation against closed forms and a solver of its dual."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import lsq_linear

from tenfold.linalg.total_variation import prox_total_variation, total_variation

NUMBERS = st.floats(-100, 100, allow_subnormal=False)


def by_dual(values: np.ndarray, weight: float) -> np.ndarray:
    """The same by bounded least squares: x = b - D'u with the least norm, and no entry of u above the weight."""
    difference = np.diff(np.eye(len(values)), axis=0)
    found = lsq_linear(difference.T, values, bounds=(-weight, weight), method="bvls", tol=1e-14)
    return values - difference.T @ found.x


@settings(deadline=None, max_examples=60)
@given(st.lists(NUMBERS, min_size=2, max_size=25), st.floats(0.01, 60))
def test_it_solves_the_dual(values: list[float], weight: float) -> None:
    b = np.asarray(values)
    found = prox_total_variation(torch.from_numpy(b), weight).numpy()
    np.testing.assert_allclose(found, by_dual(b, weight), atol=1e-8)


@settings(deadline=None)
@given(st.lists(NUMBERS, min_size=2, max_size=40), st.floats(1e-6, 1e3))
def test_no_duality_gap(values: list[float], weight: float) -> None:
    b = torch.tensor(values, dtype=torch.float64)
    x = prox_total_variation(b, weight)
    u = (x - b).cumsum(0)  # of b - x = D'u, but for the sign
    size = 1 + float(b.abs().max()) * len(b)
    assert float(u[-1].abs()) < 1e-9 * size  # the mean stays
    assert float(u[:-1].abs().max()) <= weight + 1e-9 * size
    gap = weight * float(total_variation(x)) - float((u[:-1] * x.diff()).sum())
    assert abs(gap) < 1e-8 * size * (1 + weight)


@settings(deadline=None)
@given(NUMBERS, NUMBERS, st.floats(0, 150))
def test_two_numbers_move_together_until_they_meet(one: float, other: float, weight: float) -> None:
    b = torch.tensor([one, other], dtype=torch.float64)
    step = min(weight, abs(one - other) / 2) * (1 if other > one else -1)
    expected = torch.tensor([one + step, other - step], dtype=torch.float64)
    torch.testing.assert_close(prox_total_variation(b, weight), expected, atol=1e-10, rtol=0)


@settings(deadline=None)
@given(st.lists(NUMBERS, min_size=2, max_size=30))
def test_the_weight_from_which_a_row_is_constant(values: list[float]) -> None:
    b = torch.tensor(values, dtype=torch.float64)
    threshold = float((b - b.mean()).cumsum(0).abs().max())
    constant = prox_total_variation(b, threshold * (1 + 1e-9) + 1e-9)
    torch.testing.assert_close(constant, b.mean().expand(len(b)), atol=1e-8, rtol=0)
    if threshold > 1e-3:
        assert float(total_variation(prox_total_variation(b, 0.99 * threshold))) > 0


@settings(deadline=None)
@given(st.lists(NUMBERS, min_size=2, max_size=30), NUMBERS, st.floats(0.01, 50))
def test_it_moves_with_its_input(values: list[float], shift: float, weight: float) -> None:
    b = torch.tensor(values, dtype=torch.float64)
    plain = prox_total_variation(b, weight)
    torch.testing.assert_close(prox_total_variation(b + shift, weight), plain + shift, atol=1e-9, rtol=0)
    torch.testing.assert_close(prox_total_variation(-b, weight), -plain, atol=1e-9, rtol=0)
    torch.testing.assert_close(prox_total_variation(b.flip(0), weight), plain.flip(0), atol=1e-9, rtol=0)


def test_rows_are_problems_of_their_own_in_any_shape_and_type() -> None:
    b = torch.randn(2, 3, 9, generator=torch.Generator().manual_seed(0))
    found = prox_total_variation(b, 0.3)
    assert found.dtype == torch.float32
    for i in range(2):
        for j in range(3):
            torch.testing.assert_close(found[i, j], prox_total_variation(b[i, j], 0.3))
    assert torch.equal(prox_total_variation(b, 0), b)
    assert torch.equal(prox_total_variation(b[..., :1], 5.0), b[..., :1])
    assert prox_total_variation(b[:, :0], 1.0).shape == (2, 0, 9)
    with pytest.raises(ValueError, match="weight -1"):
        prox_total_variation(b, -1)
