"""What every searcher is, and how one is found by its name.

A searcher is a function in a file of its own, marked with `searcher`. It asks a `Session` for evaluations until it has
nothing more to ask; the session ends it by raising `Spent` when its budget is used up, or when it has asked for nothing
new for long. It returns nothing: what was found is what the session saw.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any, Protocol, TypeVar

from tenfold._arguments import quoted
from tenfold.errors import TenfoldError
from tenfold.structure_search.session import Session
from tenfold.structure_search.spaces import Space


class Searcher(Protocol):
    """The signature of a searcher: it may have more keyword arguments, each with a default."""

    def __call__(self, session: Session, space: Space, *, seed: int = 0, **options: Any) -> None: ...


@dataclass(frozen=True)
class SearcherEntry:
    """A registered searcher.

    Attributes:
        name: what users pass as ``method=``.
        function: the searcher.
        spaces: the spaces it can search.
        summary: the first line of its docstring.
    """

    name: str
    function: Searcher
    spaces: tuple[type[Space], ...]
    summary: str

    @property
    def options(self) -> tuple[str, ...]:
        """The names of the arguments that it has beyond the session, the space and the seed."""
        return tuple(inspect.signature(self.function).parameters)[3:]


_known: dict[str, SearcherEntry] = {}
_Function = TypeVar("_Function", bound=Callable[..., None])


def searcher(name: str, *, spaces: tuple[type[Space], ...] = (Space,)) -> Callable[[_Function], _Function]:
    """Register a searcher under its name, with the spaces it can search."""

    def register(function: _Function) -> _Function:
        first = list(inspect.signature(function).parameters)[:3]
        if first != ["session", "space", "seed"]:
            raise TypeError(f"searcher '{name}' must begin with session, space, seed, not {', '.join(first)}")
        summary = (inspect.getdoc(function) or "").partition("\n")[0]
        _known[name] = SearcherEntry(name, function, spaces, summary)
        return function

    return register


def searchers() -> dict[str, SearcherEntry]:
    """All searchers by name."""
    _loaded()
    return dict(sorted(_known.items()))


def find_searcher(name: str) -> SearcherEntry:
    """The searcher of a name; raises `TenfoldError` where there is none."""
    found = searchers()
    if not isinstance(name, str) or name not in found:
        raise TenfoldError(f"searcher {quoted(name)} is not known; there are {', '.join(found)}")
    return found[name]


@cache
def _loaded() -> None:
    import tenfold.structure_search as room

    for module in pkgutil.iter_modules(room.__path__):
        if not module.name.startswith("_"):
            importlib.import_module(f"{room.__name__}.{module.name}")
