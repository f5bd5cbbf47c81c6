"""Cells that are left out stay unseen along a whole search."""

from __future__ import annotations

import numpy as np

import tenfold as tn
from tenfold.structure_search import Observed, Ring


def test_noise_is_never_predicted_however_often_a_fit_starts_from_another() -> None:
    space = Ring((8, 7, 9), max_rank=3)
    array, hidden = np.random.default_rng(0).standard_normal(space.shape), np.random.default_rng(1).random(space.shape)
    target = Observed(tn.Observations.from_nan(np.where(hidden < 0.2, np.nan, array)))
    near, errors = None, []
    for seed in range(6):
        fitted = target.fit(space.structure(space.first(3)), near=near, seed=seed)
        near = fitted.network
        errors.append(fitted.error)
    assert min(errors) > 0.9
