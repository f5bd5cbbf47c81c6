"""The command ``tenfold``: one function for each command, and what happens when something goes wrong."""

from __future__ import annotations

import functools
import importlib
import io
import os
import sys
import traceback
import warnings
from collections.abc import Sequence
from contextlib import suppress
from itertools import pairwise
from typing import Any, TextIO

import typer

from tenfold import __version__
from tenfold.cli._interrupts import EXIT_INTERRUPTED, NOTHING_KEPT
from tenfold.cli._output import printable
from tenfold.errors import TenfoldError

# Each names a module of this package that has a function `register`.
_COMMANDS = (
    "fit",
    "search",
    "complete",
    "query",
    "compress",
    "solve",
    "ranks",
    "show",
    "expand",
    "formats",
    "claims",
    "papers",
)

# Longer lines are cut: a message may quote what was given, of any length.
_LONGEST = 1000

EXIT_ERROR = 1
EXIT_USAGE = 2


class Interrupted(Exception):
    """A command was interrupted, but has written what it had: what, and where."""


def build() -> typer.Typer:
    """The application with all commands."""
    app = typer.Typer(
        name="tenfold",
        help="Find the multilinear structure in an array, keep it as a small file, and look at it.",
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
        context_settings={"help_option_names": ["-h", "--help"]},
    )

    def show_version(asked: bool) -> None:
        if asked:
            typer.echo(f"tenfold {__version__}")
            raise typer.Exit

    @app.callback()
    def options(
        version: bool = typer.Option(
            False, "--version", help="Print the version and exit.", is_eager=True, callback=show_version
        ),
        debug: bool = typer.Option(False, "--debug", help="Show a traceback when something goes wrong."),
    ) -> None:
        pass

    for name in _COMMANDS:
        importlib.import_module(f"tenfold.cli.{name}").register(app)
    return app


@functools.cache
def _command() -> Any:
    """What the application is for the parser of the command line: signatures are read once in a process."""
    return typer.main.get_command(build())


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit: 0 done, 1 an error in one line, 2 wrong usage, 130 interrupted.

    A traceback is shown only with ``--debug``, which may stand anywhere.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in given
    given = [word for word in given if word != "--debug"]
    sys.exit(_run(given, debug))


def _run(arguments: list[str], debug: bool) -> int:
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # File names and labels may hold what the encoding of a terminal does not.
            stream.reconfigure(errors="backslashreplace")
    with warnings.catch_warnings():
        warnings.showwarning = _show_warning
        return _guarded(arguments, debug)


def _guarded(arguments: list[str], debug: bool) -> int:
    """Run a command; whatever goes wrong is told in one line."""
    command = _command()
    try:
        code = command.main(args=arguments or ["--help"], prog_name="tenfold", standalone_mode=False)
        if code == EXIT_INTERRUPTED:  # what typer makes of an interrupt
            raise KeyboardInterrupt
        if sys.stdout is not None:  # started with it closed
            sys.stdout.flush()
        return 0
    except typer.TyperException as error:
        _complain(_usage(error, arguments))
        return EXIT_USAGE
    except Interrupted as what:
        _tell(f"interrupted: {what}")
        return EXIT_INTERRUPTED
    except (KeyboardInterrupt, typer.Abort):
        _complain(NOTHING_KEPT)
        return EXIT_INTERRUPTED
    except (BrokenPipeError, SystemExit):
        # The reader of a pipe went away, as `head` does (typer makes an exit of that): there is nobody left to tell.
        with suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_ERROR
    except TenfoldError as error:
        if debug:
            traceback.print_exc()
        _complain(str(error))
        return EXIT_ERROR
    except MemoryError as error:
        if debug:
            traceback.print_exc()
        _complain(f"not enough memory{f': {error}' if str(error) else ''}")
        return EXIT_ERROR
    except Exception as error:
        if debug:
            traceback.print_exc()
        if any(words in str(error) for words in ("not enough memory", "can't allocate memory")):
            _complain("not enough memory; fit a part of the data, or a smaller network")
        elif isinstance(error, OSError):
            _complain(f"{error.strerror or error}")
        else:
            _complain(f"{type(error).__name__}: {error} (an error of tenfold itself; --debug shows where)")
        return EXIT_ERROR


def _usage(error: typer.TyperException, arguments: Sequence[str]) -> str:
    """What is wrong with the arguments, the one that was given, and where to read on."""
    said = error.format_message()
    options = getattr(getattr(error, "param", None), "opts", ())
    for option, value in pairwise([*arguments, ""]):
        name, equals, attached = option.partition("=")
        if name in options:
            given = attached if equals else value
            said = said.replace("Input should be", f"'{given}' should be").partition(", unable to parse")[0]
    context = getattr(error, "ctx", None)
    return f"{said.rstrip('.')} (see '{context.command_path if context else 'tenfold'} --help')"


def _complain(message: str) -> None:
    _tell(f"error: {message}")


def _tell(message: str) -> None:
    """One line on standard error."""
    if sys.stderr is None:  # closed at the start; print(file=None) would take standard output
        return
    line = printable(" ".join(message.split()))
    with suppress(OSError, ValueError):  # a closed standard error hears nothing
        print(f"tenfold: {line if len(line) <= _LONGEST else line[:_LONGEST] + '...'}", file=sys.stderr)


def _show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    _tell(f"warning: {message}")
