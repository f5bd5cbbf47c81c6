"""The tasks, one file each: a title and ``cases(smoke)``."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator
from typing import Protocol, cast

from benchmarks.harness import Case


class Task(Protocol):
    """What each module here has: ``TITLE`` and ``cases``, which makes its data as it goes."""

    TITLE: str

    @staticmethod
    def cases(smoke: bool) -> Iterator[Case]: ...


def tasks() -> dict[str, Task]:
    """All of them by name."""
    names = sorted(module.name for module in pkgutil.iter_modules(__path__))
    return {name: cast(Task, importlib.import_module(f"benchmarks.tasks.{name}")) for name in names}
