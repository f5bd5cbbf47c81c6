"""The claims on training in low rank: small runs of what they measure, and what makes them fail."""

from __future__ import annotations

import pytest
import torch

from tenfold.claims import _digits as tools
from tenfold.claims.dlrt_accuracy_at_rank import dlrt_accuracy_at_rank
from tenfold.claims.maestro_nested_truncations import _linear, maestro_nested_truncations
from tenfold.claims.rank_pruning_accuracy_at_rank import rank_pruning_accuracy_at_rank
from tenfold.claims.tdlrt_accuracy_at_rank import tdlrt_accuracy_at_rank
from tenfold.nn.low_rank import DLRT


def test_digits_are_drawn_by_the_seed_and_trained_on() -> None:
    data, again, other = tools.digits(0), tools.digits(0), tools.digits(1)
    assert torch.equal(data.labels, again.labels)
    assert not torch.equal(data.labels, other.labels)
    assert len(data.labels) == 1400
    assert len(data.test_labels) == 397
    model = tools.perceptron(0, 32)
    before = tools.accuracy(model, data)
    scheme = DLRT(model, tolerance=0.1, lr=0.5, skip="5")
    tools.train(model, data, epochs=3, seed=0, scheme=scheme)
    assert scheme.lr == pytest.approx(0.5 / 3)
    assert tools.accuracy(model, data) > before + 0.3


def test_networks_that_have_not_learned_hold_nothing() -> None:
    found = dlrt_accuracy_at_rank(seeds=1, epochs=1)
    assert not found.holds  # the dense network learns faster in one epoch
    assert set(found.numbers) == {"dense", "low rank", "dense, truncated", "part of the numbers"}
    found = tdlrt_accuracy_at_rank(seeds=1, epochs=1)
    assert not found.holds
    assert 0 < found.numbers["part of the numbers"] < 1
    found = rank_pruning_accuracy_at_rank(seeds=1, epochs=1)
    assert found.holds == (found.numbers["least gain"] > 0 and found.numbers["mean gain"] >= 0.05)
    assert found.numbers["least gain"] <= found.numbers["mean gain"]


def test_a_linear_map_is_found_for_all_ranks_by_training_long_enough() -> None:
    lost, best = _linear(0, steps=3)
    assert best == pytest.approx([10**0.5, 1, 0])
    assert all(one > other + 0.02 for one, other in zip(lost, best, strict=True))


@pytest.mark.slow
@pytest.mark.parametrize(
    "claim", [dlrt_accuracy_at_rank, tdlrt_accuracy_at_rank, rank_pruning_accuracy_at_rank, maestro_nested_truncations]
)
def test_they_hold(claim: object) -> None:
    found = claim()
    assert found.holds, found.text
