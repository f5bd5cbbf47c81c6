"""``tenfold claims``: the papers' claims, measured."""

from __future__ import annotations

import json

import typer

from tenfold.cli._output import say
from tenfold.errors import TenfoldError


def register(app: typer.Typer) -> None:
    """Add the command ``claims``."""
    app.command("claims", short_help="Measure what papers claim.")(claims)


def claims(
    names: list[str] = typer.Argument(None, help="Which; all when none is named."),
    list_only: bool = typer.Option(False, "--list", help="List them, measure nothing."),
    as_json: bool = typer.Option(False, "--json", help="Print JSON."),
) -> None:
    """Measure papers' claims on this machine: what is stated, what is measured, whether it holds."""
    from tenfold import claims as room
    from tenfold.cli._tables import columns

    known = room.registry()
    unknown = [name for name in names or [] if name not in known]
    if unknown:
        raise TenfoldError(f"claim '{unknown[0]}' is not known; there are {', '.join(known)}")
    chosen = {name: known[name] for name in (names or known)}
    if list_only:
        rows = [(name, claim.paper, claim.year, claim.stated) for name, claim in chosen.items()]
        say(columns(("claim", "paper", "year", "stated"), rows))
        return
    results = [claim.measure() for claim in chosen.values()]
    if as_json:
        say(json.dumps([result.summary() for result in results]))
    else:
        say("\n\n".join(str(result) for result in results))
    failed = [result.name for result in results if not result.holds]
    if failed:
        raise TenfoldError(f"{len(failed)} of {len(results)} claims do not hold here: {', '.join(failed)}")
