from __future__ import annotations

import json
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import gamma, kv

from tenfold.errors import DataError, TenfoldError
from tenfold.linalg.covariances import (
    RBF,
    Levels,
    Matern12,
    Matern32,
    Matern52,
    Periodic,
    RationalQuadratic,
    White,
    covariance,
    each_axis,
    equally_spaced,
)

LEAVES = [RBF(0.4), Matern12(0.7), Matern32(0.3), Matern52(2.0), RationalQuadratic(0.5, 0.8), Periodic(0.9, 0.6)]
KERNELS = [*LEAVES, White(), Levels(0.3), RBF(0.4) * Periodic(1.0, 0.3) + Levels(2.0), Matern12(0.1) + RBF(2.0)]
name = pytest.mark.parametrize("kernel", KERNELS, ids=repr)


@pytest.mark.parametrize(("kernel", "order"), [(Matern12(0.7), 0.5), (Matern32(0.7), 1.5), (Matern52(0.7), 2.5)])
def test_matern_is_the_bessel_formula(kernel: Matern12, order: float) -> None:
    distance = torch.tensor([0.01, 0.2, 1.0, 3.0], dtype=torch.float64)
    scaled = math.sqrt(2 * order) * distance.numpy() / 0.7
    expected = 2 ** (1 - order) / gamma(order) * scaled**order * kv(order, scaled)
    torch.testing.assert_close(kernel.at(distance), torch.from_numpy(expected))


def test_rational_quadratic_becomes_rbf_of_one_length() -> None:
    distance = torch.linspace(0, 2, 9, dtype=torch.float64)
    torch.testing.assert_close(RationalQuadratic(0.5, 1e9).at(distance), RBF(0.5).at(distance), rtol=1e-7, atol=1e-9)


@name
@given(seed=st.integers(0, 10**6), size=st.integers(1, 12))
def test_one_at_distance_zero_and_never_negative_definite(kernel: RBF, seed: int, size: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    positions = torch.rand(size, generator=generator, dtype=torch.float64) * 3
    matrix = kernel.matrix(positions)
    torch.testing.assert_close(matrix.diagonal(), torch.ones(size, dtype=torch.float64))
    torch.testing.assert_close(matrix, matrix.T)
    assert float(torch.linalg.eigvalsh(matrix).min()) > -1e-12 * size


@name
def test_gradients_by_the_logarithms(kernel: RBF) -> None:
    positions = torch.tensor([0.0, 0.11, 0.5, 0.52, 1.3], dtype=torch.float64)
    logs = kernel.logs().requires_grad_()
    if len(logs):
        assert torch.autograd.gradcheck(lambda given: kernel.matrix(positions, None, given), logs)


@name
def test_logs_and_facts_make_it_again(kernel: RBF) -> None:
    assert covariance(json.loads(json.dumps(kernel.facts()))) == kernel
    again = kernel.with_logs(kernel.logs() + 0.5)
    torch.testing.assert_close(again.logs(), kernel.logs() + 0.5)


def test_points_of_several_coordinates() -> None:
    points = torch.tensor([[0.0, 0.0], [3.0, 4.0]], dtype=torch.float64)
    assert float(Matern12(5.0).matrix(points)[0, 1]) == pytest.approx(math.exp(-1))
    with pytest.raises(DataError, match="covariance on a line: give one coordinate"):
        (RBF() * Periodic()).matrix(points)


def test_what_is_refused() -> None:
    with pytest.raises(TenfoldError, match="lengthscale of RBF is -1"):
        RBF(-1)
    with pytest.raises(TenfoldError, match=r"is not known \(did you mean 'matern32'"):
        covariance("mattern32")
    with pytest.raises(TenfoldError, match="2 covariances for 3 axes"):
        each_axis(["rbf", "rbf"], 3)


def test_equal_steps_are_seen() -> None:
    even = torch.linspace(3, -1, 17, dtype=torch.float64)
    assert equally_spaced(even)
    assert equally_spaced(torch.arange(5.0))
    assert not equally_spaced(even + 1e-9 * torch.arange(17) ** 2)
    assert not equally_spaced(torch.zeros(4, dtype=torch.float64))
