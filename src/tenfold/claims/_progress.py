"""How far a measurement is, told to whoever watches."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TypeVar

_Item = TypeVar("_Item")

_watcher: ContextVar[Callable[[str], object] | None] = ContextVar("watcher", default=None)


@contextmanager
def watched(tell: Callable[[str], object]) -> Iterator[None]:
    """Within the block ``tell`` is called with a few words whenever a claim begins another part of its measurement."""
    token = _watcher.set(tell)
    try:
        yield
    finally:
        _watcher.reset(token)


def steps(what: str, items: Sequence[_Item]) -> Iterator[_Item]:
    """The items one by one; who watches is told which of how many it is, and of what."""
    tell = _watcher.get()
    for number, item in enumerate(items, start=1):
        if tell is not None:
            tell(f"{what} {number} of {len(items)}")
        yield item
