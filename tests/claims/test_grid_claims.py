"""The claims about Gaussian processes on grids, against distributions of torch and by their own rules."""

from __future__ import annotations

import pytest
import torch

from tenfold.claims import kronecker_gp, matheron_samples, partial_grid_determinant


def test_the_dense_algebra_is_that_of_torch() -> None:
    gp = kronecker_gp.process((4, 3, 2))
    values = torch.randn(4, 3, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    nll, gradient, _, _ = kronecker_gp.dense(gp, values)

    def by_torch(logs: torch.Tensor) -> torch.Tensor:
        other = gp.with_logs(logs)
        covariance = other.prior.dense() + other.noise * torch.eye(24, dtype=torch.float64)
        return -torch.distributions.MultivariateNormal(torch.zeros(24).double(), covariance).log_prob(values.flatten())

    assert float(nll) == pytest.approx(float(by_torch(gp.logs())), rel=1e-10)
    for place, step in enumerate(1e-5 * torch.eye(5, dtype=torch.float64)):
        slope = (by_torch(gp.logs() + step) - by_torch(gp.logs() - step)) / 2e-5
        assert float(gradient[place]) == pytest.approx(float(slope), abs=1e-5)


def test_draws_are_compared_with_the_posterior_on_the_same_grid() -> None:
    gp, values = matheron_samples._grid(0)
    mean, covariance = matheron_samples.dense(gp, values, gp)
    found = gp.condition(values)
    torch.testing.assert_close(found.mean().flatten(), mean)
    torch.testing.assert_close(found.variance().flatten(), covariance.diagonal())


def test_determinants_are_told_and_decide() -> None:
    found = partial_grid_determinant.partial_grid_determinant()
    off = {name: abs(float(value)) for name, value in found.numbers.items() if name.endswith("off")}
    assert len(off) == 6
    assert off["RBF, 10% hidden: off"] < 0.01
    assert found.holds == (max(off.values()) <= 0.05)


@pytest.mark.slow
def test_exactness_growth_and_draws_hold() -> None:
    for measure in (kronecker_gp.kronecker_gp, matheron_samples.matheron_samples):
        found = measure()
        assert found.holds, found.text
