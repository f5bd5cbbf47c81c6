"""What tenfold raises when something that a person gave cannot be used.

Every message is one line that names the argument, says what was given and what would do; the command line
prints that line and nothing else. Programming errors keep Python's own exceptions.
"""

from __future__ import annotations


class TenfoldError(ValueError):
    """Base of every error that a user's input can cause."""


class StructureError(TenfoldError):
    """A structure that does not parse or does not fit: the message points into the pattern."""


class DataError(TenfoldError):
    """Numbers that cannot be fitted: wrong shape, empty, NaN where none is allowed, infinite."""


class EquivarianceError(TenfoldError):
    """A function that does not turn with its input as it must."""


class FileError(TenfoldError):
    """A file that cannot be read or written: missing, truncated, foreign, hostile, no room."""


class MissingExtra(TenfoldError, ImportError):
    """A part of tenfold that needs an optional package which is not installed."""


def missing_extra(package: str, extra: str, purpose: str) -> MissingExtra:
    """The error for ``purpose`` when ``package`` is absent, naming the extra that brings it."""
    return MissingExtra(f"{purpose} needs {package}: pip install 'tenfold[{extra}]'")
