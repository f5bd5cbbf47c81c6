"""Tucker of partly known tensors by least squares, its rows as uncertain as their entries leave them."""

from __future__ import annotations

from tenfold.completion._multilinear import Multilinear, complete, restore, tucker_structure
from tenfold.completion._registry import Callback, method
from tenfold.completion.model import State
from tenfold.completion.task import Task


@method("tucker", restore=restore)
def tucker(
    task: Task,
    *,
    rank: int | None = None,
    seed: int = 0,
    epochs: int = 400,
    tol: float = 1e-6,
    callback: Callback | None = None,
    resume: State | None = None,
    ridge: float | None = None,
) -> Multilinear:
    """Tucker by least squares with a ridge chosen by what is left out, and a normal posterior of its rows.

    The fit is `tenfold.decomposition.als_observed`. The row of a level is then taken for normal: given the other
    factors its precision is that of its observations plus the inverse of the covariance of all rows of its factor, so
    a level of which nothing was observed is the mean row, as uncertain as rows differ. The variance of a prediction is
    the sum over modes (the delta method), each larger by what errors of the other factors do to the level's
    observations. The noise is what is left of the residuals' squares for each degree of freedom that is left.

    Args:
        task: discrete modes.
        rank: of each mode; None tries growing ranks on what is left out.
        seed: of the starts and of what is left out.
        epochs: sweeps at most, those of the search for the ridge included.
        tol: as of ``als_observed``.
        callback: called after every sweep.
        resume: the fit is a search that begins anew, which ends as if it had never been interrupted.
        ridge: instead of one chosen.

    Raises:
        TenfoldError: a rank or a ridge that is none.

    Cost of a sweep: ``n k^(2 N)`` for n observations and rank k in N modes.
    """
    del resume
    return complete(
        task, tucker_structure, rank=rank, seed=seed, epochs=epochs, tol=tol, callback=callback, ridge=ridge
    )
