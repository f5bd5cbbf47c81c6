"""Counts of events of which each is detected with a probability that attributes tell."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from tenfold.completion import _counts
from tenfold.completion._count_spread import Excess, Information, Spread, shares
from tenfold.completion._counts import Cells
from tenfold.completion._detection import DIVERGENCES, Networks
from tenfold.completion._detection_doubt import left_out
from tenfold.completion._registry import Callback, Step, method
from tenfold.completion.model import Prediction, State
from tenfold.completion.task import Task
from tenfold.errors import DataError, TenfoldError

# A probability is never taken to be less.
_LEAST = 1e-12
_BATCH = 1024


@dataclass(frozen=True, eq=False)
class UnderCounted:
    """Rates of low rank, and a network from attributes to probabilities; what is counted is their product.

    Rates and probabilities are known up to one factor between them.

    Attributes:
        network: of the start that was kept.
        others: networks that each left out a fifth of the observations.
        doubt: the variance of what is said of detection is this times the variance between the others.
        spread: how well the rates are known.
        dispersion: the variance of a count is its mean plus this times the square of its mean.
        mu: how much it weighs that probabilities differ from what the network says.
        costs: the objective after each epoch, of the start that was kept.
    """

    factors: Float[Tensor, "rows rank"]
    network: Networks
    others: Networks
    centre: Float[Tensor, " D"]
    scale: Float[Tensor, " D"]
    spread: Spread
    doubt: float
    dispersion: float
    sizes: tuple[int, ...]
    mu: float
    errors: tuple[float, ...]
    costs: tuple[float, ...]
    stopped: str
    kept: State
    parameters: int
    evidence: float | None = None

    def rate(self, coordinates: Float[Tensor, "m N"]) -> Prediction:
        """The true counts that are expected, detected or not, up to one factor for all."""
        rows = _counts.stacked(coordinates, self.sizes)
        mean = _counts.rates(rows, self.factors[None])[0]
        variance = mean.square() * self.spread.of_logarithms(rows, shares(rows, self.factors))
        return Prediction(mean, variance, self.dispersion * (mean.square() + variance))

    def detection(self, attributes: Float[Tensor, "m D"]) -> Float[Tensor, " m"]:
        """The probability that an event with these attributes is counted, up to one factor for all."""
        return self._seen(attributes)[0]

    def predict(self, coordinates: Float[Tensor, "m N"], attributes: Float[Tensor, "m D"] | None = None) -> Prediction:
        """The counts that are expected to be observed. Raises `DataError` without attributes."""
        if attributes is None or len(attributes) != len(coordinates):
            raise DataError("attributes are needed to predict what is counted: give a row for each of coordinates")
        rows = _counts.stacked(coordinates, self.sizes)
        probability, doubt = self._seen(attributes)
        rate = _counts.rates(rows, self.factors[None])[0]
        mean = rate * probability
        logarithms = self.spread.of_logarithms(rows, shares(rows, self.factors))
        variance = mean.square() * logarithms + rate.square() * doubt * (1 + logarithms)
        return Prediction(mean, variance, self.dispersion * (mean.square() + variance))

    def state(self) -> State:
        return self.kept

    def _seen(self, attributes: Tensor) -> tuple[Tensor, Tensor]:
        """Probabilities and their variances."""
        inputs = self._scaled(attributes)
        others = self.others(inputs)
        return _both(self.network(inputs)[0], others.mean(0)), self.doubt * others.var(0)

    def _scaled(self, attributes: Tensor) -> Tensor:
        if attributes.ndim != 2 or attributes.shape[1] != len(self.centre):
            raise DataError(
                f"attributes has shape {tuple(attributes.shape)}: give {len(self.centre)} columns, as when fitting"
            )
        return (attributes - self.centre) / self.scale


def _restore(state: State) -> UnderCounted:
    tensors, facts = state.tensors, state.facts
    best = int(facts["best"])
    network = Networks.unpacked(tensors).only(best)
    others = [tensors[f"other {place}"] for place in range(len(network.layers))]
    history, deviances = tensors["costs"][:, best], tensors["deviances"][:, best]
    return UnderCounted(
        tensors["factors"][best],
        network,
        Networks(others, [], 0, torch.ones(len(others[0]), dtype=torch.float64)),
        tensors["centre"],
        tensors["scale"],
        Spread(tensors["covariance"]),
        float(facts["doubt"]),
        float(facts["dispersion"]),
        tuple(facts["sizes"]),
        float(facts["mu"]),
        tuple(deviances.tolist()),
        tuple(history.tolist()),
        str(facts["stopped"]),
        state,
        tensors["factors"][best].numel() + sum(layer.numel() for layer in network.layers),
    )


def _both(network: Tensor, others: Tensor) -> Tensor:
    """What is told of detection: the network knows the counted cells better, the mean of the others what lies between.

    Where nothing was counted the mean square error of both together was less than that of the network alone by a
    fourth to four tenths.
    """
    return (network + others) / 2


@method("under_counted", restore=_restore, counts=True, attributes=True, automatic=0)
def under_counted(
    task: Task,
    *,
    rank: int | None = None,
    seed: int = 0,
    epochs: int = 150,
    tol: float = 1e-6,
    callback: Callback | None = None,
    resume: State | None = None,
    mu: float | None = None,
    divergence: str = "squared",
    starts: int = 3,
    width: int = 20,
    hidden: int = 3,
    learning_rate: float = 1e-2,
    sweeps: int = 5,
    network_epochs: int = 5,
    prior: float = 0.1,
) -> UnderCounted:
    """Poisson CP of counts that miss events: true counts of low rank, detection told by attributes.

    The mean of a count is ``rate * p``: the rate from nonnegative factors, p in [0, 1] free for each observation but
    pulled to what the network says of its attributes. Each epoch minimises the objective over p exactly, moves the
    factors by ``sweeps`` majorise-minimise steps, and trains the network for ``network_epochs``; nothing raises it.
    Of several starts, fitted side by side, that of the lowest objective is kept.

    Args:
        rank: the number of components; 3 without it.
        tol: stop where the objective falls by less than this part of it in an epoch, in every start.
        mu: how much it weighs that p differs from what the network says, beside the mean of half the deviance; without
            it, twice what makes both weigh the same at first, rounded up to one digit.
        divergence: ``"squared"`` or ``"kullback_leibler"``, between p and what the network says.
        starts: how many.
        width: units of a hidden layer.
        hidden: hidden layers; 0 makes the logarithm of the odds linear in the attributes.
        prior: the strength of the prior of the factors, in counts for each entry; 0 for none.

    Returns:
        The model; its ``predict`` is of what is counted, ``rate`` of what there was.

    Raises:
        TenfoldError: a continuous mode, a rank larger than the number of observations, an argument that is no such.
        DataError: a value that is no count, no attributes.

    Cost: an epoch, for each start, O(n N rank) for every sweep and mode, and the network's products; at the end, and
    for each state in between, 80 epochs of ten networks at most.
    Paper: "Under-Counted Tensor Completion with Neural Incorporation of Attributes", 2023.
    """
    cells = Cells.of(task, "under_counted")
    if task.attributes is None or task.attributes.ndim != 2 or not task.attributes.shape[1]:
        raise DataError("attributes are needed by model 'under_counted': give columns, or use model 'poisson_cp'")
    if divergence not in DIVERGENCES:
        raise TenfoldError(f"divergence '{divergence}' is not known; there are {', '.join(DIVERGENCES)}")
    if mu is not None and not mu > 0:
        raise TenfoldError(f"mu {mu:g} must be positive")
    for name, given, least in (("starts", starts, 1), ("hidden", hidden, 0), ("width", width, 1), ("prior", prior, 0)):
        if given < least:
            raise TenfoldError(f"{name} {given:g} must be at least {least}")
    rank = _counts.checked_rank(rank, cells)
    fit = _Fit(cells, task.attributes, seed, mu, divergence, prior, sweeps, network_epochs, learning_rate)
    if resume is None:
        fit.start(rank, starts, width, hidden)
    else:
        fit.go_on(resume)
    stopped = "epochs"
    while len(fit.costs) < epochs:
        if fit.settled(tol):
            stopped = "tol"
            break
        fit.epoch()
        if callback is not None:
            callback(Step(len(fit.costs), epochs, float(fit.deviances[-1][fit.best]), lambda: fit.state("epochs")))
    return _restore(fit.state(stopped))


class _Fit:
    """Where a fit stands."""

    factors: Float[Tensor, "starts rows rank"]
    network: Networks
    generator: torch.Generator
    mu: float

    def __init__(
        self,
        cells: Cells,
        attributes: Tensor,
        seed: int,
        mu: float | None,
        divergence: str,
        prior: float,
        sweeps: int,
        network_epochs: int,
        learning_rate: float,
    ) -> None:
        self.seed, self.learning_rate = seed, learning_rate
        self.cells, self.divergence, self.prior = cells, divergence, prior
        self.sweeps, self.network_epochs = sweeps, network_epochs
        self.given_mu = mu
        self.centre = attributes.mean(0)
        scale = attributes.std(0, correction=0)
        self.scale = torch.where(scale > 0, scale, 1.0)
        self.inputs = (attributes - self.centre) / self.scale
        self.costs: list[Float[Tensor, " starts"]] = []
        self.deviances: list[Float[Tensor, " starts"]] = []

    def start(self, rank: int, starts: int, width: int, hidden: int) -> None:
        self.generator = torch.Generator().manual_seed(self.seed)
        sizes = [self.inputs.shape[1]] + [width] * hidden
        self.network = Networks.first(sizes, starts, self.learning_rate, self.generator)
        # Before it is trained a network says about one half.
        self.factors = _counts.first_factors(self.cells, rank, starts, 0.5, self.generator)
        self.mu = self._balanced() if self.given_mu is None else self.given_mu

    def _balanced(self) -> float:
        """Twice what makes both parts equal if p were uniform, rounded up to one digit."""
        parts = _counts.deviance(self.cells, 0.5 * _counts.rates(self.cells.rows, self.factors)).mean()
        wanted = max(2 * float(parts) / (1 / 24), 1e-12)
        digit = 10.0 ** math.floor(math.log10(wanted))
        return math.ceil(wanted / digit - 1e-9) * digit

    def epoch(self) -> None:
        divergence = DIVERGENCES[self.divergence]
        said = self.network(self.inputs)
        p = divergence.best(_counts.rates(self.cells.rows, self.factors), self.cells, said, self.mu)
        p = p.clamp(_LEAST, 1)
        for _ in range(self.sweeps):
            _counts.sweep(self.cells, p, self.factors, self.prior)
        self.network.train(self.inputs, p, divergence.loss, self.network_epochs, _BATCH, self.generator)
        said = self.network(self.inputs)
        rates = _counts.rates(self.cells.rows, self.factors)
        cost = _counts.deviance(self.cells, rates * p) + self.mu / 2 * divergence.loss(p, said).mean(1)
        self.costs.append(cost + _counts.penalty(self.cells, self.factors, self.prior) / len(self.cells))
        self.deviances.append(2 * _counts.deviance(self.cells, rates * said))

    @property
    def best(self) -> int:
        return int(self.costs[-1].argmin()) if self.costs else 0

    def settled(self, tol: float) -> bool:
        """Whether no start has moved by more than ``tol`` in the last epoch."""
        if len(self.costs) < 2:
            return False
        before, after = self.costs[-2], self.costs[-1]
        return bool((before - after <= tol * after.abs()).all())

    def state(self, stopped: str) -> State:
        best, divergence = self.best, DIVERGENCES[self.divergence]
        factors, network = self.factors[best], self.network.only(best)
        said = network(self.inputs)
        rates = _counts.rates(self.cells.rows, factors[None])
        p = divergence.best(rates, self.cells, said, self.mu).clamp(_LEAST, 1)
        held = left_out(self.inputs, p[0], divergence.loss, network.sizes, self.learning_rate, self.seed)
        probabilities = _both(said[0], held.networks(self.inputs).mean(0))
        means = rates[0] * probabilities
        fitted = Information(self.cells, factors, means, self.prior).fitted
        # How far counts are from what networks say that did not learn from them.
        excess = Excess(self.cells, rates[0] * held.said, fitted)
        dispersion, doubt = excess.dispersion_beside(held.doubt / held.said.square())
        # Where detection is in doubt a count says as much less of its rate.
        told = means / (1 + doubt * held.doubt / probabilities.square() * means)
        spread = Information(self.cells, factors, told, self.prior).spread(dispersion)
        starts = len(self.factors)
        others = {f"other {place}": layer for place, layer in enumerate(held.networks.layers)}
        tensors = {
            "factors": self.factors.clone(),
            "centre": self.centre,
            "scale": self.scale,
            "covariance": spread.covariance,
            "generator": self.generator.get_state(),
            "costs": torch.stack(self.costs) if self.costs else torch.zeros(0, starts, dtype=torch.float64),
            "deviances": torch.stack(self.deviances) if self.costs else torch.zeros(0, starts, dtype=torch.float64),
            **self.network.packed(),
            **others,
        }
        facts: dict[str, Any] = {
            "best": best,
            "dispersion": dispersion,
            "doubt": doubt,
            "sizes": list(self.cells.sizes),
            "mu": self.mu,
            "stopped": stopped,
        }
        return State(tensors, facts)

    def go_on(self, state: State) -> None:
        self.factors = state.tensors["factors"].clone()
        self.network = Networks.unpacked(state.tensors)
        self.generator = torch.Generator()
        self.generator.set_state(state.tensors["generator"])
        self.costs, self.deviances = list(state.tensors["costs"]), list(state.tensors["deviances"])
        self.mu = float(state.facts["mu"])
