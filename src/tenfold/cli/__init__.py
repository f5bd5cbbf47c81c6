"""The command line: the verbs, with files in place of arrays. Nothing here loads torch before a command needs it."""

from __future__ import annotations

from tenfold.cli.app import main

__all__ = ["main"]
