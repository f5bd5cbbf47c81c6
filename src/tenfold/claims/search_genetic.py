"""A genetic search of graphs finds planted ones that random draws miss."""

from __future__ import annotations

from statistics import median

from tenfold.claims._progress import steps
from tenfold.claims._registry import Measurement, claim
from tenfold.claims._searches import EDGE, planted_graph, searched

_SHARE, _TIMES = 0.5, 2.0


@claim(
    "search_genetic",
    paper="Evolutionary topology search for tensor network decomposition",
    year=2020,
    where="Abstract",
    stated="A genetic algorithm over adjacency matrices finds a good graph of a tensor network for given data.",
)
def search_genetic(*, seed: int = 0, seeds: int = 10, most: int = 250) -> Measurement:
    """Search all graphs on five modes for planted ones, by the genetic search and by random draws, until found.

    There are 1024 graphs, and ``most`` evaluations; bonds are of size 2 throughout, as in the paper. Holds if the
    genetic search finds half of the planted graphs or more, and at least twice as many as random draws do.
    """
    runs = range(seed, seed + seeds)
    options = {"population": 20, "parents": 16, "fixed_rank": EDGE}
    bred = [searched("tnga", n, most, planted_graph, **options) for n in steps("genetic search, graph", runs)]
    drawn = [searched("random_search", n, most, planted_graph) for n in steps("random draws, graph", runs)]
    found, luck = sum(run.found for run in bred), sum(run.found for run in drawn)
    counts, fits = median(run.counted for run in bred), median(run.fits for run in bred)
    text = (
        f"of {seeds} planted graphs the genetic search finds {found} with at most {most} evaluations ({counts:g} and "
        f"{fits:g} fits in the median), random draws find {luck} ({median(run.fits for run in drawn):g} fits)"
    )
    numbers = {
        "seeds": seeds,
        "evaluations": most,
        "found": found,
        "found_at_random": luck,
        "median_evaluations": counts,
        "median_fits": fits,
    }
    return Measurement(found >= _SHARE * seeds and found >= _TIMES * luck, text, numbers)
