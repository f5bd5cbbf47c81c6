"""What a search minimises: one number made of the size and the error of a network.

An objective is a value. It also says how large an error may be to stay below a number, so that fits which cannot win
are not carried to their end.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

from tenfold.errors import TenfoldError

# How much a factor of e above the budget costs, in factors of e of what is minimised. Errors fall slowly with size,
# until a network has about as many numbers as the data and becomes exact: both budgets must hold against that.
_WEIGHT = 10.0
# Errors below this are zero to rounding: nothing is gained below, unless a smaller one is asked for.
_EXACT = 1e-7


class Objective(Protocol):
    """Smaller is better."""

    def value(self, parameters: int, error: float) -> float:
        """For a network of so many parameters and this relative error."""
        ...

    def error_for(self, parameters: int, value: float) -> float:
        """The largest relative error with which so many parameters stay at or below ``value``; negative if none does.

        ``math.inf`` where any error does.
        """
        ...

    def met(self, parameters: int, error: float) -> bool:
        """Whether the budget is kept."""
        ...

    def rank(self, parameters: int, error: float) -> tuple[bool, float, float]:
        """A sort key for the final choice, smallest first: what keeps the budget comes before what does not."""
        ...


@dataclass(frozen=True)
class SizeWithin:
    """As few parameters as possible with a relative error of at most ``error``.

    Its value is ``ln P``, and above the budget ``ln P + 10 ln(error / budget)``: smooth enough to climb down from
    both sides. A budget of 0 means zero to rounding.
    """

    error: float

    def __post_init__(self) -> None:
        if not 0 <= self.error < math.inf:
            raise TenfoldError(f"error must be a number of at least 0, not {self.error!r}")

    @property
    def allowed(self) -> float:
        """The largest error that keeps the budget."""
        return self.error or _EXACT

    def value(self, parameters: int, error: float) -> float:
        excess = max(error, self.allowed) / self.allowed
        return math.log(parameters) + _WEIGHT * math.log(excess) if math.isfinite(error) else math.inf

    def error_for(self, parameters: int, value: float) -> float:
        if value == math.inf:
            return math.inf
        left = (value - math.log(parameters)) / _WEIGHT
        if left < 0:
            return -1.0
        return self.allowed * math.exp(min(left, 700.0))

    def met(self, parameters: int, error: float) -> bool:
        return error <= self.allowed

    def rank(self, parameters: int, error: float) -> tuple[bool, float, float]:
        met = self.met(parameters, error)
        return (False, parameters, error) if met else (True, error, parameters)


@dataclass(frozen=True)
class ErrorWithin:
    """As small an error as possible with at most so many ``parameters``.

    Its value is ``ln error``, and above the budget ``ln error + 10 ln(P / budget)``.
    """

    parameters: int

    def __post_init__(self) -> None:
        if self.parameters < 1:
            raise TenfoldError(f"parameters must be at least 1, not {self.parameters!r}")

    def value(self, parameters: int, error: float) -> float:
        return math.log(max(error, _EXACT)) + self._price(parameters) if math.isfinite(error) else math.inf

    def error_for(self, parameters: int, value: float) -> float:
        if value == math.inf:
            return math.inf
        left = value - self._price(parameters)
        return -1.0 if left < math.log(_EXACT) else math.exp(min(left, 700.0))

    def _price(self, parameters: int) -> float:
        """What is added above the budget."""
        return _WEIGHT * math.log(parameters / self.parameters) if parameters > self.parameters else 0.0

    def met(self, parameters: int, error: float) -> bool:
        return parameters <= self.parameters

    def rank(self, parameters: int, error: float) -> tuple[bool, float, float]:
        return (not self.met(parameters, error), error if self.met(parameters, error) else parameters, parameters)


@dataclass(frozen=True)
class WeightedSum:
    """The papers' sum: ``P / size + weight * error^2``, with ``size`` entries of the data.

    The squared relative error is what they call RSE, ``P / size`` the inverse of the compression ratio.
    """

    size: int
    weight: float = 200.0
    logarithmic: bool = False

    def __post_init__(self) -> None:
        if self.size < 1:
            raise TenfoldError(f"size must be at least 1, not {self.size!r}")
        if not 0 < self.weight < math.inf:
            raise TenfoldError(f"weight must be a positive number, not {self.weight!r}")

    def value(self, parameters: int, error: float) -> float:
        share = parameters / self.size
        return (math.log10(share) if self.logarithmic else share) + self.weight * error * error

    def error_for(self, parameters: int, value: float) -> float:
        left = value - self.value(parameters, 0.0)
        return -1.0 if left < 0 else math.sqrt(left / self.weight)

    def met(self, parameters: int, error: float) -> bool:
        return True

    def rank(self, parameters: int, error: float) -> tuple[bool, float, float]:
        return (False, self.value(parameters, error), parameters)
