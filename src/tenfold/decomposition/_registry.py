"""What every method of this room is, and how one is found: by name, or as the one made for a structure's format.

A method is a function in a file of its own, marked with `method`. Nothing else has to change when one is added.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from types import MappingProxyType
from typing import Protocol, TypeVar

from torch import Tensor

from tenfold import formats
from tenfold._arguments import closest
from tenfold._blocks import Blocks
from tenfold.errors import TenfoldError
from tenfold.network import Network
from tenfold.observations import Observations
from tenfold.structure import Structure

# What is in memory, and what most methods take.
Data = Tensor | Observations


@dataclass(frozen=True)
class Progress:
    """Where a method stands after a sweep; what a callback is given.

    Attributes:
        error: relative Frobenius error (over what is observed) as the method knows it at this point.
        sweep: sweeps done, of at most ``max_sweeps``; 0 while a method is still trying where to start.
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
        deviance: the Poisson deviance, of methods that minimise that.
    """

    network: Network
    error: float
    errors: tuple[float, ...]
    stopped: str
    deviance: float | None = None

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
        data: Data | Blocks,
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
    """A registered method.

    Attributes:
        name: what users pass as ``method=``.
        function: the method itself.
        formats: names of `tenfold.formats` that it is the choice for, for the data it takes.
        takes: the kinds of data (`KINDS`) it takes.
        finds_ranks: whether, given an error, it returns the ranks needed for it.
        summary: the first line of its docstring.
        scales: whether it takes data of any scale and knows best which core that scale goes to.
        nonnegative: whether it can keep the cores from going below zero.
    """

    name: str
    function: Method
    formats: tuple[str, ...]
    takes: tuple[str, ...]
    finds_ranks: bool
    summary: str
    scales: bool = False
    nonnegative: bool = False

    @property
    def options(self) -> tuple[str, ...]:
        """The names of the arguments that this method has beyond those of `Method`."""
        given = inspect.signature(self.function).parameters
        return tuple(name for name in given if name not in _SIGNATURE)


# What a method can be given: whole arrays, observations whose other cells are zero, observations whose other cells are
# unknown, arrays that are read block by block.
KINDS = ("array", "sparse", "missing", "blocks")

_SIGNATURE = tuple(inspect.signature(Method.__call__).parameters)
_entries: dict[str, Entry] = {}
_Function = TypeVar("_Function", bound=Callable[..., Decomposition])


def method(
    name: str,
    *,
    formats: tuple[str, ...] = (),
    takes: tuple[str, ...] = ("array",),
    finds_ranks: bool = False,
    scales: bool = False,
    nonnegative: bool = False,
) -> Callable[[_Function], _Function]:
    """Register a function as the method ``name``.

    Args:
        name: what users pass as ``method=``.
        formats: names of `tenfold.formats` for which this is the default on the data it takes.
        takes: the kinds of data it takes, of ``KINDS``.
        finds_ranks: whether, given an error, it returns the ranks needed for it.
        scales: whether it takes data of any scale; the data of others are brought into range before.
        nonnegative: whether it can keep the cores from going below zero.

    Raises:
        TypeError: the function lacks an argument of the signature, has one more without a default, or takes no kind of
            data that there is.
    """
    unknown = [kind for kind in takes if kind not in KINDS]
    if unknown or not takes:
        raise TypeError(f"method '{name}' takes {unknown or 'nothing'}; the kinds of data are {', '.join(KINDS)}")

    def register(function: _Function) -> _Function:
        given = inspect.signature(function).parameters
        lacking = [argument for argument in _SIGNATURE[1:] if argument not in given]
        if lacking:
            raise TypeError(f"method '{name}' lacks the argument '{lacking[0]}'; see tenfold.decomposition.Method")
        own = [argument for argument in given.values() if argument.name not in _SIGNATURE]
        for argument in own:
            if argument.default is argument.empty or argument.kind is not argument.KEYWORD_ONLY:
                raise TypeError(f"argument '{argument.name}' of method '{name}' must be keyword-only with a default")
        summary = (function.__doc__ or "").strip().splitlines()[0]
        _entries[name] = Entry(name, function, formats, takes, finds_ranks, summary, scales, nonnegative)
        return function

    return register


def kind_of(data: Data | Blocks) -> str:
    """Which of ``KINDS`` some data is."""
    if isinstance(data, Observations):
        return "sparse" if data.rest == "zero" else "missing"
    return "blocks" if isinstance(data, Blocks) else "array"


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
        raise TenfoldError(f"method '{name}' is not known{closest(name, known)}; there are {', '.join(known)}")
    return known[name]


def choose(structure: Structure, data: Data | Blocks) -> Entry:
    """The method made for the structure's format and this kind of data, else alternating least squares, regularised
    where cells are missing.

    A structure that uses a core twice goes to L-BFGS: its error is no quadratic in that core.
    """
    kind = kind_of(data)
    family = formats.name(structure)
    for entry in methods().values():
        if family in entry.formats and kind in entry.takes:
            return entry
    if kind == "blocks":
        return find("streamed_svd")
    if any(len(core.terms) > 1 for core in structure.cores):
        return find("lbfgs")
    return find("als_observed" if kind == "missing" else "als")
