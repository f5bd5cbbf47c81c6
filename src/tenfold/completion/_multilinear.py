"""Networks with one factor for each mode, fitted by least squares, and how uncertain what they predict is."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import torch
from jaxtyping import Float, Int
from torch import Tensor

from tenfold import formats
from tenfold.completion._registry import Step
from tenfold.completion.model import Prediction, State
from tenfold.completion.task import Task
from tenfold.decomposition import Progress
from tenfold.decomposition.als_observed import Observed, als_observed
from tenfold.errors import TenfoldError
from tenfold.linalg.least_squares import Gathered, gathered_variances
from tenfold.network import Network
from tenfold.observations import Observations
from tenfold.structure import Structure

# Ranks that are tried where none is given, until this many in a row predict no better.
_RANKS, _PATIENCE = (1, 2, 3, 5, 8, 12), 2
# By how much a larger rank must predict better.
_BETTER = 0.99
# Entries whose environments are made at a time.
_CHUNK = 2**15
# Rounds between the noise and the degrees of freedom, each of which needs the other.
_ROUNDS = 4
# Errors of the other factors count for at most this part of the noise, degrees of freedom for this part of the data.
_PART, _FREE = 0.5, 0.95
_LEAST = 1e-300
# A ridge that keeps covariances invertible, and noise that is none, relative to the largest.
_TINY = 1e-10


@dataclass(frozen=True, eq=False, repr=False)
class Multilinear:
    """A CP or Tucker network and what it was fitted to; a `tenfold.completion.Model`.

    Attributes:
        core: of Tucker, None of CP.
        factors: for each mode a row for each level.
        observed: the places of the observations.
        weights: of the observations, one on average.
        noise: variance of an observation of weight one.
        growth: for each mode and level, how much larger its variance is because other factors are uncertain too.
    """

    core: Tensor | None
    factors: tuple[Float[Tensor, "n k"], ...]
    observed: Int[Tensor, "N M"]
    weights: Float[Tensor, " N"]
    noise: float
    growth: tuple[Float[Tensor, " n"], ...]
    errors: tuple[float, ...]
    stopped: str
    evidence: None = field(default=None, init=False)

    @property
    def parameters(self) -> int:
        return sum(factor.numel() for factor in self.factors) + (0 if self.core is None else self.core.numel())

    def __repr__(self) -> str:
        kind = "CP" if self.core is None else "Tucker"
        shape = " × ".join(str(len(factor)) for factor in self.factors)
        ranks = ", ".join(str(factor.shape[1]) for factor in self.factors[: 1 if self.core is None else None])
        return f"Multilinear({kind} of {shape}, rank {ranks}, residuals {self.errors[-1]:.3g}, noise {self.sd:.3g})"

    @property
    def sd(self) -> float:
        """Standard deviation of the noise."""
        return math.sqrt(self.noise)

    def predict(self, coordinates: Float[Tensor, "m M"], attributes: Tensor | None = None) -> Prediction:
        """The network at these places; its variance is the sum of those of each mode's row, given the other factors.

        A row is normal around the mean row, with the covariance of the rows of its factor, before anything is
        observed of it. The core of a Tucker network is taken as known.
        """
        places = coordinates.long()
        mean = self.fitted(places)
        variance = torch.zeros_like(mean)
        for mode, growth in enumerate(self.growth):
            variance += growth[places[:, mode]] * self.spread(mode, places)
        return Prediction(mean, variance, torch.tensor(self.noise, dtype=torch.float64))

    def fitted(self, places: Int[Tensor, "m M"]) -> Float[Tensor, " m"]:
        """The entries of the network."""
        return (self.environment(0, places) * self.factors[0][places[:, 0]]).sum(1)

    def environment(self, mode: int, places: Int[Tensor, "m M"]) -> Float[Tensor, "m k"]:
        """What the row of a mode is multiplied with at each place: everything else, contracted."""
        return torch.cat([self._environment(mode, part) for part in places.split(_CHUNK)])

    def _environment(self, mode: int, places: Tensor) -> Tensor:
        others = [(m, self.factors[m][places[:, m]]) for m in range(len(self.factors)) if m != mode]
        if self.core is None:
            result = torch.ones(len(places), self.factors[0].shape[1], dtype=torch.float64)
            for _, rows in others:
                result = result * rows
            return result
        result = self.core.movedim(mode, -1).expand(len(places), *self.core.movedim(mode, -1).shape)
        for _, rows in others:
            result = torch.einsum("pr...,pr->p...", result, rows)
        return result

    def spread(self, mode: int, places: Int[Tensor, "m M"]) -> Float[Tensor, " m"]:
        """The variance at these places that is due to the row of one mode, given all other factors."""
        half, problems, environment = self._of_mode[mode]
        ridge = torch.full((len(self.factors[mode]), half.shape[1]), self._noise, dtype=torch.float64)
        directions = self.environment(mode, places) @ half
        return self._noise * gathered_variances(environment, problems, ridge, places[:, mode], directions)

    @property
    def _noise(self) -> float:
        # Without any noise variances would be rounding errors.
        return max(self.noise, _TINY * float(self.fitted(self.observed[:_CHUNK]).square().mean()), _LEAST)

    @cached_property
    def _of_mode(self) -> list[tuple[Tensor, Gathered, Tensor]]:
        """For each mode a root of the covariance of its rows, its problems, and the environments they read."""
        result = []
        everything = torch.arange(len(self.observed))
        blank = torch.zeros(len(self.observed), dtype=torch.float64)
        for mode, factor in enumerate(self.factors):
            groups = self.observed[:, mode]
            seen = factor[torch.bincount(groups, minlength=len(factor)) > 0]
            mean = seen.mean(0, keepdim=True)
            off = seen - mean
            # The mean row is known no better than from so many rows.
            covariance = (off.T @ off) / max(len(seen) - 1, 1) + mean.T @ mean / len(seen)
            values, vectors = torch.linalg.eigh(covariance)
            half = vectors * values.clamp(min=_TINY * float(values[-1]) + _LEAST).sqrt()
            problems = Gathered.by(groups, len(factor), everything, blank, self.weights)
            result.append((half, problems, self.environment(mode, self.observed) @ half))
        return result

    def state(self) -> State:
        """Everything, the places of the observations included."""
        tensors = {f"factor_{mode}": factor for mode, factor in enumerate(self.factors)}
        tensors |= {f"growth_{mode}": growth for mode, growth in enumerate(self.growth)}
        tensors |= {"observed": self.observed.to(torch.int32), "weights": self.weights}
        if self.core is not None:
            tensors["core"] = self.core
        facts = {"noise": self.noise, "errors": list(self.errors), "stopped": self.stopped}
        return State(tensors, facts)


def restore(state: State) -> Multilinear:
    """The model of a state."""
    tensors, facts = state.tensors, state.facts
    modes = range(tensors["observed"].shape[1])
    return Multilinear(
        tensors.get("core"),
        tuple(tensors[f"factor_{mode}"] for mode in modes),
        tensors["observed"].long(),
        tensors["weights"],
        facts["noise"],
        tuple(tensors[f"growth_{mode}"] for mode in modes),
        tuple(facts["errors"]),
        facts["stopped"],
    )


def complete(
    task: Task,
    structure: Callable[[tuple[int, ...], int], Structure],
    *,
    rank: int | None,
    seed: int,
    epochs: int,
    tol: float,
    callback: Callable[[Step], None] | None,
    ridge: float | None,
) -> Multilinear:
    """Fit by `als_observed`, and see how sure it is."""
    shape = tuple(int(size) for size in task.sizes if size is not None)
    if rank is not None and rank < 1:
        raise TenfoldError(f"rank {rank} is no number of components: give 1 or more")
    scale = float(task.values.abs().max()) or 1.0
    weights = torch.ones_like(task.values) if task.weights is None else task.weights / task.weights.mean()
    data = Observations(task.coordinates.long(), task.values / scale, shape, task.weights)
    norm = float((weights * (task.values / scale).square()).mean().sqrt())

    def note(progress: Progress) -> None:
        def state() -> State:
            errors = (scale * norm * progress.error,)
            return _model(progress.network(), task, weights, scale, errors, "epochs").state()

        if callback is not None:
            callback(Step(progress.sweep, epochs, scale * norm * progress.error, state))

    def fit(one: int) -> Observed:
        return als_observed(
            data, structure(shape, one), seed=seed, max_sweeps=epochs, tol=tol, callback=note, ridge=ridge
        )

    found = fit(rank) if rank is not None else _grown(fit)
    errors = tuple(scale * norm * error for error in (*found.errors, found.error))
    stopped = {"max_sweeps": "epochs"}.get(found.stopped, found.stopped)
    return _model(found.network, task, weights, scale, errors, stopped)


def _grown(fit: Callable[[int], Observed]) -> Observed:
    """The rank that predicts best what is left out; one where nothing is."""
    best = fit(_RANKS[0])
    worse = 0
    for rank in _RANKS[1:]:
        if best.held_out is None or worse == _PATIENCE:
            break
        found = fit(rank)
        if found.held_out is not None and found.held_out < _BETTER * best.held_out:
            best, worse = found, 0
        else:
            worse += 1
    return best


def _model(
    network: Network, task: Task, weights: Tensor, scale: float, errors: tuple[float, ...], stopped: str
) -> Multilinear:
    core, factors = _unpacked(network)
    factors = (factors[0] * scale, *factors[1:])
    observed = task.coordinates.long()
    flat = tuple(torch.ones(len(factor), dtype=torch.float64) for factor in factors)
    blank = Multilinear(core, factors, observed, weights, 0.0, flat, errors, stopped)
    squares = weights * ((task.values - blank.fitted(observed)) / scale).square()
    total = float(squares.sum()) * scale * scale
    noise = total / len(task)
    spreads: Sequence[Tensor] = ()
    for _ in range(_ROUNDS):
        model = Multilinear(core, factors, observed, weights, noise, flat, errors, stopped)
        spreads = [model.spread(mode, observed) for mode in range(len(factors))]
        free = float((weights * torch.stack(list(spreads)).sum(0)).sum()) / model._noise
        noise = total / (len(task) - min(free, _FREE * len(task)))
    growth = tuple(_growth(mode, spreads, observed, weights, len(factors[mode]), noise) for mode in range(len(factors)))
    return Multilinear(core, factors, observed, weights, noise, growth, errors, stopped)


def _growth(
    mode: int, spreads: Sequence[Tensor], observed: Tensor, weights: Tensor, levels: int, noise: float
) -> Tensor:
    """To the entries of a level, errors of the other factors are noise too."""
    others = torch.stack([spread for other, spread in enumerate(spreads) if other != mode] or [0 * spreads[0]]).sum(0)
    groups = observed[:, mode]
    summed = torch.bincount(groups, weights * weights * others, minlength=levels)
    part = summed / torch.bincount(groups, weights, minlength=levels).clamp(min=_LEAST) / max(noise, _LEAST)
    return 1 / (1 - part.clamp(max=_PART))


def _unpacked(network: Network) -> tuple[Tensor | None, tuple[Tensor, ...]]:
    """The core (None of CP) and the factors, each with a row for each level."""
    structure = network.structure
    modes = structure.output_indices
    factors: dict[str, Tensor] = {}
    middle: tuple[Tensor, tuple[str, ...]] | None = None
    bonds: dict[str, str] = {}
    for core, tensor in zip(structure.cores, network.cores, strict=True):
        mode = next((index for index in core.indices if index in modes), None)
        if mode is None:
            middle = tensor, core.indices
            continue
        factors[mode] = tensor if core.indices[0] == mode else tensor.T
        (bonds[mode],) = (index for index in core.indices if index != mode)
    ordered = tuple(factors[mode].contiguous() for mode in modes)
    if middle is None:
        return None, ordered
    tensor, indices = middle
    return tensor.permute([indices.index(bonds[mode]) for mode in modes]).contiguous(), ordered


def cp_structure(shape: tuple[int, ...], rank: int) -> Structure:
    return formats.cp(shape, rank)


def tucker_structure(shape: tuple[int, ...], rank: int) -> Structure:
    """Of this rank in each mode, but for modes and products of other ranks that are smaller."""
    ranks = [min(rank, size) for size in shape]
    for mode in range(len(shape)):
        others = math.prod(r for other, r in enumerate(ranks) if other != mode)
        ranks[mode] = min(ranks[mode], others)
    return formats.tucker(shape, ranks)
