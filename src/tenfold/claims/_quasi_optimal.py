"""Measuring a bound of the kind "at most sqrt(m) times the best error", where the best error is not known.

It lies between two numbers that are: the largest tail of singular values over the bonds, below which nothing can come,
and the error of the best network that iterating finds.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from tenfold.claims._registry import Measurement
from tenfold.claims._tensors import by_kind

# Rounding: bounds may be exceeded by this part of them, and by this part of the norm.
_RELATIVE = 1e-9
_ABSOLUTE = 1e-12


@dataclass(frozen=True)
class Case:
    """One tensor with ranks. All errors are Frobenius norms.

    Attributes:
        kind: of tensor.
        norm: of the tensor.
        error: of the method in question.
        tails: for each bond the squared error that its rank alone costs.
        refined: the least error that iterating from the method's result found.
        factor: what the paper allows between ``error`` and the best.
    """

    kind: str
    norm: float
    error: float
    tails: tuple[float, ...]
    refined: float
    factor: float

    @property
    def within_tails(self) -> bool:
        return self._within(math.sqrt(math.fsum(self.tails)))

    @property
    def within_factor(self) -> bool:
        """Whether ``error`` keeps to the factor whatever the best error is between its two limits."""
        return self._within(self.factor * math.sqrt(max(self.tails)))

    @property
    def refutes(self) -> bool:
        """Whether a network was found that the method is further from than allowed."""
        return not self._within(self.factor * self.refined)

    def _within(self, bound: float) -> bool:
        return self.error <= bound * (1 + _RELATIVE) + _ABSOLUTE * self.norm

    @property
    def truncates(self) -> bool:
        """Whether the ranks cost anything: ratios of rounding errors say nothing."""
        return max(self.tails) > (1e-9 * self.norm) ** 2


@dataclass
class Cases:
    """What was measured on many tensors, and its verdict."""

    found: list[Case] = field(default_factory=list)

    def measurement(self, refiner: str) -> Measurement:
        """The verdict: every error within both bounds."""
        cases = [case for case in self.found if case.truncates]
        tails = max(case.error / math.sqrt(math.fsum(case.tails)) for case in cases)
        upper = max(case.error / math.sqrt(max(case.tails)) / case.factor for case in cases)
        lower = max(case.error / case.refined / case.factor for case in cases)
        above = max(case.error / case.refined for case in cases)
        ill = [case for case in self.found if not (case.within_tails and case.within_factor)]
        refuted = sum(case.refutes for case in self.found)
        text = (
            f"{len(self.found)} tensors of orders 3 to 6: {by_kind(case.kind for case in self.found)};\n"
            f"{len(cases)} of them truncated by their ranks.\n"
            f"error / sqrt(sum of squared tails): at most {tails:.4f} (bound 1).\n"
            f"error / best error, as part of what is allowed: at most {upper:.4f} if the best error is the largest\n"
            f"tail, at most {lower:.4f} if it is what {refiner}\n"
            f"reaches ({above:.4f} times that error); the bound is 1.\n"
            f"beyond a bound: {len(ill)}; refuted by a better network: {refuted}."
        )
        numbers = {
            "tensors": len(self.found),
            "truncated": len(cases),
            "largest_ratio_to_tails": tails,
            "largest_part_of_allowed_from_lower_limit": upper,
            "largest_part_of_allowed_from_refined": lower,
            "largest_ratio_to_refined": above,
            "beyond": len(ill),
            "refuted": refuted,
        }
        return Measurement(not ill and not refuted, text, numbers)
