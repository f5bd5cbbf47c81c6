"""What people ask for: an error, a size or a ratio, checked, and in words."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np

from tenfold._arguments import real_number
from tenfold.errors import TenfoldError
from tenfold.structure_search import Budget

# What is asked for when nothing is.
DEFAULT_ERROR = 0.1


def budget_of(error: float | None, parameters: int | None, ratio: float | None, cells: int) -> Budget:
    """What is asked for of an array of so many cells. Raises `TenfoldError` for anything that is no budget."""
    given = [n for n, v in (("error", error), ("parameters", parameters), ("ratio", ratio)) if v is not None]
    if len(given) > 1:
        raise TenfoldError(f"{' and '.join(given)} are given; one of them is the budget")
    if error is not None:
        if isinstance(error, bool) or not isinstance(error, (int, float, np.floating)) or not 0 <= error < 1:
            raise TenfoldError(f"error must be a relative error of at least 0 and below 1, not {error!r}")
        # A little less, so that rounding where the network is expanded does not go beyond what was asked for.
        return Budget(error=float(error) * (1 - 1e-9))
    if ratio is not None:
        if isinstance(ratio, bool) or not isinstance(ratio, (int, float, np.number)) or not 1 <= ratio < math.inf:
            raise TenfoldError(f"ratio must be a number of at least 1, not {ratio!r}")
        parameters = math.floor(cells / Fraction(float(ratio)))
        if parameters < 1:
            raise TenfoldError(f"ratio {ratio:g} leaves no parameter for an array of {cells:,} entries")
    if parameters is not None:
        if isinstance(parameters, bool) or not isinstance(parameters, (int, np.integer)) or parameters < 1:
            raise TenfoldError(f"parameters must be a whole number of at least 1, not {parameters!r}")
        return Budget(parameters=int(parameters))
    return Budget()


def in_words(budget: Budget) -> str:
    """What is asked for, for people; the pages read it again."""
    if budget.error is not None:
        return f"error at most {budget.error:g}"
    if budget.parameters is not None:
        return f"at most {budget.parameters:,} parameters"
    return "the structure given"


def check_seed(seed: int) -> int:
    """The seed as an int. Raises `TenfoldError` for anything else."""
    if isinstance(seed, bool) or not isinstance(seed, (int, np.integer)) or not 0 <= seed < 2**63:
        raise TenfoldError(f"seed must be a whole number of at least 0 and below 2**63, not {seed!r}")
    return int(seed)


def check_seconds(seconds: float | None) -> float | None:
    """The time that a search may take. Raises `TenfoldError` for anything but a positive number."""
    if seconds is None:
        return None
    number = real_number("seconds", seconds, "a positive number")
    if not 0 < number < math.inf:
        raise TenfoldError(f"seconds must be a positive number, not {seconds!r}")
    return number
