"""TnALE finds a planted ring with fewer evaluations than TNLS."""

from __future__ import annotations

from statistics import median

from tenfold.claims._progress import steps
from tenfold.claims._registry import Measurement, claim
from tenfold.claims._searches import Run, searched

_SUCCESSES, _TIMES = 0.9, 2.0


@claim(
    "search_evaluations",
    paper="Alternating Local Enumeration (TnALE): Solving Tensor Network Structure Search with Fewer Evaluations",
    year=2023,
    where="Abstract",
    stated=(
        "Alternating enumeration of ranks and order in small windows reaches structures as good as sampling around the "
        "best one (TNLS) does, with far fewer evaluations."
    ),
)
def search_evaluations(*, seed: int = 0, seeds: int = 10, most: int = 1200) -> Measurement:
    """Search planted rings of six modes with hidden order by both, from random starts, until they are found.

    Evaluations are counted as the papers count them: every structure asked for, also those seen before or ruled out
    without a fit. Both have the same evaluator and restart where they stand still. Ten rings take a quarter of an
    hour. Holds if TnALE finds nine of ten, and the median count of TNLS (those that end without success counted in
    full) is at least twice that of TnALE.
    """
    runs = range(seed, seed + seeds)
    ours = [searched("tnale", n, most, start="random") for n in steps("TnALE, ring", runs)]
    theirs = [searched("tnls", n, most) for n in steps("TNLS, ring", runs)]
    ratio = median(run.counted for run in theirs) / median(run.counted for run in ours)
    found = sum(run.found for run in ours)
    text = f"TnALE {_told(ours)}; TNLS {_told(theirs)} (at most {most}); {ratio:.1f} times as many in the median"
    numbers = {
        "seeds": seeds,
        "tnale_found": found,
        "tnls_found": sum(run.found for run in theirs),
        "tnale_median": median(run.counted for run in ours),
        "tnls_median": median(run.counted for run in theirs),
        "ratio": ratio,
    }
    return Measurement(found >= _SUCCESSES * seeds and ratio >= _TIMES, text, numbers)


def _told(runs: list[Run]) -> str:
    return (
        f"finds {sum(run.found for run in runs)} of {len(runs)} with {median(run.counted for run in runs):g} "
        f"evaluations ({median(run.fits for run in runs):g} fits) in the median"
    )
