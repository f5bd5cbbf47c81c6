"""A fit as text that people read."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tenfold._tables import facts

if TYPE_CHECKING:
    from tenfold.verbs.result import Fit


def table(fit: Fit) -> str:
    """The result of a fit as a two-column table, plain text."""
    family = (fit.format or "network").replace("_", " ")
    chosen = next((trial.name for trial in fit.front if trial.chosen), family)
    sizes = ", ".join(f"{bond}={fit.structure.sizes[bond]}" for bond in fit.structure.inner_indices)
    rows = [
        ("data", f"{fit.source or 'array'}: {' x '.join(map(str, fit.shape)) or 'scalar'} {fit.source_dtype}"),
        ("asked for", fit.target),
        ("structure", chosen if chosen != family else family),
        ("pattern", f"{fit.structure.pattern}" + (f"   ({sizes})" if sizes else "")),
        (fit.measure, f"{fit.error:.8g}"),
        ("parameters", f"{fit.parameters:,} for {fit.structure.size:,} entries"),
        ("compression ratio", f"{fit.ratio:.4g}"),
        ("seconds", f"{fit.seconds:.2f}"),
        ("method", f"{fit.method}" + (f", the best of {len(fit.front)} networks tried" if len(fit.front) > 1 else "")),
        ("stopped", fit.why_stopped),
    ]
    if fit.searched:
        rows.insert(-1, ("searched", fit.searched))
    if fit.deviance is not None:
        rows.insert(5, ("Poisson deviance", f"{fit.deviance:.8g}, which is what was made small"))
    if fit.observed != fit.cells:
        rows.insert(1, ("observed", f"{fit.observed:,} of {fit.cells:,} cells"))
        held_out = next((trial.held_out for trial in fit.front if trial.chosen), None)
        if held_out is not None:
            easier = " (of the cells left out, which happen to be easier than the rest)" if held_out < fit.error else ""
            rows.insert(6, ("held-out error", f"{held_out:.4g}{easier}"))
    return facts(rows)
