"""The claim about frequencies, with next to no steps of its slow half."""

from __future__ import annotations

import pytest

from tenfold.claims.gp_hm import gp_hm_frequencies


@pytest.mark.slow
def test_frequencies_solve_it_by_collocation() -> None:
    found = gp_hm_frequencies(steps=2)
    numbers = {name: float(value) for name, value in found.numbers.items()}
    assert numbers["collocation: Matern 5/2"] > 1e4 * numbers["collocation: Student-t mixture"]
    assert numbers["collocation: squared exponential"] > 1e4 * numbers["collocation: Gaussian mixture"]
    # After two steps nobody has come anywhere, and the verdict says so.
    assert all(numbers[name] > 0.9 for name in numbers if name.startswith("Adam"))
    assert not found.holds
