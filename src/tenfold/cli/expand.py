"""``tenfold expand``: the whole array back from a network."""

from __future__ import annotations

import typer


def register(app: typer.Typer) -> None:
    """Add the command ``expand``."""
    app.command("expand", short_help="Write the whole array of a .tn file.")(expand)


def expand(
    file: str = typer.Argument(..., help="A file that tenfold wrote."),
    output: str = typer.Option(
        ..., "--output", "-o", help="Where the array goes (.npy, .png, .nc, ...); '-' for .npy."
    ),
    dtype: str | None = typer.Option(
        None, help="dtype of the file, as uint8. [default: the network's, images: theirs]"
    ),
) -> None:
    """Make the array that a network stands for and write it in the format of the file's suffix."""
    from tenfold import io
    from tenfold.network import Network
    from tenfold.verbs.load import load

    loaded = load(file)
    network = loaded if isinstance(loaded, Network) else loaded.network
    dense = network.dense().resolve_conj().cpu().numpy()
    if isinstance(loaded, Network):
        io.write(dense, output, dtype=dtype)
    else:
        if dtype is None and io.is_picture(output) and loaded.source_dtype in ("uint8", "uint16"):
            dtype = loaded.source_dtype
        io.write(dense, output, dtype=dtype, dims=loaded.dims, coordinates=loaded.coordinates)
    if output != "-":
        typer.echo(f"wrote {output}: {' x '.join(map(str, dense.shape)) or 'a number'}", err=True)
