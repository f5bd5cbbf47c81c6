"""TnALE saves evaluations by interpolating errors between ranks in its first trips."""

from __future__ import annotations

from statistics import median

from tenfold.claims._progress import steps
from tenfold.claims._registry import Measurement, claim
from tenfold.claims._searches import searched

_SAVED = 1.1


@claim(
    "search_interpolation",
    paper="Alternating Local Enumeration (TnALE): Solving Tensor Network Structure Search with Fewer Evaluations",
    year=2023,
    where="Section on knowledge transfer",
    stated=(
        "Estimating errors within a window by interpolating between few that were evaluated, in the first trips, "
        "lowers the number of evaluations without worse structures."
    ),
)
def search_interpolation(*, seed: int = 0, seeds: int = 10, most: int = 1200) -> Measurement:
    """Search planted rings from random starts with two interpolated first trips, and with those trips fitted in full.

    Windows of the first trips have radius two in both. Ten rings take a quarter of an hour. Holds if interpolation
    finds no fewer of the rings, and the median count without it is at least a tenth higher.
    """
    runs = range(seed, seed + seeds)
    with_it = [searched("tnale", n, most, start="random") for n in steps("with interpolation, ring", runs)]
    without = [
        searched("tnale", n, most, start="random", interpolate=False)
        for n in steps("without interpolation, ring", runs)
    ]
    ratio = median(run.counted for run in without) / median(run.counted for run in with_it)
    found = (sum(run.found for run in with_it), sum(run.found for run in without))
    text = (
        f"with interpolation {found[0]} of {seeds} with {median(run.counted for run in with_it):g} evaluations in the "
        f"median, without {found[1]} with {median(run.counted for run in without):g}: {ratio:.2f} times as many"
    )
    numbers = {
        "seeds": seeds,
        "found_with": found[0],
        "found_without": found[1],
        "median_with": median(run.counted for run in with_it),
        "median_without": median(run.counted for run in without),
        "ratio": ratio,
    }
    return Measurement(found[0] >= found[1] and ratio >= _SAVED, text, numbers)
