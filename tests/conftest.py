"""What every test can rely on."""

from __future__ import annotations

import gc
import os
import shutil
from collections.abc import Generator
from pathlib import Path

import pytest
from hypothesis import settings

# The same examples on every machine and no time limit per example: a test is red because of the code, never
# because of the day. `--hypothesis-profile=default` searches anew.
settings.register_profile("ci", deadline=None, derandomize=True, print_blob=True)
settings.load_profile("ci")

BROWSERS = ("chromium", "chromium-browser", "google-chrome")


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """A million objects are made here that stay to the end: the garbage collector need not look through them.

    It would, again and again while they become more, and after that whenever tests or compilers make many of their own.
    """
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if any(shutil.which(browser) for browser in BROWSERS):
        return
    skip = pytest.mark.skip(reason=f"none of {', '.join(BROWSERS)} is on PATH")
    for item in items:
        if "browser" in item.keywords:
            item.add_marker(skip)


@pytest.fixture(scope="session")
def tenfold_data() -> Path:
    """The folder of larger public data sets that the environment variable TENFOLD_DATA names."""
    name = os.environ.get("TENFOLD_DATA")
    if not name:
        pytest.skip("TENFOLD_DATA is not set")
    folder = Path(name)
    if not folder.is_dir():
        pytest.skip(f"TENFOLD_DATA={name} is not a folder")
    return folder
