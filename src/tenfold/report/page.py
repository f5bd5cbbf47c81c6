"""The HTML page of a fit: one file, nothing loaded from anywhere, no script."""

from __future__ import annotations

import json
import os
import shlex
from typing import TYPE_CHECKING, Any

import numpy as np

from tenfold._files import atomic
from tenfold.observations import Observations
from tenfold.report import components, factors, front, pictures, searched, spectra
from tenfold.report._axes import axes_of
from tenfold.report._style import Panel, family, number, shorten, svg, times
from tenfold.report._template import filled, footer, marked
from tenfold.report.drawing import draw

if TYPE_CHECKING:
    from tenfold.verbs.result import Fit
    from tenfold.verbs.search_result import Search


def write(
    fit: Fit,
    path: str | os.PathLike[str],
    *,
    data: Any = None,
    search: Search | None = None,
    saved: str | None = None,
) -> None:
    """Write a fit as one self-contained HTML page, which opens offline in any browser, light or dark.

    The page shows the network, everything that was tried, original against reconstruction, the spectra of the data and
    the cores. It holds no script and forbids its browser to load anything.

    Args:
        fit: a `tenfold.Fit`.
        path: where; the file is written beside and renamed when it is whole.
        data: the original, for a fit that was loaded from a file; by default ``fit.data``.
        search: the search that found it; then the page shows that too.
        saved: the file that the network was saved to, for the page to name it.

    Raises:
        DataError: ``data`` has another shape than the fit.
        FileError: the file cannot be written; what stood there before is unchanged.
    """
    text = render(fit, data=data, search=search, saved=saved)
    with atomic(os.fspath(path)) as beside:
        beside.write_text(text, encoding="utf-8")


def render(fit: Fit, *, data: Any = None, search: Search | None = None, saved: str | None = None) -> str:
    """The page of `write` as text."""
    original = fit.data if data is None else data
    trials, other_trials = front.rows(fit)
    summed = fit.format == "cp"
    cores, cores_note = components.panels(fit) if summed else factors.panels(fit)
    pictured = pictures.rows(fit, original)
    return filled(
        "fit.html.j2",
        title=shorten(fit.subject, 80),
        head=_head(fit, search),
        use=_use(fit, search, saved),
        facts=_facts(fit) if search is None else _facts_of_search(fit, search),
        drawing=marked(_drawing(fit)),
        search=None if search is None else _searched(search),
        front=marked(front.panel(fit)),
        trials=trials,
        measure=front.measure(fit),
        held_out=any(trial.held_out not in (None, trial.error) for trial in fit.front),
        other_trials=other_trials,
        picture_rows=[{"title": row.title, "panels": [marked(panel) for panel in row.panels]} for row in pictured],
        has_data=pictures.source_of(original, tuple(fit.shape)) is not None,
        off_grid=isinstance(original, Observations) and original.shape is None,
        scalar=_scalar(fit, original),
        spectra=marked(spectra.panel(fit)),
        cores=[marked(panel) for panel in cores],
        cores_note=cores_note,
        components=summed,
        canonical=fit.format in ("tucker", "tensor_train"),
        findings=components.findings(fit, original) if summed else [],
        footer=footer(fit.seed, f"{str(fit.network.dtype).removeprefix('torch.')} on {fit.network.device}"),
        structure_json=json.dumps(json.loads(fit.structure.to_json()), indent=1, ensure_ascii=False),
    )


def _head(fit: Fit, search: Search | None) -> dict[str, Any]:
    axes = axes_of(fit)
    known = family(fit.structure, fit.format or "")
    seen = (
        f"{fit.observed:,} of {fit.cells:,} cells known, {fit.cells - fit.observed:,} missing"
        if fit.observed < fit.cells
        else ""
    )
    return {
        "source": str(fit.source or f"{'a' if fit.of_loss else 'an'} {fit.subject}"),
        "of_loss": fit.of_loss,
        "shape": times(fit.shape),
        "axes": " × ".join(axis.name for axis in axes),
        "dtype": str(fit.source_dtype or ""),
        "seen": seen,
        "family": f"a {known} structure" if known else _own_kind(fit),
        "pattern": shorten(fit.structure.pattern, 400),
        "sizes": shorten(", ".join(f"{i}={fit.structure.sizes[i]:,}" for i in fit.structure.inner_indices), 300),
        "deviance": "" if fit.deviance is None else f"{fit.deviance:,.6g}, for {fit.cells:,} cells",
        "target": fit.target,
        "met": search is None or search.met,
        "searched": fit.searched,
        "gained": None if search is None else search.gained,
        "stopped": fit.why_stopped if search is None else search.why_stopped,
    }


def _use(fit: Fit, search: Search | None, saved: str | None) -> dict[str, str]:
    """How to go on with the network, in Python and in a terminal; where nobody says that it was saved, that first."""
    verb, name = ("fit", "fit.tn") if search is None else ("search", "found.tn")
    name = name if saved is None else saved
    place = json.dumps(name, ensure_ascii=False)
    steps = [
        (f"fit = tn.load({place})", ""),
        ("fit.network.dense()", "the whole array"),
        (f"fit.network[{'0, ...' if fit.shape else ''}]", "a part, still a network"),
    ]
    if saved is None:
        steps.insert(0, (f"{verb}.save({place})", "once, where it was found"))
    wide = min(30, max(len(step) for step, said in steps if said)) + 2
    lines = [f"{step:<{wide}}# {said}" if said else step for step, said in steps]
    file = shlex.quote(name)
    return {
        "python": "\n".join(["import tenfold as tn", "", *lines]),
        "terminal": f"tenfold show {file}\ntenfold expand {file} -o array.npy",
    }


def _own_kind(fit: Fit) -> str:
    """What a structure outside of the families is, in words, from the name that it was tried under."""
    chosen = next((trial.name for trial in fit.front if trial.chosen), "")
    kind, _, sizes = chosen.partition(" ")
    if kind == "levels":
        return f"{chosen} (each of these axes split into steps from coarse to fine, one core for each step)"
    if kind == "patches":
        return f"{chosen} (blocks of the size after each stroke, one core for where they lie, one for what is in them)"
    return chosen if sizes else "a structure of its own kind"


def _facts(fit: Fit) -> list[dict[str, str]]:
    return [
        {
            "name": fit.measure,
            "value": number(fit.error, 3),
            "note": "as given" if fit.of_loss else "|data - fit| / |data|",
        },
        {
            "name": "parameters",
            "value": f"{fit.parameters:,}",
            "note": f"of {fit.structure.size:,} entries"
            if fit.structure.size < 1e12
            else f"of {fit.structure.size:.3g} entries",
        },
        {"name": "compression ratio", "value": f"{number(fit.ratio, 3)}×", "note": "entries / parameters"},
        {
            "name": "time",
            "value": f"{fit.seconds:.2f} s" if fit.seconds < 100 else f"{fit.seconds:.0f} s",
            "note": fit.method,
        },
    ]


def _drawing(fit: Fit) -> Panel:
    names = [axis.name for axis in axes_of(fit)]
    fig = draw(fit.structure, names=names)
    label = f"Network of {len(fit.structure.terms)} cores for the axes {', '.join(names)}"
    return Panel(svg(fig, label), wide=True)


def _facts_of_search(fit: Fit, search: Search) -> list[dict[str, str]]:
    """Those of the fit, how much work it was, and the error that the search went by where that is another."""
    facts = _facts(fit)
    if search.measure != fit.measure:
        note = "on known cells that it was chosen by, and not fitted to"
        facts.insert(0, {"name": search.measure, "value": number(search.error, 3), "note": note})
    if search.tested is not None:
        note = f"on {search.tested_cells:,} cells kept for the end"
        facts.insert(1, {"name": "unseen error", "value": number(search.tested, 3), "note": note})
    note = f"as papers count them; {search.fits:,} fitted"
    return [*facts, {"name": "evaluations", "value": f"{search.counted:,}", "note": note}]


def _searched(search: Search) -> dict[str, Any]:
    """What the page says of a search beside its fit."""
    return {
        "space": search.summary()["space"],
        "method": search.method,
        "rivals": [marked(panel) for panel in searched.rivals(search)],
        "pictures": [marked(panel) for panel in (searched.path(search), searched.sizes_and_flops(search)) if panel],
    }


def _scalar(fit: Fit, original: Any) -> dict[str, str] | None:
    """Both numbers of a fit without axes."""
    if fit.shape:
        return None
    source = pictures.source_of(original, ())
    return {
        "model": f"{fit.network.dense().item():.8g}",
        "original": "" if source is None else f"{np.asarray(source.part(())).item():.8g}",
    }
