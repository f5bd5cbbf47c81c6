"""What a method takes beyond the arguments of a verb: whether it has an option, and whether a value is of its type."""

from __future__ import annotations

import typing
from collections.abc import Mapping, Sequence
from types import NoneType, UnionType
from typing import Any, Literal, Protocol, Union, get_args, get_origin

import numpy as np

from tenfold._arguments import quoted
from tenfold.errors import TenfoldError

# Arguments of `fit`, or of its own making, that some methods take as well.
_OF_FIT = ("memory", "checkpoint", "client", "watch")
_KINDS: dict[Any, tuple[type, ...]] = {
    bool: (bool, np.bool_),
    int: (int, np.integer),
    float: (int, float, np.integer, np.floating),
    str: (str,),
}
_WORDS = {bool: "true or false", int: "a whole number", float: "a number", str: "a text"}


class Known(Protocol):
    """A registered method."""

    @property
    def name(self) -> str: ...

    @property
    def function(self) -> Any: ...

    @property
    def options(self) -> tuple[str, ...]: ...


def check_options(entry: Known, options: Mapping[str, Any], verb: str = "fit") -> None:
    """Raise `TenfoldError` for an option that the method does not have, or a value that its type does not allow."""
    own = [name for name in entry.options if name not in _OF_FIT]
    hints = _hints(entry)
    for name, value in options.items():
        if name not in own:
            has = f"; it has {', '.join(own)}" if own else ""
            raise TenfoldError(f"'{name}' is no argument of {verb}, nor an option of method '{entry.name}'{has}")
        if name in hints and not _fits(value, hints[name]):
            raise TenfoldError(f"option {name} must be {' or '.join(_words(hints[name]))}, not {quoted(value)}")


def _hints(entry: Known) -> dict[str, Any]:
    """The types of the arguments of a method, as far as they are written down."""
    try:
        return typing.get_type_hints(entry.function)
    except (NameError, TypeError):  # a function of the user's own
        return {}


def _fits(value: Any, hint: Any) -> bool:
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        return any(_fits(value, one) for one in arguments)
    if origin is Literal:
        return isinstance(value, str) and value in arguments
    if origin is Sequence:
        listed = isinstance(value, Sequence) and not isinstance(value, str | bytes)
        return listed and all(_fits(item, arguments[0]) for item in value)
    if origin is not None:
        return not isinstance(origin, type) or isinstance(value, origin)
    if hint in _KINDS:
        return isinstance(value, _KINDS[hint]) and (hint is bool or not isinstance(value, bool | np.bool_))
    return not isinstance(hint, type) or isinstance(value, hint)


def _words(hint: Any) -> list[str]:
    """What a type is called, one name for each kind of value."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        return list(dict.fromkeys(word for one in arguments if one is not NoneType for word in _words(one)))
    if origin is Literal:
        return [f"'{value}'" for value in arguments]
    if origin is Sequence:
        plural = {"a whole number": "whole numbers", "a number": "numbers", "a text": "texts"}
        return [f"a list of {' or '.join(plural.get(word, word) for word in _words(arguments[0]))}"]
    if hint in _WORDS:
        return [_WORDS[hint]]
    return [f"a {getattr(origin or hint, '__name__', 'value')}"]
