"""``tenfold complete``: what was observed in, a posterior of everything out."""

from __future__ import annotations

import inspect
from collections.abc import Sequence

import typer

from tenfold.cli._options import options_of
from tenfold.cli._output import check_places, tell
from tenfold.cli._waiting import waiting


def register(app: typer.Typer) -> None:
    """Add the command ``complete``."""
    app.command("complete", short_help="Predict what was not observed, with intervals.")(complete)


def complete(
    source: str = typer.Argument(..., help="A table or an array with holes, '-' for standard input, or sample:NAME."),
    modes: str | None = typer.Option(None, help="Columns of a table with the modes, as station,hour. [default: all]"),
    value: str | None = typer.Option(None, help="Column of a table with the values."),
    continuous: str | None = typer.Option(
        None, help="Modes that are intervals, as hour,dose:log; '' for none. [default: fractions and dates]"
    ),
    model: str = typer.Option("auto", help="The model; auto compares those for such data on what is held out."),
    rank: int | None = typer.Option(None, help="Number of components. [default: what predicts best]"),
    weights: str | None = typer.Option(None, help="Column of a table with the precision of each row."),
    attributes: str | None = typer.Option(None, help="Columns with what is known besides of each row, as effort,wind."),
    counts: bool = typer.Option(False, "--counts", help="The values are counts of events."),
    option: list[str] = typer.Option([], help="What the model takes besides, as members=3; repeat for more."),
    choose: str = typer.Option("held_out", help="Compare models by held_out observations or by their evidence."),
    holdout: float | None = typer.Option(None, help="Share of the rows to test the result on, as 0.1."),
    by_cell: bool = typer.Option(False, "--by-cell", help="Hold out all rows of a cell or none."),
    variable: str | None = typer.Option(None, help="Which array of a file with several."),
    epochs: int | None = typer.Option(None, help="Epochs after which the fit of a model stops."),
    tol: float | None = typer.Option(None, help="Relative change below which it stops."),
    seconds: float | None = typer.Option(None, help="When no further model or rank is compared. [default: 120]"),
    seed: int = typer.Option(0, help="Seed of every random draw."),
    checkpoint: str | None = typer.Option(None, help="Folder to go on from when interrupted or killed."),
    output: str = typer.Option("complete.tn", "--output", "-o", help="Where it goes; '-' for standard output."),
    report: str = typer.Option("complete.html", help="Where the page goes; '' for no page."),
    plot: str = typer.Option("", help="Where a summary picture goes (.png, .svg, .pdf)."),
    as_json: bool = typer.Option(False, "--json", help="Print the result as JSON instead of a table."),
    quiet: bool = typer.Option(False, "--quiet", "-q", help="No progress bar and no table."),
) -> None:
    """Predict what was not observed of a tensor, with intervals, and keep it as a small file that answers questions.

    'tenfold query' asks it.
    """
    check_places(source, output, report, plot)
    further = [*_names(attributes, ()), *_names(weights, ())]
    with waiting(f"reading {source}", quiet=quiet):
        from tenfold import io
        from tenfold.cli._output import write_all
        from tenfold.cli.app import Interrupted
        from tenfold.verbs.complete import complete as run

        table = any(source.lower().endswith(suffix) for suffix in (".csv", ".tsv", ".parquet")) or source == "-"
        dataset = io.read(
            source,
            variable=variable,
            value=value,
            modes=None if modes is None else _names(modes, ()),
            rest="unknown" if table and source != "-" else None,
            columns=further or None,
        )
    try:
        result = run(
            dataset,
            model,
            rank=rank,
            continuous=None if continuous is None else _names(continuous, ()),
            weights=weights,
            attributes=_names(attributes, ()) or None,
            counts=True if counts else None,
            choose=choose,
            holdout=holdout,
            by_cell=by_cell,
            epochs=epochs,
            tol=tol,
            seconds=seconds,
            seed=seed,
            source=source,
            checkpoint=checkpoint,
            progress=False if quiet else None,
            **options_of(option, list(inspect.signature(run).parameters), complete),
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


def _names(given: str | None, default: Sequence[str]) -> list[str]:
    if given is None:
        return list(default)
    return [name.strip() for name in given.split(",") if name.strip()]
