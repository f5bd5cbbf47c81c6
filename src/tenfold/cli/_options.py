"""Options of methods, as the command line gives them."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Sequence
from typing import Any

from typer.models import OptionInfo

from tenfold.errors import TenfoldError


def options_of(given: list[str], known: Sequence[str], command: Callable[..., None]) -> dict[str, Any]:
    """What ``--option`` gives: JSON where the text is JSON, else the text.

    Args:
        given: a name and a value each, as ``starts=3``.
        known: the arguments of the verb, which are no options of a method.
        command: the command, whose own options some of those are.
    """
    arguments = inspect.signature(command).parameters
    own = [name for name, argument in arguments.items() if isinstance(argument.default, OptionInfo)]
    options: dict[str, Any] = {}
    for item in given:
        name, equals, text = item.partition("=")
        if not equals or not name:
            raise TenfoldError(f"--option takes a name and a value, as starts=3, not '{item}'")
        if name in options:
            raise TenfoldError(f"--option gives '{name}' twice")
        if name in known:
            for flag in (name, name.removesuffix("s")):  # sizes are given one by one
                if flag in own:
                    raise TenfoldError(
                        f"--option gives '{name}', which has an option of its own: --{flag.replace('_', '-')}"
                    )
            raise TenfoldError(f"--option gives '{name}', which is no option of a method; leave it out")
        try:
            options[name] = json.loads(text)
        except json.JSONDecodeError:
            options[name] = text
    return options
