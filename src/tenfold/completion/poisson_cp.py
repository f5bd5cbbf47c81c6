"""Nonnegative CP of counts in cells here and there, with uncertainty."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from tenfold.completion import _counts
from tenfold.completion._count_spread import Excess, Information, Spread, shares
from tenfold.completion._counts import Cells
from tenfold.completion._registry import Callback, Step, method
from tenfold.completion.model import Prediction, State
from tenfold.completion.task import Task
from tenfold.errors import TenfoldError


@dataclass(frozen=True, eq=False)
class PoissonCP:
    """Rates of low rank, which are the means of the counts.

    Attributes:
        costs: the objective after each epoch, of the start that was kept.
        spread: how well the rates are known.
        dispersion: the variance of a count is its mean plus this times the square of its mean.
    """

    factors: Float[Tensor, "rows rank"]
    spread: Spread
    dispersion: float
    sizes: tuple[int, ...]
    errors: tuple[float, ...]
    costs: tuple[float, ...]
    stopped: str
    kept: State
    parameters: int
    evidence: float | None = None

    def predict(self, coordinates: Float[Tensor, "m N"], attributes: Float[Tensor, "m D"] | None = None) -> Prediction:
        """The expected counts; attributes say nothing here."""
        rows = _counts.stacked(coordinates, self.sizes)
        mean = _counts.rates(rows, self.factors[None])[0]
        variance = mean.square() * self.spread.of_logarithms(rows, shares(rows, self.factors))
        return Prediction(mean, variance, self.dispersion * (mean.square() + variance))

    def state(self) -> State:
        return self.kept


def _restore(state: State) -> PoissonCP:
    tensors, facts = state.tensors, state.facts
    best = int(facts["best"])
    return PoissonCP(
        tensors["factors"][best],
        Spread(tensors["covariance"]),
        float(facts["dispersion"]),
        tuple(facts["sizes"]),
        tuple(tensors["deviances"][:, best].tolist()),
        tuple(tensors["costs"][:, best].tolist()),
        str(facts["stopped"]),
        state,
        tensors["factors"][best].numel(),
    )


@method("poisson_cp", restore=_restore, counts=True)
def poisson_cp(
    task: Task,
    *,
    rank: int | None = None,
    seed: int = 0,
    epochs: int = 200,
    tol: float = 1e-6,
    callback: Callback | None = None,
    resume: State | None = None,
    starts: int = 3,
    sweeps: int = 5,
    prior: float = 0.1,
) -> PoissonCP:
    """Poisson CP of counts: nonnegative factors by majorise-minimise steps, intervals by a normal approximation.

    Of several starts, fitted side by side, that of the lowest objective is kept. Counts that vary more than Poisson's
    are recognised, and make intervals wider.

    Args:
        rank: the number of components; 3 without it.
        tol: stop where the objective falls by less than this part of it in an epoch, in every start.
        starts: how many.
        sweeps: steps on every factor in an epoch.
        prior: the strength of the prior of the factors, in counts for each entry; 0 for none.

    Raises:
        TenfoldError: a continuous mode, a rank larger than the number of observations, an argument that is no such.
        DataError: a value that is no count.

    Cost: an epoch, for each start, O(n N rank) for every sweep and mode.
    Paper: "On tensors, sparsity, and nonnegative factorizations", 2012.
    """
    cells = Cells.of(task, "poisson_cp")
    for name, given, least in (("starts", starts, 1), ("sweeps", sweeps, 1), ("prior", prior, 0)):
        if given < least:
            raise TenfoldError(f"{name} {given:g} must be at least {least}")
    rank = _counts.checked_rank(rank, cells)
    costs: list[Tensor] = []
    deviances: list[Tensor] = []
    if resume is None:
        factors = _counts.first_factors(cells, rank, starts, 1.0, torch.Generator().manual_seed(seed))
    else:
        factors = resume.tensors["factors"].clone()
        costs, deviances = list(resume.tensors["costs"]), list(resume.tensors["deviances"])
    seen = torch.ones(len(factors), len(cells), dtype=torch.float64)

    def state(stopped: str) -> State:
        best = int(costs[-1].argmin()) if costs else 0
        means = _counts.rates(cells.rows, factors[best : best + 1])[0]
        known = Information(cells, factors[best], means, prior)
        dispersion = Excess(cells, means, known.fitted).dispersion()
        empty = torch.zeros(0, len(factors), dtype=torch.float64)
        facts: dict[str, Any] = {
            "best": best,
            "dispersion": dispersion,
            "sizes": list(cells.sizes),
            "stopped": stopped,
        }
        tensors = {
            "factors": factors.clone(),
            "covariance": known.spread(dispersion).covariance,
            "costs": torch.stack(costs) if costs else empty,
            "deviances": torch.stack(deviances) if costs else empty,
        }
        return State(tensors, facts)

    stopped = "epochs"
    while len(costs) < epochs:
        if len(costs) > 1 and bool((costs[-2] - costs[-1] <= tol * costs[-1].abs()).all()):
            stopped = "tol"
            break
        for _ in range(sweeps):
            _counts.sweep(cells, seen, factors, prior)
        half = _counts.deviance(cells, _counts.rates(cells.rows, factors))
        costs.append(half + _counts.penalty(cells, factors, prior) / len(cells))
        deviances.append(2 * half)
        if callback is not None:
            error = float(deviances[-1][costs[-1].argmin()])
            callback(Step(len(costs), epochs, error, lambda: state("epochs")))
    return _restore(state(stopped))
