"""``tenfold ranks``: how many components an array has."""

from __future__ import annotations

import json
from pathlib import Path

import typer

from tenfold.cli._output import place_of, say
from tenfold.errors import TenfoldError

# Ranks of one run; a mistyped range would else work for days.
_MOST = 1000


def register(app: typer.Typer) -> None:
    """Add the command ``ranks``."""
    app.command("ranks", short_help="Say how many components an array has.")(ranks)


def ranks(
    source: str = typer.Argument(..., help="A file, '-' for standard input, or sample:NAME (see 'tenfold formats')."),
    which: str = typer.Option("1-8", "--ranks", help="Ranks to try, as 1-8 or 1,2,4."),
    criterion: str = typer.Option("stability", help="What chooses: stability, core_consistency, held_out or bic."),
    starts: int = typer.Option(5, help="Random starts for each rank."),
    method: str | None = typer.Option(None, help="Method that fits. [default: the one for CP]"),
    variable: str | None = typer.Option(None, help="Which array of a file with several."),
    value: str | None = typer.Option(None, help="Column of a table with the values."),
    modes: str | None = typer.Option(None, help="Columns of a table with the modes, as user,item,day."),
    rest: str | None = typer.Option(None, help="What cells that a table does not list are: unknown or zero."),
    seed: int = typer.Option(0, help="Seed of every random draw."),
    dtype: str | None = typer.Option(None, help="Compute in float32, float64, complex64 or complex128."),
    plot: str = typer.Option("", help="Where a picture of the criteria goes (.png, .svg, .pdf)."),
    as_json: bool = typer.Option(False, "--json", help="Print the result as JSON instead of a table."),
    quiet: bool = typer.Option(False, "--quiet", "-q", help="No progress bar."),
) -> None:
    """Fit CP decompositions of several ranks and say what four criteria make of each.

    Fits of a good rank find the same components from every start (stability), suit the data (core consistency),
    predict cells that they have not seen (held out), and need few parameters for their error (BIC).
    """
    tried = _ranks(which)
    if plot:
        if Path(plot).suffix.lower() not in (".png", ".svg", ".pdf"):
            raise TenfoldError(f"--plot '{plot}' is no picture; give a name that ends in .png, .svg or .pdf")
        place_of(plot)

    from tenfold import io
    from tenfold.cli._output import save_figure
    from tenfold.cli.app import Interrupted
    from tenfold.verbs.select_rank import select_rank

    columns = None if modes is None else [name.strip() for name in modes.split(",")]
    dataset = io.read(source, variable=variable, value=value, modes=columns, rest=rest)
    table = select_rank(
        dataset,
        tried,
        criterion,
        starts=starts,
        seed=seed,
        method=method,
        dtype=dtype,
        progress=False if quiet else None,
    )
    say(json.dumps(table.summary()) if as_json else str(table))
    if plot:
        save_figure(table.plot(), plot)
    if table.interrupted:
        raise Interrupted(f"the ranks up to {table.rows[-1].rank} are above")


def _ranks(given: str) -> list[int]:
    found: list[int] = []
    for part in given.split(","):
        first, dash, last = part.strip().partition("-")
        if not first.isdecimal() or (dash and not last.isdecimal()) or len(first) > 9 or len(last) > 9:
            raise TenfoldError(f"--ranks takes whole numbers, as 1-8 or 1,2,4, not '{given}'")
        span = range(int(first), int(last if dash else first) + 1)
        if not span or span[0] < 1 or len(span) + len(found) > _MOST:
            raise TenfoldError(f"--ranks takes at most {_MOST} numbers of at least 1, ascending, not '{given}'")
        found.extend(span)
    return found
