"""A search as text that people read."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tenfold._along import cores_along
from tenfold._tables import columns, facts
from tenfold.verbs._spaces import in_words

if TYPE_CHECKING:
    from tenfold.structure import Structure
    from tenfold.verbs.search_result import Candidate, Search

# Rows of the front that are shown.
_MOST = 12


def table(search: Search) -> str:
    """The result of a search as a two-column table and its front, plain text."""
    fit, structure = search.fit, search.structure
    sizes = ", ".join(f"{bond}={structure.sizes[bond]}" for bond in structure.inner_indices)
    shape = f"{' x '.join(map(str, fit.shape)) or 'scalar'} {fit.source_dtype}"
    given = ("data", f"{fit.subject}: {shape}")
    if fit.of_loss:
        given = ("given", f"{'' if fit.source is None else f'{fit.source}, '}a loss of networks of shape {shape}")
    rows = [
        given,
        ("asked for", search.target + ("" if search.met else "; NOT reached")),
        ("space", in_words(search.space)),
        ("method", f"{search.method}, seed {search.seed}"),
        ("structure", next((one.name for one in search.front if one.structure.key == structure.key), "network")),
        ("pattern", f"{structure.pattern}" + (f"   ({sizes})" if sizes else "")),
        (search.measure, f"{search.error:.8g}"),
        ("parameters", f"{search.parameters:,} for {structure.size:,} entries"),
        ("compression ratio", f"{search.ratio:.4g}"),
        *([("gained", search.gained)] if search.gained else []),
        ("evaluations", f"{search.counted:,} as papers count them, {search.fits:,} of them fitted"),
        ("seconds", f"{search.seconds:.2f}"),
        ("stopped", search.why_stopped),
    ]
    if search.tested is not None:
        place = next(n for n, (name, _) in enumerate(rows) if name == search.measure)
        rows.insert(
            place + 1, ("unseen error", f"{search.tested:.8g} on {search.tested_cells:,} cells kept for the end")
        )
    if fit.observed != fit.cells:
        rows.insert(1, ("observed", f"{fit.observed:,} of {fit.cells:,} cells"))
    return f"{facts(rows)}\n\n{front(search)}"


def front(search: Search) -> str:
    """The structures that no other beats in both size and error, the chosen one marked."""
    key = search.structure.key
    part = _spread(search)
    names = [one.name for one in part]
    rows = [
        (
            "*" if one.structure.key == key else "",
            f"{one.parameters:,}",
            f"{one.error:.5g}",
            f"{one.counted:,}" if one.counted else "at first",
            f"{one.name} ({_apart(one.structure)})" if names.count(one.name) > 1 else one.name,
        )
        for one in part
    ]
    left = len(search.front) - len(part)
    what = "loss" if search.of_loss else "error"
    said = columns(("", "parameters", what, "found after", "front"), rows, right=(1, 2, 3))
    said += f"\n   and {left:,} more on the front" if left else ""
    bend = search.knee
    if bend is None:
        return said
    return f"{said}\n   it bends at {bend.parameters:,} parameters, {what} {bend.error:.5g}: beyond, more gain less"


def _spread(search: Search) -> list[Candidate]:
    """As much of the front as is shown: what was chosen, the ends, the bend, and others as unlike in size as can be."""
    part, bend = list(search.front), search.knee
    stays = {id(one) for one in part if one is bend or one.structure.key == search.structure.key}
    while len(part) > _MOST:
        able = [n for n in range(1, len(part) - 1) if id(part[n]) not in stays]
        part.pop(min(able, key=lambda n: part[n + 1].parameters / part[n - 1].parameters))
    return part


def _apart(structure: Structure) -> str:
    """What tells a structure from another of the same name: its modes in the order in which cores are joined."""
    walked = cores_along(structure)
    if walked is None:
        return structure.pattern.split("->")[0].strip()
    return " ".join(i for core in walked for i in structure.terms[core].indices if i not in structure.inner_indices)
