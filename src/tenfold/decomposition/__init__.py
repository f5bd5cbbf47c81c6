"""Structure known, cores wanted: one file for each method, all with one signature.

result = tn.decomposition.tree_svd(data, structure)
tn.decomposition.methods()              # what there is, by name
"""

from __future__ import annotations

from typing import Any

from tenfold.decomposition._blas import Blas, blas
from tenfold.decomposition._error import relative_error
from tenfold.decomposition._registry import (
    KINDS,
    Callback,
    Data,
    Decomposition,
    Entry,
    Method,
    Progress,
    choose,
    find,
    kind_of,
    method,
    methods,
)
from tenfold.decomposition._stream import Projected, Stream
from tenfold.decomposition.tensor_train_cross import Cross, tensor_train_cross

__all__ = [
    "KINDS",
    "Blas",
    "Callback",
    "Cross",
    "Data",
    "Decomposition",
    "Entry",
    "Method",
    "Parafac2",
    "Progress",
    "Projected",
    "Stream",
    "blas",
    "choose",
    "find",
    "kind_of",
    "method",
    "methods",
    "parafac2",
    "relative_error",
    "tensor_train_cross",
]


# Importing a method's file leaves the module under the method's name; its function belongs there.
globals().update({name: entry.function for name, entry in methods().items()})
# Its data are slices of differing heights, which no structure describes, so it is no method.
from tenfold.decomposition.parafac2 import Parafac2, parafac2  # noqa: E402


def __getattr__(name: str) -> Any:
    raise AttributeError(f"there is no method {name!r} in tenfold.decomposition; there are {', '.join(methods())}")
