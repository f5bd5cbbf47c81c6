"""What a claim is, and how one is found: every public module of this room is imported once and registers its own."""

from __future__ import annotations

import importlib
import pkgutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from types import MappingProxyType
from typing import Any, Protocol

Number = float | int | str | bool | None


@dataclass(frozen=True)
class Measurement:
    """What a claim's function returns.

    Attributes:
        holds: whether everything measured keeps to the bound that the function's docstring states.
        text: what was measured, in a few lines, with its numbers.
        numbers: the same numbers by name, for JSON.
    """

    holds: bool
    text: str
    numbers: Mapping[str, Number]


class Measure(Protocol):
    """A claim's function: measures, and returns the numbers with the verdict; ``seed`` fixes every random draw."""

    def __call__(self, *, seed: int = 0) -> Measurement: ...


@dataclass(frozen=True)
class Result:
    """A claim and what was measured of it here; prints as a few lines."""

    name: str
    paper: str
    year: int
    where: str
    stated: str
    measured: str
    holds: bool
    numbers: Mapping[str, Number]
    seconds: float

    @property
    def verdict(self) -> str:
        return "holds" if self.holds else "does not hold"

    def summary(self) -> dict[str, Any]:
        """The same as plain values for JSON."""
        return {
            "name": self.name,
            "paper": self.paper,
            "year": self.year,
            "where": self.where,
            "stated": self.stated,
            "measured": self.measured,
            "holds": self.holds,
            "numbers": dict(self.numbers),
            "seconds": round(self.seconds, 3),
        }

    def __str__(self) -> str:
        measured = self.measured.replace("\n", "\n            ")
        return (
            f"{self.name}: {self.verdict}  ({self.seconds:.1f} s)\n"
            f"  paper     {self.paper}, {self.year} ({self.where})\n"
            f"  stated    {self.stated}\n"
            f"  measured  {measured}"
        )


@dataclass(frozen=True)
class Claim:
    """A sentence of a paper that can be measured.

    Attributes:
        name: what ``tenfold claims NAME`` takes.
        paper: its title.
        where: the place in the paper: a theorem, an equation, a section.
        stated: the sentence in our words.
        function: what measures it.
    """

    name: str
    paper: str
    year: int
    where: str
    stated: str
    function: Measure

    def measure(self, *, seed: int = 0) -> Result:
        """Measure it on this machine."""
        started = time.perf_counter()
        found = self.function(seed=seed)
        seconds = time.perf_counter() - started
        return Result(
            self.name,
            self.paper,
            self.year,
            self.where,
            self.stated,
            found.text,
            found.holds,
            MappingProxyType(dict(found.numbers)),
            seconds,
        )


_claims: dict[str, Claim] = {}


def claim(name: str, *, paper: str, year: int, where: str, stated: str) -> Callable[[Measure], Measure]:
    """Register a function as the measurement of a claim.

    Args:
        name: what the claim is called here; no other may have it.
        paper: the title of the paper that states it.
        year: when the paper appeared.
        where: a theorem, an equation, a section of it.
        stated: one sentence, in own words.

    Raises:
        ValueError: the name belongs to another claim.
    """

    def register(function: Measure) -> Measure:
        known = _claims.get(name)
        if known is not None and getattr(known.function, "__module__", None) != getattr(function, "__module__", None):
            raise ValueError(f"claim '{name}' is registered already, by {known.function}")
        _claims[name] = Claim(name, paper, year, where, stated, function)
        return function

    return register


def registry() -> Mapping[str, Claim]:
    """All claims by name."""
    _import_room()
    return MappingProxyType(dict(sorted(_claims.items())))


@cache
def _import_room() -> None:
    package = importlib.import_module("tenfold.claims")
    for module in pkgutil.iter_modules(package.__path__):
        if not module.name.startswith("_"):
            importlib.import_module(f"tenfold.claims.{module.name}")
