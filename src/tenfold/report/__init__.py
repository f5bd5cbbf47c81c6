"""Pictures of a fit: one self-contained HTML page, a drawing of a network, and a drawing in plain text.

    tenfold.report.write(fit, "page.html")      # everything, in one file that opens offline
    tenfold.report.draw(structure)              # the network as a matplotlib figure
    print(tenfold.report.text(structure))       # the network in a terminal
    tenfold.report.plot(fit)                    # network, error against size and residual in one figure
    tenfold.report.plot_search(search)          # network, error against size and path of a search in one figure
    tenfold.report.write_posterior(posterior, "page.html")  # the same for what was completed
    tenfold.report.plot_posterior(posterior)    # predicted against observed, calibration, error by rank
    tenfold.report.plot_solution(solution)      # the solution of an equation, from near, and its error
    tenfold.report.plot_signals(features, "0e+1o+2e")  # features that turn with space, as functions on the sphere

matplotlib is imported when something is drawn, and never through pyplot: no global state is touched.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

_HOME = {
    "draw": "tenfold.report.drawing",
    "plot": "tenfold.report.summary",
    "plot_posterior": "tenfold.report.completed",
    "plot_search": "tenfold.report.searched",
    "plot_signals": "tenfold.report.signals",
    "plot_solution": "tenfold.report.solved",
    "text": "tenfold.report.plain",
    "write": "tenfold.report.page",
    "write_posterior": "tenfold.report.completed_page",
}

__all__ = [
    "draw",
    "plot",
    "plot_posterior",
    "plot_search",
    "plot_signals",
    "plot_solution",
    "text",
    "write",
    "write_posterior",
]

if TYPE_CHECKING:
    from tenfold.report.completed import plot_posterior
    from tenfold.report.completed_page import write_posterior
    from tenfold.report.drawing import draw
    from tenfold.report.page import write
    from tenfold.report.plain import text
    from tenfold.report.searched import plot_search
    from tenfold.report.signals import plot_signals
    from tenfold.report.solved import plot_solution
    from tenfold.report.summary import plot


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'tenfold.report' has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
