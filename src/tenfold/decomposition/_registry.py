"""What every method of this room is, and how one is found: by name, or as the one made for a structure's format.

A method is a function in a file of its own, marked with `method`. Nothing else has to change when one is added.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from types import MappingProxyType
from typing import Protocol

from torch import Tensor

from tenfold import formats
from tenfold.errors import TenfoldError
from tenfold.network import Network
from tenfold.observations import Observations
from tenfold.structure import Structure

Data = Tensor | Observations


@dataclass(frozen=True)
class Progress:
    """Where a method stands after a sweep; what a callback is given.

    Attributes:
        error: relative Frobenius error (over what is observed) as the method knows it at this point.
        sweep: sweeps done, of at most ``max_sweeps``.
        network: makes the network as it is now, so that interrupted work is not lost.
    """

    error: float
    sweep: int
    max_sweeps: int
    network: Callable[[], Network]


@dataclass(frozen=True)
class Decomposition:
    """What a method returns.

    Attributes:
        network: the fitted network.
        error: its true relative Frobenius error (over what is observed, with the weights given).
        errors: the error after each sweep.
        stopped: why it ended: ``"exact"`` (no sweeps needed), ``"tol"``, ``"max_sweeps"``, ``"error"`` (small enough).
    """

    network: Network
    error: float
    errors: tuple[float, ...]
    stopped: str

    @property
    def sweeps(self) -> int:
        return len(self.errors)


Callback = Callable[[Progress], None]


class Method(Protocol):
    """The signature of this room.

    ``structure`` gives the topology and the ranks; a method that finds ranks (``finds_ranks``) takes them as the
    largest allowed and, given ``error``, returns the smallest it needs for that relative error. Other methods stop
    early at ``error``. ``init`` is where to start, ``seed`` fixes every random draw.
    """

    def __call__(
        self,
        data: Data,
        structure: Structure,
        *,
        error: float | None = None,
        init: Network | None = None,
        seed: int = 0,
        max_sweeps: int = ...,
        tol: float = ...,
        callback: Callback | None = None,
    ) -> Decomposition: ...


@dataclass(frozen=True)
class Entry:
    """A registered method: its name, function, the formats it is the choice for, and what it can do."""

    name: str
    function: Method
    formats: tuple[str, ...]
    observations: bool
    finds_ranks: bool
    summary: str


_entries: dict[str, Entry] = {}


def method(
    name: str, *, formats: tuple[str, ...] = (), observations: bool = False, finds_ranks: bool = False
) -> Callable[[Method], Method]:
    """Register a function as the method ``name``.

    Args:
        name: what users pass as ``method=``.
        formats: names of `tenfold.formats` for which this is the default on whole arrays.
        observations: whether it takes `Observations`.
        finds_ranks: whether, given an error, it returns the ranks needed for it.
    """

    def register(function: Method) -> Method:
        summary = (function.__doc__ or "").strip().splitlines()[0]
        _entries[name] = Entry(name, function, formats, observations, finds_ranks, summary)
        return function

    return register


def methods() -> Mapping[str, Entry]:
    """All methods by name: every public module of this room is imported once and registers its own."""
    _import_room()
    return MappingProxyType(dict(sorted(_entries.items())))


@cache
def _import_room() -> None:
    package = importlib.import_module("tenfold.decomposition")
    for module in pkgutil.iter_modules(package.__path__):
        if not module.name.startswith("_"):
            importlib.import_module(f"tenfold.decomposition.{module.name}")


def find(name: str) -> Entry:
    """The method called ``name``. Raises `TenfoldError` with the known names."""
    known = methods()
    if name not in known:
        raise TenfoldError(f"method '{name}' is not known; there are {', '.join(known)}")
    return known[name]


def choose(structure: Structure, data: Data) -> Entry:
    """The method made for the structure's format and this kind of data, else alternating least squares.

    A structure that uses a core twice goes to L-BFGS: its error is no quadratic in that core.
    """
    observed = isinstance(data, Observations)
    family = formats.name(structure)
    for entry in methods().values():
        if family in entry.formats and (entry.observations or not observed):
            return entry
    return find("lbfgs" if any(len(core.terms) > 1 for core in structure.cores) else "als")
