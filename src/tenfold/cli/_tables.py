"""Tables that the commands print."""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from tenfold.verbs.result import Fit


def columns(header: Sequence[str], rows: Iterable[Sequence[object]], *, right: Sequence[int] = ()) -> str:
    """Rows under a header as plain text; the columns numbered in ``right`` are aligned to the right."""
    grid = Table(box=None, pad_edge=False, show_edge=False)
    for number, name in enumerate(header):
        grid.add_column(name, justify="right" if number in right else "left", overflow="fold")
    for row in rows:
        grid.add_row(*(Text(str(item)) for item in row))
    out = io.StringIO()
    Console(file=out, width=120, color_system=None).print(grid)
    return "\n".join(line.rstrip() for line in out.getvalue().splitlines())


def trials(fit: Fit) -> str:
    """Everything that a fit tried, smallest first."""
    rows = [
        ("*" if t.chosen else "", t.name, f"{t.parameters:,}", f"{t.error:.5f}", f"{t.seconds:.2f}", t.method)
        for t in sorted(fit.front, key=lambda t: t.parameters)
    ]
    return columns(("", "tried", "parameters", "error", "seconds", "method"), rows, right=(2, 3, 4))
