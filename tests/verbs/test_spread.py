"""Intervals whose width held-out observations set."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from tenfold.verbs._spread import Counts, Gaussian, spread_of

LARGE = 20_000


def _normal(scale, seed=0):
    generator = np.random.default_rng(seed)
    deviation = generator.uniform(0.5, 2, LARGE)
    return deviation, scale * deviation * generator.standard_normal(LARGE)


def test_what_is_normal_stays_so():
    deviation, off = _normal(1.7)
    spread = Gaussian.fitted(off, deviation)
    assert spread.scale == pytest.approx(1.7, rel=0.05)
    assert spread.degrees > 20


def test_heavy_tails_are_seen():
    off = stats.t(3).rvs(LARGE, random_state=0)
    spread = Gaussian.fitted(off, np.ones(LARGE))
    assert 2.3 < spread.degrees < 4
    assert spread.scale == pytest.approx(1, rel=0.07)


@pytest.mark.parametrize("family", [stats.norm(), stats.t(2.5), stats.laplace(), stats.uniform(-1, 2)])
def test_both_intervals_hold_what_they_say(family):
    off = family.rvs(LARGE, random_state=1)
    fresh = family.rvs(LARGE, random_state=2)
    spread = Gaussian.fitted(off, np.ones(LARGE))
    zero = np.zeros(LARGE)
    assert spread.covered(fresh, zero, zero + 1, 0.9).mean() == pytest.approx(0.9, abs=0.02)
    if family.dist.name != "uniform":  # whose tails are lighter than any of ours
        assert spread.covered(fresh, zero, zero + 1, 0.5).mean() == pytest.approx(0.5, abs=0.03)


@pytest.mark.parametrize("spread", [Gaussian(1.3, 4.0), Gaussian(0.7), Counts(2.0)])
def test_samples_quantiles_and_densities_are_of_one_distribution(spread):
    mean, deviation = np.full(3, 6.0), np.full(3, 1.5)
    drawn = spread.sample(100_000, mean, deviation, np.random.default_rng(0))
    assert drawn.mean(0) == pytest.approx(mean, rel=0.02)
    assert drawn.std(0) == pytest.approx(spread.deviation(mean, deviation), rel=0.05)
    for q in (0.1, 0.5, 0.9):
        below = (drawn <= spread.quantile(q, mean, deviation)).mean()
        assert below >= q - 0.01
        if isinstance(spread, Gaussian):
            assert below == pytest.approx(q, abs=0.01)
    density = spread.log_density(np.arange(60.0)[:, None], mean[:1], deviation[:1])
    if isinstance(spread, Counts):
        assert np.exp(density).sum() == pytest.approx(1, abs=1e-6)
    else:
        grid = np.linspace(-60, 72, 20_001)
        total = np.trapezoid(np.exp(spread.log_density(grid, mean[:1], deviation[:1])), grid)
        assert total == pytest.approx(1, abs=2e-3)
    assert spread_of(spread.record()) == spread


def test_counts_spread_as_wide_as_they_are():
    generator = np.random.default_rng(3)
    mean = generator.uniform(1, 30, LARGE)
    wide = stats.nbinom(mean**2 / (4 * mean), mean / (mean + 4 * mean))  # variance 5 times the mean
    deviation = np.sqrt(mean)
    spread = Counts.fitted(wide.rvs(random_state=generator), mean, deviation)
    assert spread.scale == pytest.approx(4, rel=0.35)
    fresh = wide.rvs(random_state=generator)
    assert spread.covered(fresh, mean, deviation, 0.9).mean() == pytest.approx(0.9, abs=0.02)


def test_poisson_counts_need_no_more():
    mean = np.random.default_rng(4).uniform(1, 30, LARGE)
    counts = np.random.default_rng(5).poisson(mean).astype(float)
    spread = Counts.fitted(counts, mean, np.full(LARGE, 0.1))
    assert spread.covered(counts, mean, np.full(LARGE, 0.1), 0.9).mean() == pytest.approx(0.9, abs=0.02)


@pytest.mark.parametrize("off", [np.zeros(30), np.full(1, 3.0)])
def test_little_to_learn_from_makes_no_nonsense(off):
    spread = Gaussian.fitted(off, np.ones(len(off)))
    assert np.isfinite(spread.scale)
    assert spread.scale > 0


def test_a_damaged_record_is_refused():
    with pytest.raises(ValueError, match="not known"):
        spread_of({"kind": "cauchy"})
