"""A posterior as text that people read."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

from tenfold._tables import columns, facts

if TYPE_CHECKING:
    from tenfold.verbs._diagnosis import HeldOut
    from tenfold.verbs.posterior import Posterior


def table(posterior: Posterior) -> str:
    """The result of a completion: what it is, how well it predicts, what was compared, what there is to worry about."""
    rank = "" if posterior.rank is None else f", rank {posterior.rank}"
    rows = [("data", f"{posterior.source}: {posterior.observations:,} observations of {posterior.value}")]
    if posterior.empty:
        rows.append(("", left_out(posterior.empty)))
    rows += [("mode" if n == 0 else "", f"{mode.name}: {mode.kind}") for n, mode in enumerate(posterior.modes)]
    rows += [
        ("model", f"{posterior.method}{rank}, {posterior.model.parameters:,} parameters"),
        ("stopped", _STOPPED.get(posterior.stopped, posterior.stopped)),
        ("seconds", f"{posterior.seconds:.2f}"),
    ]
    parts = [facts(rows)]
    if posterior.held_out is not None:
        parts.append(held_out_table(posterior.held_out, posterior.value))
    if len(posterior.tried) > 1:
        parts.append(tried_table(posterior))
    if posterior.diagnosis.warnings:
        said = [textwrap.fill(f"- {text}", 100, subsequent_indent="  ") for text in posterior.diagnosis.warnings]
        parts.append("\n".join(["before you rely on it", *said]))
    return "\n\n".join(parts)


def left_out(empty: int) -> str:
    """That rows of a table had no value."""
    return f"{empty:,} row{'' if empty == 1 else 's'} without a value left out"


def held_out_table(held: HeldOut, value: str) -> str:
    """How well held-out observations are predicted."""
    rows = [
        ("RMSE", f"{held.rmse:.4g}   (a constant: {held.deviation:.4g}; explained: {100 * held.explained:.1f} %)"),
        ("MAE", f"{held.mae:.4g}"),
    ]
    for level, share in held.coverage.items():
        rows.append(
            (
                f"{100 * float(level):g} % intervals",
                f"hold {100 * share:.1f} % of them, {held.width[level]:.4g} wide on average",
            )
        )
    rows.append(("log density", f"{held.log_density:.4g} on average"))
    how = {
        "test": "held out for a test",
        "calibration": "held out to choose the model and set the width of its intervals",
    }[held.kind]
    return f"{held.count:,} observations of {value} {how}\n{facts(rows)}"


def tried_table(posterior: Posterior) -> str:
    """The models that were compared, with errors in the units of the data, as above."""
    rows = []
    for one in posterior.tried:
        rank = "" if one.rank is None else str(one.rank)
        if one.error is None:
            rows.append((one.method, rank, "-", "-", "-", f"{one.seconds:.1f}", one.note[:60]))
            continue
        evidence = "-" if one.evidence is None else f"{one.evidence:.1f}"
        rows.append(
            (
                one.method,
                rank,
                f"{one.error * one.deviation:.4g}",
                "-" if one.training is None else f"{one.training * one.deviation:.4g}",
                evidence,
                f"{one.seconds:.1f}",
                "chosen" if one.chosen else "",
            )
        )
    header = ("compared", "rank", "held-out RMSE", "training RMSE", "log evidence", "seconds", "")
    return columns(header, rows, right=(1, 2, 3, 4, 5))


_STOPPED = {
    "tol": "it no longer changed",
    "epochs": "all epochs were done; more may help (--epochs)",
    "exact": "solved exactly, without iterating",
    "interrupted": "interrupted; this is what there was until then",
}
