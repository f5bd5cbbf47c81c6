"""The smoother and its evidence, beside dense Gaussian algebra."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from tenfold.errors import TenfoldError
from tenfold.linalg.state_space import SMOOTHNESS, Chain, independent, log_evidence, matern, matern_slopes, smooth

CLOSE = 1e-10


def covariance(positions: Tensor, length: float, smoothness: float) -> Tensor:
    """The closed form of Matern's covariance."""
    z = (positions[:, None] - positions).abs() * math.sqrt(2 * smoothness) / length
    factor = {0.5: torch.ones_like(z), 1.5: 1 + z, 2.5: 1 + z + z**2 / 3}[smoothness]
    return factor * torch.exp(-z)


def dense(prior: Tensor, precision: Tensor, shift: Tensor) -> tuple[Tensor, Tensor, float]:
    """Posterior means and covariances of the levels and the evidence, from the whole covariance of the prior."""
    levels, size = shift.shape
    system = torch.eye(levels * size, dtype=prior.dtype) + prior @ torch.block_diag(*precision)
    posterior = torch.linalg.solve(system, prior)
    mean = posterior @ shift.reshape(-1)
    blocks = posterior.reshape(levels, size, levels, size)
    evidence = float(shift.reshape(-1) @ mean) / 2 - float(torch.linalg.slogdet(system).logabsdet) / 2
    return mean.reshape(levels, size), torch.stack([blocks[i, :, i] for i in range(levels)]), evidence


def problem(seed: int, levels: int = 30, size: int = 3) -> tuple[Tensor, Tensor, Tensor]:
    """Positions, two of them equal, and factors, of which one says nothing and one sees a single direction."""
    generator = torch.Generator().manual_seed(seed)
    positions = torch.rand(levels, generator=generator, dtype=torch.float64).sort().values
    roots = torch.randn(levels, size, size, generator=generator, dtype=torch.float64)
    where = torch.randn(levels, size, generator=generator, dtype=torch.float64)
    if levels > 3:
        positions[3] = positions[2]
        roots[1] = 0
        roots[2, 1:] = 0
    precision = roots.mT @ roots
    return positions, precision, torch.einsum("lab,lb->la", precision, where)


def whole(positions: Tensor, length: Tensor, variance: Tensor, smoothness: float) -> Tensor:
    """The covariance of all levels and components."""
    levels, size = len(positions), len(length)
    prior = torch.zeros(levels, size, levels, size, dtype=torch.float64)
    for r in range(size):
        prior[:, r, :, r] = variance[r] * covariance(positions, float(length[r]), smoothness)
    return prior.reshape(levels * size, levels * size)


LENGTH = torch.tensor([0.05, 0.3, 2.0], dtype=torch.float64)
VARIANCE = torch.tensor([1.0, 3.0, 0.5], dtype=torch.float64)


@pytest.mark.parametrize("smoothness", SMOOTHNESS)
@pytest.mark.parametrize("seed", range(3))
def test_equals_dense_algebra(smoothness: float, seed: int) -> None:
    positions, precision, shift = problem(seed)
    found = smooth(matern(positions, LENGTH, VARIANCE, smoothness), precision, shift)
    mean, spread, evidence = dense(whole(positions, LENGTH, VARIANCE, smoothness), precision, shift)
    assert (found.mean - mean).abs().max() < CLOSE
    assert (found.covariance - spread).abs().max() < CLOSE
    assert found.evidence == pytest.approx(evidence, abs=1e-9)


@pytest.mark.parametrize("smoothness", SMOOTHNESS)
def test_kernel_equals_torch(smoothness: float) -> None:
    positions, precision, shift = problem(1)
    positions[3] += 1e-3  # the plain smoother inverts predicted covariances, which equal positions make singular
    chain = matern(positions, LENGTH, VARIANCE, smoothness)
    fast, plain = smooth(chain, precision, shift), smooth(chain, precision, shift, plain=True)
    assert (fast.mean - plain.mean).abs().max() < 1e-8
    assert (fast.covariance - plain.covariance).abs().max() < 1e-8
    assert fast.evidence == pytest.approx(plain.evidence, abs=1e-9)


@pytest.mark.parametrize("smoothness", SMOOTHNESS)
def test_steps_are_exponentials(smoothness: float) -> None:
    """Two steps are one step of both lengths, and the covariance of a step is the closed form."""
    at = torch.tensor([0.0, 0.2, 0.5], dtype=torch.float64)
    one = torch.ones(1, dtype=torch.float64)
    chain = matern(at, 0.3 * one, one, smoothness)
    both = matern(at[[0, 2]], 0.3 * one, one, smoothness)
    assert (chain.steps[2, 0] @ chain.steps[1, 0] - both.steps[1, 0]).abs().max() < 1e-14
    assert float((both.steps[1, 0] @ both.stationary[0])[0, 0]) == pytest.approx(
        float(covariance(at, 0.3, smoothness)[0, 2]), abs=1e-14
    )


def test_equal_positions_multiply_their_factors() -> None:
    positions, precision, shift = problem(0)
    chain = matern(positions[[2, 3]], LENGTH, VARIANCE, 1.5)
    found = smooth(chain, precision[2:4], shift[2:4])
    together = smooth(
        matern(positions[2:3], LENGTH, VARIANCE, 1.5), precision[2:4].sum(0)[None], shift[2:4].sum(0)[None]
    )
    assert torch.equal(chain.steps[1, :, 0, 0], torch.ones(3, dtype=torch.float64))
    assert (found.mean - together.mean).abs().max() < CLOSE
    assert (found.covariance - together.covariance).abs().max() < CLOSE


def test_levels_that_see_nothing_change_nothing() -> None:
    positions, precision, shift = problem(4)
    more = torch.cat([positions, torch.tensor([-1.0, 0.51, 7.0], dtype=torch.float64)]).sort()
    wide, wide_shift = precision.new_zeros(33, 3, 3), shift.new_zeros(33, 3)
    own = more.indices < 30
    wide[own], wide_shift[own] = precision[more.indices[own]], shift[more.indices[own]]
    few = smooth(matern(positions, LENGTH, VARIANCE, 0.5), precision, shift)
    many = smooth(matern(more.values, LENGTH, VARIANCE, 0.5), wide, wide_shift)
    assert (many.mean[own] - few.mean).abs().max() < CLOSE
    assert many.evidence == pytest.approx(few.evidence, abs=1e-9)
    # Far away the prior is all there is.
    far = smooth(matern(more.values, LENGTH * 0.1, VARIANCE, 0.5), wide, wide_shift)
    assert far.mean[-1].abs().max() < 1e-9
    assert (far.covariance[-1] - torch.diag(VARIANCE)).abs().max() < 1e-9


def test_independent_levels() -> None:
    _, precision, shift = problem(2)
    found = smooth(independent(30, VARIANCE), precision, shift)
    expected = torch.linalg.inv(precision + torch.diag(1 / VARIANCE))
    assert (found.covariance - expected).abs().max() < CLOSE
    assert (found.mean - torch.einsum("lab,lb->la", expected, shift)).abs().max() < CLOSE


@pytest.mark.parametrize("smoothness", SMOOTHNESS)
def test_gradients_of_the_evidence(smoothness: float) -> None:
    positions, precision, shift = problem(3, levels=8, size=2)
    length, variance = LENGTH[:2].clone(), VARIANCE[:2].clone()

    def evidence(length: Tensor, variance: Tensor, roots: Tensor, shift: Tensor) -> Tensor:
        return log_evidence(matern(positions, length, variance, smoothness), roots.mT @ roots, shift)

    roots = torch.linalg.cholesky(precision + torch.eye(2, dtype=torch.float64)).mT.contiguous()
    given = [tensor.requires_grad_() for tensor in (length, variance, roots, shift)]
    assert torch.autograd.gradcheck(evidence, given, atol=1e-6)
    slopes = torch.autograd.grad(evidence(*given), (length, variance))
    chain = matern(positions, length.detach(), variance.detach(), smoothness)
    found = smooth(chain, (roots.mT @ roots).detach(), shift.detach(), slopes=True)
    by_length, by_variance = matern_slopes(chain, positions, length.detach(), found, smoothness)
    assert (by_length - slopes[0] * length).abs().max() < 1e-9
    assert (by_variance - slopes[1] * variance).abs().max() < 1e-9


@given(
    levels=st.integers(1, 12),
    size=st.integers(1, 4),
    smoothness=st.sampled_from(SMOOTHNESS),
    seed=st.integers(0, 1000),
    strength=st.sampled_from([1e-8, 1.0, 1e8]),
)
def test_covariances_shrink_and_stay_positive(
    levels: int, size: int, smoothness: float, seed: int, strength: float
) -> None:
    positions, precision, shift = problem(seed, levels, size)
    variance = torch.linspace(0.5, 2.0, size, dtype=torch.float64)
    chain = matern(positions, torch.linspace(0.1, 1.0, size, dtype=torch.float64), variance, smoothness)
    found = smooth(chain, strength * precision, strength * shift)
    assert torch.isfinite(found.mean).all()
    assert math.isfinite(found.evidence)
    # Rounding of what precision adds to, where it is huge.
    rounding = 1e-10 + 1e-15 * strength
    assert torch.linalg.eigvalsh(found.covariance).min() > -rounding
    assert torch.linalg.eigvalsh(torch.diag(variance) - found.covariance).min() > -rounding


def test_what_is_refused_and_what_is_empty() -> None:
    one = torch.ones(1, dtype=torch.float64)
    with pytest.raises(TenfoldError, match=r"smoothness must be 0\.5, 1\.5 or 2\.5, not 1"):
        matern(one, one, one, 1.0)
    empty = smooth(Chain(one.new_zeros(0, 1, 1, 1), one[:, None, None]), one.new_zeros(0, 1, 1), one.new_zeros(0, 1))
    assert empty.mean.shape == (0, 1)
    assert empty.evidence == 0
