"""``tenfold expand``: the whole array back from a network."""

from __future__ import annotations

import os
from pathlib import Path

import typer

from tenfold.cli._output import say
from tenfold.cli._source import load_from


def register(app: typer.Typer) -> None:
    """Add the command ``expand``."""
    app.command("expand", short_help="Write the whole array of a .tn file.")(expand)


def expand(
    file: str = typer.Argument(..., help="A file that tenfold wrote, or '-' for standard input."),
    output: str = typer.Option(
        ..., "--output", "-o", help="Where the array goes (.npy, .png, .nc, ...); '-' for .npy on standard output."
    ),
    dtype: str | None = typer.Option(
        None, help="dtype of the file, as uint8. [default: the network's, images: theirs]"
    ),
) -> None:
    """Make the array that a network stands for, or that a posterior expects, in the format of the file's suffix."""
    from tenfold import io
    from tenfold._files import check_writable
    from tenfold.errors import DataError, TenfoldError
    from tenfold.network import Network
    from tenfold.verbs.posterior import Posterior
    from tenfold.verbs.result import Fit

    # What would fail after the work is refused before it.
    if output != "-":
        io.check_format(output)
        if check_writable(output) == Path(os.path.realpath(Path(file).expanduser())):
            raise TenfoldError(f"--output names the network, '{file}'; give it another name")
    loaded = load_from(file)
    if isinstance(loaded, Posterior):
        expected = loaded.mean()
        labels = {mode.name: mode.labels for mode in loaded.modes if mode.labels is not None}
        io.write(expected, output, dtype=dtype, dims=[mode.name for mode in loaded.modes], coordinates=labels)
        if output != "-":
            say(f"wrote {output}: {' x '.join(map(str, expected.shape))}", aside=True)
        return
    if not isinstance(loaded, Network | Fit):
        raise TenfoldError(f"'{file}' holds a compressed model, which has no array; 'tenfold show' tells what it is")
    network = loaded if isinstance(loaded, Network) else loaded.network
    memory = io.memory_of_machine()
    needed = network.structure.cost().peak * network.dtype.itemsize
    if memory is not None and needed > memory:
        shape = " x ".join(map(str, network.shape))
        raise DataError(
            f"'{file}' expands to {shape}, which needs {io.gigabytes(needed)} of memory on the way; this machine has "
            f"{io.gigabytes(memory)}: read parts of it in Python, as tenfold.load({file!r}).network[0]"
        )
    dense = network.dense().resolve_conj().cpu().numpy()
    if isinstance(loaded, Network):
        io.write(dense, output, dtype=dtype)
    else:
        if dtype is None and io.is_picture(output) and loaded.source_dtype in ("uint8", "uint16"):
            dtype = loaded.source_dtype
        io.write(dense, output, dtype=dtype, dims=loaded.dims, coordinates=loaded.coordinates)
    if output != "-":
        say(f"wrote {output}: {' x '.join(map(str, dense.shape))}", aside=True)
