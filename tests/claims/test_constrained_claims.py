"""The claims about constrained decompositions measure what they say, on a few tensors."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch

from tenfold import formats
from tenfold.claims.ao_admm_warm import ao_admm_warm
from tenfold.claims.hals_monotone import hals_monotone, multiplied
from tenfold.claims.poisson_likelihood import poisson_likelihood
from tenfold.decomposition import relative_error
from tenfold.network import Network


def test_hals_never_raises_the_error() -> None:
    found = hals_monotone(seeds=2)
    assert found.holds, found.text
    assert found.numbers["mean_ratio_of_errors"] > 1


def test_multiplicative_updates_go_down_and_keep_what_fits() -> None:
    generator = torch.Generator().manual_seed(0)
    factors = [torch.rand(extent, 2, generator=generator, dtype=torch.float64) for extent in (4, 5, 6)]
    data = Network(formats.cp((4, 5, 6), 2), factors).dense()
    kept = multiplied(data, factors, 3)
    torch.testing.assert_close(kept[0], factors[0])
    start = [torch.rand_like(factor) for factor in factors]
    networks = [Network(formats.cp((4, 5, 6), 2), multiplied(data, start, sweeps)) for sweeps in (0, 1, 5, 20)]
    errors = [relative_error(data, network) for network in networks]
    assert all(after < before for before, after in pairwise(errors))


def test_inner_steps_are_counted_and_constraints_hold() -> None:
    found = ao_admm_warm(seeds=1)
    for kind in ("nonnegative", "simplex, nonnegative", "unimodal", "l1"):
        assert 1 <= found.numbers[f"{kind}: warm"] <= 10
        assert 1 <= found.numbers[f"{kind}: cold"] <= 10
        assert found.numbers[f"{kind}: off by"] <= 1e-12


@pytest.mark.slow
def test_counts_are_likelier_under_poisson() -> None:
    assert poisson_likelihood(seeds=2).holds
