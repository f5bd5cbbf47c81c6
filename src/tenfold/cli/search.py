"""``tenfold search``: a file in, the structure that suits it and a page out."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING

import typer

from tenfold.cli._options import options_of
from tenfold.cli._output import check_places, tell
from tenfold.cli._waiting import waiting
from tenfold.errors import TenfoldError

if TYPE_CHECKING:
    from tenfold.verbs._spaces import Fold


def register(app: typer.Typer) -> None:
    """Add the command ``search``."""
    app.command("search", short_help="Search for the network structure that suits an array best.")(search)


def search(
    source: str = typer.Argument(..., help="A file, '-' for standard input, or sample:NAME (see 'tenfold formats')."),
    error: float | None = typer.Option(None, help="Relative error not to exceed, with few parameters. [default: 0.1]"),
    parameters: int | None = typer.Option(None, help="Number of parameters not to exceed, with a small error."),
    ratio: float | None = typer.Option(None, help="The same as a compression ratio: entries for each parameter."),
    weight: float | None = typer.Option(None, help="Minimise parameters / entries + weight * error^2, as papers do."),
    space: str = typer.Option(
        "any",
        help="What to look among: ring, chain, tree, tucker, fully_connected, any_graph, or any, "
        "which tries common formats first.",
    ),
    max_rank: int | None = typer.Option(None, help="The largest size of a bond. [default: 8, or what it takes]"),
    fixed_order: bool = typer.Option(False, "--fixed-order", help="Leave the modes in the order of the axes."),
    fold: str | None = typer.Option(
        None, help="Cut axes into modes: 'no', the longest one, or pieces as 8x8,4x16,3. [default: matrices, long axes]"
    ),
    max_degree: int | None = typer.Option(None, help="The most bonds of a core in any_graph. [default: 3]"),
    method: str | None = typer.Option(
        None,
        help="The searcher: bound_guided, tnale, tnls, greedy, tnga, map_elites, sparse_edges or random_search. "
        "[default: bound_guided, or greedy where cells are missing]",
    ),
    option: list[str] = typer.Option(
        [], help="What the searcher takes besides, as radius=2 (JSON or text); repeat for more."
    ),
    evaluations: int | None = typer.Option(
        None, help="How many structures the searcher may ask for; those seen before count too."
    ),
    seconds: float | None = typer.Option(None, help="How long it may take. [default: 60, without --evaluations]"),
    workers: int = typer.Option(1, help="Processes that fit side by side; the result does not depend on how many."),
    journal: str | None = typer.Option(None, help="Folder to keep the search in; the same command goes on from there."),
    variable: str | None = typer.Option(None, help="Which array of a file with several."),
    value: str | None = typer.Option(None, help="Column of a table with the values."),
    modes: str | None = typer.Option(None, help="Columns of a table with the modes, as user,item,day."),
    rest: str | None = typer.Option(None, help="What cells that a table does not list are: unknown or zero."),
    duplicates: str | None = typer.Option(None, help="Rows of a table for one cell: sum, mean, max or error."),
    seed: int = typer.Option(0, help="Seed of every random draw."),
    guard: bool = typer.Option(
        False, "--guard", help="Cells missing: show the searcher held-out errors seldom and with noise."
    ),
    dtype: str | None = typer.Option(None, help="Compute in float32, float64, complex64 or complex128."),
    output: str = typer.Option("found.tn", "--output", "-o", help="Where the network goes; '-' for standard output."),
    report: str = typer.Option("search.html", help="Where the page goes; '' for no page."),
    plot: str = typer.Option("", help="Where a summary picture goes (.png, .svg, .pdf)."),
    as_json: bool = typer.Option(False, "--json", help="Print the result as JSON instead of a table."),
    quiet: bool = typer.Option(False, "--quiet", "-q", help="No progress line and no table."),
) -> None:
    """Search for the network structure that suits an array best: its topology, its ranks, the order of its modes.

    Structures of a space are fitted until the evaluations or the seconds are used up, and the best is kept.
    """
    check_places(source, output, report, plot)
    pieces = _fold(fold)

    columns = None if modes is None else [name.strip() for name in modes.split(",")]
    with waiting(f"reading {source}", quiet=quiet):
        from tenfold import io
        from tenfold.cli._output import write_all
        from tenfold.cli.app import Interrupted
        from tenfold.verbs.search import search as run

        dataset = io.read(source, variable=variable, value=value, modes=columns, rest=rest, duplicates=duplicates)
    try:
        result = run(
            dataset,
            error=error,
            parameters=parameters,
            ratio=ratio,
            weight=weight,
            space=space,
            max_rank=max_rank,
            fixed_order=True if fixed_order else None,
            fold=pieces,
            max_degree=max_degree,
            method=method,
            evaluations=evaluations,
            seconds=seconds,
            workers=workers,
            resume=journal,
            seed=seed,
            guard=guard,
            dtype=dtype,
            source=source,
            source_dtype=dataset.dtype,
            progress=False if quiet else None,
            **options_of(option, list(inspect.signature(run).parameters), search),
        )
    except KeyboardInterrupt:
        if journal is None:
            raise
        raise Interrupted(f"the same command goes on from '{journal}'") from None
    kept = write_all(result, output, report, plot)
    tell(result, [output, report, plot], as_json=as_json, quiet=quiet)
    if result.interrupted:
        on = "" if journal is None else f"; the same command goes on from '{journal}'"
        raise Interrupted(f"the best that was found so far is in {kept}{on}")


def _fold(given: str | None) -> Fold | None:
    """What is said of folding, as `tenfold.search` takes it."""
    if given is None:
        return None
    if given == "no":
        return False
    try:
        if "," in given or "x" in given:
            return [[int(piece) for piece in axis.split("x")] for axis in given.split(",")]
        return int(given)
    except ValueError:
        raise TenfoldError(
            f"--fold takes 'no', a whole number, or the pieces of each axis, as 8x8,4x16,3, not '{given}'"
        ) from None
