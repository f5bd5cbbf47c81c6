"""The rivals of the exact allocation."""

from __future__ import annotations

import numpy as np

from tenfold.claims.layerwise_allocation import improved
from tenfold.compression import uniform


def test_the_rest_is_spent_until_nothing_fits() -> None:
    # The second layer gains 6 for each unit, the first 2; after it only one step of the first still fits.
    assert improved([[0, 1, 3], [0, 1]], [[5, 3, 0], [6, 0]], 2, [0, 0]) == [1, 1]
    # A choice that is cheaper and better is taken where nothing is left.
    assert improved([[2, 1]], [[1, 0]], 2, [0]) == [1]
    generator = np.random.default_rng(0)
    for _ in range(20):
        costs, errors = generator.random((5, 6)).tolist(), generator.random((5, 6)).tolist()
        budget = 0.5 * sum(map(max, costs)) + 0.5 * sum(map(min, costs))
        equal = uniform(costs, errors, budget)
        made = improved(costs, errors, budget, equal)
        left = budget - sum(cost[n] for cost, n in zip(costs, made, strict=True))
        assert left >= 0
        for cost, loss, before, now in zip(costs, errors, equal, made, strict=True):
            assert loss[now] <= loss[before]
            assert not any(c - cost[now] <= left and e < loss[now] for c, e in zip(cost, loss, strict=True))
