"""Errors on held-out cells, as they are told to whoever compares many structures by them."""

from __future__ import annotations

import math

from tenfold.structure_search.reusable_holdout import ReusableHoldout

# Of the standard error of the logarithm of a held-out error: how far from it what the other cells say may be before it
# is told, and the scale of its noise. With several standard errors searches chose by far worse, for what the cells that
# are fitted say of a network is too good by as much.
_THRESHOLD, _NOISE = 1.0, 0.1
# Smaller errors are zero to rounding.
_LEAST = 1e-12


class Guard:
    """`ReusableHoldout` for relative errors, whose logarithms all have about the same standard error.

    Args:
        cells: how many are held out.
        seed: of the noise.
        budget: how often they answer; by default as often as there are of them.
    """

    def __init__(self, cells: int, seed: int, budget: int | None = None) -> None:
        sure = 1 / math.sqrt(2 * cells)
        self._asked = ReusableHoldout(
            threshold=_THRESHOLD * sure, noise=_NOISE * sure, budget=budget or cells, seed=seed
        )

    @property
    def spent(self) -> bool:
        return self._asked.spent

    def answer(self, inside: float, error: float) -> float:
        """The error to believe, of what the fitted cells say and what the held-out ones do; as it is if not finite."""
        if not (math.isfinite(inside) and math.isfinite(error)):
            return error
        return math.exp(self._asked.ask(math.log(max(inside, _LEAST)), math.log(max(error, _LEAST))))
