"""Tables in plain text."""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence


def columns(header: Sequence[str], rows: Iterable[Sequence[object]], *, right: Sequence[int] = ()) -> str:
    """Rows under a header as plain text; the columns numbered in ``right`` are aligned to the right."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    grid = Table(box=None, pad_edge=False, show_edge=False)
    for number, name in enumerate(header):
        grid.add_column(name, justify="right" if number in right else "left", overflow="fold")
    for row in rows:
        grid.add_row(*(Text(str(item)) for item in row))
    out = io.StringIO()
    Console(file=out, width=120, color_system=None).print(grid)
    return "\n".join(line.rstrip() for line in out.getvalue().splitlines())
