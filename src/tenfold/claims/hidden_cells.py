"""Hidden cells of planted CP networks, found again from the others."""

from __future__ import annotations

import torch

from tenfold import formats
from tenfold.claims._registry import Measurement, claim
from tenfold.decomposition import find
from tenfold.network import Network
from tenfold.observations import Observations

_SHAPE = (12, 13, 14)
_BOUND = 1e-6


@claim(
    "hidden_cells",
    paper="Scalable tensor factorizations for incomplete data",
    year=2011,
    where="the comparison of weighted optimisation with imputation",
    stated="CP factors can be found although 70 % of the cells are missing, when the observed cells alone are fitted.",
)
def hidden_cells(*, seed: int = 0, seeds: int = 5) -> Measurement:
    """Plant CP networks of rank 3, hide 70 % of the cells, and fit by rows and by imputation; compare hidden cells.

    Holds if the regularised row-wise fit predicts the hidden cells to a relative error of 10^-6 for every tensor; how
    often imputation does is told beside it.
    """
    structure = formats.cp(_SHAPE, 3)
    worst, imputed = 0.0, 0
    for number in range(seed, seed + seeds):
        data = Network.random(structure, seed=number, dtype=torch.float64).dense()
        known = torch.rand(_SHAPE, generator=torch.Generator().manual_seed(number)) < 0.3
        observed = Observations(known.nonzero(), data[known], _SHAPE)
        hidden = data[~known]
        errors = {}
        for name in ("als_observed", "em_imputation"):
            network = find(name).function(observed, structure, seed=number, tol=1e-8).network
            errors[name] = float((network.dense()[~known] - hidden).norm() / hidden.norm())
        worst = max(worst, errors["als_observed"])
        imputed += errors["em_imputation"] <= _BOUND
    text = (
        f"{seeds} tensors of {'x'.join(map(str, _SHAPE))} with 30 % of the cells: by rows the hidden cells are "
        f"found to {worst:.1e} at worst; imputation finds those of {imputed} to {_BOUND:.0e}"
    )
    return Measurement(worst <= _BOUND, text, {"tensors": seeds, "largest_error": worst, "imputed": imputed})
