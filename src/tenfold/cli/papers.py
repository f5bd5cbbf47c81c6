"""``tenfold papers``: which method is from which paper."""

from __future__ import annotations

import typer

from tenfold.cli._output import say


def register(app: typer.Typer) -> None:
    """Add the command ``papers``."""
    app.command("papers", short_help="List methods and their papers.")(list_papers)


def list_papers() -> None:
    """List every method with its paper, its module and the claim that measures it."""
    from tenfold._tables import columns
    from tenfold.claims.papers import papers

    rows = [(p.method, f"{p.title}, {p.year}", p.module.removeprefix("tenfold."), p.claim or "-") for p in papers()]
    say(columns(("method", "paper", "module", "measured by"), rows))
