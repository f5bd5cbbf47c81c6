"""Held-out data asked through Thresholdout: agreement costs nothing, the budget ends, and chance is not believed."""

from __future__ import annotations

import math

import numpy as np
import pytest

from tenfold.errors import TenfoldError
from tenfold.structure_search.reusable_holdout import ReusableHoldout


def test_without_noise_it_is_a_comparison() -> None:
    holdout = ReusableHoldout(threshold=0.1, noise=0.0, budget=2)
    assert [holdout.ask(0.30, 0.35), holdout.ask(0.30, 0.45), holdout.ask(0.5, 0.45)] == [0.30, 0.45, 0.5]
    assert holdout.left == 1
    assert not holdout.spent
    assert holdout.ask(0.9, 0.1) == 0.1
    assert holdout.spent
    with pytest.raises(TenfoldError, match="as often as their budget allows"):
        holdout.ask(0.3, 0.3)


def test_answers_are_noisy_and_the_same_for_a_seed() -> None:
    asked = [(0.2, 0.2 + 0.01 * k) for k in range(100)]
    first, again, other = (
        [one.ask(*pair) for pair in asked]
        for one in (ReusableHoldout(threshold=0.5, noise=0.02, budget=100, seed=seed) for seed in (1, 1, 2))
    )
    assert first == again != other
    far = [answer - held for answer, (_, held) in zip(first, asked, strict=True) if answer != 0.2]
    assert 20 < len(far) < 80
    assert 0 < np.abs(far).mean() < 0.1


def test_structures_of_no_use_do_not_look_good() -> None:
    """Five hundred models of pure noise; the best by a plain held-out error looks better than it is, this one not."""
    plain, careful, points = [], [], 400
    error = 1 / math.sqrt(points)
    for seed in range(20):
        generator = np.random.default_rng(seed)
        training, held_out = generator.standard_normal((2, 500, points)).mean(2)
        holdout = ReusableHoldout(threshold=5 * error, noise=error / 20, budget=500, seed=seed)
        answers = [holdout.ask(a, b) for a, b in zip(training, held_out, strict=True)]
        plain.append(held_out.min())
        # The true error of each is zero; so is, on average, the held-out one of what is chosen by the answers.
        best = int(np.argmin(answers))
        careful.append(held_out[best])
        assert not holdout.spent
    assert np.mean(plain) < -2.5 * error
    assert abs(np.mean(careful)) < error


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"threshold": -0.1}, "threshold is -0.1"),
        ({"threshold": math.nan}, "threshold is nan"),
        ({"noise": math.inf}, "noise is inf"),
        ({"budget": 0}, "budget is 0"),
        ({"budget": 2.5}, "budget is 2.5"),
    ],
)
def test_what_is_refused(options: dict, said: str) -> None:
    with pytest.raises(TenfoldError, match=said):
        ReusableHoldout(**{"threshold": 0.1, "noise": 0.01, "budget": 3, **options})
    with pytest.raises(TenfoldError, match="held_out_error is nan"):
        ReusableHoldout(threshold=0.1, noise=0.01, budget=3).ask(0.1, math.nan)
