"""Which method is from which paper."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from importlib.resources import files


@dataclass(frozen=True)
class Paper:
    """A method or a format of this library and the paper it comes from.

    Attributes:
        method: its name here.
        title: of the paper.
        year: when the paper appeared.
        authors: family names, as on the paper.
        module: the module of this library that has the method.
        claim: the claim that measures it; empty if there is none.
    """

    method: str
    title: str
    year: int
    authors: str
    module: str
    claim: str = ""

    @property
    def status(self) -> str:
        """``"measured"`` where a claim measures it, else ``"implemented"``."""
        return "measured" if self.claim else "implemented"


def papers() -> tuple[Paper, ...]:
    """All of them, in the order of ``papers.toml``."""
    text = (files("tenfold") / "papers.toml").read_text(encoding="utf-8")
    return tuple(Paper(**entry) for entry in tomllib.loads(text)["paper"])
