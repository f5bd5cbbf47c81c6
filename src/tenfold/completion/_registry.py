"""What every method of this room is, and how one is found by its name.

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

from tenfold._arguments import closest
from tenfold.completion.model import Model, State
from tenfold.completion.task import Task
from tenfold.errors import TenfoldError


@dataclass(frozen=True)
class Step:
    """Where a fit stands; what a callback is given.

    Attributes:
        epoch: epochs done, of at most ``epochs``.
        error: as in ``Model.errors``.
        state: makes the `State` from which the same method goes on, and which ``restore`` makes a model of.
    """

    epoch: int
    epochs: int
    error: float
    state: Callable[[], State]


Callback = Callable[[Step], None]


class Method(Protocol):
    """The signature of this room.

    ``rank`` is the number of components (of each mode, where a method has a core), None where the method has no rank or
    finds it; ``seed`` fixes every random draw; ``resume`` is a state that a callback was given, of the same task and
    arguments: the fit ends as if it had never been interrupted.
    """

    def __call__(
        self,
        task: Task,
        *,
        rank: int | None = ...,
        seed: int = 0,
        epochs: int = ...,
        tol: float = ...,
        callback: Callback | None = None,
        resume: State | None = None,
    ) -> Model: ...


@dataclass(frozen=True)
class Entry:
    """A registered method.

    Attributes:
        name: what users pass as ``model=``.
        function: the method itself.
        restore: makes the model of a state.
        continuous: whether modes may be continuous.
        counts: whether the values are counts, which come as they are.
        attributes: whether it makes use of attributes.
        orders: the numbers of modes that it takes, None for any.
        ranks: whether it has a rank.
        ladder: the ranks that are tried when none is given; None stands for the method's own choice.
        automatic: the most observations with which it is compared when no model is named; None for any number.
        summary: the first line of its docstring.
    """

    name: str
    function: Method
    restore: Callable[[State], Model]
    continuous: bool
    counts: bool
    attributes: bool
    orders: tuple[int, ...] | None
    ranks: bool
    ladder: tuple[int | None, ...]
    automatic: int | None
    summary: str

    @property
    def options(self) -> tuple[str, ...]:
        """The names of the arguments that this method has beyond those of `Method`."""
        given = inspect.signature(self.function).parameters
        return tuple(name for name in given if name not in _SIGNATURE)


_SIGNATURE = tuple(name for name in inspect.signature(Method.__call__).parameters if name != "self")
_entries: dict[str, Entry] = {}
_Function = TypeVar("_Function", bound=Callable[..., Model])


def method(
    name: str,
    *,
    restore: Callable[[State], Model],
    continuous: bool = False,
    counts: bool = False,
    attributes: bool = False,
    orders: tuple[int, ...] | None = None,
    ranks: bool = True,
    ladder: tuple[int | None, ...] = (1, 2, 3, 5, 8, 12, 16),
    automatic: int | None = None,
) -> Callable[[_Function], _Function]:
    """Register a function as the method ``name``; arguments as of `Entry`.

    Raises:
        TypeError: the function lacks an argument of the signature, or has one more without a default.
    """

    def register(function: _Function) -> _Function:
        given = inspect.signature(function).parameters
        lacking = [argument for argument in _SIGNATURE if argument not in given]
        if lacking:
            raise TypeError(f"method '{name}' lacks the argument '{lacking[0]}'; see tenfold.completion.Method")
        for argument in given.values():
            own = argument.name not in _SIGNATURE
            if own and (argument.default is argument.empty or argument.kind is not argument.KEYWORD_ONLY):
                raise TypeError(f"argument '{argument.name}' of method '{name}' must be keyword-only with a default")
        summary = (function.__doc__ or "").strip().splitlines()[0]
        _entries[name] = Entry(
            name, function, restore, continuous, counts, attributes, orders, ranks, ladder, automatic, summary
        )
        return function

    return register


def methods() -> Mapping[str, Entry]:
    """All methods by name: every public module of this room is imported once and registers its own."""
    _import_room()
    return MappingProxyType(dict(sorted(_entries.items())))


@cache
def _import_room() -> None:
    package = importlib.import_module("tenfold.completion")
    for module in pkgutil.iter_modules(package.__path__):
        if not module.name.startswith("_"):
            importlib.import_module(f"tenfold.completion.{module.name}")


@cache
def _import_own(name: str) -> None:
    """Import the module called as a method is, if there is one: a known method does not need all others."""
    package = importlib.import_module("tenfold.completion")
    if any(module.name == name for module in pkgutil.iter_modules(package.__path__)):
        importlib.import_module(f"tenfold.completion.{name}")


def find(name: str) -> Entry:
    """The method called ``name``. Raises `TenfoldError` with the known names."""
    _import_own(name)
    if name in _entries:
        return _entries[name]
    known = methods()
    if name not in known:
        raise TenfoldError(f"model '{name}' is not known{closest(name, known)}; there are {', '.join(known)}")
    return known[name]
