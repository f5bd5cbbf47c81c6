"""``tenfold show``: what is in a file."""

from __future__ import annotations

import json

import typer

from tenfold.cli._output import place_of, say
from tenfold.cli._source import load_from


def register(app: typer.Typer) -> None:
    """Add the command ``show``."""
    app.command("show", short_help="Print what a .tn file holds.")(show)


def show(
    file: str = typer.Argument(..., help="A file that tenfold wrote, or '-' for standard input."),
    front: bool = typer.Option(False, "--front", help="List everything that was tried."),
    cost: bool = typer.Option(False, "--cost", help="Show what making the whole array costs, step by step."),
    report: str = typer.Option("", help="Write the page again; without the data it has no pictures of it."),
    as_json: bool = typer.Option(False, "--json", help="Print JSON."),
) -> None:
    """Print what a .tn file holds: the network, how well it fits, what was tried."""
    from tenfold.cli._tables import trials
    from tenfold.errors import TenfoldError
    from tenfold.network import Network
    from tenfold.report import text
    from tenfold.verbs.posterior import Posterior
    from tenfold.verbs.result import Fit

    if report:
        place_of(report)
    loaded = load_from(file)
    if not isinstance(loaded, Fit | Network | Posterior):
        if front or cost or report:
            raise TenfoldError(f"'{file}' holds a compressed model; leave --front, --cost and --report out")
        say(json.dumps(loaded.summary()) if as_json else str(loaded))
        return
    if isinstance(loaded, Posterior):
        if front or cost:
            raise TenfoldError(
                f"'{file}' holds a posterior: it has no front and no contraction; leave these options out"
            )
        say(json.dumps(loaded.summary()) if as_json else str(loaded))
        if report:
            loaded.report(report, saved=None if file == "-" else file)
        return
    network = loaded if isinstance(loaded, Network) else loaded.network
    if isinstance(loaded, Network):
        if report or front:
            raise TenfoldError(f"'{file}' holds a network without the record of a fit: it has no front and no page")
        if as_json:
            say(json.dumps({"structure": json.loads(network.structure.to_json()), "shape": network.shape}))
            return
        say(repr(network))
    elif as_json:
        say(json.dumps(loaded.summary()))
        return
    else:
        say(str(loaded))
        if report:
            loaded.report(report, saved=None if file == "-" else file)
    say(f"\n{text(network.structure)}")
    if front and not isinstance(loaded, Network):
        say(f"\n{trials(loaded)}")
    if cost:
        say(f"\n{network.structure.cost()}")
