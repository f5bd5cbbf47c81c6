"""Where a command's result goes."""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from tenfold._files import atomic, check_writable
from tenfold.errors import FileError, TenfoldError

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def printable(text: str) -> str:
    """The text with control characters (a file name may hold any) written out, so that none reaches a terminal."""
    return "".join(
        c if c.isprintable() or c == "\n" or "\ud800" <= c <= "\udfff" else c.encode("unicode_escape").decode()
        for c in text
    )


def say(text: str, *, aside: bool = False) -> None:
    """Print text for people: on standard output, or ``aside`` on standard error."""
    stream = sys.stderr if aside else sys.stdout
    if stream is not None:  # a closed one hears nothing; print(file=None) would take the other
        print(printable(text), file=stream)


def place_of(output: str) -> Path | None:
    """The absolute path of a file that is to be written, None for '-'.

    Raises:
        FileError: no file can be written there: a directory, a folder that does not exist or may not be written to.
    """
    if output == "-":
        return None
    path = check_writable(output)
    if path.is_dir():
        raise FileError(f"cannot write '{output}': it is a directory; give the name of a file in it")
    return path


def to_file_or_standard_output(place: str, write: Callable[[str], None]) -> None:
    """Let ``write`` make the file ``place``; for '-' it makes a temporary one that is copied to standard output."""
    if place != "-":
        write(place)
        return
    if sys.stdout is None:
        raise FileError("standard output is closed; give -o FILE, or send it into a file or pipe")
    if sys.stdout.isatty():
        raise FileError("standard output is a terminal; give -o FILE, or send it into a file or pipe")
    with tempfile.TemporaryDirectory(prefix="tenfold-") as folder:
        path = Path(folder) / "out.tn"
        write(str(path))
        try:
            with path.open("rb") as file:
                shutil.copyfileobj(file, sys.stdout.buffer)
            sys.stdout.buffer.flush()
        except BrokenPipeError:
            raise
        except OSError as error:
            raise FileError(f"cannot write standard output: {error.strerror or error}") from error


def save_figure(figure: Figure, place: str) -> None:
    """Write a figure in the format of the file's suffix, beside and then renamed."""
    with atomic(place) as beside:
        figure.savefig(beside, dpi=150)


class Result(Protocol):
    """What a verb returns."""

    def summary(self) -> dict[str, Any]: ...

    def save(self, path: str) -> None: ...

    def report(self, path: str, *, saved: str | None) -> None: ...

    def plot(self) -> Figure: ...


def tell(result: Result, written: Sequence[str], *, as_json: bool, quiet: bool) -> None:
    """Print a result, and where it was written."""
    # With the network on standard output, words go to standard error.
    aside = "-" in written
    if as_json:
        say(json.dumps(result.summary()), aside=aside)
    elif not quiet:
        say(str(result), aside=aside)
        places = [place for place in written if place and place != "-"]
        if places:
            say(f"\nwrote {', '.join(places)}", aside=aside)


def check_places(source: str, output: str, report: str, plot: str, export: str = "") -> None:
    """What would fail after the work is refused before it."""
    if not output:
        raise TenfoldError("--output is empty; give a file name, or '-' for standard output")
    if "-" in (report, plot):
        option = "--report" if report == "-" else "--plot"
        raise TenfoldError(f"{option} '-' is not possible; give a file name, or '' for none")
    if plot and Path(plot).suffix.lower() not in (".png", ".svg", ".pdf"):
        raise TenfoldError(f"--plot '{plot}' is no picture; give a name that ends in .png, .svg or .pdf")
    if export and Path(export).suffix != ".pt2":
        raise TenfoldError(f"--export '{export}' is no program; give a name that ends in .pt2")
    given = {"--output": output, "--report": report, "--plot": plot, "--export": export}
    places = {option: place_of(place) for option, place in given.items() if place and place != "-"}
    data = Path(os.path.realpath(Path(source).expanduser()))  # unlike resolve() not troubled by links in a circle
    for option, place in places.items():
        if place == data:
            raise TenfoldError(f"{option} names the data, '{source}'; give it another name")
        twin = next((other for other in places if other != option and places[other] == place), None)
        if twin is not None:
            raise TenfoldError(f"{option} and {twin} both name '{given[option]}'; give them different names")
    if report and Path(report).suffix.lower() not in (".html", ".htm") and not Path(report).is_dir():
        raise TenfoldError(f"--report '{report}' is no page; give a name that ends in .html (--plot makes pictures)")


def write_all(result: Result, output: str, report: str, plot: str | None) -> str:
    """Write the network first, then its page and picture where they are asked for; returns where the network is.

    What goes wrong after the network was written says so.
    """
    from tenfold.cli.app import Interrupted

    to_file_or_standard_output(output, result.save)
    kept = "standard output" if output == "-" else f"'{output}'"
    try:
        if report:
            result.report(report, saved=None if output == "-" else output)
        if plot:
            save_figure(result.plot(), plot)
    except KeyboardInterrupt:
        raise Interrupted(f"the network is in {kept}, not everything else was written") from None
    except TenfoldError as error:
        raise type(error)(f"{error}; the network is in {kept}") from error
    return kept
