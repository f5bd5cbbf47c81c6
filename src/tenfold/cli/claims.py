"""``tenfold claims``: the papers' claims, measured."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterator
from contextlib import contextmanager

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
    from tenfold._tables import columns

    known = room.registry()
    unknown = [name for name in names or [] if name not in known]
    if unknown:
        near = difflib.get_close_matches(unknown[0], known, 1)
        hint = f"did you mean '{near[0]}'?" if near else f"there are {', '.join(known)}"
        raise TenfoldError(f"claim '{unknown[0]}' is not known; {hint}")
    chosen = {name: known[name] for name in (names or known)}
    if list_only:
        rows = [(name, claim.paper, claim.year, claim.stated) for name, claim in chosen.items()]
        say(columns(("claim", "paper", "year", "stated"), rows))
        return
    results = []
    for number, (name, claim) in enumerate(chosen.items(), start=1):
        with _watched(f"{name} ({number} of {len(chosen)})"):
            results.append(claim.measure())
        if not as_json:
            say(f"{results[-1]}" + ("\n" if number < len(chosen) else ""))
    if as_json:
        say(json.dumps([result.summary() for result in results]))
    failed = [result.name for result in results if not result.holds]
    if failed:
        raise TenfoldError(f"{len(failed)} of {len(results)} claims do not hold here: {', '.join(failed)}")


@contextmanager
def _watched(label: str) -> Iterator[None]:
    """Shows on a terminal what is being measured, and how far it is; some claims take minutes."""
    from rich.console import Console

    from tenfold.claims._progress import watched

    console = Console(stderr=True)
    if not console.is_terminal:
        yield
        return
    with (
        console.status(f"measuring {label}") as status,
        watched(lambda words: status.update(f"measuring {label}: {words}")),
    ):
        yield
