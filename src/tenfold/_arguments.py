"""Numbers and names that people give, checked in one place."""

from __future__ import annotations

import math
from collections.abc import Iterable
from difflib import get_close_matches
from typing import Any

import numpy as np

from tenfold.errors import TenfoldError


def whole_number(name: str, value: Any, least: int) -> int:
    """The value as an int. Raises `TenfoldError` if it is none, or below the least."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < least:
        raise TenfoldError(f"{name} must be a whole number of at least {least}, not {value!r}")
    return int(value)


def real_number(name: str, value: Any, wanted: str) -> float:
    """The value as a float. Raises `TenfoldError`, with what is ``wanted``, if it is no number or NaN."""
    if not isinstance(value, bool) and isinstance(value, int | float | np.number):
        try:
            number = float(value)
        except OverflowError:
            number = math.nan
        if not math.isnan(number):
            return number
    raise TenfoldError(f"{name} must be {wanted}, not {value!r}")


def closest(word: str, known: Iterable[str]) -> str:
    """`` (did you mean 'x'?)`` when something known is spelt nearly so, else nothing."""
    close = get_close_matches(word, list(known), n=1)
    return f" (did you mean '{close[0]}'?)" if close else ""
