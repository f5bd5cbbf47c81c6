"""``tenfold fit``: a file in, a network and a page out."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING

import typer

from tenfold.cli._options import options_of
from tenfold.cli._output import check_places, tell
from tenfold.cli._waiting import waiting
from tenfold.errors import TenfoldError

if TYPE_CHECKING:
    pass


def register(app: typer.Typer) -> None:
    """Add the command ``fit``."""
    app.command("fit", short_help="Find the structure in an array.")(fit)


def fit(
    source: str = typer.Argument(..., help="A file, '-' for standard input, or sample:NAME (see 'tenfold formats')."),
    error: float | None = typer.Option(None, help="Relative error not to exceed, with few parameters. [default: 0.1]"),
    parameters: int | None = typer.Option(None, help="Number of parameters not to exceed, with a small error."),
    ratio: float | None = typer.Option(None, help="The same as a compression ratio: entries for each parameter."),
    structure: str | None = typer.Option(None, help="A pattern such as 'x a, a t b, b y -> x t y', or a format."),
    size: list[str] = typer.Option([], help="Size of an index of the pattern, as a=8; repeat for more."),
    ranks: str | None = typer.Option(None, help="Ranks of a format: one number, or as many as it has, as 8,8."),
    method: str | None = typer.Option(None, help="Method that fits the structure. [default: the one for its format]"),
    option: list[str] = typer.Option(
        [], help="What the method takes besides, as starts=3 (JSON or text); repeat for more."
    ),
    variable: str | None = typer.Option(None, help="Which array of a file with several."),
    value: str | None = typer.Option(None, help="Column of a table with the values."),
    modes: str | None = typer.Option(None, help="Columns of a table with the modes, as user,item,day."),
    rest: str | None = typer.Option(None, help="What cells that a table does not list are: unknown or zero."),
    duplicates: str | None = typer.Option(None, help="Rows of a table for one cell: sum, mean, max or error."),
    max_sweeps: int | None = typer.Option(None, help="Sweeps after which an iterative method stops."),
    tol: float | None = typer.Option(None, help="Relative change of the error below which it stops."),
    seed: int = typer.Option(0, help="Seed of every random draw."),
    dtype: str | None = typer.Option(None, help="Compute in float32, float64, complex64 or complex128."),
    memory: str | None = typer.Option(None, help="Memory to get by with, as '2 GB'. [default: half of what is free]"),
    checkpoint: str | None = typer.Option(None, help="Folder to go on from when interrupted (whole arrays)."),
    seconds: float | None = typer.Option(None, help="Search for better structures in what is left of this time."),
    output: str = typer.Option("fit.tn", "--output", "-o", help="Where the network goes; '-' for standard output."),
    report: str = typer.Option("report.html", help="Where the page goes; '' for no page."),
    plot: str = typer.Option("", help="Where a summary picture goes (.png, .svg, .pdf)."),
    as_json: bool = typer.Option(False, "--json", help="Print the result as JSON instead of a table."),
    quiet: bool = typer.Option(False, "--quiet", "-q", help="No progress bar and no table."),
) -> None:
    """Find the structure in an array and keep it as a small file and a page to look at.

    With --structure it is fitted. Without, common formats are tried and the best within the budget is kept; with
    --seconds, what is left of them is spent on a search for other structures.
    """
    check_places(source, output, report, plot)
    sizes = _sizes(size)

    columns = None if modes is None else [name.strip() for name in modes.split(",")]
    with waiting(f"reading {source}", quiet=quiet):
        from tenfold import io
        from tenfold.cli._output import write_all
        from tenfold.cli.app import Interrupted
        from tenfold.verbs.fit import fit as run

        dataset = io.read(source, variable=variable, value=value, modes=columns, rest=rest, duplicates=duplicates)
    try:
        result = run(
            dataset,
            structure,
            error=error,
            parameters=parameters,
            ratio=ratio,
            method=method,
            sizes=sizes or None,
            ranks=_ranks(ranks),
            max_sweeps=max_sweeps,
            tol=tol,
            seed=seed,
            dtype=dtype,
            source=source,
            source_dtype=dataset.dtype,
            memory=memory,
            checkpoint=checkpoint,
            seconds=seconds,
            progress=False if quiet else None,
            **options_of(option, list(inspect.signature(run).parameters), fit),
        )
    except KeyboardInterrupt:
        if checkpoint is None:
            raise
        raise Interrupted(f"the same command goes on from checkpoint '{checkpoint}'") from None
    kept = write_all(result, output, report, plot)
    tell(result, [output, report, plot], as_json=as_json, quiet=quiet)
    if result.interrupted:
        raise Interrupted(f"the best that was found so far is in {kept}")


def _sizes(given: list[str]) -> dict[str, int]:
    sizes: dict[str, int] = {}
    for item in given:
        for part in item.replace(",", " ").split():
            name, equals, number = part.partition("=")
            if not equals or not name or not number.isdecimal() or len(number) > 18 or int(number) < 1:
                raise TenfoldError(f"--size takes an index and a whole number, as a=8, not '{part}'")
            if name in sizes:
                raise TenfoldError(f"--size gives '{name}' twice")
            sizes[name] = int(number)
    return sizes


def _ranks(given: str | None) -> int | list[int] | None:
    if given is None:
        return None
    try:
        numbers = [int(word) for word in given.split(",")]
    except ValueError:
        raise TenfoldError(f"--ranks takes whole numbers separated by commas, not '{given}'") from None
    return numbers[0] if len(numbers) == 1 else numbers
