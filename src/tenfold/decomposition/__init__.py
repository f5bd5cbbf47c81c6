"""Structure known, cores wanted: one file for each method, all with one signature.

result = tn.decomposition.tree_svd(data, structure)
tn.decomposition.methods()              # what there is, by name
"""

from __future__ import annotations

from typing import Any

from tenfold.decomposition._error import relative_error
from tenfold.decomposition._registry import (
    Callback,
    Data,
    Decomposition,
    Entry,
    Method,
    Progress,
    choose,
    find,
    method,
    methods,
)

__all__ = [
    "Callback",
    "Data",
    "Decomposition",
    "Entry",
    "Method",
    "Progress",
    "choose",
    "find",
    "method",
    "methods",
    "relative_error",
]


def __getattr__(name: str) -> Any:
    if not name.startswith("_") and name in methods():
        return methods()[name].function
    raise AttributeError(f"there is no method {name!r} in tenfold.decomposition; there are {', '.join(methods())}")
