"""A ridge weighted by the cells of a row keeps large ranks from overfitting."""

from __future__ import annotations

import torch

from tenfold import formats
from tenfold.claims._registry import Measurement, claim
from tenfold.decomposition import relative_error
from tenfold.decomposition.als_observed import als_observed
from tenfold.network import Network
from tenfold.observations import Observations

_SHAPE, _RANK, _RANKS = (60, 50), 2, (2, 4, 8, 12)
_RIDGE = 0.1
_WORSE = 1.05


@claim(
    "weighted_ridge",
    paper="Large-scale parallel collaborative filtering for the Netflix prize",
    year=2008,
    where="the section on the number of features",
    stated="With a ridge weighted by the number of ratings, more features do not overfit the data.",
)
def weighted_ridge(*, seed: int = 0, seeds: int = 5) -> Measurement:
    """Fit a quarter of the entries of noisy matrices of rank 2 at ranks up to 12, and predict the others.

    Our ridge pulls the rows to their mean instead of to zero. Holds if with it no rank predicts more than 5 % worse
    than any smaller rank, for the mean over the matrices; plain least squares is told beside it.
    """
    mean = {(ridge, rank): 0.0 for ridge in (_RIDGE, 0.0) for rank in _RANKS}
    for number in range(seed, seed + seeds):
        generator = torch.Generator().manual_seed(number)
        signal = Network.random(formats.cp(_SHAPE, _RANK), seed=number, dtype=torch.float64).dense()
        noise = torch.randn(_SHAPE, generator=generator, dtype=torch.float64)
        data = signal + 0.5 * noise * float(signal.norm() / noise.norm())
        known = torch.rand(_SHAPE, generator=generator) < 0.25
        train = Observations(known.nonzero(), data[known], _SHAPE)
        test = Observations((~known).nonzero(), data[~known], _SHAPE)
        for ridge, rank in mean:
            fit = als_observed(train, formats.cp(_SHAPE, rank), ridge=ridge, holdout=0.0, seed=number, max_sweeps=100)
            mean[ridge, rank] += relative_error(test, fit.network) / seeds
    worst = max(mean[_RIDGE, large] / mean[_RIDGE, small] for small in _RANKS for large in _RANKS if large >= small)
    text = "\n".join(
        f"ridge {ridge:g}: error on unseen entries "
        + ", ".join(f"{mean[ridge, rank]:.3f} at rank {rank}" for rank in _RANKS)
        for ridge in (_RIDGE, 0.0)
    )
    numbers = {f"ridge {ridge:g}, rank {rank}": value for (ridge, rank), value in mean.items()}
    return Measurement(worst <= _WORSE, text, {"matrices": seeds, "worst_growth": worst, **numbers})
