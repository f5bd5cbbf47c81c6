"""Tables in plain text."""

from __future__ import annotations

import io
import shutil
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.table import Table

# Columns of text: as many as the terminal has, within these; the most where there is none.
_LEAST, _MOST = 60, 120


def columns(header: Sequence[str], rows: Iterable[Sequence[object]], *, right: Sequence[int] = ()) -> str:
    """Rows under a header as plain text; the columns numbered in ``right``, numbers, are aligned to the right.

    On a narrow terminal the other columns are folded, and numbers never are.
    """
    from rich.table import Table
    from rich.text import Text

    grid = Table(box=None, pad_edge=False, show_edge=False)
    for number, name in enumerate(header):
        if number in right:
            grid.add_column(name, justify="right", no_wrap=True, min_width=len(name))
        else:
            grid.add_column(name, overflow="fold")
    for row in rows:
        grid.add_row(*(Text(str(item)) for item in row))
    return _printed(grid, _MOST)


def facts(rows: Iterable[tuple[str, str]]) -> str:
    """Names, aligned to the right, and beside each what it is, as plain text."""
    from rich.table import Table
    from rich.text import Text

    grid = Table(box=None, show_header=False, pad_edge=False)
    grid.add_column(justify="right", no_wrap=True)
    grid.add_column(overflow="fold")
    for name, value in rows:
        grid.add_row(name, Text(value))
    return _printed(grid, 100)


def _printed(grid: Table, most: int) -> str:
    from rich.console import Console

    out = io.StringIO()
    width = min(most, max(_LEAST, shutil.get_terminal_size((most, 24)).columns))
    Console(file=out, width=width, color_system=None).print(grid)
    return "\n".join(line.rstrip() for line in out.getvalue().splitlines())
