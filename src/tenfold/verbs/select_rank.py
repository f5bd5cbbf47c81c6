"""`select_rank`: an array in, what each number of components is worth out."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import torch

from tenfold._tables import columns
from tenfold._threads import threads_for
from tenfold.decomposition import find
from tenfold.structure_search import as_whole
from tenfold.structure_search.select_rank import RankRow, choices, rank_rows
from tenfold.verbs._arrays import prepare
from tenfold.verbs._progress import progress_bar

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class RankTable:
    """What four criteria say of each rank; prints as a table.

    Attributes:
        rows: a row for each rank, ascending.
        criterion: the one asked for.
        choices: the rank that each criterion chooses, None where it chooses none.
        interrupted: whether ranks are missing because the work was interrupted.
    """

    rows: tuple[RankRow, ...]
    criterion: str
    choices: Mapping[str, int | None]
    interrupted: bool = False

    @property
    def chosen(self) -> int | None:
        """The rank that the criterion asked for chooses."""
        return self.choices[self.criterion]

    def plot(self) -> Figure:
        """A matplotlib figure: one curve for each criterion, the chosen ranks ringed."""
        from tenfold.report.ranks import plot_ranks

        return plot_ranks(self)

    def summary(self) -> dict[str, Any]:
        """The same as plain values for JSON; what was not measured is None."""
        rows = [
            {name: None if isinstance(v, float) and math.isnan(v) else v for name, v in asdict(row).items()}
            for row in self.rows
        ]
        return {
            "criterion": self.criterion,
            "chosen": self.chosen,
            "choices": dict(self.choices),
            "interrupted": self.interrupted,
            "rows": rows,
        }

    def __str__(self) -> str:
        header = ("", "rank", "error", "stability", "core consistency", "held out", "BIC", "seconds")
        rows = [
            (
                "*" if row.rank == self.chosen else "",
                row.rank,
                f"{row.error:.5f}",
                _known(row.stability, f"{row.stability:.3f}"),
                _known(row.core_consistency, _consistency(row.core_consistency)),
                _known(row.held_out, f"{row.held_out:.4f} ± {row.held_out_se:.4f}"),
                f"{row.bic:,.0f}",
                f"{row.seconds:.1f}",
            )
            for row in self.rows
        ]
        said = ", ".join(f"{name.replace('_', ' ')} {rank or 'none'}" for name, rank in self.choices.items())
        return columns(header, rows, right=(1, 2, 3, 4, 5, 6, 7)) + f"\n\nchosen by {said}"

    __repr__ = __str__


def select_rank(
    data: Any,
    ranks: Sequence[int] = range(1, 9),
    criterion: str = "stability",
    *,
    starts: int = 5,
    seed: int = 0,
    method: str | None = None,
    dtype: torch.dtype | str | None = None,
    progress: bool | None = None,
) -> RankTable:
    """How many components a CP decomposition of the data should have.

    Each rank is fitted from several random starts. Four criteria look at the fits:

    - ``"stability"``: the largest rank at which the starts find the same components (factor match score above 0.9);
    - ``"core_consistency"``: the largest rank above 60;
    - ``"held_out"``: the smallest rank that predicts cells kept from the fit, a tenth in each of ``starts`` folds,
      within one standard error of the best;
    - ``"bic"``: the least Bayesian information criterion.

    Args:
        data: an array as `tenfold.fit` takes it, whole, with missing cells, or sparse. Sparse ones are made dense where
            that is affordable; of larger ones stability and BIC are known.
        ranks: which to try.
        criterion: the one whose choice is ``chosen``; all are measured, held-out cells of more than 200,000 only if
            they are it.
        starts: random starts for each rank, at least 2.
        seed: fixes every random draw.
        method: the name of a method; the one made for CP by default.
        dtype: compute in this dtype instead of the data's own.
        progress: show a progress bar on standard error; by default when that is a terminal.

    Returns:
        A `RankTable`. An interrupt (Ctrl-C) returns the ranks finished so far; before the first it passes through.

    Raises:
        DataError: the data cannot be fitted, is zero, has a single mode, or is sparse and too large for the criterion.
        TenfoldError: an argument is not one of those above.

    Cost: ``starts`` fits for each rank, and as many with held-out cells.
    """
    ready = prepare(data, dtype=dtype)
    entry = None if method is None else find(method)
    whole = as_whole(ready.whole) if entry is None or "array" in entry.takes else ready.whole
    rows: list[RankRow] = []
    interrupted = False
    with threads_for(ready.cells), progress_bar(progress) as bar:
        try:
            for row in rank_rows(
                whole, list(ranks), criterion=criterion, starts=starts, seed=seed, method=entry, on_step=bar.rung
            ):
                rows.append(row)
        except KeyboardInterrupt:
            if not rows:
                raise
            interrupted = True
    return RankTable(tuple(rows), criterion, choices(rows), interrupted)


def _known(value: float, text: str) -> str:
    return "-" if math.isnan(value) else text


def _consistency(value: float) -> str:
    return f"{value:.1f}" if value > -1000 else "< -1000"
