"""The HTML page of a completion: one file, nothing loaded from anywhere, no script."""

from __future__ import annotations

import csv
import io
import json
import os
import shlex
from typing import TYPE_CHECKING, Any

import numpy as np

from tenfold._files import atomic
from tenfold.report import completed, completed_slices
from tenfold.report._ruler import brief, plain_name
from tenfold.report._style import number, shorten
from tenfold.report._template import filled, footer, marked

if TYPE_CHECKING:
    from tenfold.verbs._modes import Mode
    from tenfold.verbs.posterior import Posterior

# Modes that are drawn and listed; influential observations that are not folded away.
_MODES, _TOP = 12, 8


def write_posterior(posterior: Posterior, path: str | os.PathLike[str], *, saved: str | None = None) -> None:
    """Write what was completed as one self-contained HTML page, which opens offline in any browser, light or dark.

    The page shows how good predictions are where observations were held out, what the data cannot tell, what was
    compared, predictions along each mode with intervals, where the model is off, and which observations matter most. It
    holds no script and forbids its browser to load anything.

    Args:
        posterior: what `tenfold.complete` returned, or `tenfold.load` read; the latter has no data to draw.
        path: where; the file is written beside and renamed when it is whole.
        saved: the file that the posterior was saved to, for the page to name it.

    Raises:
        FileError: the file cannot be written; what stood there before is unchanged.
    """
    text = render(posterior, saved=saved)
    with atomic(os.fspath(path)) as beside:
        beside.write_text(text, encoding="utf-8")


def render(posterior: Posterior, *, saved: str | None = None) -> str:
    """The page of `write_posterior` as text."""
    held = posterior.held_out
    able = [mode for mode in posterior.modes if mode.size > 1]
    slices = [] if posterior.attribute_names else [completed_slices.along(posterior, mode) for mode in able[:_MODES]]
    maps = [] if posterior.attribute_names else completed_slices.maps(posterior)
    return filled(
        "completed.html.j2",
        title=shorten(f"{posterior.value} of {posterior.source}", 80),
        head=_head(posterior),
        facts=_facts(posterior),
        warnings=posterior.diagnosis.warnings,
        use=_use(posterior, saved),
        held=None if held is None else {"count": f"{held.count:,}", "kind": held.kind},
        fitting=[marked(panel) for panel in completed.fitting(posterior)],
        ranks=marked(completed.ranks(posterior)),
        tried=_tried(posterior),
        deviation=_deviation(posterior),
        slices=[marked(panel) for panel in slices],
        maps=[marked(panel) for panel in maps],
        attributes=", ".join(plain_name(name) for name in posterior.attribute_names),
        single=[plain_name(mode.name) for mode in posterior.modes if mode.size < 2],
        left_out=max(0, len(able) - _MODES),
        has_data=posterior.data is not None,
        residuals=[marked(panel) for panel in completed.residuals(posterior)],
        influential=_influential(posterior),
        top=_TOP,
        epochs=marked(completed.epochs(posterior)),
        record=_record(posterior),
        footer=footer(posterior.seed, "float64"),
        summary_json=json.dumps(posterior.summary(), indent=1, ensure_ascii=False),
    )


def _head(posterior: Posterior) -> dict[str, Any]:
    modes = [{"name": mode.name, "kind": _kind(mode)} for mode in posterior.modes]
    return {
        "source": posterior.source,
        "value": posterior.value,
        "observations": f"{posterior.observations:,}",
        "empty": _empty(posterior.empty),
        "modes": modes,
        "method": posterior.method,
        "rank": "" if posterior.rank is None else f"{posterior.rank:,}",
        "counts": posterior.counts,
        "filled": _filled(posterior),
    }


def _empty(rows: int) -> str:
    return f"{rows:,} row{'' if rows == 1 else 's'} without a value left out" if rows else ""


def _kind(mode: Mode) -> str:
    unit = f" {mode.unit}" if mode.unit else ""
    if mode.continuous:
        scale = " on a logarithmic scale" if mode.log else ""
        low, high = brief(mode.text(mode.low)), brief(mode.text(mode.high))
        return f"continuous, {low} to {high}{unit}{scale}, {mode.size:,} places"
    if mode.size == 1:
        return f"one level, {plain_name(mode.label(0))}"
    few = ", ".join(plain_name(mode.label(k), 24) for k in range(min(mode.size, 3)))
    return f"{mode.size:,} levels ({few}{', …' if mode.size > 3 else ''})"


def _filled(posterior: Posterior) -> str:
    """How much of the array was observed, where it is one and the data is there."""
    if posterior.data is None or any(mode.continuous for mode in posterior.modes):
        return ""
    cells = 1
    for mode in posterior.modes:
        cells *= mode.size
    known = len(np.unique(posterior.data.coordinates.numpy(), axis=0))
    return f"{known:,} of {cells:,} cells ({100 * known / cells:.3g} %)"


def _facts(posterior: Posterior) -> list[dict[str, str]]:
    held = posterior.held_out
    if held is None:
        errors = posterior.model.errors
        last = (
            [{"name": "error of the fit", "value": number(errors[-1], 3), "note": _unit(posterior)}] if errors else []
        )
        return [
            {"name": "observations", "value": f"{posterior.observations:,}", "note": "none held out"},
            *last,
            {"name": "parameters", "value": f"{posterior.model.parameters:,}", "note": posterior.method},
            {"name": "time", "value": _seconds(posterior.seconds), "note": "in all"},
        ]
    facts = [
        {"name": "RMSE", "value": number(held.rmse, 3), "note": f"a constant: {number(held.deviation, 3)}"},
        {"name": "explained", "value": f"{100 * held.explained:.1f} %", "note": "of the held-out variance"},
        {"name": "MAE", "value": number(held.mae, 3), "note": "mean absolute error"},
    ]
    for level, share in reversed(held.coverage.items()):
        name, width = f"{100 * float(level):g} % intervals hold", f"{number(held.width[level], 3)} wide on average"
        facts.append({"name": name, "value": f"{100 * share:.1f} %", "note": width})
    return facts


def _unit(posterior: Posterior) -> str:
    return "mean deviance" if posterior.counts else "in standard deviations, on what was fitted"


def _seconds(seconds: float) -> str:
    return f"{seconds:.2f} s" if seconds < 100 else f"{seconds:.0f} s"


def _tried(posterior: Posterior) -> list[dict[str, Any]]:
    return [
        {
            "method": one.method,
            "rank": "" if one.rank is None else f"{one.rank:,}",
            "error": "–" if one.error is None else number(one.error * one.deviation, 4),
            "training": "–" if one.training is None else number(one.training * one.deviation, 4),
            "evidence": "–" if one.evidence is None else f"{one.evidence:,.1f}",
            "parameters": "–" if one.parameters is None else f"{one.parameters:,}",
            "seconds": f"{one.seconds:.2f}",
            "chosen": one.chosen,
            "note": plain_name(one.note, 140),
        }
        for one in posterior.tried
    ]


def _deviation(posterior: Posterior) -> str:
    """What a constant would have for its error where models were compared."""
    return next((number(one.deviation, 4) for one in posterior.tried if one.error is not None), "")


def _influential(posterior: Posterior) -> list[dict[str, str]]:
    return [
        {
            "where": ", ".join(f"{plain_name(name, 30)} = {plain_name(at, 40)}" for name, at in one["where"].items()),
            "observed": number(one["observed"]),
            "predicted": number(one["predicted"]),
            "off": number(one["observed"] - one["predicted"], 3),
            "influence": number(one["influence"], 3),
            "leverage": f"{100 * one['leverage']:.0f} %",
        }
        for one in posterior.diagnosis.influential
    ]


def _record(posterior: Posterior) -> list[tuple[str, str]]:
    stopped = {
        "tol": "it no longer changed",
        "epochs": "all epochs were done",
        "exact": "solved exactly, without iterating",
        "interrupted": "interrupted; this is what there was until then",
    }
    lines = [
        ("stopped", stopped.get(posterior.stopped, posterior.stopped)),
        ("epochs", f"{len(posterior.model.errors):,}" if posterior.model.errors else ""),
        ("parameters", f"{posterior.model.parameters:,}"),
        ("log evidence", "" if posterior.model.evidence is None else f"{posterior.model.evidence:,.1f}"),
        ("seconds", f"{posterior.seconds:.2f}, all that was compared included"),
        ("seed", str(posterior.seed)),
    ]
    return [line for line in lines if line[1]]


# --- how to use it ----------------------------------------------------------------------------------------------------


def _use(posterior: Posterior, saved: str | None) -> dict[str, str]:
    """How to ask it, in Python and in a terminal, at a real point; where nobody says that it was saved, that first."""
    name = "complete.tn" if saved is None else saved
    place = json.dumps(name, ensure_ascii=False)
    point = _point(posterior)
    said = ", ".join(
        f"{_quoted(mode.name)}: {_quoted(value)}" for mode, value in zip(posterior.modes, point, strict=True)
    )
    lines = ["import tenfold as tn", ""]
    if saved is None:
        lines.append(f"posterior.save({place})  # once, where it was found")
    lines += [f"posterior = tn.load({place})", f"point = {{{said}}}"]
    further = ""
    if posterior.attribute_names:
        given = ", ".join(f"{_quoted(name)}: 0.0" for name in posterior.attribute_names)
        lines.append(f"known = {{{given}}}  # your own here")
        further = ", attributes=known"
    lines += [
        f"posterior.mean(point{further})",
        f"posterior.std(point{further})",
        f"posterior.quantiles(point, [0.05, 0.5, 0.95]{further})",
        f"posterior.sample(point, 100{further})",
    ]
    file = shlex.quote(name)
    asked = _asked(posterior, point)
    commands = []
    if asked is not None:
        commands.append(f"tenfold query {file} {shlex.quote(asked)}")
    commands.append(f"tenfold query {file} --points points.csv -o answers.csv")
    commands.append(f"tenfold show {file}")
    return {"python": "\n".join(lines), "terminal": "\n".join(commands)}


def _point(posterior: Posterior) -> list[Any]:
    """A point that is there to be asked about: where much was observed, in the units of the data."""
    modes, typical = posterior.modes, posterior.diagnosis.typical
    places = {**(typical.get(modes[1].name, {}) if len(modes) > 1 else {}), **typical.get(modes[0].name, {})}
    for mode in modes:
        rows = posterior.diagnosis.residuals.get(mode.name, [])
        if mode.name not in places:
            places[mode.name] = float(rows[len(rows) // 2]["place"]) if rows else 0.0
    return [_native(mode, places[mode.name]) for mode in modes]


def _native(mode: Mode, place: float) -> Any:
    """What stands at a place of the model: a number, or text."""
    if not mode.continuous:
        label: Any = int(place) if mode.labels is None else mode.labels[int(place)]
        return label.item() if isinstance(label, np.number) and label.dtype.kind in "iuf" else _text(label)
    text = brief(mode.at(place))
    if np.asarray(mode.low).dtype.kind in "mM":
        return text
    value = float(text)
    return int(value) if value.is_integer() and abs(value) < 1e15 else value


def _text(label: Any) -> Any:
    return label if isinstance(label, int) else str(label)


def _quoted(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False) if isinstance(value, str) else repr(value)


def _asked(posterior: Posterior, point: list[Any]) -> str | None:
    """A point as ``tenfold query`` reads it, or None where its names cannot be written so."""
    parts = [f"{mode.name}={value}" for mode, value in zip(posterior.modes, point, strict=True)]
    parts += [f"{name}=0" for name in posterior.attribute_names]
    out = io.StringIO()
    csv.writer(out, lineterminator="").writerow(parts)
    text = out.getvalue()
    if "\n" in text or "\r" in text or text.startswith("-"):
        return None
    names = [mode.name for mode in posterior.modes] + list(posterior.attribute_names)
    read = [part.partition("=") for part in next(csv.reader([text]))]
    same = [name.strip() for name, _, _ in read] == names
    clean = all(value == value.strip() for _, _, value in read)
    return text if same and clean else None
