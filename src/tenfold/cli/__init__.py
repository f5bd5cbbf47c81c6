"""The command line: the verbs, with files in place of arrays. Nothing here loads torch before a command needs it."""

from __future__ import annotations

from collections.abc import Sequence

from tenfold.cli._interrupts import interrupts

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit; see `tenfold.cli.app.main`."""
    with interrupts():
        from tenfold.cli.app import main as run

        run(arguments)
