"""``tenfold query``: a point in, what is predicted there out."""

from __future__ import annotations

import csv
import itertools
import json
import math
from typing import TYPE_CHECKING, Any

import typer

from tenfold.cli._output import say
from tenfold.cli._source import load_from
from tenfold.errors import DataError, FileError, TenfoldError

if TYPE_CHECKING:
    from tenfold.verbs.posterior import Posterior

# Rows that are made of one point when it leaves modes out.
_MOST = 100_000


def register(app: typer.Typer) -> None:
    """Add the command ``query``."""
    app.command("query", short_help="Ask what 'complete' wrote for a prediction.")(query)


def query(
    file: str = typer.Argument(..., help="A file that 'tenfold complete' wrote, or '-' for standard input."),
    points: list[str] = typer.Argument(
        None, help="Points as 'station=3,hour=17.5'; a mode that is left out runs over all its levels."
    ),
    table: str | None = typer.Option(None, "--points", help="A .csv or .parquet file with a column for each mode."),
    quantiles: str = typer.Option("0.05,0.5,0.95", help="Quantiles of an observation to tell."),
    sample: int = typer.Option(0, help="Draw so many observations at each point instead."),
    seed: int = typer.Option(0, help="Seed of the draws."),
    output: str | None = typer.Option(None, "--output", "-o", help="Write the answers as .csv or .parquet instead."),
    as_json: bool = typer.Option(False, "--json", help="Print JSON."),
) -> None:
    """Ask a posterior: the expected value at points, the standard deviation of an observation and its quantiles."""
    from tenfold.verbs.posterior import Posterior

    posterior = load_from(file)
    if not isinstance(posterior, Posterior):
        raise TenfoldError(
            f"'{file}' holds no posterior: 'tenfold complete' writes one, and 'tenfold show' tells what it is"
        )
    if bool(points) == (table is not None):
        raise TenfoldError("give points, as 'station=3,hour=17.5', or --points FILE")
    asked = _of_file(table, posterior) if table is not None else _of_text(points, posterior)
    columns = answers(posterior, asked, _quantiles(quantiles), sample, seed)
    if output is not None:
        _write(columns, output)
        say(f"wrote {output}: {len(next(iter(columns.values()))):,} rows", aside=True)
    elif as_json:
        rows = zip(*columns.values(), strict=True)
        say(json.dumps([dict(zip(columns, row, strict=True)) for row in rows], default=str))
    else:
        from tenfold._tables import columns as printed

        shown = [[_text(value) for value in row] for row in zip(*columns.values(), strict=True)]
        numbers = [k for k, name in enumerate(columns) if name not in {mode.name for mode in posterior.modes}]
        say(printed(list(columns), shown, right=numbers))


def answers(
    posterior: Posterior, asked: dict[str, list[Any]], quantiles: list[float], sample: int, seed: int
) -> dict[str, list[Any]]:
    """Columns of what was asked and of what is predicted."""
    places = {mode.name: asked[mode.name] for mode in posterior.modes}
    attributes = {name: [float(v) for v in asked[name]] for name in posterior.attribute_names} or None
    columns: dict[str, list[Any]] = {name: list(values) for name, values in asked.items()}
    if sample:
        drawn = posterior.sample(places, sample, attributes=attributes, seed=seed)
        found = {f"sample {k + 1}": row.tolist() for k, row in enumerate(drawn)}
    else:
        found = {
            "mean": posterior.mean(places, attributes=attributes).tolist(),
            "std": posterior.std(places, attributes=attributes).tolist(),
        }
        answered = posterior.quantiles(places, quantiles, attributes=attributes)
        found |= {f"{100 * q:g} %": column.tolist() for q, column in zip(quantiles, answered.T, strict=True)}
    # A mode may be called as an answer is.
    return columns | {f"predicted {name}" if name in columns else name: column for name, column in found.items()}


def _of_text(points: list[str], posterior: Posterior) -> dict[str, list[Any]]:
    from tenfold._arguments import closest, quoted

    names = [*(mode.name for mode in posterior.modes), *posterior.attribute_names]
    columns: dict[str, list[Any]] = {name: [] for name in names}
    for point in points:
        given: dict[str, str] = {}
        try:
            parts = next(csv.reader([point]), [])
        except csv.Error:
            raise DataError(f"the point {quoted(point)} has a line break outside of quotes: quote that part") from None
        for part in parts:
            # A name may hold the sign that follows it.
            text = part.lstrip()
            fits = [one for one in names if text.startswith(one) and text[len(one) :].lstrip().startswith("=")]
            name = max(fits, key=len, default="")
            value = text[len(name) :].lstrip()[1:]
            if not fits:
                name = part.partition("=")[0].strip()
                if name in names:
                    raise DataError(f"'{name}' has no value in the point '{point}': give {name}=...")
                raise DataError(
                    f"'{part.strip()}' is no part of a point{closest(name, names)}: give {'=..., '.join(names)}=..."
                )
            if name in given:
                raise DataError(f"the point '{point}' gives '{name}' twice")
            given[name] = value.strip()
        for row in _rows(given, posterior):
            for name in names:
                columns[name].append(row[name])
    return columns


def _rows(given: dict[str, str], posterior: Posterior) -> list[dict[str, Any]]:
    """A point, or where it leaves modes out one for each of their levels."""
    lacking = [name for name in posterior.attribute_names if name not in given]
    if lacking:
        raise DataError(f"the point lacks '{lacking[0]}', which the model was fitted with")
    free = [mode for mode in posterior.modes if mode.name not in given]
    count = math.prod(mode.size for mode in free)
    if count > _MOST:
        raise DataError(
            f"modes {', '.join(mode.name for mode in free)} are left out and have {count:,} levels together: give some"
        )
    levels = [range(mode.size) if mode.labels is None else mode.labels.tolist() for mode in free]
    return [
        {**given, **{mode.name: level for mode, level in zip(free, chosen, strict=True)}}
        for chosen in itertools.product(*levels)
    ]


def _of_file(table: str, posterior: Posterior) -> dict[str, list[Any]]:
    from tenfold.io.tables import read_columns

    names = [*(mode.name for mode in posterior.modes), *posterior.attribute_names]
    return read_columns(table, names)


def _quantiles(given: str) -> list[float]:
    try:
        return [float(word) for word in given.split(",")]
    except ValueError:
        raise TenfoldError(f"--quantiles takes numbers between 0 and 1, as 0.05,0.95, not '{given}'") from None


def _write(columns: dict[str, list[Any]], output: str) -> None:
    from tenfold.io.tables import write_columns

    if not output.lower().endswith((".csv", ".tsv", ".parquet")):
        raise FileError(f"--output '{output}' is no table; give a name that ends in .csv, .tsv or .parquet")
    write_columns(columns, output)


def _text(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)
