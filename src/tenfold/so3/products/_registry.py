"""How a product is found by its name.

A method is a function ``(irreps_in1, irreps_in2, irreps_out, *, layout) -> Product`` in the file of its product, marked
with `product_method`. It is asked for a product of channels: channel ``c`` of the left with channel ``c`` of the right,
all channels of the left with the right where that has one, added up over what leads to one irrep. It raises
`Unsuited`, in words, for irreps that it cannot multiply.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Protocol, TypeVar

from tenfold._arguments import closest, quoted
from tenfold.errors import TenfoldError
from tenfold.so3.irreps import Irreps
from tenfold.so3.layouts import Layout
from tenfold.so3.products._product import Product


class Unsuited(TenfoldError):
    """Irreps that a product cannot multiply, though others can."""


class Make(Protocol):
    """The signature of a method."""

    def __call__(self, irreps_in1: Irreps, irreps_in2: Irreps, irreps_out: Irreps, *, layout: Layout) -> Product: ...


@dataclass(frozen=True)
class Method:
    """A registered product.

    Attributes:
        name: what users pass as ``method=``.
        make: makes one for given irreps.
        complete: whether paths of an odd sum of degrees are among those it has.
        summary: what it is, in a few words.
    """

    name: str
    make: Make
    complete: bool
    summary: str


_known: dict[str, Method] = {}
_Function = TypeVar("_Function", bound=Callable[..., Product])


def product_method(name: str, *, complete: bool, summary: str) -> Callable[[_Function], _Function]:
    """Register a product under its name."""

    def register(function: _Function) -> _Function:
        _known[name] = Method(name, function, complete, summary)
        return function

    return register


def product_methods() -> dict[str, Method]:
    """All products by name."""
    _loaded()
    return dict(sorted(_known.items()))


def find_product_method(name: str) -> Method:
    """The product of a name; raises `TenfoldError` where there is none."""
    found = product_methods()
    if not isinstance(name, str) or name not in found:
        hint = closest(name, found) if isinstance(name, str) else ""
        raise TenfoldError(f"method {quoted(name)} is not known; there are {', '.join(found)}{hint}")
    return found[name]


@cache
def _loaded() -> None:
    import tenfold.so3.products as room

    for module in pkgutil.iter_modules(room.__path__):
        if not module.name.startswith("_"):
            importlib.import_module(f"{room.__name__}.{module.name}")
