"""What people ask for: an error, a size or a ratio, checked, and in words."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np

from tenfold._arguments import quoted, real_number, whole_number
from tenfold.errors import TenfoldError

if TYPE_CHECKING:
    from tenfold.structure_search import Budget

# What is asked for when nothing is.
DEFAULT_ERROR = 0.1


def budget_of(error: float | None, parameters: int | None, ratio: float | None, cells: int) -> Budget:
    """What is asked for of an array of so many cells. Raises `TenfoldError` for anything that is no budget."""
    from tenfold.structure_search import Budget  # what asks a posterior does without the room of searches

    given = [n for n, v in (("error", error), ("parameters", parameters), ("ratio", ratio)) if v is not None]
    if len(given) > 1:
        raise TenfoldError(f"{' and '.join(given)} are given; one of them is the budget")
    if error is not None:
        wanted = "a relative error of at least 0 and below 1"
        error = real_number("error", error, wanted)
        if not 0 <= error < 1:
            raise TenfoldError(f"error must be {wanted}, not {error!r}")
        # A little less, so that rounding where the network is expanded does not go beyond what was asked for.
        return Budget(error=error * (1 - 1e-9))
    if ratio is not None:
        ratio = real_number("ratio", ratio, "a number of at least 1")
        if not 1 <= ratio < math.inf:
            raise TenfoldError(f"ratio must be a number of at least 1, not {ratio!r}")
        parameters = math.floor(cells / Fraction(ratio))
        if parameters < 1:
            raise TenfoldError(f"ratio {ratio:g} leaves no parameter for an array of {cells:,} entries")
    if parameters is not None:
        return Budget(parameters=whole_number("parameters", parameters, 1))
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
        raise TenfoldError(f"seed must be a whole number of at least 0 and below 2**63, not {quoted(seed)}")
    return int(seed)


def check_seconds(seconds: float | None) -> float | None:
    """The time that a search may take. Raises `TenfoldError` for anything but a positive number."""
    if seconds is None:
        return None
    number = real_number("seconds", seconds, "a positive number")
    if not 0 < number < math.inf:
        raise TenfoldError(f"seconds must be a positive number, not {seconds!r}")
    return number
