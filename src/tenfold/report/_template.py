"""What every page shares: how its template is filled in, its colours, and what its foot says."""

from __future__ import annotations

import platform
from datetime import UTC, datetime
from functools import cache
from typing import TYPE_CHECKING, Any

import torch
from markupsafe import Markup

import tenfold
from tenfold.report._style import HUES, Panel

if TYPE_CHECKING:
    from jinja2 import Environment

# Hues of the dark page, one for each of `HUES`: the same hues, lighter.
_DARK_HUES = ("#58b0e3", "#f08a4b", "#3dbfa0", "#d98fb8", "#e0ac3c", "#8cc8ee", "#a99bea", "#a9afb8")


def filled(name: str, **parts: Any) -> str:
    """The page of a template with its parts; all text in them is escaped but for that of `marked` panels."""
    return _environment().get_template(name).render(hues=list(enumerate(zip(HUES, _DARK_HUES, strict=True))), **parts)


@cache
def _environment() -> Environment:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    return Environment(
        loader=PackageLoader("tenfold.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def marked(panel: Panel | None) -> dict[str, Any] | None:
    """A panel for the template: its markup is ours and safe, its title and note are text to escape."""
    if panel is None:
        return None
    return {"markup": Markup(panel.markup), "title": panel.title, "note": panel.note, "wide": panel.wide}


def footer(seed: int, numbers: str) -> list[tuple[str, str]]:
    """When and by what a page was written."""
    return [
        ("written", datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")),
        ("tenfold", tenfold.__version__),
        ("PyTorch", torch.__version__),
        ("Python", platform.python_version()),
        ("seed", str(seed)),
        ("numbers", numbers),
    ]
