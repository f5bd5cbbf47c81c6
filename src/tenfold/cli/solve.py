"""``tenfold solve``: an equation in, its solution and a page out."""

from __future__ import annotations

import inspect

import typer

from tenfold.cli._options import options_of
from tenfold.cli._output import check_places, tell
from tenfold.cli._waiting import waiting
from tenfold.errors import TenfoldError


def register(app: typer.Typer) -> None:
    """Add the command ``solve``."""
    app.command("solve", short_help="Solve a partial differential equation.")(solve)


def solve(
    problem: str = typer.Argument(..., help="A YAML file, or sample:NAME ('sample:' alone names them all)."),
    method: str = typer.Option("collocation", help="collocation, or adam, the descent of the paper."),
    grid: str | None = typer.Option(
        None, help="Points along each coordinate, as 400 or 400,200. [default: the file's]"
    ),
    option: list[str] = typer.Option([], help="What the method takes besides, as steps=1000; repeat for more."),
    checkpoint: str | None = typer.Option(None, help="File from which adam goes on when interrupted or killed."),
    output: str = typer.Option("solution.npz", "--output", "-o", help="Where it goes; '-' for standard output."),
    report: str = typer.Option("solution.html", help="Where the page goes; '' for no page."),
    plot: str = typer.Option("", help="Where a picture goes (.png, .svg, .pdf)."),
    as_json: bool = typer.Option(False, "--json", help="Print the result as JSON instead of a table."),
    quiet: bool = typer.Option(False, "--quiet", "-q", help="No progress bar and no table."),
) -> None:
    """Solve a partial differential equation along one or two coordinates, also where the solution turns fast.

    The file names the domain, the equation and the boundary values:

        domain: {x: [0, 2*pi]}
        equation: u_xx = -10000*sin(100*x)
        boundary: 0
        grid: 400
    """
    check_places(problem, output, report, plot)
    points = _points(grid)
    with waiting(f"reading {problem}", quiet=quiet):
        from tenfold.cli._output import write_all
        from tenfold.cli.app import Interrupted
        from tenfold.verbs.solve import solve as run
    try:
        result = run(
            problem,
            method=method,
            grid=points,
            checkpoint=checkpoint,
            progress=False if quiet else None,
            **options_of(option, list(inspect.signature(run).parameters), solve),
        )
    except KeyboardInterrupt:
        if checkpoint is None:
            raise
        raise Interrupted(f"the same command goes on from checkpoint '{checkpoint}'") from None
    kept = write_all(result, output, report, plot)
    tell(result, [output, report, plot], as_json=as_json, quiet=quiet)
    if result.interrupted:
        on = "" if checkpoint is None else f"; the same command goes on from '{checkpoint}'"
        raise Interrupted(f"what there was until then is in {kept}{on}")


def _points(given: str | None) -> list[int] | None:
    if given is None:
        return None
    try:
        return [int(word) for word in given.split(",")]
    except ValueError:
        raise TenfoldError(f"--grid takes whole numbers separated by commas, not '{given}'") from None
