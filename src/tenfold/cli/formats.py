"""``tenfold formats``: the structures, files and samples that there are."""

from __future__ import annotations

import typer

from tenfold.cli._output import say


def register(app: typer.Typer) -> None:
    """Add the command ``formats``."""
    app.command("formats", short_help="List structures, file formats, samples.")(list_formats)


def list_formats() -> None:
    """List the named structures, the kinds of files that can be read and written, and the bundled samples."""
    from tenfold import formats, io
    from tenfold._tables import columns

    examples = formats.examples()
    rows = [
        (name, example.pattern, (function.__doc__ or "").splitlines()[0].rstrip(".:").replace("``", ""))
        for name, (function, example) in examples.items()
    ]
    say(columns(("structure", "pattern", "what it is"), rows))
    say(f"\nread   {' '.join(io.suffixes())} - (standard input) sample:NAME")
    say(f"write  {' '.join(io.suffixes(writing=True))} - (standard output, .npy)")
    samples = [(f"sample:{s.name}", " x ".join(map(str, s.shape)), s.description, s.licence) for s in io.samples()]
    say("\n" + columns(("sample", "shape", "what it is", "licence"), samples))
