"""The claims on sparse arrays: small runs."""

from __future__ import annotations

import math

import pytest

from tenfold.claims.sampled_fit import sampled_fit
from tenfold.claims.sparse_sweep_cost import sparse_sweep_cost


def test_sampled_fits_are_as_good_on_one_array() -> None:
    found = sampled_fit(seeds=1)
    assert found.holds, found.text
    assert found.numbers["largest_ratio"] > 0.9


def test_sweeps_are_timed_for_each_size() -> None:
    found = sparse_sweep_cost(extent=100, smallest=1000, doublings=2, sweeps=3)
    assert math.isfinite(found.numbers["exponent"])
    assert sum("milliseconds" in name for name in found.numbers) == 3


@pytest.mark.slow
def test_a_sweep_grows_with_the_entries() -> None:
    found = sparse_sweep_cost(doublings=3)
    assert found.holds, found.text
    assert found.numbers["exponent"] > 0.6
