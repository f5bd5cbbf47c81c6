"""What every compression method of this room is, and how one is found by its name.

A method is a function in a file of its own, marked with `method`. Nothing else has to change when one is added.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from types import MappingProxyType
from typing import Protocol

from jaxtyping import Float
from torch import Tensor, nn

from tenfold._arguments import closest
from tenfold.compression.census import Kind, Site
from tenfold.compression.moments import Moments
from tenfold.errors import TenfoldError


@dataclass(frozen=True, eq=False)
class Candidate:
    """One thing that may take a layer's place.

    Attributes:
        method: the name of the method that proposes it.
        label: what of it, as ``"rank 48"``.
        build: makes the module with a bias; as often as asked.
        weight: makes the dense weight that the module stands for, in the layer's own shape.
        error: what `Judge` would say of the weight, where the method knows it already.
        bits: of its whole numbers; None where it keeps floating point.
        rounds: whether it rounds what comes into it too, so that its error is no function of the weight alone and is
            measured on `Moments.sample`; what it gains over others that are as small is time.
    """

    method: str
    label: str
    build: Callable[[Float[Tensor, " out"] | None], nn.Module]
    weight: Callable[[], Float[Tensor, "..."]]
    error: float | None = None
    bits: int | None = None
    rounds: bool = False


class Method(Protocol):
    """The signature of this room: what may take the place of a layer, given what was seen to come into it."""

    def __call__(self, site: Site, moments: Moments | None) -> Iterator[Candidate]: ...


@dataclass(frozen=True)
class Entry:
    """A registered method.

    Attributes:
        name: what users name it.
        function: the method itself.
        kinds: the layers that it can replace.
        default: whether it is tried when no methods are named.
        summary: the first line of its docstring.
    """

    name: str
    function: Method
    kinds: tuple[Kind, ...]
    default: bool
    summary: str


_entries: dict[str, Entry] = {}


def method(name: str, *, kinds: tuple[Kind, ...], default: bool = True) -> Callable[[Method], Method]:
    """Register a function as the method ``name``; arguments as of `Entry`."""

    def register(function: Method) -> Method:
        summary = (function.__doc__ or "").strip().splitlines()[0]
        _entries[name] = Entry(name, function, kinds, default, summary)
        return function

    return register


def methods() -> Mapping[str, Entry]:
    """All methods by name: every public module of this room is imported once and registers its own."""
    _import_room()
    return MappingProxyType(dict(sorted(_entries.items())))


@cache
def _import_room() -> None:
    package = importlib.import_module("tenfold.compression")
    for module in pkgutil.iter_modules(package.__path__):
        if not module.name.startswith("_"):
            importlib.import_module(f"{package.__name__}.{module.name}")


def find(name: str) -> Entry:
    """The method of that name. Raises `TenfoldError`, which names the nearest, where there is none."""
    known = methods()
    if name not in known:
        raise TenfoldError(f"there is no compression method '{name}'{closest(name, known)}")
    return known[name]
