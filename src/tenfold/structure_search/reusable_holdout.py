"""Held-out data that answer many questions, each chosen after the answers before it: Thresholdout.

Whoever picks among thousands of models by their error on the same held-out data fits these data too. Here the error on
the training data is given back while the held-out one agrees with it, and otherwise the held-out one with noise, a
limited number of times. So little is learned of the held-out data that they stay as good as fresh.
"""

from __future__ import annotations

import math

import numpy as np

from tenfold.errors import TenfoldError


class ReusableHoldout:
    """Answers what the error on held-out data is, without giving these data away.

    Args:
        threshold: how far the two errors may lie apart before the held-out one is looked at. A few standard deviations
            of their difference.
        noise: the scale of the Laplace noise, the precision of the answers. The larger it is, the less they give away;
            but from about ``threshold / (4 log(questions))`` on, noise alone lets questions through.
        budget: how often the two errors may disagree. For n held-out values it may grow like ``noise**2 * n**2``.
        seed: fixes the noise.

    Raises:
        TenfoldError: a threshold or noise that is negative or not finite, a budget that is no positive whole number.

    Papers: "Preserving statistical validity in adaptive data analysis", 2015; "Generalization in adaptive data
    analysis and holdout reuse", 2015.
    """

    def __init__(self, *, threshold: float, noise: float, budget: int, seed: int = 0) -> None:
        for name, value in (("threshold", threshold), ("noise", noise)):
            if not 0 <= value < math.inf:
                raise TenfoldError(f"{name} is {value}: it must be zero or positive, and finite")
        if isinstance(budget, bool) or not isinstance(budget, int) or budget < 1:
            raise TenfoldError(f"budget is {budget!r}: it must be a positive whole number")
        self.threshold = threshold
        self.noise = noise
        self.left = budget
        self._generator = np.random.default_rng(seed)
        self._limit = self._drawn_limit()

    @property
    def spent(self) -> bool:
        """Whether the errors have disagreed as often as they may: nothing is answered any more."""
        return self.left == 0

    def ask(self, training_error: float, held_out_error: float) -> float:
        """The error to believe: that on the training data, or where it is far off, the held-out one with noise.

        Any averages over the two sets can be asked for, not only errors.

        Raises:
            TenfoldError: the budget is spent, or a number is not finite.
        """
        if self.spent:
            raise TenfoldError("the held-out data have answered as often as their budget allows: take fresh ones")
        for name, value in (("training_error", training_error), ("held_out_error", held_out_error)):
            if not math.isfinite(value):
                raise TenfoldError(f"{name} is {value}: it must be finite")
        if abs(held_out_error - training_error) <= self._limit + self._laplace(4):
            return float(training_error)
        self.left -= 1
        self._limit = self._drawn_limit()
        return float(held_out_error + self._laplace(1))

    def _drawn_limit(self) -> float:
        return self.threshold + self._laplace(2)

    def _laplace(self, scale: float) -> float:
        return float(self._generator.laplace(0.0, scale * self.noise))
