"""``tenfold compress``: a trained model in, a smaller or faster one and a page out."""

from __future__ import annotations

import typer

from tenfold.cli._output import check_places, tell
from tenfold.cli._waiting import waiting
from tenfold.errors import TenfoldError


def register(app: typer.Typer) -> None:
    """Add the command ``compress``."""
    app.command("compress", short_help="Make a trained model smaller or faster.")(compress)


def compress(
    model: str = typer.Argument(
        ...,
        help="package.module:function that makes it, timm:NAME, a folder of transformers, or sample:digits; "
        "FILE.safetensors needs --into.",
    ),
    size: float | None = typer.Option(None, help="Share of the bytes that may be left, as 0.3."),
    latency: float | None = typer.Option(
        None, help="Share of the time that may be left, as 0.5; alone or with --size."
    ),
    error: float | None = typer.Option(None, help="Relative loss that is allowed, as 0.01; alone."),
    data: str | None = typer.Option(
        None,
        help="Real inputs: package.module:function that gives batches, a .npy or .npz array, a .txt.",
    ),
    batch: int = typer.Option(32, min=1, help="Examples in a batch of an array or text."),
    limit: int = typer.Option(1024, min=1, help="Examples of an array or text that are used."),
    metric: str | None = typer.Option(None, help="package.module:function of a model; larger is better."),
    forward: str | None = typer.Option(None, help="package.module:function of a model and a batch: the output."),
    into: str | None = typer.Option(None, help="package.module:function that makes the model for FILE.safetensors."),
    method: list[str] = typer.Option([], help="Method to try; repeat for more. [default: all]"),
    bits: str = typer.Option("8,4", help="Whole numbers that may be used; '' for floating point alone."),
    skip: list[str] = typer.Option([], help="Layers to leave alone, as 'encoder.*'; repeat for more."),
    only: list[str] = typer.Option([], help="Layers to change, as 'encoder.*'; repeat for more."),
    finetune: int = typer.Option(
        0, min=0, help="Times that the small model sees the data to learn what the original says."
    ),
    learning_rate: float = typer.Option(1e-4, help="Of the fine-tuning."),
    threads: int = typer.Option(1, min=1, help="Threads of torch, also where times are measured."),
    seed: int = typer.Option(0, help="Of the order of batches in fine-tuning."),
    output: str = typer.Option("small.tn", "--output", "-o", help="Where it goes."),
    report: str = typer.Option("compress.html", help="Where the page goes; '' for no page."),
    plot: str = typer.Option("", help="Where a picture goes (.png, .svg, .pdf)."),
    export: str = typer.Option("", help="Where a program of torch.export goes (.pt2), which needs no tenfold."),
    as_json: bool = typer.Option(False, "--json", help="Print the result as JSON instead of a table."),
    quiet: bool = typer.Option(False, "--quiet", "-q", help="No progress bar and no table."),
) -> None:
    """Replace the layers of a trained model by smaller ones, each by what suits it, under one budget for all.

    Names like package.module:function are imported, so code in them runs; nothing is downloaded.
    """
    check_places(model, output, report, plot, export)
    if output == "-":
        raise TenfoldError("--output '-' is not possible; give a file name")
    with waiting(f"reading {model}", quiet=quiet):
        import torch

        from tenfold.cli._output import write_all
        from tenfold.cli.app import Interrupted
        from tenfold.io.modules import batches_of, function_of, module_of
        from tenfold.verbs.compress import compress as run

        torch.set_num_threads(threads)
        given = module_of(model, into=into)
        inputs = None if data is None else batches_of(data, given, batch=batch, limit=limit)
        evaluate = None if metric is None else function_of(metric)
        call = None if forward is None else function_of(forward)
        if export and inputs is None and given.batches is None:
            raise TenfoldError("--export needs --data, whose first batch is the example")
    result = run(
        given.module,
        size=size,
        latency=latency,
        error=error,
        data=inputs if inputs is not None else given.batches,
        forward=call or given.forward,
        evaluate=evaluate or given.evaluate,
        methods=method or None,
        bits=_bits(bits),
        skip=skip,
        only=only,
        finetune=finetune,
        learning_rate=learning_rate,
        seed=seed,
        source=model,
        progress=False if quiet else None,
    )
    write_all(result, output, report, plot)
    if export:
        try:
            result.export(export)
        except KeyboardInterrupt:
            raise Interrupted(f"the model is in '{output}', the program was not written") from None
        except TenfoldError as error:
            raise type(error)(f"{error}; the model is in '{output}'") from error
    tell(result, [output, report, plot, export], as_json=as_json, quiet=quiet)


def _bits(given: str) -> list[int]:
    try:
        return [int(word) for word in given.split(",") if word.strip()]
    except ValueError:
        raise TenfoldError(f"--bits takes 8, 4 or both, as 8,4; not '{given}'") from None
