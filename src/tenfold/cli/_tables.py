"""Tables that the commands print."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tenfold._tables import columns

if TYPE_CHECKING:
    from tenfold.verbs.result import Fit


def trials(fit: Fit) -> str:
    """Everything that a fit tried, smallest first."""
    rows = [
        ("*" if t.chosen else "", t.name, f"{t.parameters:,}", f"{t.error:.5f}", f"{t.seconds:.2f}", t.method)
        for t in sorted(fit.front, key=lambda t: t.parameters)
    ]
    return columns(("", "tried", "parameters", "error", "seconds", "method"), rows, right=(2, 3, 4))
