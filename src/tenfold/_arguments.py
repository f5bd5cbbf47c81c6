"""Numbers and names that people give, checked in one place."""

from __future__ import annotations

import math
from collections.abc import Iterable
from difflib import get_close_matches
from typing import Any

import numpy as np

from tenfold.errors import TenfoldError

# What is longer than this is cut where it is quoted.
_LONGEST = 80
# Whole numbers that people mean are below this.
_MOST = 2**63


def quoted(value: Any) -> str:
    """A value that was given as it is written, or its type where that is no single line; long ones are cut."""
    try:
        text = repr(value)
    except Exception:  # numbers of thousands of digits, and what others made
        text = "\n"
    if "\n" in text:
        return f"a value of type {type(value).__name__}"
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."


def whole_number(name: str, value: Any, least: int) -> int:
    """The value as an int. Raises `TenfoldError` if it is none, below the least, or 2**63 and more."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < least:
        raise TenfoldError(f"{name} must be a whole number of at least {least}, not {quoted(value)}")
    if value >= _MOST:
        raise TenfoldError(f"{name} must be below 2**63, not {quoted(value)}")
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
    raise TenfoldError(f"{name} must be {wanted}, not {quoted(value)}")


def closest(word: str, known: Iterable[str]) -> str:
    """`` (did you mean 'x'?)`` when something known is spelt nearly so, else nothing."""
    close = get_close_matches(word, list(known), n=1)
    return f" (did you mean '{close[0]}'?)" if close else ""
