"""Arguments that several functions have."""

from __future__ import annotations

from typing import Any

SVDS = ("truncated_svd", "symeig_svd", "randomized_svd")
# Where cells are missing a method ends by its own rule, which is relative; this if a script asks for none.
OWN_TOL = 1e-12


def named(init: Any, name: str) -> bool:
    return isinstance(init, str) and init == name


def missing(argument: str, instead: str) -> NotImplementedError:
    return NotImplementedError(f"{argument} is not there; use {instead}")


def check_svd(svd: Any) -> None:
    if svd not in SVDS:
        raise ValueError(f"svd is {svd!r}; it can be {', '.join(SVDS)}")
