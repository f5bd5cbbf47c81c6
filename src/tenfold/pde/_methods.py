"""The solvers by name."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tenfold._arguments import closest, quoted
from tenfold.errors import TenfoldError
from tenfold.pde.collocation import collocation
from tenfold.pde.gp_hm import gp_hm
from tenfold.pde.outcome import Outcome

# What a verb gives by itself.
_OWN = ("callback", "keep", "resume")


@dataclass(frozen=True)
class Entry:
    """A solver.

    Attributes:
        name: by which it is chosen.
        function: it takes a `Problem`, ``callback`` and its options, and returns an `Outcome`.
        resumes: whether it also takes ``keep`` and ``resume``.
    """

    name: str
    function: Callable[..., Outcome]
    resumes: bool

    @property
    def options(self) -> tuple[str, ...]:
        """What it takes besides."""
        found: dict[str, Any] = dict(inspect.signature(self.function).parameters)
        return tuple(name for name in found if name != "problem" and name not in _OWN)


_ENTRIES = (Entry("collocation", collocation, False), Entry("adam", gp_hm, True))


def methods() -> tuple[str, ...]:
    """The names of all solvers, that which is taken by default first."""
    return tuple(entry.name for entry in _ENTRIES)


def find(name: str) -> Entry:
    """The solver of that name.

    Raises:
        TenfoldError: there is none.
    """
    for entry in _ENTRIES:
        if entry.name == name:
            return entry
    near = closest(name, methods()) if isinstance(name, str) else ""
    raise TenfoldError(f"there is no method {quoted(name)}{near} to solve with; there are {', '.join(methods())}")
