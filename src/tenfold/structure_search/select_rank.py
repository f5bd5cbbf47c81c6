"""How many components: what four criteria say of each rank of a CP decomposition."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch

from tenfold import formats
from tenfold._arguments import whole_number
from tenfold.components import core_consistency
from tenfold.decomposition import Data, Entry, choose, relative_error
from tenfold.errors import DataError, TenfoldError
from tenfold.observations import Observations
from tenfold.structure_search.restarts import Restarts, restarts

CRITERIA = ("stability", "core_consistency", "held_out", "bic")
# Where a rank still counts as stable, and as trilinear.
STABLE, CONSISTENT = 0.9, 60.0
# The part of the cells that is held out, and cells up to which that is done without being asked for.
_HELD_OUT = 0.1
_HELD_OUT_CELLS = 200_000
_SWEEPS, _TOL = 200, 1e-6
# What is not known of sparse arrays too large to be made dense.
_WHOLE = ("core_consistency", "held_out")


@dataclass(frozen=True)
class RankRow:
    """What is known of one rank.

    Attributes:
        rank: the number of components.
        error: the least relative error of all starts.
        errors: those of all starts, ascending.
        stability: the mean factor match score between the best start and those as good.
        core_consistency: the median over those starts; NaN where a mode is shorter than the rank, or data is sparse.
        held_out: the mean relative error on cells that were held out, a tenth in each of several folds; NaN where that
            was not measured.
        held_out_se: its standard error over the folds.
        bic: the Bayesian information criterion, ``n log(RSS / n) + p log n`` for n cells and p free parameters.
        seconds: how long this rank took.
        exact: whether the error is nothing but rounding.
    """

    rank: int
    error: float
    errors: tuple[float, ...]
    stability: float
    core_consistency: float
    held_out: float
    held_out_se: float
    bic: float
    seconds: float
    exact: bool = False


def rank_rows(
    data: Data,
    ranks: Sequence[int],
    *,
    criterion: str = "stability",
    starts: int = 5,
    seed: int = 0,
    method: Entry | None = None,
    on_step: Callable[[str, int, int], None] | None = None,
) -> Iterator[RankRow]:
    """Fit each rank from several random starts, and several folds with a tenth of the cells held out.

    Args:
        data: a whole array, or observations of one with missing cells or of a sparse one; of at least two modes.
        ranks: which; at least 1 each.
        criterion: what the choice will be by; held-out cells of large arrays are fitted only if it is that.
        starts: random starts, and folds, for each rank; at least 2.
        seed: of the starts and of what is held out.
        method: what fits; by default the one made for CP and this kind of data.
        on_step: called before each fit with what it is, how many are done and how many there are.

    Yields:
        A row for each rank, ascending.

    Raises:
        DataError: the data is zero, of a single mode, of too few cells to hold any out, or sparse where the criterion
            needs a whole array.
        TenfoldError: a rank or ``starts`` is too small.

    Cost: ``starts`` fits for each rank; with held-out cells as many again, of the method for missing cells.
    """
    ordered = _checked(data, ranks, criterion, starts)
    seed = whole_number("seed", seed, 0)
    shape = tuple(data.shape or ())
    sparse = isinstance(data, Observations) and data.rest == "zero"
    known = data.distinct if isinstance(data, Observations) and not sparse else math.prod(shape)
    folded = not sparse and (criterion == "held_out" or known <= _HELD_OUT_CELLS)
    folds = starts if folded else 0
    whole = _whole(data) if folded else None
    total = len(ordered) * (starts + folds)
    done = 0

    def step(label: str) -> None:
        nonlocal done
        if on_step is not None:
            on_step(label, done, total)
        done += 1

    double = torch.finfo(data.dtype).bits == 64
    exact = 1e-7 if double else 1e-5  # what an iterative fit of exact data ends with is rounding
    for rank in ordered:
        started = time.perf_counter()
        structure = formats.cp(shape, rank)
        options = {"error": exact / 10, "max_sweeps": _SWEEPS, "tol": _TOL}
        runs = restarts(
            data,
            structure,
            starts=starts,
            seed=seed,
            method=method,
            options=options,
            on_start=lambda start, rank=rank: step(f"rank {rank}, start {start + 1}"),  # type: ignore[misc]
        )
        outside = []
        for fold in range(folds):
            step(f"rank {rank}, cells held out {fold + 1}")
            assert whole is not None
            train, test = whole.split(_HELD_OUT, seed + fold)  # anew, for the coordinates of all folds are large
            fit = choose(structure, train).function(train, structure, seed=seed, max_sweeps=_SWEEPS, tol=1e-5)
            outside.append(relative_error(test, fit.network))
        free = (sum(shape) - len(shape) + 1) * rank
        # Not below rounding: two exact fits differ by their parameters alone.
        log_rss = 2 * (math.log(max(runs.errors[0], exact)) + math.log(_norm(data)))
        yield RankRow(
            rank=rank,
            error=runs.errors[0],
            errors=runs.errors,
            stability=runs.stability,
            core_consistency=math.nan if sparse else _consistency(data, runs),
            held_out=statistics.fmean(outside) if outside else math.nan,
            held_out_se=statistics.stdev(outside) / math.sqrt(len(outside)) if outside else math.nan,
            bic=known * (log_rss - math.log(known)) + free * math.log(known),
            seconds=time.perf_counter() - started,
            exact=runs.errors[0] <= exact,
        )


def choices(rows: Sequence[RankRow]) -> Mapping[str, int | None]:
    """The rank that each criterion chooses; None where no rank qualifies or nothing was measured.

    Stability and core consistency: the largest rank above 0.9, or 60, of those whose error is below that of all lower
    ranks, up to the first one that is exact: components that fit nothing can be found again by chance. Held out: the
    smallest rank within one standard error of the least error. BIC: the rank of the least.
    """
    measured = [row for row in rows if not math.isnan(row.held_out)]
    held_out = None
    if measured:
        best = min(measured, key=lambda row: row.held_out)
        held_out = min(row.rank for row in measured if row.held_out <= best.held_out + best.held_out_se)
    useful = _useful(rows)
    return {
        "stability": max((row.rank for row in useful if row.stability > STABLE), default=None),
        "core_consistency": max((row.rank for row in useful if row.core_consistency > CONSISTENT), default=None),
        "held_out": held_out,
        "bic": min(rows, key=lambda row: row.bic).rank if rows else None,
    }


def _useful(rows: Sequence[RankRow]) -> list[RankRow]:
    """The ranks that fit better than all lower ones, up to the first that leaves nothing to fit."""
    found: list[RankRow] = []
    for row in sorted(rows, key=lambda row: row.rank):
        if found and (found[-1].exact or row.error >= found[-1].error):
            continue
        found.append(row)
    return found


def _checked(data: Data, ranks: Sequence[int], criterion: str, starts: int) -> list[int]:
    if criterion not in CRITERIA:
        raise TenfoldError(f"criterion must be one of {', '.join(CRITERIA)}, not {criterion!r}")
    if isinstance(starts, bool) or not isinstance(starts, int) or starts < 2:
        raise TenfoldError(f"starts must be a whole number of at least 2, to be compared, not {starts!r}")
    wrong = [rank for rank in ranks if isinstance(rank, bool) or not isinstance(rank, int) or rank < 1]
    if wrong or not len(ranks):
        raise TenfoldError(f"ranks must be whole numbers of at least 1, not {wrong[0] if wrong else 'none at all'!r}")
    if len(data.shape or ()) < 2:
        raise DataError(f"data has {len(data.shape or ())} mode: components need at least 2")
    if isinstance(data, Observations) and data.rest == "zero" and criterion in _WHOLE:
        raise DataError(
            f"criterion {criterion} needs a whole array, but data is sparse with {data.size:,} cells; choose by "
            f"stability or bic, or take a part of it"
        )
    if (data.distinct if isinstance(data, Observations) else data.numel()) < 20:
        raise DataError("data has fewer than 20 known cells: a tenth of them says nothing of a rank")
    if not _norm(data) > 0:
        raise DataError("data is zero: it has no components")
    return sorted(set(ranks))


def _norm(data: Data) -> float:
    return data.norm() if isinstance(data, Observations) else float(torch.linalg.vector_norm(data))


def _whole(data: Data) -> Observations:
    if isinstance(data, Observations):
        return data
    return Observations.from_masked(data, observed=torch.ones(data.shape, dtype=torch.bool, device=data.device))


def _consistency(data: Data, runs: Restarts) -> float:
    return statistics.median(core_consistency(data, runs.networks[n]) for n in runs.near)
